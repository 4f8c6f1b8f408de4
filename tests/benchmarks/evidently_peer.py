"""Evidently's DataDriftPreset with its defaults: what the decision is measured against."""

import json
import os
import warnings

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Evidently is imported

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from tests.benchmarks.frames import Tables

_DISTANCES = ("Wasserstein", "Jensen-Shannon")
"""Methods whose large values mean drift; of the others (tests) the small p-values do."""


class Peer:
    """The preset on one pair of tables. Making it prepares the reference, which is not counted against it."""

    def __init__(self, tables: Tables) -> None:
        self._definition = DataDefinition(
            numerical_columns=list(tables.numeric), categorical_columns=list(tables.categories)
        )
        self._reference = self._dataset(tables.reference)
        self._window = tables.window
        self.flagged: frozenset[str] = frozenset()

    def __call__(self) -> None:
        """Judge the window; keep which columns were flagged."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            snapshot = Report([DataDriftPreset()]).run(self._dataset(self._window), self._reference)
        self.flagged = _flagged(snapshot.json())

    def _dataset(self, frame: pd.DataFrame) -> Dataset:
        return Dataset.from_pandas(frame, data_definition=self._definition)


def _flagged(content: str) -> frozenset[str]:
    found = set()
    for metric in json.loads(content)["metrics"]:
        config = metric["config"]
        if "column" not in config:
            continue
        value, threshold = float(metric["value"]), float(config["threshold"])
        if value >= threshold if config["method"].startswith(_DISTANCES) else value < threshold:
            found.add(config["column"])
    return frozenset(found)
