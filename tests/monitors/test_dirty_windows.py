"""Windows as they come on a bad day, through a real PostgreSQL: counted without an error, and rightly let in or not."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_defs.store.inference_log import Inference, append
from monitors.counts.columns import learn_encoding, sketches
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch, roll_up
from monitors.drift.data_gates import Gate, gate
from monitors.evidence.e_detector import WARN_RUN_LENGTH
from monitors.profiles.profile import Profile
from ops.ingest.ingest import ingest
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

SCRIPT = "</script><script>alert(1)</script>"
Change = Callable[[int, dict[str, Any]], dict[str, Any]]


def request(number: int) -> dict[str, Any]:
    """Give an ordinary request."""
    draw = np.random.default_rng(number)
    return {
        "prompt": documentation()[draw.integers(1_000)],
        "prompt_bits_per_byte": 2.5 + 0.2 * float(draw.normal()),
        "latency_seconds": float(draw.lognormal()),
        "prompt_tokens": int(draw.integers(5, 50)),
        "attributes": {"score": float(draw.normal()), "tier": "abc"[int(draw.integers(3))], SCRIPT: "yes"},
    }


def usual(number: int) -> float:
    """Give an ordinary score."""
    return float(np.random.default_rng([1, number]).normal())


def attributes(**changed: Any) -> Change:
    """Give what changes attributes of a request."""
    return lambda number, row: {
        **row,
        "attributes": {
            **row["attributes"],
            **{name: value(number) if callable(value) else value for name, value in changed.items()},
        },
    }


def without(name: str) -> Change:
    """Give what takes an attribute away."""
    return lambda _, row: {
        **row, "attributes": {key: value for key, value in row["attributes"].items() if key != name}
    }  # fmt: skip


def each(share: float, **changed: Any) -> Change:
    """Give what changes a share of the requests."""
    return lambda number, row: {**row, **changed} if number % 20 < 20 * share else row


@dataclass(frozen=True, slots=True)
class Gates:
    """A model with a profile, and what becomes of a window."""

    loop: Loop
    profile: Profile

    def log(self, changed: Change, *, count: int = 400, at: timedelta | None = None) -> None:
        """Log requests into window 1, or so much later."""
        window = self.loop.window(1)
        rows = [changed(number, request(10_000 + number)) for number in range(count)]
        append(
            self.loop.db,
            [
                Inference(
                    model=MODEL, request_id=f"r{number}", model_version=1,
                    at=window.start + (number + 0.5) / count * window.length + (at or timedelta()),
                    **row,
                )
                for number, row in enumerate(rows)
            ],
        )  # fmt: skip

    def counted(self) -> WindowSketch:
        """Count window 1; what is kept of it comes back from its bytes."""
        found = roll_up(self.loop.db, MODEL, 1, self.loop.window(1), self.profile.encoding, text_rows=1_000)
        assert WindowSketch.from_bytes(found.to_bytes()) == found
        return found

    def found(self) -> Gate:
        """Count window 1, and say what the gate makes of it."""
        return gate(self.counted(), self.profile, min_rows=200)

    def evidence(self) -> float:
        """Give the detector's evidence against a window that was let in, in log10 of windows."""
        sketch = self.counted()
        assert gate(sketch, self.profile, min_rows=200) == Gate()
        detector = self.profile.detector(sketch.window.start)
        state = detector.step(detector.start(), sketch.columns, rows_per_user=sketch.rows_per_user)
        assert not np.isnan(state).any()
        return detector.evidence(state).log10_m


@pytest.fixture(scope="module")
def learned() -> Profile:
    """A profile of ordinary requests."""
    rows = [request(number) for number in range(3_000)]
    encoding = learn_encoding(rows)
    columns = sketches(encoding, rows, own=True)
    return Profile(
        model=MODEL, version=1, revision=1, effective_from=None, source="s", rows=len(rows), encoding=encoding,
        reference=columns, eps=dict.fromkeys(columns, 0.05), icc=dict.fromkeys(columns, 0.0),
        loss=Moments.of([row["prompt_bits_per_byte"] for row in rows], 100), loss_tolerance=0.02,
    )  # fmt: skip


@pytest.fixture
def gates(loop: Loop, learned: Profile) -> Gates:
    """The model of a test."""
    return Gates(loop, learned)


def unchanged(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Leave a request as it is."""
    return row


BROKEN = {
    "all null": (attributes(score=None), "attribute:score is missing: no row has it"),
    "missing column": (without("tier"), "attribute:tier is missing: no row has it"),
    "text in a number": (
        attributes(score=lambda number: "12.5" if number % 10 == 0 else 0.1),
        "attribute:score changed its type: 10% of its values are no numbers",
    ),
    "nested in a number": (
        attributes(score=lambda number: {"a": [1]} if number % 10 == 0 else 0.1),
        "attribute:score changed its type: 10% of its values are no numbers",
    ),
    "half null": (
        attributes(score=lambda number: None if number % 2 else number % 3 - 1.0),
        "50% of the rows have no finite value of attribute:score, 0% of the reference's",
    ),
    "unseen levels": (
        attributes(tier="new"), "100% of the values of attribute:tier are levels that the reference never had",
    ),
    "NaN": (each(1, latency_seconds=math.nan), "latency_seconds is missing: no row has it"),
    "Inf": (
        each(0.5, latency_seconds=math.inf),
        "50% of the rows have no finite value of latency_seconds, 0% of the reference's",
    ),
    "NaN in an attribute": (
        attributes(score=math.nan), "attribute:score changed its type: 100% of its values are no numbers",
    ),
    "lost loss": (
        each(0.5, prompt_bits_per_byte=None),
        "50% of the rows have no finite value of prompt_bits_per_byte, 0% of the reference's",
    ),
    "empty prompts": (each(0.25, prompt=" \n"), "25% of the prompts are empty, more than 20%"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken(gates: Gates, change: Change, reason: str):
    """What is broken is said in words, and is not drift."""
    gates.log(change)
    hindered = gates.found()
    told = [each.reason for each in hindered.breaks] or [hindered.broken]
    assert told == [reason]


HARMLESS = {
    "nothing": unchanged,
    "one huge outlier": lambda number, row: {**row, "latency_seconds": 1e300} if number == 7 else row,
    "a number beyond all": attributes(score=lambda number: 10**400 if number == 7 else usual(number)),
    "some infinite": each(0.05, latency_seconds=-math.inf),
    "some NaN": each(0.05, latency_seconds=math.nan),
    "a text of a megabyte": lambda number, row: {**row, "prompt": "many words " * 95_000} if number < 3 else row,
    "an attribute of a megabyte": attributes(note=lambda number: "x" * 1_000_000 if number < 3 else "short"),
    "script": lambda number, row: {**row, "prompt": f"{row['prompt']}{SCRIPT}"} if number % 20 == 0 else row,
    "script in a level": attributes(tier=lambda number: SCRIPT if number % 50 == 0 else "abc"[number % 3]),
    "characters that cannot be": attributes(tier=lambda number: "\x00\ud800" if number == 1 else "abc"[number % 3]),
    "SQL in a name": lambda _, row: {**row, "attributes": {**row["attributes"], "'; DROP TABLE x; --%s{}": 1}},
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_harmless(gates: Gates, change: Change):
    """What is odd in a few rows is let in, and is no drift."""
    gates.log(change)
    assert gates.evidence() < log10(WARN_RUN_LENGTH)


def test_an_unseen_level_is_drift(gates: Gates):
    """A third of the rows at a level that the reference never had is evidence at once."""
    gates.log(attributes(tier=lambda number: "new" if number % 3 == 0 else "abc"[number % 3]))
    assert gates.evidence() > log10(WARN_RUN_LENGTH)


@pytest.mark.parametrize("count", [0, 1, 199])
def test_too_few(gates: Gates, count: int):
    """An empty window, one row, and not quite enough are told as what they are."""
    gates.log(unchanged, count=count)
    assert gates.found() == Gate(too_few=f"{count} rows in {gates.loop.window(1)}, 200 are needed")


def test_duplicates(gates: Gates):
    """Requests that are logged again, with another time, are not counted again."""
    gates.log(unchanged)
    gates.log(unchanged)
    gates.log(unchanged, at=timedelta(seconds=1))
    assert gates.counted().rows == 400
    assert gates.evidence() < log10(WARN_RUN_LENGTH)


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=4_000)])
def test_a_wrong_clock(gates: Gates, off: timedelta):
    """Rows of another time are not this window's: it has none, which is no drift."""
    gates.log(unchanged, at=off)
    assert gates.found() == Gate(too_few=f"0 rows in {gates.loop.window(1)}, 200 are needed")


def test_a_file_of_bad_bytes_and_naive_times(gates: Gates, tmp_path: Path):
    """Rows that are no UTF-8 are put aside on ingest, a time without a zone is UTC, and the others are judged."""
    window = gates.loop.window(1)
    good = [
        {**request(10_000 + number), "request_id": f"r{number}",
         "at": f"{window.start + number / 400 * window.length:%Y-%m-%dT%H:%M:%S}"}
        for number in range(400)
    ]  # fmt: skip
    lines = [json.dumps(row).encode() for row in good]
    bad = [line.replace(b'"prompt": "', b'"prompt": "\xff\xfe\xc3') for line in lines[:50]]
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join([*bad, *lines[50:]]))
    summary = ingest(gates.loop.db, MODEL, file)
    assert (summary.new, summary.naive_times, summary.quarantined.total()) == (350, 350, 50)
    assert gates.counted().rows == 350
    assert gates.evidence() < log10(WARN_RUN_LENGTH)
