"""What becomes of whole columns is named, and what is no property of a request is set aside."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest

from monitors.breaks.baseline import Baseline
from monitors.breaks.finding import COLUMN, NOTE
from monitors.breaks.look import SampledRows, learn, window_breaks
from tests.monitors.breaks.test_texts import draw

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Row = dict[str, Any]


def log(seed: int, count: int, *, hour: float = 0.0, per_hour: int = 120) -> list[Row]:
    """Give rows of a log as gateways write it, in the order of time, from so many hours after noon on."""
    random = np.random.default_rng(seed)
    prompts = draw(1, 4_000, spread=5.0)
    rows = []
    for number in range(count):
        at = NOON + timedelta(hours=hour + number / per_hour)
        since = (at - NOON) / timedelta(hours=1)
        tokens = int(random.lognormal(3, 0.8)) + 1
        attributes = {
            "release": "1.4.1" if since < 30 else "1.4.2", "system_fingerprint": f"fp_{int(since // 20)}",
            "pod": f"writer-{int(since // 28)}-{'abc'[int(random.integers(3))]}", "dt": f"{at:%Y-%m-%d}",
            "hour": at.hour, "created": int(at.timestamp()), "seq": int(since * per_hour), "spend": tokens * 0.002,
            "cache_hit": bool(random.integers(2)), "call_type": "completion", "tier": "abc"[int(random.integers(3))],
            "score": float(random.normal()),
        }  # fmt: skip
        rows.append({
            "prompt": prompts[int(random.integers(len(prompts)))], "at": at,
            "user_id": f"u{int(random.zipf(1.3)) % 500}", "prompt_tokens": tokens,
            "latency_seconds": float(random.lognormal()), "attributes": attributes,
        })  # fmt: skip
    return rows


@cache
def reference() -> Baseline:
    """What an ordinary log teaches; learned by the first test that asks, not by whoever collects them."""
    return learn(log(1, 1_000))


def found(rows: list[Row]) -> dict[str, tuple[str, str]]:
    """Give kind and scope of what was found by key, without what was set aside from the start."""
    named = window_breaks(SampledRows(rows=rows, of=len(rows)), reference())
    return {each.key: (each.kind, each.scope) for each in named if each.kind != "set-aside"}


def test_columns_that_are_no_property_are_set_aside():
    """A constant, a date, an hour, a clock and a counter are found at calibration; figures and levels are watched."""
    names = {name.removeprefix("attribute:") for name in reference().roles}
    assert names == {"release", "system_fingerprint", "dt", "hour", "created", "seq", "call_type"}


@pytest.mark.parametrize("hour", range(9, 54))
def test_columns_that_change_by_themselves_are_no_break(hour: int):
    """Over two days no hour is broken; pods of another prefix are left out, and nothing else is said."""
    assert found(log(hour, 120, hour=hour)) in ({}, {"attribute:pod": ("replaced", NOTE)})


def changed(change: Callable[[Row], dict[str, Any]]) -> list[Row]:
    """Give rows of a window, each with attributes or figures changed; None takes one away."""
    rows = log(5, 200, hour=10)
    for row in rows:
        for name, value in change(row).items():
            place = row if name in ("prompt_tokens", "latency_seconds") else row["attributes"]
            place[name] = value
    return rows


@pytest.mark.parametrize(
    ("change", "key", "kind"),
    [
        (lambda row: {"latency_seconds": row["latency_seconds"] * 1000}, "latency_seconds", "unit"),
        (lambda row: {"prompt_tokens": row["prompt_tokens"] * 10}, "prompt_tokens", "unit"),
        (lambda _: {"prompt_tokens": 0}, "prompt_tokens", "zeros"),
        (lambda _: {"score": 0.25}, "attribute:score", "stuck"),
        (lambda row: {"latency_seconds": -row["latency_seconds"]}, "latency_seconds", "sign"),
        (lambda _: {"tier": None}, "attribute:tier", "gone"),
        (lambda row: {"tier": None, "plan": row["attributes"]["tier"]}, "attribute:tier", "renamed"),
        (lambda row: {"score": str(row["attributes"]["score"])}, "attribute:score", "retyped"),
        (lambda row: {"tier": row["attributes"]["tier"].upper()}, "attribute:tier", "case"),
        (lambda _: {"release": None}, "attribute:release", "gone"),
    ],
)
def test_a_columns_break_is_named(change: Callable[[Row], dict[str, Any]], key: str, kind: str):
    """What became of one column is one finding about that column."""
    assert found(changed(change)) == {key: (kind, COLUMN)}


def test_one_user_and_rows_written_twice():
    """One user who sends most rows is named, and so are rows that are in the log twice."""
    rows = log(5, 300, hour=10)
    for row in rows[:240]:
        row["user_id"] = "batch"
    assert found(rows) == {"user": ("one-user", "rows")}
    twice = SampledRows(rows=log(5, 300, hour=10), of=600, same_prompt=600, same_row=600)
    assert [each.kind for each in window_breaks(twice, reference()) if each.kind != "set-aside"] == ["duplicated"]


@pytest.mark.parametrize("name", ["tenant", "api_key", "customer-id"])
def test_one_key_that_takes_over(name: str):
    """An attribute that names who sends has one value in most rows: named, with its share and masked examples."""

    def sent(rows: list[Row], share: float) -> list[Row]:
        draw = np.random.default_rng(len(rows))
        for row in rows:
            many = f"k{int(draw.integers(40))}"
            row["attributes"] = {**row["attributes"], name: "k1" if draw.random() < share else many}
        return rows

    usual = learn(sent(log(1, 1_000), 0.1))
    for share, kinds in ((0.4, []), (0.8, ["one-key"])):
        rows = sent(log(5, 300, hour=10), share)
        named = [each for each in window_breaks(SampledRows(rows=rows, of=300), usual) if each.scope == "rows"]
        assert [each.kind for each in named] == kinds
    assert named[0].key == f"attribute:{name}"
    assert named[0].share == pytest.approx(0.8, abs=0.06)
    assert named[0].examples
    assert "k1" not in named[0].reason


def test_a_new_column_is_told_and_breaks_nothing():
    """An attribute that all rows have all at once; a reference without attributes, or without a log, knows nothing."""
    rows = changed(lambda row: {"temperature": row["attributes"]["score"]})
    assert found(rows) == {"attribute:temperature": ("new", NOTE)}
    bare = learn([{**row, "attributes": None} for row in log(1, 1_000)])
    assert window_breaks(SampledRows(rows=rows, of=len(rows)), bare) == ()
    made = learn([{"prompt": row["prompt"], "prompt_bits_per_byte": 2.5 + 0.1 * (i % 7)} for i, row in enumerate(rows)])
    traffic = [{**row, "prompt_bits_per_byte": 2.5 + 0.1 * (i % 7)} for i, row in enumerate(rows)]
    assert window_breaks(SampledRows(rows=traffic, of=len(rows)), made) == ()  # training's rows have no latency


def test_what_was_accepted_is_no_break():
    """A break that a person accepted is told no more; another of its kind is."""
    rows = [{**row, "prompt": f"User: {row['prompt']}"} for row in log(5, 300, hour=10)]
    sample = SampledRows(rows=rows, of=300)
    (template,) = [each for each in window_breaks(sample, reference()) if each.kind != "set-aside"]
    accepted = {(template.kind, template.key)}
    assert all(each.kind == "set-aside" for each in window_breaks(sample, reference(), accepted=accepted))
    other = SampledRows(rows=[{**row, "prompt": f"Bot> {row['prompt']}"} for row in rows], of=300)
    assert "template" in {each.kind for each in window_breaks(other, reference(), accepted=accepted)}


def test_a_break_that_goes_on_keeps_its_beginning():
    """The second window says since when the first one saw it."""
    first, second = (
        SampledRows(rows=[{**row, "prompt": row["prompt"].upper()} for row in log(hour, 200, hour=hour)], of=200)
        for hour in (10, 12)
    )
    (begun,) = [each for each in window_breaks(first, reference()) if each.kind == "case"]
    (later,) = [each for each in window_breaks(second, reference(), before=[begun]) if each.kind == "case"]
    assert begun.since == later.since == NOON + timedelta(hours=10)
