"""When bad readings count as confirmed, when a signal counts as quiet, and when the loop is blind. Pure.

All take the verdicts of one signal, newest first. Hysteresis: to enter, BAD in N of M windows; to leave, OK in every
one of twice as many: WARN neither opens an incident nor ends one.
"""

from collections.abc import Sequence
from datetime import datetime

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.spec.signals import ConfirmSpec


def comparable(verdicts: Sequence[Verdict], count: int) -> list[Verdict]:
    """Keep the newest verdicts that belong together: the last `count` windows by the clock, on one champion.

    Windows that were never judged (the sensor was down) leave a gap; older verdicts do not move up to fill it. Windows
    whose few rows were judged together are one, however long that took, and a verdict that only waits for more is none.
    """
    if not verdicts:
        return []
    newest = verdicts[0]
    kept, edge, left = [newest], newest.covers.start, count - 1
    for verdict in verdicts[1:]:
        if verdict.waits:
            continue
        left -= 1 + max(round((edge - verdict.window.end) / verdict.window.length), 0)
        if left < 0:
            break
        if verdict.champion_version == newest.champion_version:
            kept.append(verdict)
        edge = verdict.covers.start
    return kept


def is_confirmed(verdicts: Sequence[Verdict], confirm: ConfirmSpec) -> bool:
    """Say whether the newest window and enough of the last `confirm.of` are BAD; unknown windows count as neither."""
    last = comparable(verdicts, confirm.of)
    bad = sum(verdict.condition is Condition.BAD for verdict in last)
    return bool(last) and last[0].condition is Condition.BAD and bad >= confirm.bad


def bad_since(verdicts: Sequence[Verdict], confirm: ConfirmSpec) -> datetime:
    """Give the start of the first BAD window among those that confirm, or of the rows that it speaks of.

    Raises:
        ValueError: none is BAD; ask `is_confirmed` first.
    """
    return min(verdict.since for verdict in comparable(verdicts, confirm.of) if verdict.condition is Condition.BAD)


def is_quiet(verdicts: Sequence[Verdict], count: int) -> bool:
    """Say whether each of the last `count` windows was measured and OK."""
    last = comparable([verdict for verdict in verdicts if not verdict.waits], count)
    return len(last) == count and all(verdict.condition is Condition.OK for verdict in last)


def is_blind(verdicts: Sequence[Verdict], count: int) -> bool:
    """Say whether the last `count` verdicts are all NO_DATA or STALE, and not because they wait for more."""
    last = [verdict for verdict in verdicts if not verdict.waits][:count]
    return len(last) == count and not any(verdict.condition.is_known for verdict in last)
