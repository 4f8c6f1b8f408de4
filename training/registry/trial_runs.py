"""Trials of a search as runs in MLflow, nested in the run that becomes the challenger's version."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from training.registry.manifest import KEY
from training.registry.registry import Registry

PARENT = "mlflow.parentRunId"
"""Tag by which MLflow shows a run below another one."""


class TrialRuns(Registry):
    """Writes trials beside their attempt."""

    def log_trial(
        self,
        model: str,
        key: str,
        number: int,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[tuple[int, float, float]]],
    ) -> None:
        """Write a trial's run once; the attempt's `key` names the run that it is nested in."""
        own = f"{key}|trial-{number}"
        with self._errors(f"logging trial {number} of {model}"):
            parent = self._run(model, key)
            experiment = self._client.get_run(parent).info.experiment_id
            standing = self._client.search_runs([experiment], f"tags.`{KEY}` = '{own}'", max_results=1)
            run = str(
                standing[0].info.run_id
                if standing
                else self._client.create_run(experiment, tags={KEY: own, PARENT: parent}, run_name=own).info.run_id
            )
            if standing and standing[0].info.status == "FINISHED":
                return
            self._log_params(run, params)
            self._log_metrics(run, {name: value for name, value in metrics.items() if math.isfinite(value)})
            self._log_curves(run, curves)
            self._client.set_terminated(run)
