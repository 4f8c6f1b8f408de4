"""The client of an MLflow server, its errors translated, and MLflow's own judgement of rules.

The only file that imports mlflow.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the steps of the loop retry; MLflow's own seven take minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)

import mlflow  # noqa: E402  # reads the environment above
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from requests import HTTPError, RequestException  # noqa: E402

from datasets_defs.core.errors import ContractError, TransientError  # noqa: E402
from datasets_defs.spec.gate import RuleSpec  # noqa: E402

log = logging.getLogger(__name__)
MOST_POINTS = 1000
"""Points of curves in one request; MLflow takes no more."""
MOST_PARAMETER = 6000
"""Characters of a parameter's value that MLflow keeps."""
MOST_NAME = 250
"""Characters of a metric's name that MLflow keeps."""
LEAST_FREE_BYTES = 2**28
"""A disk with less left is the likelier cause of a download that failed than the server."""


def accepted_name(name: str) -> str:
    """Make a name one that MLflow takes for a metric: paths without empty, `.` and `..` parts, and no odd signs."""
    safe = "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name)
    parts = (part if part.strip(". ") else f"{part.replace('.', '_')}_" for part in safe.split("/"))
    return "/".join(parts)[:MOST_NAME]


class MlflowServer:
    """One MLflow server, and what is logged with the runs there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Any = MlflowClient(tracking_uri=url, registry_uri=url)

    def _log_params(self, run: str, params: Mapping[str, Any]) -> None:
        """Log what is not logged yet; MLflow refuses to change a parameter, nor does it take a long one."""
        standing = self._client.get_run(run).data.params
        for name, value in params.items():
            text = str(value)[:MOST_PARAMETER]
            if name not in standing:
                self._client.log_param(run, name, text)
            elif standing[name] != text:
                log.warning("run %s keeps %s = %s, though it is %s now", run, name, standing[name], text)

    def _log_curves(self, run: str, curves: Mapping[str, Sequence[tuple[int, float, float]]]) -> None:
        """Log points with the same times whenever it is done, so that those that stand already stay alone."""
        began = int(self._client.get_run(run).info.start_time)
        points = [
            Metric(accepted_name(name), value, began + round(second * 1000), step)
            for name, curve in curves.items()
            for step, value, second in curve
        ]
        for at in range(0, len(points), MOST_POINTS):
            self._client.log_batch(run, metrics=points[at : at + MOST_POINTS])

    def _log_metrics(self, run: str, metrics: Mapping[str, float]) -> None:
        for name, metric in metrics.items():
            self._client.log_metric(run, accepted_name(name), metric)

    def _log_texts(self, run: str, texts: Mapping[str, str]) -> None:
        """Store texts as files of the run, by their names; again, they are written over."""
        for name, content in texts.items():
            self._client.log_text(run, content, name)

    def _download(self, address: str, into: Path) -> Path:
        """Fetch the files at an MLflow address into a folder.

        MLflow calls whatever stops a download a wrong path. So the listing is asked: files that stand there did not
        arrive, and may the next time.
        """
        into.mkdir(parents=True, exist_ok=True)
        try:
            path: str = mlflow.artifacts.download_artifacts(
                artifact_uri=address, dst_path=str(into), tracking_uri=self.url
            )
        except MlflowException as err:
            if not mlflow.artifacts.list_artifacts(artifact_uri=address, tracking_uri=self.url):
                raise
            free = shutil.disk_usage(into).free
            why = f"; {into} has {free / 2**20:.0f} MiB left, free some" if free < LEAST_FREE_BYTES else ""
            raise TransientError(
                f"MLflow at {self.url} lists the files of {address}, and they did not arrive whole ({_first_line(err)})"
                f"{why}"
            ) from err
        return Path(path)

    @contextmanager
    def _shown(self, doing: str) -> Iterator[None]:
        """Let what MLflow refuses to show be: a figure that is logged never decides over a model."""
        try:
            with self._errors(doing):
                yield
        except ContractError as err:
            log.warning("%s; it is not shown there", err)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except HTTPError as err:
            status = err.response.status_code if err.response is not None else 500
            raise _translated(status, f"{doing}: MLflow at {self.url} answered {status} ({_first_line(err)})") from err
        except RequestException as err:
            raise TransientError(f"{doing}: MLflow at {self.url} is not reachable ({_first_line(err)})") from err
        except MlflowException as err:
            status = err.get_http_status_code()
            raise _translated(status, f"{doing}: MLflow at {self.url}: {_first_line(err)}") from err


def broken_rules(
    rules: Mapping[str, RuleSpec], candidate: Mapping[str, float], baseline: Mapping[str, float]
) -> list[str]:
    """Say which rules a candidate breaks, as `mlflow.validate_evaluation_results` judges them.

    Each rule is asked alone, so that each says its own sentence. No number keeps no rule: MLflow would let NaN pass.
    """
    from mlflow.models.evaluation import EvaluationResult, MetricThreshold
    from mlflow.models.evaluation.validation import ModelValidationFailedException

    broken = []
    for name, rule in rules.items():
        new, old = candidate[name], baseline[name]
        if not (math.isfinite(new) and math.isfinite(old)):
            broken.append(f"rule {name}: champion {old}, challenger {new}: no number")
            continue
        try:
            mlflow.validate_evaluation_results(
                validation_thresholds={name: MetricThreshold(**rule.model_dump())},
                candidate_result=EvaluationResult(metrics={name: new}, artifacts={}),
                baseline_result=EvaluationResult(metrics={name: old}, artifacts={}),
            )
        except ModelValidationFailedException as err:
            broken.append(f"rule {name}: champion {old:.4g}, challenger {new:.4g}: {_last_line(err)}")
    return broken


def _translated(status: int, message: str) -> ContractError | TransientError:
    lasting = 400 <= status < 500 and status not in (408, 429)
    return ContractError(message) if lasting else TransientError(message)


def _last_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[-1][:300]


def _first_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
