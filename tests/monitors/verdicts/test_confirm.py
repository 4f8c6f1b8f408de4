"""Confirmation, quiet and blindness: pure rules on verdicts."""

from datetime import UTC, datetime, timedelta

import pytest

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import ConfirmSpec
from monitors.verdicts.confirm import bad_since, comparable, is_blind, is_confirmed, is_quiet

NAMES = {"b": Condition.BAD, "w": Condition.WARN, "o": Condition.OK, "n": Condition.NO_DATA, "s": Condition.STALE}
END = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def verdicts(letters: str, version: int = 1) -> list[Verdict]:
    """Make verdicts, newest first; `.` is a window that was never judged."""
    return [
        Verdict(
            model="m", signal="drift", window=Window(END - (n + 1) * HOUR, END - n * HOUR), condition=NAMES[letter],
            reason="", method="", champion_version=version,
        )
        for n, letter in enumerate(letters)
        if letter != "."
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("bb", True), ("bob", True), ("bnb", True), ("bbo", True), ("bwb", True), ("b.b", True),
        ("", False), ("b", False), ("obb", False), ("nbb", False), ("sbb", False), ("bnn", False),
        ("boob", False), ("b..b", False), ("wbb", False),
    ],
)  # fmt: skip
def test_confirmed(letters: str, expected: object) -> None:
    """BAD in two of the last three windows by the clock, the newest among them; unknown ones count as neither."""
    assert is_confirmed(verdicts(letters), ConfirmSpec(bad=2, of=3)) is expected


def test_another_champion_does_not_confirm() -> None:
    """A bad window of the version before says nothing of this one."""
    mixed = [*verdicts("b", version=2), *verdicts(".bb", version=1)]
    assert not is_confirmed(mixed, ConfirmSpec(bad=2, of=3))
    assert len(comparable(mixed, 3)) == 1


def test_bad_since() -> None:
    """The incident begins with the first of the windows that confirm it, not with an older one."""
    assert bad_since(verdicts("bobb"), ConfirmSpec(bad=2, of=3)) == END - 3 * HOUR


@pytest.mark.parametrize(
    ("letters", "expected"), [("oo", True), ("oob", True), ("ow", False), ("on", False), ("o", False), ("o.o", False)]
)
def test_quiet(letters: str, expected: object) -> None:
    """Leaving needs OK in every window, known and without a gap; a warning is not enough."""
    assert is_quiet(verdicts(letters), 2) is expected


@pytest.mark.parametrize(("letters", "expected"), [("nn", True), ("nsb", True), ("n", False), ("no", False)])
def test_blind(letters: str, expected: object) -> None:
    """Blind is nothing but NO_DATA and STALE, often enough."""
    assert is_blind(verdicts(letters), 2) is expected
