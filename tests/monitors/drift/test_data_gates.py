"""What hinders a judgement: too few rows, or rows that are not what they should be. Drift does not."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from datasets_defs.core.windows import Window
from monitors.counts.columns import Encoding, learn_encoding, sketches
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.drift.data_gates import Gate, gate
from monitors.profiles.profile import Profile

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WINDOW = Window(NOON, NOON + timedelta(hours=1))


def rows(count: int, **attributes: Any) -> list[dict[str, Any]]:
    """Give rows; an attribute given is a value, or a function of the row's number."""
    draw = np.random.default_rng(count)
    usual = {"n": lambda _: float(draw.normal()), "c": lambda number: "abcd"[number % 4], "half": lambda number: number}
    made = []
    for number in range(count):
        values = {name: make(number) if callable(make) else make for name, make in {**usual, **attributes}.items()}
        if number % 2:
            values["half"] = None
        made.append({"prompt": f"prompt {number}", "latency_seconds": 1.0 + number % 5, "attributes": values})
    return made


REFERENCE = rows(2_000)
ENCODING = learn_encoding(REFERENCE)
PROFILE = Profile(
    model="m", version=1, revision=1, effective_from=None, source="s", rows=2_000, encoding=ENCODING,
    reference=sketches(ENCODING, REFERENCE), eps={}, icc={}, loss=Moments(), loss_tolerance=0.02,
)  # fmt: skip


def window(some: list[dict[str, Any]], *, encoding: Encoding = ENCODING, **more: Any) -> WindowSketch:
    return WindowSketch(
        window=WINDOW, rows=len(some), columns=sketches(encoding, some), loss=Moments(), **more
    )  # fmt: skip


def found(some: list[dict[str, Any]], **more: Any) -> Gate:
    return gate(window(some, **more), PROFILE, min_rows=100)


def test_ordinary_rows_pass():
    """Rows like the reference's hinder nothing, and neither does a column that was half empty before."""
    assert found(rows(300)) == Gate()


def test_too_few_rows():
    """Rows below the least are too few, whatever else is wrong with them, and without a profile, too."""
    told = f"99 rows in {WINDOW}, 100 are needed"
    assert found(rows(99, n=None), empty_prompts=99) == Gate(too_few=told)
    assert gate(window(rows(99)), None, min_rows=100) == Gate(too_few=told)
    assert found(rows(0)) == Gate(too_few=f"0 rows in {WINDOW}, 100 are needed")


def test_empty_prompts():
    """Up to a fifth of empty prompts is borne, with a profile or without one."""
    some = window(rows(300), empty_prompts=60)
    assert gate(some, PROFILE, min_rows=100) == gate(some, None, min_rows=100) == Gate()
    broken = replace(some, empty_prompts=61)
    told = Gate(broken="20% of the prompts are empty, more than 20%")
    assert gate(broken, PROFILE, min_rows=100) == gate(broken, None, min_rows=100) == told


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        pytest.param({"n": None}, "attribute:n is missing: no row has it", id="all null"),
        pytest.param({"c": None}, "attribute:c is missing: no row has it", id="all null text"),
        pytest.param({"n": math.nan}, "attribute:n is missing: no row has it", id="all NaN"),
        pytest.param({"n": math.inf}, "attribute:n is missing: no row has it", id="all infinite"),
        pytest.param({"n": lambda number: None if number % 4 == 0 else 0.1 * (number % 7 - 3)},
                     "25% of the rows have no finite value of attribute:n, 0% of the reference's", id="a quarter null"),
        pytest.param({"n": lambda number: math.inf if number % 4 == 0 else 0.1 * (number % 7 - 3)},
                     "25% of the rows have no finite value of attribute:n, 0% of the reference's", id="infinite"),
        pytest.param({"c": lambda number: None if number % 3 == 0 else "a"},
                     "33% of the rows have no value of attribute:c, 0% of the reference's", id="a third null text"),
        pytest.param({"half": None}, "100% of the rows have no finite value of attribute:half, 50% of the reference's",
                     id="more than before"),
        pytest.param({"n": lambda number: f"{number}" if number % 20 == 0 else 0.1},
                     "attribute:n changed its type: 5% of its values are no numbers", id="text in a number"),
        pytest.param({"n": "12"}, "attribute:n changed its type: 100% of its values are no numbers", id="all text"),
        pytest.param({"c": 12}, "attribute:c changed its type: 100% of its values are no texts", id="all numbers"),
        pytest.param({"c": lambda number: "a" if number % 3 else f"new {number % 2}"}, None, id="a third unseen"),
        pytest.param({"c": lambda number: "a" if number % 3 == 0 else f"new {number % 2}"},
                     "67% of the values of attribute:c are levels that the reference never had", id="unseen"),
        pytest.param({"n": lambda number: 1e300 if number == 7 else 0.1 * (number % 7 - 3)}, None, id="an outlier"),
        pytest.param({"n": float}, None, id="far away"),
        pytest.param({"n": lambda number: "x" if number < 4 else 0.1}, None, id="four slips"),
        pytest.param({"n": lambda number: None if number % 6 == 0 else 0.1}, None, id="a sixth null"),
    ],
)  # fmt: skip
def test_broken_columns(attributes: dict[str, Any], reason: str | None):
    """A column that is gone, mostly empty or of another type is broken, and left out alone; one that drifted is not.

    One whose levels were replaced as a whole is left out, too, and is no break.
    """
    hindered = found(rows(300, **attributes))
    name = next(f"attribute:{attribute}" for attribute in attributes)
    if reason is None:
        assert hindered == Gate()
        return
    (broken,) = hindered.breaks
    assert (broken.column, broken.reason, hindered.left_out) == (name, reason, {name: reason})
    is_replaced = broken.kind == "replaced"
    assert (hindered.broken, hindered.about_columns) == (None, None if is_replaced else reason)


def test_another_language_is_drift():
    """What is counted of the text cannot break: prompts in a language that the reference never had are drift."""
    some = [{**row, "prompt": "Der schnelle braune Fuchs springt heute über den faulen Hund."} for row in rows(300)]
    english = [{**row, "prompt": "The quick brown fox jumps over the lazy dog today, and then sleeps."} for row in some]
    encoding = learn_encoding(english)
    profile = replace(PROFILE, encoding=encoding, reference=sketches(encoding, english, own=True))
    assert profile.reference["language"].levels == ("en",)
    changed = gate(window(some, encoding=encoding), profile, min_rows=100)
    assert changed == Gate()
    assert window(some, encoding=encoding).columns["language"].count_of(["en"]).tolist() == [0]


def test_many_breaks_in_one_sentence():
    """Three are told, the others counted."""
    hindered = found(rows(300, n=None, c=None, half=None), empty_prompts=300)
    assert hindered.broken == "100% of the prompts are empty, more than 20%"
    assert hindered.about_columns == (
        "attribute:c is missing: no row has it; "
        "100% of the rows have no finite value of attribute:half, 50% of the reference's; "
        "attribute:n is missing: no row has it"
    )


def test_too_few_rows_for_the_levels():
    """A column of many levels is passed over in a window that has too few rows for them, and only that column."""
    many = rows(5_000, c=lambda number: f"level {number % 20}")
    encoding = learn_encoding(many)
    profile = replace(PROFILE, encoding=encoding, reference=sketches(encoding, many))
    told = {"attribute:c": "999 rows, its 20 levels need 1000"}
    some = rows(999, c=lambda number: f"level {number % 20}")
    assert gate(window(some, encoding=encoding), profile, min_rows=100) == Gate(left_out=told)
    enough = rows(1_000, c=lambda number: f"level {number % 20}")
    assert gate(window(enough, encoding=encoding), profile, min_rows=100) == Gate()


def test_a_column_that_was_never_counted():
    """A window's sketch without a column says that it is missing, unless the reference hardly had it either."""
    whole = window(rows(300))
    less = {name: sketch for name, sketch in whole.columns.items() if name not in ("attribute:n", "attribute:half")}
    hindered = gate(replace(whole, columns=less), PROFILE, min_rows=100)
    assert hindered.about_columns == hindered.left_out["attribute:n"] == "attribute:n is missing: no row has it"


def test_unknown_levels_of_the_reference():
    """Levels without a name are no break where the reference had as many."""
    some = rows(300, c=lambda number: f"new {number}")
    profile = replace(PROFILE, reference={**PROFILE.reference, "attribute:c": window(some).columns["attribute:c"]})
    assert gate(window(some), profile, min_rows=100) == Gate()
