"""Versions that go to another MLflow and keep their numbers there, with what is known of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError
from training.registry.manifest import FOLDER, KEY, MANIFEST_SHA256
from training.registry.registry import Registry

HELD = "driftloop.number_held"
"""Tag of an empty version that keeps a number free while a model is imported; it goes at the end."""
BEFORE = "before_the_move."
"""Begins the names of tags that speak of files which stay behind, and of numbers that are others there."""
_LOCAL = ("snapshot_uri", "snapshot_sha256", "data_report_uri", "incident", KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """What a registry knows of a version beside its files."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    """Metrics over time: steps, values, and seconds since the run began."""
    description: str = ""


class MovingRegistry(Registry):
    """The registry behind one MLflow server, as a model leaves it or arrives there."""

    def portrait(self, model: str, version: int) -> Portrait:
        """Read what is known of a version beside its files; tags that speak of this place get other names."""
        with self._errors(f"reading {model} version {version}"):
            model_version = self._client.get_model_version(model, str(version))
            run = self._client.get_run(model_version.run_id)
            began = int(run.info.start_time)
            curves = {
                name: _curve(self._client.get_metric_history(model_version.run_id, name), began)
                for name in run.data.metrics
            }
        curves = {name: points for name, points in curves.items() if len(points) > 1}
        tags = {_tag(name): value for name, value in model_version.tags.items() if name != MANIFEST_SHA256}
        return Portrait(
            tags=tags,
            params=dict(run.data.params),
            metrics={name: value for name, value in run.data.metrics.items() if name not in curves},
            curves=curves,
            description=model_version.description or "",
        )

    def missing(self, model: str, manifests: Mapping[int, str]) -> list[int]:
        """List the versions that are not there yet, lowest first.

        Raises:
            ContractError: a number stands for something else there, or cannot be given any more.
        """
        with self._errors(f"listing the versions of {model}"):
            present = {
                int(entry.version): entry.tags for entry in self._client.search_model_versions(f"name='{model}'")
            }
        for version, tags in sorted(present.items()):
            if version in manifests and tags.get(MANIFEST_SHA256) != manifests[version]:
                other = f"MLflow at {self.url} has another version {version} of {model}"
                raise ContractError(f"{other}; {self._way_out(model)}")
        absent = sorted(set(manifests) - set(present))
        if absent and (newest := max(present, default=0)) > absent[0]:
            raise ContractError(
                f"MLflow at {self.url} has version {newest} of {model}, so it cannot give the number {absent[0]} any "
                f"more; {self._way_out(model)}"
            )
        return absent

    def bring(self, model: str, version: int, folder: Path, portrait: Portrait, *, manifest: str) -> None:
        """Register a folder under a number; empty versions take the numbers that are left out on the way.

        `manifest` is the SHA-256 of the folder's manifest.

        Raises:
            ContractError: MLflow gives another number.
        """
        self._hold_up_to(model, version)
        key = f"{model}|moved|v{version}|{manifest[:16]}"
        given = self.register(
            model, folder, key=key, tags=portrait.tags, params=portrait.params, metrics=portrait.metrics,
            curves=portrait.curves,
        )  # fmt: skip
        self._require(model, version, given)
        if portrait.description:
            self.describe(model, version, portrait.description)

    def let_go(self, model: str) -> None:
        """Delete the empty versions that kept numbers."""
        with self._errors(f"deleting the empty versions of {model}"):
            for version in self._client.search_model_versions(f"name='{model}'"):
                if HELD in version.tags:
                    self._client.delete_model_version(model, version.version)

    def _hold_up_to(self, model: str, version: int) -> None:
        while (newest := max(self.versions(model), default=0)) < version - 1:
            with self._errors(f"keeping numbers of {model}"):
                run = self._run(model, f"{model}|moved|none")
                made = self._client.create_model_version(
                    model, f"runs:/{run}/{FOLDER}", run, tags={HELD: "a version that was not moved"},
                    await_creation_for=0,
                )  # fmt: skip
            self._require(model, newest + 1, int(made.version))

    def _require(self, model: str, wanted: int, given: int) -> None:
        if given != wanted:
            raise ContractError(
                f"MLflow at {self.url} gave {model} the number {given}, and {wanted} is needed: versions of it were "
                f"deleted there; {self._way_out(model)}"
            )

    @staticmethod
    def _way_out(model: str) -> str:
        return f"delete the registered model {model} there, or import into an installation with another MLflow"


def _curve(history: Iterable[Any], began: int) -> list[tuple[int, float, float]]:
    """Give a metric's points, each step once: a registration that was killed logs what it had logged again."""
    points: dict[int, tuple[int, float, float]] = {}
    for point in sorted(history, key=lambda point: (point.step, point.timestamp)):
        points.setdefault(
            int(point.step), (int(point.step), float(point.value), max(point.timestamp - began, 0) / 1000)
        )
    return list(points.values())


def _tag(name: str) -> str:
    return f"{BEFORE}{name}" if name in _LOCAL else name


def portrait_of(content: Mapping[str, Any]) -> Portrait:
    """Read a portrait from its JSON.

    Raises:
        ContractError: it is none.
    """
    try:
        curves = {
            name: [(int(a), float(b), float(c)) for a, b, c in points] for name, points in content["curves"].items()
        }
        return Portrait(**{**content, "curves": curves})
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise ContractError(f"what is said of a version cannot be read ({err}); export the model anew") from err
