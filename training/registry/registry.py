"""Model versions in MLflow: registered once, fetched whole, aliases as copies of the ledger."""

import logging
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import reached
from datasets_defs.store.artifacts import file_sha256
from training.registry.client import MlflowServer, accepted_name
from training.registry.manifest import (
    FOLDER,
    KEY,
    MANIFEST,
    MANIFEST_SHA256,
    OFFER,
    make_manifest,
    missing_from,
    verify_manifest,
)

log = logging.getLogger(__name__)
WARNING = "driftloop.warning"
"""Tag of a version with what people should know of it before they rely on it; its card begins with that."""
ROLLED_BACK = "driftloop.rolled_back"
"""Tag of a version that was taken out of service; its value says why. It is never promoted again."""
ALIASES = ("champion", "previous_champion", "challenger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the registry knows of a version."""

    created_ms: int
    """When it was registered, in milliseconds since 1970."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Registry(MlflowServer):
    """The registry behind one MLflow server.

    Raises (every method):
        TransientError: the server is away or failing.
        ContractError: it refuses the request, or a version is not what was registered.
    """

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
        even if others are given now (another machine, an edited YAML), and what MLflow refuses to log is left out: what
        is logged never decides over a model.
        """
        if (known := self.find(model, key)) is not None:
            return known
        with self._errors(f"registering {model} ({key})"):
            manifest = make_manifest(folder)
            run = self._run(model, key)
            with self._shown(f"logging the training of {model} ({key})"):
                self._log_params(run, params)
                self._log_metrics(run, metrics)
                self._log_curves(run, curves or {})
                self._log_texts(run, files or {})
            self._upload(run, folder, manifest)
            if absent := missing_from(manifest, self._listing(run, FOLDER)):
                raise TransientError(f"registering {model}: {', '.join(absent)} did not arrive whole; upload again")
            sha256 = file_sha256(folder / MANIFEST)
            self._make_version(model, run, tags={**tags, KEY: key, MANIFEST_SHA256: sha256})
        version = self.find(model, key)
        if version is None:
            raise TransientError(f"registering {model}: the version of {key} is not to be read back yet")
        return version

    def find(self, model: str, key: str) -> int | None:
        """Find the version that was registered under a key."""
        with self._errors(f"looking for {model} ({key})"):
            versions = self._client.search_model_versions(f"name='{model}' and tags.`{KEY}`='{key}'")
        return min((int(version.version) for version in versions), default=None)

    def download(self, model: str, version: int, cache: Path, *, expected: str) -> Path:
        """Give a folder with the version's files, whole and of the expected manifest; fetched only if not in `cache`.

        `expected` is the manifest's SHA-256 as the ledger knows it: neither the server's tags nor its answer count. A
        copy in the cache serves without the server, also when it is away or has lost the version.
        """
        target = cache / model / f"v{version}"
        if target.is_dir():
            if not verify_manifest(target, expected):
                log.info("%s version %d: %s is what the ledger knows; MLflow is not asked", model, version, target)
                return target
            shutil.rmtree(target)  # damaged, or of a registry that is no more
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".v{version}.") as temporary:
            with self._errors(f"downloading {model} version {version}"):
                run = self._client.get_model_version(model, str(version)).run_id
                folder = self._download(f"runs:/{run}/{FOLDER}", Path(temporary))
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

    def files_of(self, model: str, version: int, into: Path) -> Path:
        """Fetch the files of a version that anybody registered, as they are now; they are held against nothing."""
        with self._errors(f"downloading {model} version {version}"):
            return self._download(self._client.get_model_version_download_uri(model, str(version)), into)

    def tags(self, model: str, version: int) -> dict[str, str]:
        """Read a version's tags."""
        with self._errors(f"reading {model} version {version}"):
            return dict(self._client.get_model_version(model, str(version)).tags)

    def set_tags(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; others stay."""
        with self._errors(f"tagging {model} version {version}"):
            for name, value in tags.items():
                self._client.set_model_version_tag(model, str(version), name, str(value))

    def tag_made(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version and of the run that made it."""
        self.set_tags(model, version, tags)
        with self._errors(f"tagging the run of {model} version {version}"):
            run = self._client.get_model_version(model, str(version)).run_id
            for name, value in tags.items():
                self._client.set_tag(run, name, str(value))

    def run_tags(self, model: str, version: int) -> dict[str, str]:
        """Read the tags of the run that made a version."""
        with self._errors(f"reading the run of {model} version {version}"):
            run = self._client.get_model_version(model, str(version)).run_id
            return dict(self._client.get_run(run).data.tags)

    def log_evaluation(
        self, model: str, version: int, *, metrics: Mapping[str, float], files: Mapping[str, str], step: int = 0
    ) -> None:
        """Keep an evaluation with the version's run: finite metrics, and files by name; again, it is written over."""
        with self._errors(f"logging the evaluation of {model} version {version}"):
            run = self._client.get_model_version(model, str(version)).run_id
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._client.log_metric(run, accepted_name(name), value, timestamp=step, step=step)
            self._log_texts(run, files)

    def facts(self, model: str, version: int) -> "Facts":
        """Read what is known of a version: its tags, and its run's parameters and newest metrics."""
        with self._errors(f"reading {model} version {version}"):
            model_version = self._client.get_model_version(model, str(version))
            run = self._client.get_run(model_version.run_id)
            return Facts(
                created_ms=int(model_version.creation_timestamp),
                tags=dict(model_version.tags),
                params=dict(run.data.params),
                metrics=dict(run.data.metrics),
            )

    def losses(self, model: str, version: int, name: str) -> list[tuple[int, float]]:
        """Read the history of a metric of a version's run: steps and values."""
        with self._errors(f"reading {name} of {model} version {version}"):
            run = self._client.get_model_version(model, str(version)).run_id
            return [(int(point.step), float(point.value)) for point in self._client.get_metric_history(run, name)]

    def describe(self, model: str, version: int, text: str) -> None:
        """Set a version's description, in Markdown."""
        with self._errors(f"describing {model} version {version}"):
            self._client.update_model_version(model, str(version), text)

    def versions(self, model: str) -> list[int]:
        """List a model's versions, newest first."""
        with self._errors(f"listing the versions of {model}"):
            registered = self._client.search_model_versions(f"name='{model}'")
        return sorted((int(version.version) for version in registered), reverse=True)

    def aliases(self, model: str) -> dict[str, int]:
        """Read the model's aliases."""
        with self._errors(f"reading the aliases of {model}"):
            by_name = self._client.get_registered_model(model).aliases
        return {name: int(version) for name, version in by_name.items()}

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
        read_back = {name: version for name, version in self.aliases(model).items() if name in ALIASES}
        if read_back != {name: version for name, version in wanted.items() if version is not None}:
            raise TransientError(
                f"{model}: aliases read back as {read_back}, set as {wanted}; another writer interfered"
            )
        return read_back

    def asking(self, model: str) -> dict[int, str]:
        """List the versions that others registered and that ask to become champion; say by what."""
        with self._errors(f"looking for offers of {model}"):
            versions = self._client.search_model_versions(f"name='{model}'")
        others = {int(version.version): version.tags for version in versions if KEY not in version.tags}
        asking = {version: f"the tag {OFFER}" for version, tags in others.items() if OFFER in tags}
        if others and (chosen := self.aliases(model).get("challenger")) in others:
            asking[chosen] = "the alias challenger"
        return asking

    def drop_aliases(self, model: str) -> dict[str, int]:
        """Take the aliases of ours away, and give those that there were; other people's stay."""
        if model not in self.models():
            return {}
        present = {name: version for name, version in self.aliases(model).items() if name in ALIASES}
        with self._errors(f"taking away the aliases of {model}"):
            for name in present:
                self._client.delete_registered_model_alias(model, name)
        return present

    def models(self) -> list[str]:
        """List the registered models."""
        with self._errors("listing the registered models"):
            return [str(model.name) for model in self._client.search_registered_models()]

    def _upload(self, run: str, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Store the files that the manifest names with the run, and then the manifest."""
        for name in manifest["files"]:
            self._client.log_artifact(run, str(folder / name), Path(FOLDER, name).parent.as_posix())
        self._client.log_artifact(run, str(folder / MANIFEST), FOLDER)

    def _make_version(self, model: str, run: str, *, tags: Mapping[str, str]) -> None:
        """Make a run's files a version of the model, and end the run."""
        self._client.create_model_version(
            name=model,
            source=f"runs:/{run}/{FOLDER}",
            run_id=run,
            await_creation_for=0,  # its files arrived before it was made
            tags=dict(tags),
        )
        self._client.set_terminated(run)

    def _run(self, model: str, key: str) -> str:
        name = f"driftloop/{model}"
        experiment = self._client.get_experiment_by_name(name)
        if (
            experiment is not None and experiment.lifecycle_stage == "deleted"
        ):  # it takes no runs, nor can it be made anew
            log.warning("experiment %s was deleted in MLflow and is restored: a trained model goes there", name)
            self._client.restore_experiment(experiment.experiment_id)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        runs = self._client.search_runs([number], f"tags.`{KEY}` = '{key}'", max_results=1)
        if not self._client.search_registered_models(f"name='{model}'"):
            self._client.create_registered_model(model)
        if runs:
            return str(runs[0].info.run_id)
        return str(self._client.create_run(number, tags={KEY: key}, run_name=key).info.run_id)

    def _listing(self, run: str, folder: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for entry in self._client.list_artifacts(run, folder):
            if entry.is_dir:
                sizes |= self._listing(run, entry.path)
            else:
                sizes[entry.path.removeprefix(f"{FOLDER}/")] = int(entry.file_size)
        return sizes
