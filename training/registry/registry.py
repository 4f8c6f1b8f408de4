"""Model versions in MLflow: registered once, fetched whole, aliases as copies of the ledger.

The only file that imports mlflow.
"""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from datasets_defs.core.faults import reached  # noqa: E402
from datasets_defs.spec.gate import RuleSpec  # noqa: E402
from datasets_defs.store.artifacts import file_sha256  # noqa: E402
from training.registry.manifest import (  # noqa: E402
    FOLDER,
    MANIFEST,
    MANIFEST_SHA256,
    make_manifest,
    missing_from,
    verify_manifest,
)

log = logging.getLogger(__name__)
KEY = "driftloop.key"
"""Tag that says which attempt a version came from; one version has it."""
WARNING = "driftloop.warning"
"""Tag of a version with what people should know of it before they rely on it; its card begins with that."""
ROLLED_BACK = "driftloop.rolled_back"
"""Tag of a version that was taken out of service; its value says why. It is never promoted again."""
MOST_POINTS = 1000
"""Points of curves in one request; MLflow takes no more."""
MOST_PARAMETER = 6000
"""Characters of a parameter's value that MLflow keeps."""
ALIASES = ("champion", "previous_champion", "challenger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the registry knows of a version."""

    created_ms: int
    """When it was registered, in milliseconds since 1970."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Registry:
    """The registry behind one MLflow server.

    Raises (every method):
        TransientError: the server is away or failing.
        ContractError: it refuses the request, or a version is not what was registered.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Any = MlflowClient(tracking_uri=url, registry_uri=url)

    def register(
        self,
        model: str,
        folder: Path,
        *,
        key: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[tuple[int, float, float]]] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> int:
        """Upload a model folder and make it a version; the same `key` always gives the same version.

        `curves` are metrics over time: steps, values, and seconds since the training began. `files` are texts by name.

        The version is made last, after every file and then the manifest has arrived, so that no version is
        incomplete. Killed anywhere and called again, it goes on in the run it began. Parameters that stand there stay,
        even if others are given now (another machine, an edited YAML): what is logged never decides over a model.
        """
        if (known := self.find(model, key)) is not None:
            return known
        with self._errors(f"registering {model} ({key})"):
            manifest = make_manifest(folder)
            run = self._run(model, key)
            self._log_params(run, params)
            for name, metric in metrics.items():
                self._client.log_metric(run, name, metric)
            self._log_curves(run, curves or {})
            for name, content in (files or {}).items():
                self._client.log_text(run, content, name)
            for name in manifest["files"]:
                parent = Path(FOLDER, name).parent.as_posix()
                self._client.log_artifact(run, str(folder / name), parent)
            self._client.log_artifact(run, str(folder / MANIFEST), FOLDER)
            if absent := missing_from(manifest, self._listing(run, FOLDER)):
                raise TransientError(f"registering {model}: {', '.join(absent)} did not arrive whole; upload again")
            self._client.create_model_version(
                name=model,
                source=f"runs:/{run}/{FOLDER}",
                run_id=run,
                await_creation_for=0,  # its files arrived before it was made
                tags={**tags, KEY: key, MANIFEST_SHA256: file_sha256(folder / MANIFEST)},
            )
            self._client.set_terminated(run)
        version = self.find(model, key)
        if version is None:
            raise TransientError(f"registering {model}: the version of {key} is not to be read back yet")
        return version

    def find(self, model: str, key: str) -> int | None:
        """Find the version that was registered under a key."""
        with self._errors(f"looking for {model} ({key})"):
            found = self._client.search_model_versions(f"name='{model}' and tags.`{KEY}`='{key}'")
        return min((int(version.version) for version in found), default=None)

    def download(self, model: str, version: int, cache: Path, *, expected: str) -> Path:
        """Give a folder with the version's files, whole and of the expected manifest; fetched only if not in `cache`.

        `expected` is the manifest's SHA-256 as the ledger knows it: neither the server's tags nor its answer count. A
        copy in the cache serves without the server, also when it is away or has lost the version.
        """
        target = cache / model / f"v{version}"
        if target.is_dir():
            if not verify_manifest(target, expected):
                return target
            shutil.rmtree(target)  # damaged, or of a registry that is no more
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".v{version}.") as temporary:
            with self._errors(f"downloading {model} version {version}"):
                run = self._client.get_model_version(model, str(version)).run_id
                folder = Path(self._client.download_artifacts(run, FOLDER, temporary))
            if problems := verify_manifest(folder, expected):
                raise ContractError(
                    f"{model} version {version} in the registry is damaged, or not what was registered: "
                    f"{'; '.join(problems)}"
                )
            try:
                folder.rename(target)
            except OSError:  # another process was faster
                if verify_manifest(target, expected):
                    raise
        return target

    def tags(self, model: str, version: int) -> dict[str, str]:
        """Read a version's tags."""
        with self._errors(f"reading {model} version {version}"):
            return dict(self._client.get_model_version(model, str(version)).tags)

    def set_tags(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; others stay."""
        with self._errors(f"tagging {model} version {version}"):
            for name, value in tags.items():
                self._client.set_model_version_tag(model, str(version), name, str(value))

    def log_evaluation(
        self, model: str, version: int, *, metrics: Mapping[str, float], files: Mapping[str, str], step: int = 0
    ) -> None:
        """Keep an evaluation with the version's run: finite metrics, and files by name; again, it is written over."""
        with self._errors(f"logging the evaluation of {model} version {version}"):
            run = self._client.get_model_version(model, str(version)).run_id
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._client.log_metric(run, name, value, timestamp=step, step=step)
            for name, content in files.items():
                self._client.log_text(run, content, name)

    def facts(self, model: str, version: int) -> "Facts":
        """Read what is known of a version: its tags, and its run's parameters and newest metrics."""
        with self._errors(f"reading {model} version {version}"):
            found = self._client.get_model_version(model, str(version))
            run = self._client.get_run(found.run_id)
            return Facts(
                created_ms=int(found.creation_timestamp),
                tags=dict(found.tags),
                params=dict(run.data.params),
                metrics=dict(run.data.metrics),
            )

    def losses(self, model: str, version: int, name: str) -> list[tuple[int, float]]:
        """Read the history of a metric of a version's run: steps and values."""
        with self._errors(f"reading {name} of {model} version {version}"):
            run = self._client.get_model_version(model, str(version)).run_id
            return [(int(each.step), float(each.value)) for each in self._client.get_metric_history(run, name)]

    def describe(self, model: str, version: int, text: str) -> None:
        """Set a version's description, in Markdown."""
        with self._errors(f"describing {model} version {version}"):
            self._client.update_model_version(model, str(version), text)

    def versions(self, model: str) -> list[int]:
        """List a model's versions, newest first."""
        with self._errors(f"listing the versions of {model}"):
            found = self._client.search_model_versions(f"name='{model}'")
        return sorted((int(version.version) for version in found), reverse=True)

    def aliases(self, model: str) -> dict[str, int]:
        """Read the model's aliases."""
        with self._errors(f"reading the aliases of {model}"):
            found = self._client.get_registered_model(model).aliases
        return {name: int(version) for name, version in found.items()}

    def sync_aliases(
        self, model: str, *, champion: int, previous: int | None, challenger: int | None
    ) -> dict[str, int]:
        """Make the aliases a copy of the ledger, read them back, and give them; None takes an alias away.

        MLflow overwrites aliases blindly and keeps no history, so nothing is ever decided by them.
        """
        wanted = dict(zip(ALIASES, (champion, previous, challenger), strict=True))
        present = self.aliases(model)
        with self._errors(f"setting the aliases of {model}"):
            for name, version in wanted.items():
                if version is None and name in present:
                    self._client.delete_registered_model_alias(model, name)
                elif version is not None and present.get(name) != version:
                    self._client.set_registered_model_alias(model, name, str(version))
                reached(f"aliases.{name}")
        found = {name: version for name, version in self.aliases(model).items() if name in ALIASES}
        if found != {name: version for name, version in wanted.items() if version is not None}:
            raise TransientError(f"{model}: aliases read back as {found}, set as {wanted}; another writer interfered")
        return found

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
            Metric(name, value, began + round(second * 1000), step)
            for name, curve in curves.items()
            for step, value, second in curve
        ]
        for at in range(0, len(points), MOST_POINTS):
            self._client.log_batch(run, metrics=points[at : at + MOST_POINTS])

    def _run(self, model: str, key: str) -> str:
        name = f"driftloop/{model}"
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        found = self._client.search_runs([number], f"tags.`{KEY}` = '{key}'", max_results=1)
        if not self._client.search_registered_models(f"name='{model}'"):
            self._client.create_registered_model(model)
        if found:
            return str(found[0].info.run_id)
        return str(self._client.create_run(number, tags={KEY: key}, run_name=key).info.run_id)

    def _listing(self, run: str, folder: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for entry in self._client.list_artifacts(run, folder):
            if entry.is_dir:
                sizes |= self._listing(run, entry.path)
            else:
                sizes[entry.path.removeprefix(f"{FOLDER}/")] = int(entry.file_size)
        return sizes

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

    said = []
    for name, rule in rules.items():
        new, old = candidate[name], baseline[name]
        if not (math.isfinite(new) and math.isfinite(old)):
            said.append(f"rule {name}: champion {old}, challenger {new}: no number")
            continue
        try:
            mlflow.validate_evaluation_results(
                validation_thresholds={name: MetricThreshold(**rule.model_dump())},
                candidate_result=EvaluationResult(metrics={name: new}, artifacts={}),
                baseline_result=EvaluationResult(metrics={name: old}, artifacts={}),
            )
        except ModelValidationFailedException as err:
            said.append(f"rule {name}: champion {old:.4g}, challenger {new:.4g}: {_last_line(err)}")
    return said


def _translated(status: int, message: str) -> ContractError | TransientError:
    lasting = 400 <= status < 500 and status not in (408, 429)
    return ContractError(message) if lasting else TransientError(message)


def _last_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[-1][:300]


def _first_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
