"""PromQL signals of a model: the query of a window, its samples, and the verdict on them."""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import SignalSpec
from monitors.profiles.reference import losses_of, recent_rows
from monitors.prometheus.client import Freshness, PrometheusClient, Sample
from monitors.prometheus.names import seen_instead

METHOD = "promql at the window's end"
TOGETHER = 4
"""Signals that are asked for at the same time; Prometheus evaluates 20 queries at once unless told otherwise."""
NO_SERIES = "the query gives no series"
STEPS = 120
"""Points of a window at which a subquery looks."""


def fill_in(promql: str, *, model: str, window: Window, served: str | None = None) -> str:
    """Put names and lengths into a query.

    They are the model's name, its name at the server, the window's length (as a PromQL duration), and a step of which
    a window has 120, of a second or more.
    """
    milliseconds = window.length // timedelta(milliseconds=1)
    length = f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
    step = f"{max(1, milliseconds // (1000 * STEPS))}s"
    quoted = json.dumps(served or model, ensure_ascii=False)[1:-1]
    return (
        promql.replace("{model}", model).replace("{served}", quoted).replace("{window}", length).replace("{step}", step)
    )


@dataclass(frozen=True, slots=True)
class SignalReading:
    """What a query's samples say."""

    condition: Condition
    reason: str
    score: float | None = None
    """The worst value; None where there is none to judge."""
    limit: float | None = None
    """From where on a value is bad, in the samples' unit."""


def judge_signal(
    spec: SignalSpec, samples: Sequence[Sample], freshness: Freshness, reference_bits_per_byte: float | None
) -> SignalReading:
    """Judge a query's samples. Pure.

    Of several series the worst counts: one that is bad is bad whatever the others say, and else one whose value is no
    number (0/0: nothing was asked) makes it NO_DATA. Samples that are older than `max_age_seconds`, or series that have
    ended, are STALE.
    """
    if (silent := _silent(spec, samples, freshness)) is not None:
        return silent
    if spec.relative_to_reference and not reference_bits_per_byte:
        return SignalReading(Condition.NO_DATA, "limits are relative to the reference's loss, and there is none yet")
    scale = (reference_bits_per_byte or 1.0) if spec.relative_to_reference else 1.0
    values = [sample.value for sample in samples if math.isfinite(sample.value)]
    worst = _compare(spec, values, scale) if values else None
    if worst is not None and (worst.condition is Condition.BAD or len(values) == len(samples)):
        return worst
    no_number = next(sample.value for sample in samples if not math.isfinite(sample.value))
    of = f" in {len(samples) - len(values)} of {len(samples)} series" if len(samples) > 1 else ""
    return SignalReading(Condition.NO_DATA, f"the query gives {no_number}{of}")


def _silent(spec: SignalSpec, samples: Sequence[Sample], freshness: Freshness) -> SignalReading | None:
    """Say why samples cannot be judged: too old, no longer scraped, or none at all; None where they can be."""
    age = f"{freshness.age.total_seconds():.0f} s" if freshness.age is not None else "unknown age"
    if freshness.age is not None and freshness.age.total_seconds() > spec.max_age_seconds:
        return SignalReading(Condition.STALE, f"the newest sample is {age} old, over {spec.max_age_seconds:.0f} s")
    if samples:
        return None
    if freshness.age is not None and not freshness.live:
        return SignalReading(
            Condition.STALE, f"the series ended {age} before the window did; is its target still scraped?"
        )
    return SignalReading(Condition.NO_DATA, NO_SERIES)


def _compare(spec: SignalSpec, values: Sequence[float], scale: float) -> SignalReading:
    higher = spec.worse == "higher"
    value = max(values) if higher else min(values)
    bad = spec.bad * scale
    beyond, within = ("≥", "<") if higher else ("≤", ">")
    of = f" (the worst of {len(values)} series)" if len(values) > 1 else ""
    if value >= bad if higher else value <= bad:
        return SignalReading(Condition.BAD, f"{value:.4g}{of} {beyond} {bad:.4g}", value, bad)
    if spec.warn is not None:
        warn = spec.warn * scale
        if value >= warn if higher else value <= warn:
            return SignalReading(Condition.WARN, f"{value:.4g}{of} {beyond} {warn:.4g}", value, bad)
    return SignalReading(Condition.OK, f"{value:.4g}{of} {within} {bad:.4g}", value, bad)


def assess(
    kind: str, spec: ModelSpec, champion: Champion | None, window: Window, *, db: Engine, prometheus: PrometheusClient
) -> list[Verdict]:
    """Judge all `quality` or `gpu` signals of a model over one window, and write nothing."""
    signals: tuple[SignalSpec, ...] = getattr(spec, kind)
    reference = (
        _reference_loss(spec, champion, db=db) if any(signal.relative_to_reference for signal in signals) else None
    )
    served = spec.serving.name_at_server(spec.name, champion.version if champion is not None else None) or spec.name

    def measured(signal: SignalSpec) -> Verdict:
        promql = fill_in(signal.promql, model=spec.name, window=window, served=served)
        reading = _reading(kind, signal, promql, window, prometheus, reference, served)
        return _verdict(f"{kind}:{signal.name}", signal, reading, promql, spec.name, window, champion, reference)

    with ThreadPoolExecutor(max_workers=TOGETHER) as together:
        return list(together.map(measured, signals))


def _reference_loss(spec: ModelSpec, champion: Champion | None, *, db: Engine) -> float | None:
    return None if champion is None else losses_of(recent_rows(db, champion, limit=spec.drift.max_rows)).mean


def _reading(
    kind: str,
    spec: SignalSpec,
    promql: str,
    window: Window,
    prometheus: PrometheusClient,
    reference: float | None,
    served: str,
) -> SignalReading:
    """Ask for a signal's samples, and judge them; where there never were any, say why, or which names there are."""
    try:
        samples = prometheus.query(promql, at=window.end)
        freshness = prometheus.freshness(promql, at=window.end)
        if samples or freshness.age is not None:
            return judge_signal(spec, samples, freshness, reference)
        if spec.devices is not None and (lacking := len(prometheus.query(spec.devices, at=window.end))):
            return SignalReading(Condition.OK, f"is no lack: the {lacking} devices that report do not report this")
        there = seen_instead(kind, promql, served=served, prometheus=prometheus, at=window.end)
    except (TransientError, ContractError) as err:  # one signal's wrong query does not silence the others
        return SignalReading(Condition.NO_DATA, str(err))
    return SignalReading(Condition.NO_DATA, f"{NO_SERIES}; {there}")


def _verdict(
    signal: str,
    spec: SignalSpec,
    reading: SignalReading,
    promql: str,
    model: str,
    window: Window,
    champion: Champion | None,
    reference: float | None,
) -> Verdict:
    shared = spec.relative_to_reference and champion is not None and champion.since > window.start
    if shared and reading.condition.is_known:  # the reference is the new champion's, the samples are not
        reason = "was served by the version before, too, in this window"
        reading = replace(reading, condition=Condition.NO_DATA, reason=reason)
    return Verdict(
        model=model,
        signal=signal,
        window=window,
        condition=reading.condition,
        reason=f"{spec.name} {reading.reason}",
        method=METHOD,
        score=reading.score,
        limit=reading.limit,
        champion_version=champion.version if champion is not None else None,
        evidence={"promql": promql, **({"reference_bits_per_byte": reference} if spec.relative_to_reference else {})},
    )
