"""The decision as the sensor makes it, on the benchmarks' tables: sketches of the window, then one detector step."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from monitors.counts.sketch import CategorySketch, NumericSketch, Scale, Sketch, merge
from monitors.evidence.e_detector import BAD_RUN_LENGTH, EPS_GRID, Detector, Evidence, Reference
from monitors.reports.drift_report import sample_of
from monitors.reports.evidently_report import MAX_ROWS, ColumnVerdict, Values, drift_report
from tests.benchmarks.frames import Tables

_ROWS_AT_ONCE = 131_072


class Decision:
    """Our verdict on one pair of tables. Making it learns the reference, which is done once in a model's life."""

    def __init__(self, tables: Tables) -> None:
        self._scales = {name: Scale.of(tables.reference[name].to_numpy()) for name in tables.numeric}
        self._categories = tables.categories
        self.window = tables.window
        self.reference = self.sketches(tables.reference)
        eps = max(EPS_GRID[0], 2 / np.sqrt(len(tables.reference)))
        self.detector = Detector.of(
            {name: Reference(sketch=sketch, eps=eps, icc=0.0) for name, sketch in self.reference.items()}
        )
        self.evidence: Evidence | None = None
        self.reported_share: float | None = None
        """Share of drifted columns in Evidently's report, once one was asked for."""

    def __call__(self) -> None:
        """Judge the window from its data frame."""
        self.decide(self.sketches(self.window))

    def from_parquet(self, path: Path) -> None:
        """Judge the window from a Parquet file, a part of its rows at a time."""
        parts: dict[str, Sketch] = {}
        categories = list(self._categories)
        with pq.ParquetFile(path, read_dictionary=categories) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*self._scales, *categories]):
                for name in batch.schema.names:
                    part = self._sketch(name, batch.column(name))
                    parts[name] = merge([parts[name], part]) if name in parts else part
        self.decide(parts)

    def with_report(self) -> None:
        """Judge the window from its data frame, and have Evidently show it on samples of both sides."""
        window = self.sketches(self.window)
        self.decide(window)
        by_column = self.evidence.by_column if self.evidence is not None else {}
        limit = float(np.log10(BAD_RUN_LENGTH))
        verdicts = {name: ColumnVerdict(score=m, limit=limit, drifted=m >= limit) for name, m in by_column.items()}
        chosen = self.window.iloc[:: max(len(self.window) // MAX_ROWS, 1)][:MAX_ROWS]
        current: dict[str, Values] = {name: chosen[name].to_numpy() for name in self._scales}
        current |= {name: list(chosen[name]) for name in self._categories}
        reference = {name: sample_of(sketch) for name, sketch in self.reference.items()}
        report = drift_report(reference, current, verdicts, title="benchmark")
        self.reported_share = report.drift_share

    def decide(self, window: Mapping[str, Sketch]) -> None:
        """Take one step with the window's sketches."""
        log_m = self.detector.step(self.detector.start(), window, rows_per_user=1.0)
        self.evidence = self.detector.evidence(log_m)

    @property
    def flagged(self) -> frozenset[str]:
        """The columns whose evidence says drift."""
        by_column = self.evidence.by_column if self.evidence is not None else {}
        return frozenset(name for name, log10_m in by_column.items() if log10_m >= np.log10(BAD_RUN_LENGTH))

    def sketches(self, frame: pd.DataFrame) -> dict[str, Sketch]:
        """Count a data frame's columns."""
        numeric: dict[str, Sketch] = {
            name: NumericSketch.of(frame[name].to_numpy(), scale) for name, scale in self._scales.items()
        }
        texts = {name: frame[name].array for name in self._categories}
        return {**numeric, **{name: CategorySketch.of_codes(of.codes, of.categories) for name, of in texts.items()}}

    def _sketch(self, name: str, values: pa.Array) -> Sketch:
        if name in self._scales:
            return NumericSketch.of(values.to_numpy(zero_copy_only=False), self._scales[name])
        return CategorySketch.of_codes(
            values.indices.fill_null(-1).to_numpy(zero_copy_only=False), values.dictionary.to_pylist()
        )
