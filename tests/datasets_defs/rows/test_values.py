"""Single values: gaps, identifiers, texts and numbers."""

import math
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest

from datasets_defs.rows.values import given, id_of, named, no_id, number_of, readable, text_of

KNOWN = UUID("92345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("u1", "u1"), (17, "17"), (17.0, "17"), ("17.0", "17"), ("v1.0", "v1.0"), (Decimal("17.0"), "17"),
        (np.float64(17), "17"), (np.int64(17), "17"), (KNOWN, str(KNOWN)), (KNOWN.bytes, str(KNOWN)), (b"u1", "u1"),
    ],
)  # fmt: skip
def test_identifiers(value: object, expected: str) -> None:
    """A whole number means the same in every form that data frames and databases give it."""
    assert id_of(value) == expected


@pytest.mark.parametrize(
    "value", [17.5, 1.2345678901234568e18, True, [1], math.inf, Decimal("Infinity"), "1.23457E+17", "1.2e+18"]
)
def test_what_is_no_identifier(value: object) -> None:
    """A fraction, a float that has lost digits, a list: refused, not guessed."""
    with pytest.raises(ValueError, match=r"needs text or a whole number|lost its last digits|a spreadsheet rounded"):
        id_of(value)


def test_gaps_are_left_out() -> None:
    """Null and NaN of every kind are gaps; an empty text, zero and false are values."""
    row = {"a": None, "b": math.nan, "c": np.float32("nan"), "d": Decimal("NaN"), "e": "", "f": 0, 1: False}
    assert given(row) == {"e": "", "f": 0, "1": False}
    texts = {name: name for name in ("nan", "NaN", "<NA>", "NULL", "\\N", "#N/A", "null", "None")}
    assert given(texts) == {"null": "null", "None": "None"}  # these two are words that people and programs say


def test_nobody_is_called_nothing() -> None:
    """A gap that was made a text is no user: all rows that lack one would be one user's."""
    nobody = ["", " ", "nan", "NULL", "None", "nil", "undefined", "N/A", "<NA>", "NaT"]
    assert all(map(no_id, nobody))
    assert not any(map(no_id, ["0", "nobody", "n", 0, "1e5"]))


def test_names_that_differ_in_capitals_only() -> None:
    """A column is found under its name as others spell it, unless both are there."""
    row = {"User ID": 1, "Completion": "c", "requestId": "r", "team": "a", "prompt": "p", "Prompt": "q"}
    assert named(row, {"user_id", "completion", "request_id", "prompt"}) == {
        "user_id": 1, "completion": "c", "request_id": "r", "team": "a", "prompt": "p", "Prompt": "q",
    }  # fmt: skip


def test_what_mongodb_exports() -> None:
    """Values with their type around them are the values."""
    row = {"_id": {"$oid": "6"}, "at": {"$date": {"$numberLong": "1795176000000"}}, "n": {"$x": 1}}
    assert given(row) == {"_id": "6", "at": "1795176000000", "n": {"$x": 1}}


def test_bytes_are_text_or_said() -> None:
    """Bytes are UTF-8, or refused as a text and shown in hexadecimal as an attribute."""
    assert text_of("caf\u00e9".encode()) == "caf\u00e9"
    with pytest.raises(ValueError, match="bytes that are not UTF-8"):
        text_of(b"\xff")
    assert readable({"a": [b"x", b"\xff"], "b": math.nan}) == {"a": ["x", "ff"]}


@pytest.mark.parametrize(("value", "words"), [("0,5", "found a comma"), ("x", "needs a number"), (math.inf, "number")])
def test_what_is_no_number(value: object, words: str) -> None:
    """The reason names a decimal comma, which is not guessed at."""
    with pytest.raises(ValueError, match=words):
        number_of(value)


def test_a_span_of_time_is_its_seconds() -> None:
    """Parquet and data frames have a type for spans."""
    assert number_of(timedelta(milliseconds=1500)) == 1.5
