"""Taking in a version that others made: checked like a base model, registered once, its hash kept in the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import file_sha256
from datasets_defs.store.versions import note_version
from datasets_defs.store.work import work_folder
from training.model.language_model import LanguageModel
from training.model.usable import require_usable
from training.offers.model_files import collect, is_adapter_folder
from training.registry.fetch import fetch
from training.registry.manifest import KEY, MANIFEST, MANIFEST_SHA256, make_manifest
from training.registry.registry import Registry

OFFERED, OFFERED_AS = "driftloop.offered_by", "driftloop.offered_as"
"""Tags of a version that others made: who offered it, and the folder or version that it was offered as."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A version that the loop knows, and may judge."""

    version: int
    is_own: bool
    """Whether the loop registered it itself: it has held-out rows of its own."""


def take(
    db: Engine,
    registry: Registry,
    spec: ModelSpec,
    what: Path | int,
    *,
    champion: int,
    actor: str,
    tell: Callable[[str], None] = lambda _: None,
) -> Taken:
    """Give the version of a folder, or of a version in the registry; the same files always are the same version.

    A version that the loop registered is taken as it is. One that others registered is registered anew, from its files
    as they are now: under its old number they could be changed.

    Raises:
        ContractError: it cannot be loaded, judged or served, or there is no such version.
        TransientError: PostgreSQL or the registry is away.
    """
    if isinstance(what, int) and (own := _own(registry, spec.name, what)) is not None:
        return own
    with work_folder("offer") as work:
        tell("fetching its files" if isinstance(what, int) else "copying its files")
        source = registry.files_of(spec.name, what, work / "there") if isinstance(what, int) else what
        folder = collect(source, work / "model")
        tell("trying the model")
        folder = usable_in(folder, work, base=lambda: fetch(db, registry, spec.name, champion), name=str(what))
        tell("registering it")
        version = _register(registry, spec.name, folder, what, actor=actor)
    manifest = registry.tags(spec.name, version)[MANIFEST_SHA256]
    note_version(db, spec.name, version, manifest, actor=actor)
    return Taken(version, is_own=False)


def _register(registry: Registry, model: str, folder: Path, what: Path | int, *, actor: str) -> int:
    """Register a folder under a key made of its files, so that the same files are the same version."""
    make_manifest(folder)
    return registry.register(
        model,
        folder,
        key=f"{model}|offer|{file_sha256(folder / MANIFEST)}",
        tags={OFFERED: actor, OFFERED_AS: f"version {what}" if isinstance(what, int) else str(what)},
        params={"offered_by": actor},
        metrics={},
    )


def usable_in(folder: Path, work: Path, *, base: Callable[[], Path], name: str) -> Path:
    """Give a folder with a whole, usable model: the given one, or its adapter merged into its `base`.

    Raises:
        ContractError: it cannot be loaded, judged or served.
        TransientError: PostgreSQL or the registry is away.
    """
    if is_adapter_folder(folder):
        whole = LanguageModel.load(base(), device="cpu").with_adapter(folder, name)
        whole.save(folder := work / "merged")
    require_usable(folder, name)
    return folder


def _own(registry: Registry, model: str, version: int) -> Taken | None:
    """Give a version that the loop knows; None for one that others registered."""
    known = registry.versions(model)
    if version not in known:
        raise ContractError(f"{model} has no version {version}; there are {', '.join(map(str, known)) or 'none'}")
    tags = registry.tags(model, version)
    if KEY not in tags or MANIFEST_SHA256 not in tags:
        return None
    return Taken(version, is_own="snapshot_uri" in tags)
