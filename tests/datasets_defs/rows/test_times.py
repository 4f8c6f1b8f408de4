"""Times in the forms that logs, warehouses and spreadsheets write."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from datasets_defs.rows.times import moment

CASES = Path(__file__).parent / "cases"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_every_usual_form_is_the_same_instant() -> None:
    """The twelve forms of the collected log are one second of one day; those without a zone say so."""
    rows = [json.loads(line) for line in (CASES / "times.jsonl").read_text().splitlines()]
    found = [moment(row["at"]) for row in rows]
    assert {f"{at:%Y-%m-%d %H:%M:%S}" for at in found} == {"2026-11-20 10:00:00"}
    assert [row["request_id"] for row, at in zip(rows, found, strict=True) if at.tzinfo is None] == ["kibana", "us"]
    exact = {row["request_id"]: at.microsecond for row, at in zip(rows, found, strict=True)}
    assert exact["micros"] == exact["nanos"] == exact["nanos-text"] == exact["azure"] == 123_456


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T14:00:00+02:00", "2026-11-20 14:00:00 +0200", "2026-11-20 12:00:00 +0000 UTC",
        "2026-11-20T12:00:00,000Z", "20/Nov/2026:12:00:00 +0000", "Fri, 20 Nov 2026 13:00:00 +0100",
        "20261120T120000Z", "1795176000.0", "1795176000000",
        "Fri Nov 20 2026 13:00:00 GMT+0100 (Central European Standard Time)",
        "2026-11-20T13:00:00+01:00[Europe/Berlin]",
        "2026-11-20 13:00:00.000000001 +0100 CET m=+0.01", "Fri, 20 Nov 2026 07:00:00 EST", "2026/11/20T12:00:00Z",
    ],
)  # fmt: skip
def test_zones_are_heeded(text: str) -> None:
    """An offset counts wherever it stands."""
    assert moment(text).astimezone(UTC) == NOON


@pytest.mark.parametrize(
    "text", ["20.11.2026 12:00", "20/11/2026 12:00:00", "11/20/2026 12:00 PM", "2026/11/20 12:00", "20261120120000",
     "2026.11.20 12:00:00", "2026-11-20 12:00:00 PM", "20-NOV-26 12.00.00.000000 PM", "20-Nov-2026 12:00:00"]
)  # fmt: skip
def test_spreadsheets_have_no_zone(text: str) -> None:
    """Times of spreadsheets are given without a zone, for the caller to decide."""
    assert moment(text) == NOON.replace(tzinfo=None)


@pytest.mark.parametrize("value", [NOON, NOON.astimezone(timezone(timedelta(hours=2))), NOON.timestamp()])
def test_what_is_a_time_already(value: object) -> None:
    """Times of Parquet and numbers are taken as they are."""
    assert moment(value).astimezone(UTC) == NOON


def test_a_date_is_its_midnight() -> None:
    """Dates, as values and as eight digits, begin their day."""
    assert moment(date(2026, 5, 1)) == moment("20260501") == moment("2026-05-01")
    assert str(moment("20260501")) == "2026-05-01 00:00:00"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("05/06/2026 10:00", "could mean two days"),
        ("1.79517E+09", "a spreadsheet rounded"),
        ("yesterday", "is no time"),
        ("2026-13-01", "is no time"),
        (True, "is no time"),
        (float("nan"), "is no time"),
        ([1], "is no time"),
        (0, "outside the years"),
        (638_500_000_000_000_000, "outside the years"),  # ticks of .NET, which were March 1990
        (798_000_000, "outside the years"),  # seconds of macOS since 2001, which were April 1995
        (46_346.5, "outside the years"),  # a day of Excel
        (2026112012, "a day with its hour"),  # which was a second of 2034
        ("Fri Nov 20 12:00:00 CET 2026", "zone CET"),  # which was taken for UTC
        ("Fri, 20 Nov 2026 12:00:00 IST", "zone IST"),
        ("1e400", "is no time"),
        (10**40, "outside the years"),
    ],
)
def test_what_is_no_time_says_why(value: object, words: str) -> None:
    """Nonsense, rounded numbers and dates that could mean two days are refused, with the reason."""
    with pytest.raises(ValueError, match=words):
        moment(value)
