"""The one file that imports Evidently: samples of columns and their verdicts in, Evidently's report out."""

import html
import json
import math
import os
import re
import secrets
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.errors import ContractError

METHOD = "evidence of the whole window by the e-detector, shown by Evidently 0.7 on a sample"
MAX_ROWS = 5000
"""Rows of a side that a report is made of; more add cost and nothing to see."""
STATTEST = "driftloop_evidence"
Values = NDArray[np.float64] | list[str | None]
"""A column's sample: numbers, where NaN is none, or levels."""

_LEVELS = 30
_LEVEL_LENGTH = 60
_HUGE = 1e100
_NO_EVIDENCE = -99.0
_NOTHING, _OTHER = "(none)", "(other)"
_DATA_BEGINS = "var metric_"
_DATA_ENDS = "<script>var global = globalThis"
_SCRIPTS = 4
_OTHER_SHAPE = "Evidently's page has another shape than 0.7.23's and cannot be made safe: pin that version"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnVerdict:
    """What was decided about one column from all rows of the window."""

    score: float
    """log10 of the evidence against "no drift"; minus infinity before there is any."""
    limit: float
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Evidently's report as it is stored."""

    json: bytes
    html: bytes
    """Safe to serve: no name or value from a log can become markup or code of the page."""
    drift_share: float
    """Share of drifted columns as Evidently counted them, 0..1; it equals the verdicts'."""


def drift_report(
    reference: Mapping[str, Values], current: Mapping[str, Values], verdicts: Mapping[str, ColumnVerdict], *, title: str
) -> DriftReport:
    """Show samples of both sides beside what was decided about each column, the strongest evidence first.

    Evidently decides nothing here: its test of every column gives the verdict that it is handed. A column of which one
    side has no number is shown by what it has instead, so that every verdict is in the report.

    Raises:
        ContractError: a column lacks on a side, there is none, or Evidently says other things than it was told.
    """
    if not verdicts:
        raise ContractError("drift report: there are no verdicts on columns; there is nothing to report")
    for side, columns in (("reference", reference), ("current", current)):
        if lacking := sorted(set(verdicts) - set(columns)):
            raise ContractError(f"drift report: the {side} sample lacks columns that were judged: {', '.join(lacking)}")
        if empty := sorted(name for name in verdicts if not len(columns[name])):
            raise ContractError(f"drift report: the {side} sample has no rows of {', '.join(empty)}")
    ranked = sorted(verdicts, key=lambda name: (-verdicts[name].score, name))
    shown = dict(zip(ranked, _clean_names(ranked), strict=True))
    told = {shown[name]: verdicts[name] for name in ranked}
    content, page = _run({shown[name]: _comparable(reference[name], current[name]) for name in ranked}, told)
    share = _checked(content, told)
    return DriftReport(json=content.encode(), html=_safe_page(page, title).encode(), drift_share=share)


_verdicts: ContextVar[Mapping[str, ColumnVerdict]] = ContextVar("verdicts of the report that is being made")


def _handed_on(_reference: Any, current: Any, _kind: Any, _threshold: float) -> tuple[float, bool]:
    verdict = _verdicts.get()[current.name]
    return _finite(verdict.score), verdict.drifted


@cache
def _register() -> None:
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    test = StatTest(name=STATTEST, display_name="e-detector, log10 of the evidence", allowed_feature_types=kinds)
    register_stattest(test, default_impl=_handed_on)


def _run(columns: Mapping[str, tuple[Values, Values]], verdicts: Mapping[str, ColumnVerdict]) -> tuple[str, str]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    _register()
    numbers = [name for name, (values, _) in columns.items() if isinstance(values, np.ndarray)]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in columns if name not in set(numbers)]
    )

    def dataset(side: int) -> Dataset:
        frame = pd.DataFrame({name: pd.Series(pair[side]) for name, pair in columns.items()})
        return Dataset.from_pandas(frame, data_definition=definition)

    limits = {name: verdict.limit for name, verdict in verdicts.items()}
    count = DriftedColumnsCount(columns=list(columns), method=STATTEST, per_column_threshold=limits)
    value_drifts = [ValueDrift(column=name, method=STATTEST, threshold=limits[name]) for name in columns]
    with _telling(verdicts), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of pandas and numpy about constant columns; the verdict does not need them
        snapshot = Report([count, *value_drifts]).run(dataset(1), dataset(0))
        return snapshot.json(), snapshot.get_html_str(as_iframe=False)


@contextmanager
def _telling(verdicts: Mapping[str, ColumnVerdict]) -> Iterator[None]:
    token = _verdicts.set(verdicts)
    try:
        yield
    finally:
        _verdicts.reset(token)


def _checked(content: str, told: Mapping[str, ColumnVerdict]) -> float:
    """Read the share and the scores back, and hold them against the verdicts.

    `drift_share` in Evidently's configuration is a threshold of its own; the measured one is the count's value.
    """
    share, scores = None, {}
    try:
        for metric in json.loads(content)["metrics"]:
            kind = metric["config"]["type"].rsplit(":", 1)[-1]
            if kind == "DriftedColumnsCount":
                share = float(metric["value"]["share"])
            elif kind == "ValueDrift":
                scores[metric["config"]["column"]] = float(metric["value"])
    except (KeyError, TypeError, ValueError) as err:
        raise ContractError(f"Evidently's result has another shape than 0.7.23's ({err!r}); pin that version") from err
    if share is None:
        raise ContractError("Evidently's result has no DriftedColumnsCount; 0.7.23 gives one: pin that version")
    decided = sum(verdict.drifted for verdict in told.values()) / len(told)
    if not math.isclose(share, decided, abs_tol=1e-9):
        raise ContractError(f"Evidently reports a drift share of {share:.4f}, {decided:.4f} was decided")
    wrong = [name for name, verdict in told.items() if scores.get(name) != _finite(verdict.score)]
    if wrong:
        raise ContractError(f"Evidently reports other scores than were decided for {', '.join(wrong)}")
    return share


def _finite(score: float) -> float:
    return max(float(score), _NO_EVIDENCE)


def _comparable(reference: Values, current: Values) -> tuple[Values, Values]:
    """Make two samples of one kind that Evidently can draw, of at most MAX_ROWS each."""
    sides = [_thinned(values) for values in (reference, current)]
    if all(isinstance(side, np.ndarray) and np.isfinite(side).any() for side in sides):
        first, second = (np.clip(np.asarray(side, dtype=np.float64), -_HUGE, _HUGE) for side in sides)
        return first, second
    levels = [[_level(value) for value in side] for side in sides]
    often = {level for level, _ in Counter([*levels[0], *levels[1]]).most_common(_LEVELS)}
    first_levels, second_levels = ([level if level in often else _OTHER for level in side] for side in levels)
    return [*first_levels], [*second_levels]


def _thinned(values: Values) -> Values:
    """Take evenly spaced rows; the order stays, because it is the order in time."""
    if len(values) <= MAX_ROWS:
        return values
    chosen = np.linspace(0, len(values) - 1, MAX_ROWS).astype(int)
    return values[chosen] if isinstance(values, np.ndarray) else [values[place] for place in chosen]


def _level(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return _plain(value, _LEVEL_LENGTH) if value else _NOTHING
    return "a number" if math.isfinite(value) else _NOTHING


def _plain(text: str, length: int) -> str:
    """Give a text that no reader of the page, Plotly's pseudo-HTML included, takes for markup."""
    seen = "".join(char if char.isprintable() else " " for char in text[: 4 * length])
    safe = seen.translate({ord("<"): "\u2039", ord(">"): "\u203a", ord("&"): "+", ord("`"): "'"})
    return safe if len(safe) <= length else safe[: length - 1] + "…"


def _clean_names(names: Sequence[str]) -> list[str]:
    """Give each column a name of letters, digits and `_.:-` that no other has."""
    clean: list[str] = []
    for place, name in enumerate(names):
        short = re.sub(r"[^\w.:-]+", "_", name)[:_LEVEL_LENGTH]
        free = short == name and short not in clean
        clean.append(short if free else next(_numbered(short, place, {*clean, *names})))
    return clean


def _numbered(short: str, place: int, taken: set[str]) -> Iterator[str]:
    return (name for n in range(place, place + len(taken) + 1) if (name := f"{short}_{n}") not in taken)


def _safe_page(page: str, title: str) -> str:
    """Escape `<` inside the embedded data, and let only the page's own scripts run.

    Evidently puts `json.dumps` output into a script element as it is, so that a text with `</script>` in a column
    name ran as code of the page. The escape means the same to JavaScript and nothing to the HTML parser. Beyond that,
    the page's policy admits only scripts that carry a random number, and loads nothing from anywhere.
    """
    begin, end = page.find(_DATA_BEGINS), page.rfind(_DATA_ENDS)
    close = page.rfind("</script>", 0, end)
    if not 0 <= begin < close < end:
        raise ContractError(_OTHER_SHAPE)
    page = page[:begin] + page[begin:close].replace("<", "\\u003c") + page[close:]
    tags = _Tags()
    tags.feed(page)
    if not tags.heads or len(tags.scripts) != _SCRIPTS:
        raise ContractError(_OTHER_SHAPE)
    nonce = secrets.token_hex(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
    heading = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    heading += f"<title>{html.escape(_plain(title, 200))}</title>"
    insertions = {tags.heads[0]: heading, **dict.fromkeys(tags.scripts, f'<script nonce="{nonce}">')}
    lines = page.split("\n")
    for (line, column), tag in insertions.items():
        at = lines[line - 1]
        before, rest = at[:column], at[at.index(">", column) + 1 :]
        lines[line - 1] = before + (f"<head>{tag}" if tag is heading else tag) + rest
    return "\n".join(lines)


class _Tags(HTMLParser):
    """Finds where the page's head and its scripts begin, as a browser reads it: (line from 1, column from 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[tuple[int, int]] = []
        self.scripts: list[tuple[int, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the places."""
        del attrs
        if tag in ("head", "script"):
            (self.heads if tag == "head" else self.scripts).append(self.getpos())
