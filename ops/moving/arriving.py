"""`driftloop import`: a model that another installation exported goes on here, as the same model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.settings import settings
from datasets_defs.ledger.events import Event, Head, broken_links
from datasets_defs.ledger.history import History
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.spec.files import parse
from datasets_defs.store.artifacts import artifact_url, file_sha256, write_bytes, write_file
from datasets_defs.store.database import database_errors
from datasets_defs.store.work import work_folder
from ops.moving import archive, rows
from ops.moving.archive import MODEL_YAML, Archive
from ops.moving.record import Arrival, write_record
from training.registry.manifest import MANIFEST, verify_manifest
from training.registry.moving import MovingRegistry, portrait_of

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of an import."""

    archive: Archive
    was_here: bool
    """It had been imported before; nothing was to be done but what a killed import had left."""


def import_model(path: Path, *, db: Engine, actor: str, tell: Tell = lambda _: None) -> Imported:
    """Take in a model that is not here yet; everything is checked before anything is written.

    Versions and references come first, the record in one transaction, the YAML last. Killed anywhere and run again,
    it goes on.

    Raises:
        ContractError: the archive is damaged or newer, or the model is here already.
        TransientError: PostgreSQL or MLflow is away, or the disk is full.
    """
    with archive.opened(path) as folder:
        tell("checking the archive")
        contents = archive.read(folder)
        archive.require_whole(folder, contents)
        _require_consistent(folder, contents)
        _require_same_schema(db)
        yaml = (folder / MODEL_YAML).read_bytes()
        identity = archive.identity(folder)
        was_here = _is_here(db, contents, identity)
        if not was_here:
            _require_absent(db, contents, yaml)
            _bring_versions(folder, contents, tell)
            tell("writing references and record")
            uris = _bring_references(folder, contents)
            reached("import.stored")
            arrival = Arrival(archive=contents, identity=identity, folder=folder / "tables", uris=uris, actor=actor)
            write_record(db, arrival)
            reached("import.recorded")
        _write_yaml(db, contents.model, yaml)
    return Imported(archive=contents, was_here=was_here)


def _yaml_path(model: str) -> Path:
    return settings().models_dir / f"{model}.yaml"


def _write_yaml(db: Engine, model: str, yaml: bytes) -> None:
    """Write the model's file where none is; a model that was retired since needs none."""
    path = _yaml_path(model)
    if not path.exists() and retirement_of(db, model) is None:
        write_bytes(f"file://{path.absolute()}", yaml)


def _require_consistent(folder: Path, contents: Archive) -> None:
    """Check what hashes of files cannot say: the chain, the YAML, and that versions are the ledger's.

    Raises:
        ContractError: the archive contradicts itself.
    """
    parse((folder / MODEL_YAML).read_text(encoding="utf-8"), Path(f"{contents.model}.yaml"))
    events = [Event(**row) for row in rows.load(folder / "tables", "incident_event")]
    if wrong := broken_links(events, Head(contents.events, contents.head)):
        raise ContractError(f"{folder}: the history in it is broken: {'; '.join(wrong)}")
    models = {row["model"] for name in rows.TRAVELS for row in rows.load(folder / "tables", name)}
    if models != {contents.model}:
        raise ContractError(f"{folder}: rows of {', '.join(sorted(models))} stand in it; {contents.model} alone may")
    noted = {str(row["version"]): row["manifest_sha256"] for row in rows.load(folder / "tables", "registered_version")}
    for version, sha256 in contents.versions.items():
        place = folder / "versions" / contents.model / f"v{version}"
        problems = verify_manifest(place, noted.get(version))
        if problems or noted.get(version) != sha256:
            raise ContractError(f"{place} is not what the ledger knows version {version} to be: {'; '.join(problems)}")
    for row in rows.load(folder / "tables", "reference_profile"):
        place = folder / "references" / contents.references.get(str(row["version"]), "none")
        if not place.is_file() or file_sha256(place) != row["sha256"]:
            raise ContractError(f"{place} is not the reference that the ledger knows of version {row['version']}")


def _require_same_schema(db: Engine) -> None:
    """Check that the tables here are this release's.

    Raises:
        ContractError: they are older or newer.
    """
    with database_errors("reading the schema's number"), db.connect() as on:
        here = on.scalar(text("SELECT version_num FROM alembic_version"))
    if here != archive.newest_schema():
        raise ContractError(f"the tables here have schema {here}, and this release needs {archive.newest_schema()}; "
                            "run `driftloop migrate`")  # fmt: skip


def _is_here(db: Engine, contents: Archive, identity: str) -> bool:
    """Say whether this very archive was imported before."""
    event = History(db).newest_of(contents.model, EventKind.IMPORTED)
    return event is not None and event.evidence.get("archive") == identity


def _require_absent(db: Engine, contents: Archive, yaml: bytes) -> None:
    """Refuse a model of which something is here.

    Raises:
        ContractError: says what.
    """
    model, path = contents.model, _yaml_path(contents.model)
    with database_errors("looking for the model"), db.connect() as on:
        names = rows.present(on, model)
    if names:
        raise ContractError(
            f"{model} exists here already: there are rows of it in {', '.join(names)}; an import never mixes two "
            "records, so import into an installation without it"
        )
    if path.exists() and path.read_bytes() != yaml:
        raise ContractError(f"{path} exists here already and says something else than the archive; move it away first")


def _bring_versions(folder: Path, contents: Archive, tell: Tell) -> None:
    """Register the versions that MLflow lacks under the numbers that they had, and set the aliases.

    Raises:
        ContractError: a number stands for something else there.
    """
    registry = MovingRegistry(settings().mlflow_url)
    for version in registry.missing(
        contents.model, {int(number): sha256 for number, sha256 in contents.versions.items()}
    ):
        tell(f"registering version {version}")
        portrait = portrait_of(json.loads((folder / "portraits" / f"v{version}.json").read_text()))
        with work_folder("version") as work:  # the archive may lie where nothing can be written
            copy = archive.copy_files(folder / "versions" / contents.model / f"v{version}", work / "model")
            (copy / MANIFEST).unlink()
            registry.bring(contents.model, version, copy, portrait, manifest=contents.versions[str(version)])
        reached("import.registered")
    registry.let_go(contents.model)
    (champion,) = rows.load(folder / "tables", "champion")
    registry.sync_aliases(
        contents.model, champion=champion["version"], previous=champion["previous_version"], challenger=None
    )


def _bring_references(folder: Path, contents: Archive) -> dict[int, str]:
    """Copy the references to where artifacts are; give their URLs by version."""
    uris: dict[int, str] = {}
    for version, name in contents.references.items():
        file = folder / "references" / name
        url = artifact_url("references", contents.model, f"v{version}-{file_sha256(file)[:16]}.parquet")
        write_file(url, file)
        uris[int(version)] = url
    return uris
