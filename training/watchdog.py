"""What stands still or differs: judged from heartbeats, told once, and once more when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

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


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something is wrong now; without a reason nothing is."""

    reason: str | None = None

    @property
    def stands(self) -> bool:
        """Whether anything is wrong."""
        return self.reason is not None


def serving_trouble(champion: Champion, beats: Beats, *, now: datetime, limit: timedelta) -> Trouble:
    """Judge whether the reference server serves the ledger's champion; a server that says nothing does not. Pure."""
    if now < champion.since + limit:
        return Trouble()
    at, said = beats.get(f"serving:{champion.model}", (None, {}))
    if at is None:
        return Trouble(f"version {champion.version} is champion, and serving was never heard of")
    if now - at > limit:
        return Trouble(f"version {champion.version} is champion, and serving was last heard of at {at:%H:%M:%S}Z")
    loaded = said.get("loaded_version")
    if loaded == champion.version:
        return Trouble()
    found = f"serving has version {loaded} loaded" if loaded is not None else "serving has no version loaded"
    why = f": {said['load_error']}" if said.get("load_error") else ""
    return Trouble(f"version {champion.version} is champion, and {found}{why}")


def sensor_trouble(
    model: str, sensor: str, beats: Beats, *, now: datetime, since: datetime, window: timedelta
) -> Trouble:
    """Judge whether a sensor did its work of the last windows. Pure.

    `since` is the earliest time from which it can be expected to: the model's first champion, or the end of a time in
    which the whole loop stood still.
    """
    at, _ = beats.get(f"{sensor}:{model}", (None, {}))
    last = max(at, since) if at is not None else since
    if now - last <= LATE_WINDOWS * window:
        return Trouble()
    heard = f"last finished at {at:%Y-%m-%d %H:%M:%S}Z" if at is not None else "never finished"
    return Trouble(f"{sensor} {heard}; it should finish once in {window.total_seconds():.0f} s")


def look(
    model: str, champion: Champion, *, db: Engine, beats: Beats, memory: dict[str, str], now: datetime, actor: str
) -> list[str]:
    """Judge one model's server, sensors and reference, and record what began or ended; say what was recorded.

    `memory` is kept between two looks: when a difference was first seen, and since when the loop is awake.
    """
    ledger, spec, said = Ledger(db), spec_of(model), []
    limit = timedelta(seconds=settings().serving_confirm_seconds)
    trouble = Trouble()
    if spec.serving.kind != "external":
        trouble = _lasting(
            serving_trouble(champion, beats, now=now, limit=limit), f"serving:{model}", memory, now, limit
        )
    said.append(_told(ledger, model, "serving", trouble, "it serves the champion again", champion.version, actor))
    first = ledger.first_served(model) or champion.since
    since = max(first, datetime.fromisoformat(memory["awake"]))
    for sensor in SENSORS:
        trouble = sensor_trouble(model, sensor, beats, now=now, since=since, window=settings().window_length)
        said.append(_told(ledger, model, sensor, trouble, f"{sensor} finishes again", None, actor))
    said.append(
        _told(ledger, model, "reference", _unreferenced(db, champion, now), "it has one", champion.version, actor)
    )
    return [line for line in said if line]


def awake_since(previous: tuple[datetime, dict[str, Any]] | None, *, now: datetime, period: timedelta) -> datetime:
    """Give since when the loop looks regularly; after a gap of three periods, or a clock set back: now. Pure."""
    if previous is None or not timedelta() <= now - previous[0] <= 3 * period:
        return now
    known = previous[1].get("memory", {}).get("awake")
    return datetime.fromisoformat(known) if known else now


def _lasting(trouble: Trouble, name: str, memory: dict[str, str], now: datetime, limit: timedelta) -> Trouble:
    """Give a trouble once it has lasted; a restart or a swap is none."""
    if not trouble.stands:
        memory.pop(name, None)
        return trouble
    first = datetime.fromisoformat(memory.setdefault(name, now.isoformat()))
    return trouble if now - first >= limit else Trouble()


def _unreferenced(db: Engine, champion: Champion, now: datetime) -> Trouble:
    overdue = champion.since + REFERENCE_WINDOWS * settings().window_length <= now
    if not overdue or reference_of(db, champion.model, champion.version) is not None:
        return Trouble()
    return Trouble(
        f"version {champion.version} is champion and has no reference profile; one is made from what it is asked"
    )


def _told(ledger: Ledger, model: str, about: str, trouble: Trouble, over: str, version: int | None, actor: str) -> str:
    kind = {"serving": "serving", "reference": "reference"}.get(about, "sensor")
    evidence = {} if version is None else {"version": version}
    changed = ledger.note_change(
        model, about, stands=trouble.stands, begins=f"{kind}_trouble", ends=f"{kind}_mended",
        reason=trouble.reason or over, evidence={"signal": about, **evidence}, actor=actor,
    )  # fmt: skip
    return (trouble.reason or over) if changed else ""
