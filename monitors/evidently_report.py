"""The one file that imports Evidently: two sets of columns in, our own types and its report out."""

import html
import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_defs.errors import ContractError

METHOD = "evidently 0.7 share of columns by two-sample KS"
_DATA_BEGINS = "var metric_"
_DATA_ENDS = "<script>var global = globalThis"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """How one column compares with the reference."""

    name: str
    p_value: float | None
    """Of the two-sample Kolmogorov-Smirnov test; None when the column could not be compared."""
    drifted: bool
    reference_mean: float | None
    current_mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What Evidently measured, and its report as it is stored."""

    columns: tuple[ColumnDrift, ...]
    drift_share: float
    """Measured share of the compared columns that drifted, 0..1."""
    json: bytes
    html: bytes
    """Safe to serve: no text of ours or of a user's can end the script that holds the data."""


def drift_report(
    reference: Mapping[str, NDArray[np.float64]], current: Mapping[str, NDArray[np.float64]], *, p_value: float,
    title: str,
) -> DriftReport:  # fmt: skip
    """Compare columns of numbers; a column without a finite number on either side is listed, not compared.

    Raises:
        ContractError: the two sides have different columns, nothing can be compared, or Evidently's format changed.
    """
    if set(reference) != set(current):
        raise ContractError(f"drift report: columns differ: {sorted(set(reference) ^ set(current))} on one side only")
    names = {_clean(name, place): name for place, name in enumerate(reference)}
    sides = {clean: (_finite(reference[name]), _finite(current[name])) for clean, name in names.items()}
    compared = {clean: pair for clean, pair in sides.items() if pair[0].size and pair[1].size}
    if not compared:
        raise ContractError("drift report: no column has a finite number on both sides; there is nothing to compare")
    content, page = _run(compared, p_value)
    share, p_values = _measured(content)
    columns = tuple(
        ColumnDrift(
            name=names[clean],
            p_value=p_values.get(clean),
            drifted=clean in compared and p_values[clean] < p_value,
            reference_mean=_mean(sides[clean][0]),
            current_mean=_mean(sides[clean][1]),
        )
        for clean in names
    )
    return DriftReport(columns=columns, drift_share=share, json=content.encode(), html=_safe_page(page, title).encode())


def _run(columns: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], p_value: float) -> tuple[str, str]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    names = list(columns)
    definition = DataDefinition(numerical_columns=names)

    def dataset(side: int) -> Dataset:
        frame = pd.DataFrame({name: pd.Series(pair[side]) for name, pair in columns.items()})
        return Dataset.from_pandas(frame, data_definition=definition)

    count = DriftedColumnsCount(columns=names, num_method="ks", num_threshold=p_value)
    each = [ValueDrift(column=name, method="ks", threshold=p_value) for name in names]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # correlations of constant columns, which nobody reads
        snapshot = Report([count, *each]).run(dataset(1), dataset(0))
        return snapshot.json(), snapshot.get_html_str(as_iframe=False)


def _measured(content: str) -> tuple[float, dict[str, float]]:
    """Read the measured share and the p-values; `drift_share` in Evidently's result is its own threshold."""
    share, p_values = None, {}
    try:
        for metric in json.loads(content)["metrics"]:
            kind = metric["config"]["type"].rsplit(":", 1)[-1]
            if kind == "DriftedColumnsCount":
                share = float(metric["value"]["share"])
            elif kind == "ValueDrift":
                p_values[metric["config"]["column"]] = float(metric["value"])
    except (KeyError, TypeError, ValueError) as err:
        raise ContractError(f"Evidently's result has another shape than 0.7.23's ({err!r}); pin that version") from err
    if share is None:
        raise ContractError("Evidently's result has no DriftedColumnsCount; 0.7.23 gives one: pin that version")
    return share, p_values


def _safe_page(page: str, title: str) -> str:
    """Escape `<` inside the embedded data.

    Evidently puts `json.dumps` output into a script element as it is, so that a text with `</script>` in a column
    name ran as code of the page. The escape means the same to JavaScript and nothing to the HTML parser.
    """
    begin, end = page.find(_DATA_BEGINS), page.rfind(_DATA_ENDS)
    close = page.rfind("</script>", 0, end)
    if not 0 <= begin < close < end:
        raise ContractError(
            "Evidently's page has another shape than 0.7.23's and cannot be made safe: pin that version"
        )
    data = page[begin:close].replace("<", "\\u003c")
    heading = f"<title>{html.escape(title)}</title>"
    return page[:begin].replace("<head>", f"<head>{heading}", 1) + data + page[close:]


def _clean(name: str, place: int) -> str:
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:60].strip("_")
    return clean if clean == name else f"{clean}_{place}"


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None
