"""Evidently's report as a step after the verdict: real tables, real files, real Evidently."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import read_bytes
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.verdicts import recent_verdicts, save_verdict
from monitors import watch_drift
from monitors.counts.descriptors import describe
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale
from monitors.reports.drift_report import SIGNAL, sample_of, write
from monitors.reports.evidently_report import DriftReport, Values, drift_report
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

ATTACK = "</script><script>alert(1)</script>"


def log(loop: Loop, number: int, prompts: tuple[str, ...]) -> None:
    """Log a window's requests with every figure and two attributes."""
    window, rng = loop.window(number), np.random.default_rng(number)
    rows = [
        Inference(
            model=MODEL, request_id=f"{number}-{n}", at=window.start + (n + 0.5) / len(prompts) * loop.length,
            prompt=prompt, model_version=1, prompt_bits_per_byte=float(rng.normal(2.5, 0.2)),
            prompt_tokens=int(rng.integers(10, 99)), latency_seconds=float(rng.exponential()),
            attributes={"tier": ["free", "paid", ATTACK][n % 3], "temperature": float(rng.normal())},
        )
        for n, prompt in enumerate(prompts)
    ]  # fmt: skip
    append(loop.db, rows)


def watched(loop: Loop, number: int) -> Verdict:
    """Judge a window as the sensor does, and give the verdict on its drift."""
    watch_drift.watch(MODEL, until=loop.until(number), db=loop.db, actor="test")
    return recent_verdicts(loop.db, MODEL, "drift", until=loop.window(number).end, count=1)[0]


def reported(loop: Loop, number: int) -> Verdict | None:
    """Give the report's verdict on a window, if there is one."""
    found = recent_verdicts(loop.db, MODEL, SIGNAL, until=loop.window(number).end, count=1)
    return found[0] if found and found[0].window == loop.window(number) else None


@pytest.fixture
def judged(loop: Loop) -> Loop:
    """A champion whose profile comes from its own log: windows 0 and 1, 600 requests of documentation each."""
    loop.champion()
    log(loop, 0, documentation()[:600])
    watched(loop, 0)
    return loop


@pytest.mark.slow
def test_the_report_says_what_the_detector_says(judged: Loop) -> None:
    """After a shift, Evidently's file carries each column's evidence and the share; the signal has the condition."""
    log(judged, 1, licences()[:400])
    verdict = watched(judged, 1)
    assert verdict.condition is Condition.BAD
    said = write(MODEL, until=judged.until(1), db=judged.db)
    found = reported(judged, 1)
    assert found is not None
    assert found.reason == said
    assert (found.condition, found.score, found.champion_version) == (Condition.BAD, verdict.evidence["drift_share"], 1)
    metrics = json.loads(read_bytes(found.evidence["report_json"]))["metrics"]
    scores = {each["config"]["column"]: each["value"] for each in metrics[1:]}
    told = verdict.evidence["columns"]
    assert len(scores) == len(told)
    assert scores["attribute:tier"] == pytest.approx(max(told["attribute:tier"]["log10_m"], -99))
    assert next(iter(scores)) == max(told, key=lambda name: told[name]["log10_m"])
    assert metrics[0]["value"]["count"] == sum(column["drifted"] for column in told.values()) > 0
    assert ATTACK.encode() not in read_bytes(found.evidence["report_html"])


@pytest.mark.slow
def test_twice_is_once(judged: Loop, home: Path) -> None:
    """Writing it again leaves one verdict and the same two files."""
    log(judged, 1, documentation()[600:900])
    watched(judged, 1)
    said = [write(MODEL, until=judged.until(1), db=judged.db) for _ in range(2)]
    assert said[0] == said[1]
    assert len(recent_verdicts(judged.db, MODEL, SIGNAL, until=judged.window(9).end, count=9)) == 1
    assert Counter(path.suffix for path in (home / "artifacts" / "reports").rglob("*") if path.is_file()) == {
        ".html": 1, ".json": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_windows_that_were_judged_together(judged: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report on a window that carried another over has the rows of both, in the order of their time."""
    for number in (1, 2):
        log(judged, number, documentation()[600 + 12 * number : 612 + 12 * number])
        verdict = watched(judged, number)
        assert verdict.condition is (Condition.NO_DATA if number == 1 else Condition.OK)
    given: list[dict[str, Values]] = []

    def spy(reference: dict, current: dict, *others: object, **more: object) -> DriftReport:
        given.append(current)
        return drift_report(reference, current, *others, **more)

    monkeypatch.setattr("monitors.reports.drift_report.drift_report", spy)
    write(MODEL, until=judged.until(2), db=judged.db)
    words = describe(documentation()[612:636])["words"]
    assert [current["words"].tolist() for current in given] == [words.tolist()]
    found = reported(judged, 2)
    assert found is not None
    assert found.condition is Condition.OK


def test_nothing_to_report(judged: Loop) -> None:
    """Without a verdict, or with one that knows nothing, no report is written, and why is said."""
    assert "was not judged" in write(MODEL, until=judged.until(5), db=judged.db)
    watched(judged, 5)
    assert "drift is NO_DATA: 0 rows" in write(MODEL, until=judged.until(5), db=judged.db)
    assert reported(judged, 5) is None


@pytest.mark.slow
def test_reports_of_warnings_only(judged: Loop) -> None:
    """With `on_warn`, a quiet window has no report; one with drift, or with a loss that is not known, has."""
    judged.spec(drift={"min_rows": 60, "burn_in_windows": 0, "reports": "on_warn"})
    log(judged, 1, documentation()[600:900])
    quiet = watched(judged, 1)
    assert quiet.condition is Condition.OK
    assert "reports of other windows only" in write(MODEL, until=judged.until(1), db=judged.db)
    assert reported(judged, 1) is None
    save_verdict(judged.db, replace(quiet, signal="loss", condition=Condition.NO_DATA))
    write(MODEL, until=judged.until(1), db=judged.db)
    assert reported(judged, 1) is not None
    log(judged, 2, licences()[:400])
    watched(judged, 2)
    write(MODEL, until=judged.until(2), db=judged.db)
    assert reported(judged, 2) is not None


@pytest.mark.slow
def test_disagreement_is_a_warning(judged: Loop) -> None:
    """A share that is not the detector's, or rows that are gone, are said in a warning, never passed over."""
    log(judged, 1, documentation()[600:900])
    verdict = watched(judged, 1)
    save_verdict(judged.db, replace(verdict, evidence={**verdict.evidence, "drift_share": 0.9}))
    assert "drift share is 0.00, the detector's 0.90" in write(MODEL, until=judged.until(1), db=judged.db)
    found = reported(judged, 1)
    assert found is not None
    assert (found.condition, found.score) == (Condition.WARN, 0.0)
    save_verdict(judged.db, verdict)
    with judged.db.begin() as on:
        on.execute(text("DELETE FROM inference WHERE at >= :start"), {"start": judged.window(1).start})
    assert "current sample has no rows" in write(MODEL, until=judged.until(1), db=judged.db)
    found = reported(judged, 1)
    assert found is not None
    assert (found.condition, found.score) == (Condition.WARN, None)


def test_what_it_was_judged_by_is_gone(judged: Loop) -> None:
    """Without the window's counts or its profile there is no report that could agree; it is said in words."""
    log(judged, 1, documentation()[600:900])
    watched(judged, 1)
    with judged.db.begin() as on:
        on.execute(text("DELETE FROM window_sketch"))
    with pytest.raises(ContractError, match=r"was judged by over .* is gone"):
        write(MODEL, until=judged.until(1), db=judged.db)


def test_samples_of_sketches() -> None:
    """A sample has the mean, the spread and the nulls of all the rows, in no order."""
    numbers = np.random.default_rng(0).normal(5, 2, size=50_000)
    sketch = NumericSketch.of(numbers, Scale.of(numbers), nulls=50_000)
    values = sample_of(sketch, 1000)
    assert isinstance(values, np.ndarray)
    assert len(values) == 1000
    assert np.isnan(values).sum() == 500
    there = values[~np.isnan(values)]
    assert (there.mean(), there.std()) == pytest.approx((5, 2), rel=0.02)
    assert abs(np.corrcoef(there[1:], there[:-1])[0, 1]) < 0.2
    levels = sample_of(CategorySketch.of(["a"] * 700 + ["b"] * 200, nulls=100), 100)
    assert Counter(levels) == {"a": 70, "b": 20, None: 10}
    assert Counter(sample_of(CategorySketch.of(["a", "b"]))) == {"a": 1, "b": 1}
    assert len(sample_of(CategorySketch.of([]))) == 0
