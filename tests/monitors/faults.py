"""A library of scripted faults: what a broken or changed world writes into the log and the exporters, hour by hour."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from datasets_defs.store.feedback import add_feedback_batch
from datasets_defs.store.inference_log import Inference, append
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()
ROWS = 120
"""Requests an hour."""
STRETCH = 12
"""Hours between the beginnings of two faults of machines: GPUs carry no model's name, so each has its own hours."""
ONSET = 4
"""The first hour that is not healthy."""
LOSS, STEP_SECONDS = 2.5, 120

Series = dict[str, float]


@dataclass(frozen=True)
class Fault:
    """One fault, and what is right to do about it."""

    name: str
    right: str
    """An action of triage, or `none`: nobody is woken."""
    log: Callable[["Scene", int], None] = lambda scene, hour: scene.users(hour)
    """Writes an hour's requests; by default those of healthy users."""
    metrics: Callable[[float, Series], Series | None] = lambda _, series: series
    """Changes what the exporters say from `ONSET` on: gauges, and counters' growth a second; None: nothing is said."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    hours: int = 8
    is_data: bool = False
    is_machines: bool = False


@dataclass
class Scene:
    """A model in its healthy hours, and the ways to write others."""

    loop: Loop
    first: int
    """Number of the window that is the fault's hour 0."""
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def users(
        self,
        hour: int,
        *,
        new: float = 0.0,
        loss: float | None = LOSS,
        extra: float = 0.0,
        dress: Callable[[str], str] = str,
    ) -> None:
        """Log an hour of real text, a share of it of another kind, which costs `extra` bits per byte more."""
        count = round(ROWS * new)
        prompts = [*self.dice.sample(NEW, count), *self.dice.sample(OLD[500:], ROWS - count)]
        self.write(hour, [dress(prompt) for prompt in prompts], loss=loss, extra=[extra] * count)

    def write(
        self,
        hour: int,
        prompts: Sequence[str],
        *,
        loss: float | None = LOSS,
        extra: Sequence[float] = (),
        late: timedelta = timedelta(),
        tag: str = "",
    ) -> None:
        """Log requests of an hour; `late` moves their times, the first ones cost `extra` more."""
        more = [*extra, *[0.0] * (len(prompts) - len(extra))]
        window = self.loop.window(self.first + hour)
        champion = self.loop.ledger.champion(MODEL)
        rows = [
            Inference(
                model=MODEL,
                request_id=f"{self.first}-{hour}-{tag}{n}",
                at=window.start + (n + 0.5) / len(prompts) * window.length + late,
                prompt=prompt,
                model_version=champion.version if champion else 1,
                prompt_bits_per_byte=None if loss is None else loss + more[n] + 0.2 * self.dice.gauss(0, 1),
            )
            for n, prompt in enumerate(prompts)
        ]
        append(self.loop.db, rows)

    def scores(self, hour: int, mean: float) -> None:
        """Let people score the hour's answers."""
        said = [(f"{self.first}-{hour}-{n}", None, min(1.0, max(0.0, self.dice.gauss(mean, 0.1)))) for n in range(ROWS)]
        add_feedback_batch(self.loop.db, MODEL, said)


def _from_onset(bad: Callable[[Scene, int], None]) -> Callable[[Scene, int], None]:
    return lambda scene, hour: bad(scene, hour) if hour >= ONSET else scene.users(hour)


def _promoted_badly(scene: Scene, hour: int) -> None:
    if hour == ONSET:
        start = scene.loop.window(scene.first + hour).start
        scene.loop.reference(OLD[:500], version=2)
        scene.loop.champion(2, since=start, kind="promote")
    scene.users(hour, loss=LOSS + (1.2 if hour >= ONSET else 0))


def _scored(mean: Callable[[int], float]) -> Callable[[Scene, int], None]:
    def play(scene: Scene, hour: int) -> None:
        scene.users(hour)
        scene.scores(hour, mean(hour))

    return play


def _flooded(scene: Scene, hour: int) -> None:
    """Log a client's loop: one request, again and again, that the model finds hard."""
    scene.users(hour)
    scene.write(hour, [NEW[0]] * 6 * ROWS, loss=6.0, tag="again")


def _jumped(by: timedelta) -> Callable[[Scene, int], None]:
    """Let the server's clock be wrong for three hours."""

    def play(scene: Scene, hour: int) -> None:
        late = by if ONSET <= hour < ONSET + 3 else timedelta()
        scene.write(hour, scene.dice.sample(OLD[500:], ROWS), late=late)

    return play


def _swing(scene: Scene, hour: int) -> None:
    """Ask by night what nobody asks by day; the reference has both."""
    scene.users(hour, new=0.3 + 0.1 * math.sin(hour * math.pi / 4))


def _template(prompt: str) -> str:
    return f"### Instruction:\nYou are a helpful assistant. Answer briefly.\n### Input:\n{prompt}\n### Response:\n"


def gauges(**changed: float) -> Callable[[float, Series], Series]:
    """Give metrics that differ in these from the healthy ones."""
    return lambda _, series: {**series, **changed}


def _slow(_: float, series: Series) -> Series:
    ended = series[_bucket("+Inf")]
    return {**series, **{_bucket(le): 0.2 * ended for le in ("0.5", "2", "15")}}


def _failing(_: float, series: Series) -> Series:
    return {**series, _requests("ok"): 0.6, _requests("error"): 0.4}


def _requests(outcome: str) -> str:
    return f'driftloop_serving_requests_total{{model="{MODEL}",outcome="{outcome}"}}'


def _bucket(le: str) -> str:
    return f'driftloop_serving_request_seconds_bucket{{model="{MODEL}",le="{le}"}}'


SERVING, DCGM = {"quality": "driftloop"}, {"gpu": "dcgm"}
LABELS = {"labels": [{"name": "rating", "maturity_windows": 0, "min_labels": 50}]}
MACHINES = {**SERVING, **DCGM}

FAULTS = (
    Fault("healthy", "none", spec={**MACHINES}),
    Fault("schema break", "quarantine", _from_onset(lambda scene, hour: scene.users(hour, loss=None)), is_data=True),
    Fault(
        "loss that is no number", "quarantine", is_data=True,
        log=_from_onset(lambda scene, hour: scene.users(hour, loss=math.nan)),
    ),
    Fault(
        "empty prompts", "quarantine", is_data=True,
        log=_from_onset(lambda scene, hour: scene.users(hour, dress=lambda _: "", loss=LOSS + 2)),
    ),
    Fault("empty feed", "none", _from_onset(lambda _scene, _hour: None), is_data=True),
    Fault("duplicate flood", "quarantine", _from_onset(_flooded), is_data=True),
    Fault("clock ahead by a day", "none", _jumped(timedelta(hours=24)), is_data=True),
    Fault("clock back by five hours", "none", _jumped(timedelta(hours=-5)), is_data=True),
    Fault(
        "flipped labels", "alert", _scored(lambda hour: 0.9 if hour < ONSET + 4 else 0.1),
        spec=LABELS, hours=16, is_data=True,
    ),
    Fault(
        "template change", "quarantine", is_data=True,
        log=_from_onset(lambda scene, hour: scene.users(hour, dress=_template)),
    ),
    Fault("benign topic shift", "watch", _from_onset(lambda scene, hour: scene.users(hour, new=1.0))),
    Fault("seasonal swing", "none", _swing, hours=16),
    Fault("language jump", "retrain", _from_onset(lambda scene, hour: scene.users(hour, new=1.0, loss=LOSS + 2))),
    Fault(
        "harmful topic shift", "retrain", _from_onset(lambda scene, hour: scene.users(hour, new=0.5, extra=0.8))
    ),
    Fault(
        "slow creep", "retrain", hours=24,
        log=lambda scene, hour: scene.users(hour, new=min(1.0, 0.02 * hour), extra=0.3 * LOSS),
    ),
    Fault("bad promotion", "roll_back", _promoted_badly),
    Fault("GPU throttled", "alert", metrics=gauges(DCGM_FI_DEV_SM_CLOCK=600), spec=MACHINES, is_machines=True),
    Fault("GPU too hot", "alert", metrics=gauges(DCGM_FI_DEV_GPU_TEMP=93), spec=MACHINES, is_machines=True),
    Fault("XID error", "alert", metrics=gauges(DCGM_FI_DEV_XID_ERRORS=79), spec=MACHINES, is_machines=True),
    Fault(
        "GPUs full", "scale", spec=MACHINES, is_machines=True,
        metrics=gauges(DCGM_FI_DEV_GPU_UTIL=100, DCGM_FI_PROF_GR_ENGINE_ACTIVE=1),
    ),
    Fault("latency only", "alert", metrics=_slow, spec=MACHINES, is_machines=True),
    Fault("errors only", "alert", metrics=_failing, spec=MACHINES, is_machines=True),
    Fault("exporter gone", "none", metrics=lambda _hour, _series: None, spec=MACHINES, is_machines=True),
    Fault(
        "hot GPU and a harmless shift", "alert", _from_onset(lambda scene, hour: scene.users(hour, new=1.0)),
        metrics=gauges(DCGM_FI_DEV_GPU_TEMP=93), spec=MACHINES, is_machines=True,
    ),
)  # fmt: skip

WITH_MACHINES = tuple(fault for fault in FAULTS if "gpu" in fault.spec)
COUNTERS = frozenset({"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"})


def _healthy() -> Series:
    return {
        "DCGM_FI_DEV_GPU_TEMP": 60, "DCGM_FI_DEV_MEMORY_TEMP": 70, "DCGM_FI_DEV_FB_USED": 20_000,
        "DCGM_FI_DEV_FB_FREE": 60_000, "DCGM_FI_DEV_GPU_UTIL": 70, "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.7,
        "DCGM_FI_DEV_SM_CLOCK": 1900, "DCGM_FI_DEV_XID_ERRORS": 0, "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 300_000,
        _requests("ok"): 0.99, _requests("error"): 0.0,
        _bucket("0.5"): 0.5, _bucket("2"): 0.98, _bucket("15"): 0.99, _bucket("+Inf"): 0.99,
        f'driftloop_serving_prompt_bits_total{{model="{MODEL}"}}': 2500.0,
        f'driftloop_serving_prompt_bytes_total{{model="{MODEL}"}}': 1000.0,
    }  # fmt: skip


def exposition(loop: Loop) -> Iterator[str]:
    """Give what the exporters said in all faults' hours, in the OpenMetrics format."""
    totals: dict[str, float] = {}
    for number, fault in enumerate(WITH_MACHINES):
        begin = loop.window(number * STRETCH)
        for step in range(-90, 270):
            hour = step / 30
            series = _healthy()
            said = fault.metrics(hour, series) if hour >= ONSET else series
            for name, value in (said or {}).items():
                growing = name in COUNTERS or name.startswith("driftloop_")
                totals[name] = totals.get(name, 0.0) + value * STEP_SECONDS if growing else value
                labels = "" if "{" in name else '{gpu="0",UUID="GPU-1",instance="node-1"}'
                at = begin.start + timedelta(seconds=step * STEP_SECONDS)
                yield f"{name}{labels} {totals[name]} {at.timestamp():.0f}"
    yield "# EOF\n"
