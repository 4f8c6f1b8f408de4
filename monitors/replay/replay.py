"""Replay stored windows through the drift policy. Pure: the log is not read again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import DriftSpec
from monitors.counts.rollup import WindowSketch, add_up
from monitors.drift.loss import LossSeen
from monitors.drift.policy import judge_window
from monitors.drift.state import goes_on
from monitors.drift.subject import Step, Subject
from monitors.evidence.harm import WINDOWS as HARM_WINDOWS
from monitors.profiles.profile import Profile
from monitors.replay.outcome import Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What is kept of one window that the sensor looked at."""

    window: Window
    version: int | None
    """Champion that it was judged for; None when there was none to judge."""
    served_since: datetime
    """When that version began to serve."""
    promoted: bool
    """Whether it began by a promotion, so that there was a version to go back to."""
    sketch: WindowSketch | None = None
    """Counts of what was judged. None where nothing was counted, or the counts are gone: its verdicts then stand."""
    flooded: str | None = None
    """That one prompt filled its rows, in words."""
    profile: Profile | None = None
    """What it was compared with."""
    was_judged: bool = False
    """False: the rows were too few, and the next window counted them again."""
    continues: bool = True
    """Whether the judged window before it is part of the replay, too; otherwise `log_m` is what went before."""
    log_m: NDArray[np.float64] | None = None
    """The detector's state that the sensor had before it; None: it began there."""
    is_state_known: bool = True
    """False: the counts before it are gone, and what the sensor knew with them."""
    recorded: Mapping[str, Verdict]
    """Verdicts of the sensor, by signal."""


def replay(
    model: str,
    stored: Sequence[Stored],
    spec: DriftSpec,
    *,
    losses: Sequence[Verdict],
    unwatched: Collection[str] = (),
) -> list[Judged]:
    """Judge stored windows again, oldest first, by a drift policy.

    `losses` are the loss verdicts before the first of them, oldest first; columns of `unwatched` are not looked at for
    drift. With the policy that the sensor had, its verdicts come out again exactly. A window that a higher `min_rows`
    finds too small is added to the next one; one that was too small when it was judged stays so, since the next one
    holds its rows.
    """
    state = _State(spec=spec, unwatched=unwatched, losses=[*losses])
    return [_judge(model, window, state) for window in stored]


@dataclass(slots=True)
class _State:
    """What goes from one window of a replay to the next."""

    spec: DriftSpec
    unwatched: Collection[str]
    losses: list[Verdict]
    log_m: NDArray[np.float64] | None = None
    served: tuple[int | None, int] | None = None
    """Version and profile revision that `log_m` is of."""
    is_known: bool = True
    """Whether `log_m` is what the sensor had."""
    carried: tuple[datetime | None, int] = (None, 0)
    """End of the last window, and how many rows the sensor counted again in the next one."""
    waiting: dict[datetime, WindowSketch] = field(default_factory=dict)
    """Windows, by their end, that the sensor judged and this policy finds too small."""


def _judge(model: str, stored: Stored, state: _State) -> Judged:
    subject = Subject(model=model, window=stored.window, champion_version=stored.version, flooded=stored.flooded)
    if stored.sketch is None or stored.profile is None:
        unknown = {verdict.signal: verdict for verdict in subject.unknown("nothing is kept of the window").verdicts}
        verdicts: Mapping[str, Verdict] = {**unknown, **stored.recorded}
    else:
        step = _step(subject, stored, stored.sketch, stored.profile, state)
        verdicts = {verdict.signal: verdict for verdict in step.verdicts}
    state.losses.append(verdicts["loss"])
    return Judged(
        window=stored.window,
        version=stored.version,
        promoted_at=stored.served_since if stored.promoted else None,
        verdicts=verdicts,
        recorded=stored.recorded,
        is_replayed=stored.sketch is not None,
        is_state_known=state.is_known,
    )


def _step(subject: Subject, stored: Stored, sketch: WindowSketch, profile: Profile, state: _State) -> Step:
    served = (stored.version, profile.revision)
    if not stored.continues:
        state.log_m, state.waiting, state.is_known = stored.log_m, {}, stored.is_state_known
    elif state.served != served:
        kept = state.log_m if state.served is not None and _goes_on(stored, profile, state) else None
        state.log_m, state.waiting, state.is_known = kept, {}, True
    state.served = served
    window, spec = stored.window, state.spec
    earliest = window.before(spec.carry_over_windows - 1).start
    own = sketch
    while (earlier := state.waiting.get(sketch.window.start)) is not None and earlier.window.start >= earliest:
        sketch = add_up([earlier, sketch])
    watched = replace(profile, unsteady=tuple({*profile.unsteady, *state.unwatched} & set(profile.reference)))
    log_m = state.log_m if state.log_m is not None and len(state.log_m) == _size(watched, sketch) else None
    step = judge_window(
        subject,
        sketch,
        watched,
        spec,
        log_m=log_m,
        losses=_losses(state.losses, stored.version),
        in_burn_in=window.start < stored.served_since + spec.burn_in_windows * window.length,
        brought=_brought(stored, own, state),
    )
    state.carried = (window.end, 0 if stored.was_judged else own.rows)
    if step.log_m is None:
        if stored.was_judged and step.data.condition is Condition.NO_DATA:
            state.waiting[window.end] = own
        return step
    if not stored.was_judged:
        return subject.unknown(f"its {sketch.rows} rows were counted again with the next window's", rows=sketch.rows)
    state.log_m, state.waiting = step.log_m, {}
    return step


def _goes_on(stored: Stored, profile: Profile, state: _State) -> bool:
    version, revision = state.served or (None, 0)
    return version == stored.version and state.log_m is not None and goes_on(profile, revision, len(state.log_m))


def _brought(stored: Stored, own: WindowSketch, state: _State) -> int:
    """Give how many rows the window itself brought: as the sensor saw it, where it had to ask."""
    seen = stored.recorded["data"].evidence.get("brought") if "data" in stored.recorded else None
    if seen is not None:
        return int(seen)
    end, rows = state.carried
    return own.rows - (rows if end == stored.window.start else 0)


def _size(profile: Profile, sketch: WindowSketch) -> int:
    return profile.detector(sketch.window.start).size


def _losses(verdicts: Sequence[Verdict], version: int | None) -> list[LossSeen]:
    """Give what the version's last windows showed of its loss, oldest first, as their verdicts kept it."""
    return [
        seen
        for verdict in verdicts[-(HARM_WINDOWS - 1) :]
        if verdict.champion_version == version and (seen := LossSeen.of(verdict)) is not None
    ]
