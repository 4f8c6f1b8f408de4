"""A rollback drill: the previous champion serves for a moment, then the champion again; timed, and judged by nobody."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.locks import held
from training.champions.confirmation import confirmed, last_change, require_champion
from training.registry.registry import Registry

TARGET_SECONDS = 60.0
"""A rollback should take no longer, from the command to serving's word."""
_ALIVE = timedelta(seconds=30)
"""Serving that was not heard of for longer is not drilled with."""
_LOCK = "driftloop drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One way of a drill."""

    version: int
    seconds: float
    """From the change of champion to serving's word, or to the end of the patience."""
    is_confirmed: bool

    def __str__(self) -> str:
        if not self.is_confirmed:
            return f"serving did not report version {self.version} within {self.seconds:.0f} s"
        return f"version {self.version} served after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What a drill showed."""

    there: Leg | None
    """To the previous champion; None where a drill that was cut short has been finished."""
    back: Leg

    @property
    def is_good(self) -> bool:
        """Whether serving followed both ways, and went back in time."""
        went = self.there is None or (self.there.is_confirmed and self.there.seconds <= TARGET_SECONDS)
        return went and self.back.is_confirmed

    @property
    def reason(self) -> str:
        """Both ways in one sentence."""
        there = self.there if self.there is not None else "a drill that was cut short is finished"
        late = self.there is not None and self.there.is_confirmed and self.there.seconds > TARGET_SECONDS
        slow = f" (slower than {TARGET_SECONDS:.0f} s)" if late else ""
        return f"drill: {there}{slow}; back: {self.back}"


def drill(model: str, *, db: Engine, actor: str) -> Drilled:
    """Roll a healthy model back and forward again, waiting for serving's word each time.

    It leaves the champion as it was, with the version before and the time since which it serves. Killed anywhere and
    run again, it goes forward. Whatever serving says on the way there, it goes forward, too.

    Raises:
        ContractError: an incident is open, there is no previous champion, serving does not serve the champion now, or
            somebody changed the champion meanwhile.
        TransientError: PostgreSQL is away; run it again.
    """
    ledger, there = Ledger(db), None
    with _alone(db, model):
        if not _is_under_way(db, ledger.champion(model)):
            there = _leave(ledger, model, actor=actor)
        back = _timed(lambda: _forward(ledger, model, actor=actor), ledger)
        drilled = Drilled(there=there, back=back)
        ledger.note(model, EventKind.NOTE, drilled.reason, {"drill": _figures(drilled)}, actor=actor)
    return drilled


def end_abandoned(model: str, *, db: Engine, actor: str) -> bool:
    """Go forward where a drill was cut short and nobody is at it; says whether there was one."""
    ledger = Ledger(db)
    champion = ledger.champion(model)
    made = last_change(db, champion) if champion is not None else None
    if made is None or made.kind != "drill":
        return False
    try:
        with _alone(db, model):
            _forward(ledger, model, actor=actor)
    except ContractError:  # at it, or over meanwhile
        return False
    return True


def _leave(ledger: Ledger, model: str, *, actor: str) -> Leg:
    """Let the previous champion serve; where that is broken off, as by a person's Ctrl-C, go forward at once."""
    try:
        return _timed(lambda: _there(ledger, model, actor=actor), ledger)
    except BaseException:
        if _is_under_way(ledger.engine, ledger.champion(model)):
            _forward(ledger, model, actor=actor)
        raise


def _there(ledger: Ledger, model: str, *, actor: str) -> Champion:
    with ledger.transaction() as on:
        champion = ledger.champion(model, connection=on, lock=True)
        if champion is None or champion.previous_version is None:
            raise ContractError(f"{model} has no previous champion to drill with; see `driftloop history {model}`")
        _require_healthy(ledger, champion)
        changed = ledger.change_champion(
            model,
            expected=champion.version,
            to=champion.previous_version,
            kind="drill",
            reason=f"rollback drill: version {champion.version} serves again in a moment",
            actor=actor,
            connection=on,
        )
        reached("drill.going")
    reached("drill.gone")
    return changed


def _forward(ledger: Ledger, model: str, *, actor: str) -> Champion:
    """Make the champion of before the drill champion again; done already, give it."""
    with ledger.transaction() as on:
        champion = ledger.champion(model, connection=on, lock=True)
        made = last_change(ledger.engine, champion) if champion is not None else None
        if champion is None or made is None or made.kind not in ("drill", "drill_end"):
            raise ContractError(f"{model}: its champion was changed during the drill; see `driftloop history {model}`")
        if made.kind == "drill_end":
            return champion
        changed = ledger.change_champion(
            model,
            expected=made.to_version,
            to=made.from_version or made.to_version,
            kind="drill_end",
            reason=f"rollback drill over: version {made.from_version} serves again",
            actor=actor,
            connection=on,
        )
        reached("drill.returning")
    reached("drill.returned")
    return changed


def _is_under_way(db: Engine, champion: Champion | None) -> bool:
    """Say whether a drill made the champion and is not over: not gone forward, or without serving's word on that."""
    made = last_change(db, champion) if champion is not None else None
    return made is not None and (made.kind == "drill" or (made.kind == "drill_end" and not made.is_confirmed))


def _require_healthy(ledger: Ledger, champion: Champion) -> None:
    model = champion.model
    if (incident := ledger.open_of(model)) is not None:
        raise ContractError(f"{model}: incident {incident.id} is {incident.state}; drill when it is over")
    if spec_of(model).serving.kind == "external":
        return
    at, details = heartbeats(ledger.engine).get(f"serving:{model}", (None, {}))
    if at is None or at < datetime.now(UTC) - _ALIVE or details.get("loaded_version") != champion.version:
        standing = (
            "is not heard of"
            if at is None
            else f"said at {at:%H:%M:%S}Z that it serves {details.get('loaded_version')}"
        )
        raise ContractError(f"{model}: serving {standing}; a drill needs it to serve version {champion.version} now")


def _timed(change: Callable[[], Champion], ledger: Ledger) -> Leg:
    begin = time.monotonic()
    champion = change()
    registry, spec = Registry(settings().mlflow_url), spec_of(champion.model)
    word = confirmed(ledger, registry, spec, champion, renew=lambda: require_champion(ledger, champion))
    reached("drill.confirmed")
    return Leg(version=champion.version, seconds=time.monotonic() - begin, is_confirmed=word.is_confirmed)


def _figures(drilled: Drilled) -> dict[str, float | int | bool | None]:
    there, back = drilled.there, drilled.back
    return {
        "there_seconds": round(there.seconds, 1) if there is not None and there.is_confirmed else None,
        "back_seconds": round(back.seconds, 1) if back.is_confirmed else None,
        "version": back.version,
        "is_good": drilled.is_good,
    }


@contextmanager
def _alone(db: Engine, model: str) -> Iterator[None]:
    """Hold the model's drill lock."""
    with held(db, _LOCK, model) as is_mine:
        if not is_mine:
            raise ContractError(f"another drill of {model} is under way; wait for it")
        yield
