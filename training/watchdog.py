"""What stands still or differs: judged from heartbeats, told once, and once more when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.event_kinds import Trouble
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import SENSORS
from datasets_defs.store.references import reference_of

LATE_WINDOWS = 2.5
"""A sensor that was not heard of for so many windows is late: it has missed two."""
REFERENCE_WINDOWS = 3
"""Windows after which a champion without a reference is recorded."""

Beats = Mapping[str, tuple[datetime, dict[str, Any]]]


class Standing(StrEnum):
    """How a part stands, as far as anybody can say."""

    FINE = "fine"
    """It was seen to do its work."""
    WRONG = "wrong"
    """It was seen not to do its work, or its time to do it is over."""
    UNKNOWN = "unknown"
    """Nobody can say yet: it may still be starting, or the loop itself has only just woken. Nothing is told."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How a part stands, and why."""

    standing: Standing
    reason: str = ""


FINE, UNKNOWN = Finding(Standing.FINE), Finding(Standing.UNKNOWN)


def serving_finding(champion: Champion, beats: Beats, *, now: datetime, limit: timedelta) -> Finding:
    """Judge whether the reference server serves the ledger's champion. Pure.

    Only a fresh word that the champion is loaded is fine. A server that says nothing, or another version, is given
    `limit` after a change of champion; until then nobody can say.
    """
    at, details = beats.get(f"serving:{champion.model}", (None, {}))
    heard = at is not None and now - at <= limit
    loaded = details.get("loaded_version")
    if heard and loaded == champion.version:
        return FINE
    if now < champion.since + limit:
        return UNKNOWN
    subject = f"version {champion.version} is champion"
    if at is None:
        return Finding(Standing.WRONG, f"{subject}, and serving was never heard of")
    if not heard:
        return Finding(Standing.WRONG, f"{subject}, and serving was last heard of at {at:%H:%M:%S}Z")
    instead = f"serving has version {loaded} loaded" if loaded is not None else "serving has no version loaded"
    why = f": {details['load_error']}" if details.get("load_error") else ""
    return Finding(Standing.WRONG, f"{subject}, and {instead}{why}")


def sensor_finding(
    model: str, sensor: str, beats: Beats, *, now: datetime, since: datetime, window: timedelta
) -> Finding:
    """Judge whether a sensor did its work of the last windows. Pure.

    `since` is the earliest time from which it can be expected to: the model's first champion, or the end of a time in
    which the whole loop stood still. Before it could be expected to nobody can say.
    """
    at, _ = beats.get(f"{sensor}:{model}", (None, {}))
    patience = LATE_WINDOWS * window
    if at is not None and now - at <= patience:
        return FINE
    if now - since <= patience:
        return UNKNOWN
    heard = f"last finished at {at:%Y-%m-%d %H:%M:%S}Z" if at is not None else "never finished"
    return Finding(Standing.WRONG, f"{sensor} {heard}; it should finish once in {window.total_seconds():.0f} s")


def look(
    model: str, champion: Champion, *, db: Engine, beats: Beats, memory: dict[str, str], now: datetime, actor: str
) -> list[str]:
    """Judge one model's server, sensors and reference, and record what began or ended; say what was recorded.

    `memory` is kept between two looks: when a difference was first seen, and since when the loop is awake.
    """
    ledger, spec, told = Ledger(db), spec_of(model), []
    limit = timedelta(seconds=settings().serving_confirm_seconds)
    if spec.serving.can_say:
        rounds = timedelta(seconds=LATE_WINDOWS * settings().reconcile_interval_seconds)  # replicas are asked by those
        heard = limit if spec.serving.swap == "none" else max(limit, rounds)
        serving = serving_finding(champion, beats, now=now, limit=heard)
        serving = _lasting(serving, f"serving:{model}", memory, now, limit)
        told.append(_told(ledger, model, "serving", serving, "it serves the champion again", champion.version, actor))
    first = ledger.first_served(model) or champion.since
    since = max(first, datetime.fromisoformat(memory["awake"]))
    for sensor in SENSORS:
        finding = sensor_finding(model, sensor, beats, now=now, since=since, window=settings().window_length)
        told.append(_told(ledger, model, sensor, finding, f"{sensor} finishes again", None, actor))
    told.append(_told(ledger, model, "reference", _reference(db, champion, now), "it has one", champion.version, actor))
    return [line for line in told if line]


def awake_since(previous: tuple[datetime, dict[str, Any]] | None, *, now: datetime, period: timedelta) -> datetime:
    """Give since when the loop looks regularly; after a gap of three periods, or a clock set back: now. Pure."""
    if previous is None or not timedelta() <= now - previous[0] <= 3 * period:
        return now
    known = previous[1].get("memory", {}).get("awake")
    return datetime.fromisoformat(known) if known else now


def _lasting(finding: Finding, name: str, memory: dict[str, str], now: datetime, limit: timedelta) -> Finding:
    """Give a trouble once it has lasted; a restart or a swap is none, and does not say that all is well either."""
    if finding.standing is Standing.FINE:
        memory.pop(name, None)
    if finding.standing is not Standing.WRONG:
        return finding
    first = datetime.fromisoformat(memory.setdefault(name, now.isoformat()))
    return finding if now - first >= limit else UNKNOWN


def _reference(db: Engine, champion: Champion, now: datetime) -> Finding:
    if reference_of(db, champion.model, champion.version) is not None:
        return FINE
    if now < champion.since + REFERENCE_WINDOWS * settings().window_length:
        return UNKNOWN
    return Finding(
        Standing.WRONG,
        f"version {champion.version} is champion and has no reference profile; one is made from what it is asked",
    )


def _told(ledger: Ledger, model: str, about: str, finding: Finding, over: str, version: int | None, actor: str) -> str:
    """Record what began or ended; while nobody can say, nothing did."""
    if finding.standing is Standing.UNKNOWN:
        return ""
    trouble = Trouble.SENSOR if about in SENSORS else Trouble(about)
    evidence = {} if version is None else {"version": version}
    changed = ledger.note_change(
        model, about, stands=finding.standing is Standing.WRONG, begins=trouble.begins, ends=trouble.ends,
        reason=finding.reason or over, evidence={"signal": about, **evidence}, actor=actor,
    )  # fmt: skip
    return (finding.reason or over) if changed else ""
