"""Which windows a run of a sensor judges: each once, in the order of time, whoever was away when they ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.heartbeats import beat, heartbeat_of
from datasets_defs.store.locks import held
from datasets_defs.store.verdicts import newest_end, was_judged
from monitors.incidents.quiet import resolve_if_quiet
from monitors.verdicts.conclude import judged_window

MOST = 192
"""Windows that are judged afterwards at most: eight days of hours, a week's pause and a day to notice it."""
OLDEST = timedelta(days=35)
"""Older windows are not judged again: `maintain` adds their counts up by day, and the log's rows may be gone."""

SIGNALS = {
    "watch_drift": ("data", "drift", "loss"),
    "watch_quality": ("quality:", "label:"),
    "watch_gpu": ("gpu:",),
}
"""What each sensor judges: names of signals, or their beginnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorTurn:
    """What one run of a sensor does, with its reason."""

    judged: tuple[Window, ...] = ()
    """Windows to be judged as on time, oldest first: a bad one may open an incident."""
    filled_in: tuple[Window, ...] = ()
    """Windows to be judged, oldest first, since one before others was left out; they open nothing."""
    reason: str = ""
    """Why it is not the newest window alone; empty where it is."""


def turn(last: Window, *, concluded: datetime | None, is_known: bool) -> SensorTurn:
    """Say which windows a run judges whose newest window is `last`. Pure.

    `concluded` is the end of the newest window that the sensor came to the end with; `is_known` says whether there are
    verdicts on `last`. What came after `concluded` is judged in order, the newest `MOST` of it. A window before it
    stands if it was judged. If nobody judged it, it is judged now, and all after it again: the detector's state is that
    of the order of time.
    """
    most = min(MOST, max(1, OLDEST // last.length))
    if concluded is None or last.end == concluded:
        return SensorTurn(judged=(last,))
    if last.end > concluded:
        missed = max(0, (last.start - concluded) // last.length)
        passed_over = max(0, missed + 1 - most)
        windows = tuple(last.before(count) for count in range(missed - passed_over, -1, -1))
        reason = f"{len(windows) - 1} windows before it were judged afterwards, in order" if len(windows) > 1 else ""
        if passed_over:
            reason += f"; the {passed_over} before those stay unjudged: {most} are judged afterwards at most"
        return SensorTurn(judged=windows, reason=reason)
    if is_known:
        return SensorTurn(reason=f"{last} was judged before, as were windows after it; its verdicts stand")
    after = (concluded - last.end) // last.length
    if after >= most:
        return SensorTurn(
            reason=f"{last} is {after} windows back, and {most} are judged afterwards at most; it stays unjudged"
        )
    windows = tuple(last.before(-count) for count in range(after + 1))
    return SensorTurn(
        filled_in=windows, reason=f"{last} was never judged; it is now, and the {after} windows after it once more"
    )


def in_order(
    sensor: str,
    model: str,
    judge: Callable[[Window, Champion | None], Outcome],
    fill_in: Callable[[Window, Champion | None], None],
    *,
    until: datetime,
    db: Engine,
    actor: str,
) -> Outcome:
    """Do a sensor's turn for one model; the outcome's ring is that of the newest window which asks for one.

    `judge` judges a window and concludes; `fill_in` judges one and only keeps what it showed. Between windows that are
    judged afterwards an incident ends as it would have on time. Killed anywhere and run again, it goes on after the
    window that it last came to the end with.

    Raises:
        ContractError: the spec is wrong.
        TransientError: PostgreSQL is away, or another run is judging this model's windows.
    """
    name, ledger, last = f"{sensor}:{model}", Ledger(db), judged_window(until)
    with held(db, "sensor", name) as is_mine:
        if not is_mine:
            raise TransientError(f"another run of {sensor} is judging the windows of {model}; this one waits for it")
        known = was_judged(db, model, SIGNALS[sensor], last.end)
        plan = turn(last, concluded=_concluded(db, name, model, SIGNALS[sensor], until), is_known=known)
        for window in plan.filled_in:
            fill_in(window, ledger.champion_at(model, window.end))
        outcomes = []
        for window in plan.judged:
            is_last = window == last
            outcomes.append(judge(window, ledger.champion(model) if is_last else ledger.champion_at(model, window.end)))
            beat(db, name, {"window": str(window), "end": window.end.isoformat()})
            if not is_last:
                grace = timedelta(seconds=settings().sensor_grace_seconds)
                resolve_if_quiet(model, until=window.end + grace, db=db, actor=actor)
    return _summed_up(outcomes, plan.reason)


def _summed_up(outcomes: Sequence[Outcome], reason: str) -> Outcome:
    if not outcomes:
        return Outcome(reason)
    ring = next((outcome.ring for outcome in reversed(outcomes) if outcome.ring is not None), None)
    told = next((outcome for outcome in reversed(outcomes) if outcome.ring is not None), outcomes[-1])
    return Outcome(f"{told.reason} ({reason})" if reason else told.reason, ring)


def _concluded(db: Engine, name: str, model: str, signals: Sequence[str], until: datetime) -> datetime | None:
    """Read the end of the newest window that the sensor came to the end with.

    What a clock judged that was ahead does not count, nor do the beats of releases that did not say the end: there the
    newest verdict says it.
    """
    now = max(datetime.now(UTC), until)
    heartbeat = heartbeat_of(db, name)
    end = datetime.fromisoformat(heartbeat["end"]) if heartbeat is not None and "end" in heartbeat else None
    return end if end is not None and end <= now else newest_end(db, model, signals, until=now)
