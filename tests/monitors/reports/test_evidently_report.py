"""Evidently's report of what the detector decided: the same verdicts, any column, and no foreign code in the page."""

import html
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from datasets_defs.core.errors import ContractError
from monitors.reports import evidently_report
from monitors.reports.evidently_report import ColumnVerdict, DriftReport, Values, drift_report
from tests.chromium import rendered

LIMIT = math.log10(87_600)
MARK = "data-pwned"
RUN = f"document.documentElement.setAttribute('{MARK}','yes')"
PAYLOADS = (
    f"</script><script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f"<svg onload={RUN}>",
    f'\'"--><iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f"&lt;img src=x onerror={RUN}&gt;",
    f"<a href='javascript:{RUN}'>a link</a>",
    f"`${{{RUN}}}`",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"\u2028;{RUN};//",
    "<!--<script>",
    "__proto__",
)


def verdict(score: float) -> ColumnVerdict:
    """The verdict on a column with so much evidence."""
    return ColumnVerdict(score=score, limit=LIMIT, drifted=score >= LIMIT)


def noise(seed: int, rows: int = 400) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=rows)


def metrics(report: DriftReport) -> dict[str, dict]:
    """The metrics of the JSON by column; the count is under an empty name."""
    return {metric["config"].get("column", ""): metric for metric in json.loads(report.json)["metrics"]}


def plotted(report: DriftReport) -> list[str]:
    """The series of numbers that the page's figures draw, in the page's order."""
    return re.findall(r'"(?:x|y)":\s*(\[[^\]]*\])', report.html.decode())


def test_carries_the_verdicts() -> None:
    """Scores, limits, order and share are the detector's, whatever the samples look like."""
    scores = {"moved": 2.0, "still": 7.5, "topic": 5.1, "new": -math.inf}
    reference: dict[str, Values] = {"moved": noise(0), "still": noise(1), "topic": ["a", "b"] * 200, "new": noise(2)}
    current: dict[str, Values] = {
        "moved": noise(3) + 9, "still": noise(4), "topic": ["a", None] * 100, "new": noise(5), "unjudged": noise(6),
    }  # fmt: skip
    report = drift_report(reference, current, {name: verdict(score) for name, score in scores.items()}, title="t")
    found = metrics(report)
    assert report.drift_share == found.pop("")["value"]["share"] == 0.5
    assert [(name, metric["value"]) for name, metric in found.items()] == [
        ("still", 7.5), ("topic", 5.1), ("moved", 2.0), ("new", -99.0),
    ]  # fmt: skip
    assert {metric["config"]["threshold"] for metric in found.values()} == {LIMIT}
    assert {metric["config"]["type"] for metric in found.values()} == {"evidently:metric_v2:ValueDrift"}


def test_verdicts_of_two_reports_do_not_mix() -> None:
    """A second report of the same columns tells its own verdicts."""
    sample: dict[str, Values] = {"a": noise(0), "b": noise(1)}
    first = drift_report(sample, sample, {"a": verdict(9), "b": verdict(0)}, title="t")
    second = drift_report(sample, sample, {"a": verdict(0), "b": verdict(0)}, title="t")
    assert (first.drift_share, second.drift_share) == (0.5, 0.0)


DIRTY: dict[str, tuple[Values, Values]] = {
    "constant": (np.ones(200), np.ones(200)),
    "other constant": (np.ones(200), np.zeros(200)),
    "gone": (noise(0), np.full(100, np.nan)),
    "never": (np.full(100, np.nan), np.full(100, np.nan)),
    "half": (noise(0), np.where(np.arange(400) % 2, np.nan, noise(1))),
    "infinite": (noise(0), np.where(np.arange(400) < 3, np.inf, noise(1))),
    "outlier": (noise(0), np.append(noise(1), 1e308)),
    "far apart": (np.array([-1e308, 1e308] * 9), np.array([5e-324] * 9)),
    "one row": (noise(0), np.array([0.5])),
    "whole numbers": (np.arange(300) % 7.0, np.arange(300) % 5.0),
    "long": (noise(0, 20_000), noise(1, 20_000)),
    "levels": (["a", "b"] * 50, ["a", None, ""] * 50),
    "one level": (["a"] * 50, ["a"] * 60),
    "no level": (["a"] * 50, [None] * 60),
    "no level at all": ([None] * 50, [None] * 60),
    "many levels": ([f"level {n}" for n in range(3000)], [f"level {n % 500}" for n in range(9000)]),
    "long level": (["x" * 100_000] * 50, ["x" * 100_000, "y"] * 50),
    "changed type": (noise(0), ["text", None] * 50),
    "unprintable": (["\x00", "\ud800", "\u202e", "\n"] * 9, ["\ufeff", "\u2028"] * 9),
}


@pytest.mark.parametrize("name", DIRTY)
def test_dirty_columns(name: str) -> None:
    """Any content of a column is shown, with the verdict that was reached on it."""
    reference, current = DIRTY[name]
    report = drift_report({name: reference}, {name: current}, {name: verdict(6.0)}, title="t")
    assert report.drift_share == 1.0
    json.loads(report.json, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))


def test_large_samples_are_thinned() -> None:
    """A side of 70,000 rows is drawn as one of 5,000 evenly spaced rows in the same order; its page is no larger."""
    rising = np.arange(70_000.0)
    thinned = rising[np.linspace(0, rising.size - 1, 5_000).astype(int)]
    verdicts = {"a": verdict(0)}
    large, small = (drift_report({"a": side}, {"a": side}, verdicts, title="t") for side in (rising, thinned))
    assert plotted(large) == plotted(small)
    assert plotted(small) != plotted(drift_report({"a": rising[:5_000]}, {"a": rising[:5_000]}, verdicts, title="t"))
    assert len(large.html) == len(small.html)


def test_what_cannot_be_reported() -> None:
    """Samples that do not fit the verdicts are said in words."""
    with pytest.raises(ContractError, match="no verdicts"):
        drift_report({}, {}, {}, title="t")
    with pytest.raises(ContractError, match="current sample lacks columns that were judged: b"):
        drift_report({"a": noise(0), "b": noise(0)}, {"a": noise(0)}, {"a": verdict(0), "b": verdict(0)}, title="t")
    with pytest.raises(ContractError, match="reference sample has no rows of a"):
        drift_report({"a": noise(0, 0)}, {"a": noise(0)}, {"a": verdict(0)}, title="t")


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ([{"type": "x:DriftedColumnsCount", "value": {"share": 0.5}}], "drift share of 0.5000, 1.0000 was decided"),
        ([{"type": "x:DriftedColumnsCount", "value": {"share": 1.0}}], "other scores than were decided for a"),
        ([{"type": "x:ValueDrift", "column": "a", "value": 6.0}], "no DriftedColumnsCount"),
        ([{"type": "x:DriftedColumnsCount", "value": None}], "another shape"),
    ],
)
def test_a_report_that_says_other_things(metrics: list[dict], said: str) -> None:
    """What Evidently says is held against what it was told."""
    content = {"metrics": [{"config": metric, "value": metric.pop("value")} for metric in metrics]}
    with pytest.raises(ContractError, match=said):
        evidently_report._checked(json.dumps(content), {"a": verdict(6.0)})


def test_names_stay_apart() -> None:
    """Names that look alike once cleaned are still columns of their own; letters of any script stay."""
    names = ["a<", "a>", "a_", "a__1", "attribute:tier", "größe", "言語"]
    clean = evidently_report._clean_names(names)
    assert len(set(clean)) == len(names)
    assert clean[2:] == names[2:]


def attacked() -> tuple[dict[str, Values], dict[str, Values], dict[str, ColumnVerdict]]:
    """Samples and verdicts whose names and levels all are attacks."""
    numbers: dict[str, Values] = {payload: noise(place) for place, payload in enumerate(PAYLOADS)}
    columns: dict[str, Values] = {**numbers, "topic": [*PAYLOADS] * 40}
    return columns, columns, {name: verdict(6.0 if name == "topic" else 0.0) for name in columns}


def test_no_foreign_code_in_a_browser(tmp_path: Path) -> None:
    """A real browser draws the report and runs nothing that came in a name, a level or the title."""
    report = drift_report(*attacked(), title=PAYLOADS[0])
    page = tmp_path / "report.html"
    page.write_bytes(report.html)
    seen = rendered(page)
    assert MARK not in seen[: seen.index("<head")]
    texts = re.sub(r"<script.*?</script>", "", seen, flags=re.DOTALL)
    assert "Drift in column 'topic'" in html.unescape(texts)
    assert texts.count("svg-container") >= len(PAYLOADS)
    assert not re.search(r"<(a|iframe)[^>]*(javascript|srcdoc)", texts)


def test_the_browser_would_run_it(tmp_path: Path) -> None:
    """The same attacks run in the page as Evidently writes it: the test above can fail."""
    names = {name: values for name, values in attacked()[0].items() if name != "topic"}
    columns = {name: (values, values) for name, values in names.items()}
    _, page = evidently_report._run(columns, {name: verdict(0.0) for name in names})
    path = tmp_path / "unsafe.html"
    path.write_text(page, encoding="utf-8")
    seen = rendered(path)
    assert MARK in seen[: seen.index("<head")]


def test_the_policy_alone_would_hold(tmp_path: Path) -> None:
    """Were an attack to slip into the page as markup, the page's policy would not let it run."""
    report = drift_report({"a": noise(0)}, {"a": noise(1)}, {"a": verdict(0)}, title="t")
    path = tmp_path / "report.html"
    attacks = "".join(payload for payload in PAYLOADS[:4])
    path.write_text(report.html.decode().replace("<body>", f"<body>{attacks}", 1), encoding="utf-8")
    seen = rendered(path)
    assert "onerror" in seen
    assert MARK not in seen[: seen.index("<head")]


def test_a_page_of_another_shape() -> None:
    """A page that cannot be made safe is not given out."""
    for page in ("<html></html>", "<script>var metric_1 = 1</script><script>var global = globalThis</script>"):
        with pytest.raises(ContractError, match="cannot be made safe"):
            evidently_report._safe_page(page, "t")
