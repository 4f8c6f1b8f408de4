"""`driftloop export`: a model's record, profiles, references and versions, in one archive."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.events import Event, Head, broken_links
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.artifacts import fetch_file, file_sha256
from datasets_defs.store.database import database_errors
from ops.moving import archive, rows
from ops.moving.archive import MODEL_YAML, Archive
from training.registry.fetch import fetch
from training.registry.moving import MovingRegistry

Tell = Callable[[str], None]


def export(model: str, target: Path, *, db: Engine, tell: Tell = lambda _: None) -> tuple[Archive, bool]:
    """Write a model's archive, whole or not at all; give what it is, and whether it was there already.

    Killed anywhere and run again, it goes on with the versions that have arrived.

    Raises:
        ContractError: an incident is open, the history is broken, or the target holds something else.
        TransientError: PostgreSQL or MLflow is away, or the disk is full.
    """
    spec_of(model)
    folder = target.with_name(f".{target.name}.export")
    head = _require_quiet(db, model)
    if target.exists():
        return _standing(model, target, head), True
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    tell("reading the record")
    champion, events, known = _record(db, model, folder)
    (folder / MODEL_YAML).write_bytes((settings().models_dir / f"{model}.yaml").read_bytes())
    references = _references(folder)
    reached("export.recorded")
    versions, left = _versions(db, model, champion, known, folder, tell)
    made = Archive(
        format=archive.FORMAT,
        driftloop=metadata.version("driftloop"),
        schema=archive.newest_schema(),
        model=model,
        events=len(events),
        head=events[-1].hash,
        at=events[-1].at.isoformat(),
        champion=champion.version,
        versions=versions,
        left=left,
        references=references,
        files=archive.listed(folder),
    )
    archive.seal(folder, made)
    reached("export.sealed")
    _place(folder, target)
    return made, False


def _place(folder: Path, target: Path) -> None:
    """Give the archive its name, in one step."""
    if archive.is_tar(target):
        archive.pack(folder, target)
        reached("export.packed")
        shutil.rmtree(folder)
    else:
        folder.rename(target)


def _require_quiet(db: Engine, model: str) -> Head:
    """Refuse a model that the loop is at work on, or that has no record.

    Raises:
        ContractError: an incident is open, or the model has never had a champion.
    """
    ledger = Ledger(db)
    head = ledger.head(model)
    if head is None or ledger.champion(model) is None:
        raise ContractError(f"{model} has no champion yet: there is nothing to export; copy models/{model}.yaml")
    if (incident := ledger.open_of(model)) is not None:
        raise ContractError(
            f"incident {incident.id} of {model} is open ({incident.state}), and two installations must not both work "
            f'on it; wait for its end, or end it: driftloop retire {model} --reason "moved"'
        )
    return head


def _standing(model: str, target: Path, head: Head) -> Archive:
    """Give what stands at the target, if it is this model's archive as of now.

    Raises:
        ContractError: it is something else.
    """
    try:
        with archive.opened(target) as folder:
            contents = archive.read(folder)
            archive.require_whole(folder, contents)
    except ContractError as err:
        raise ContractError(f"{target} is there already, and is no whole archive ({err}); give another name") from err
    if (contents.model, contents.head) != (model, head.hash):
        raise ContractError(f"{target} is there already: {contents}; give another name")
    return contents


def _record(db: Engine, model: str, folder: Path) -> tuple[Champion, list[Event], dict[int, str]]:
    """Write the rows of one moment down; give the champion, the history and the versions' manifests.

    Raises:
        ContractError: the history is broken.
    """
    snapshot = db.execution_options(isolation_level="REPEATABLE READ")
    ledger = Ledger(snapshot)
    with database_errors("exporting a model"), snapshot.begin() as on:
        champion, events = ledger.champion(model, connection=on), ledger.events(model, connection=on)
        if wrong := broken_links(events, ledger.head(model, connection=on)):
            raise ContractError(f"{model} is not exported, its history is broken: {'; '.join(wrong)}")
        rows.dump(on, model, folder / "tables")
        known = _manifests(on, model)
    if champion is None:
        raise ContractError(f"{model} has no champion any more")
    return champion, events, known


def _manifests(on: Connection, model: str) -> dict[int, str]:
    table = tables.registered_version.c
    query = select(table.version, table.manifest_sha256).where(table.model == model)
    return {row.version: row.manifest_sha256 for row in on.execute(query)}


def _references(folder: Path) -> dict[str, str]:
    """Fetch the rows of every reference that is still there.

    Raises:
        ContractError: the rows are not what was written.
    """
    names: dict[str, str] = {}
    (folder / "references").mkdir(exist_ok=True)
    for row in rows.load(folder / "tables", "reference_profile"):
        name = f"v{row['version']}.parquet"
        file = folder / "references" / name
        fetch_file(row["uri"], file)
        if file_sha256(file) != row["sha256"]:
            raise ContractError(f"{row['uri']} is not what was written for version {row['version']}; not exported")
        names[str(row["version"])] = name
    return names


def _versions(
    db: Engine, model: str, champion: Champion, known: Mapping[int, str], folder: Path, tell: Tell
) -> tuple[dict[str, str], dict[str, str]]:
    """Fetch the files of every version, held against the ledger's hashes; give them, and those that stay behind.

    Raises:
        ContractError: the champion or the one before it cannot be had as registered.
        TransientError: MLflow is away.
    """
    registry = MovingRegistry(settings().mlflow_url)
    needed = {champion.version, champion.previous_version} - {None}
    if unknown := sorted(number for number in needed if number not in known and number is not None):
        raise ContractError(f"the ledger has no hash of {model} version {unknown[0]}; let the champion be served once")
    versions, left = dict[str, str](), dict[str, str]()
    for killed in (folder / "versions" / model).glob(".*"):  # a download that did not end
        shutil.rmtree(killed)
    (folder / "portraits").mkdir(exist_ok=True)
    for version, sha256 in sorted(known.items()):
        tell(f"fetching version {version}")
        try:
            fetch(db, registry, model, version, cache=folder / "versions")
            portrait = json.dumps(asdict(registry.portrait(model, version)), sort_keys=True)
        except ContractError as err:
            if version in needed:
                raise
            left[str(version)] = str(err)
            continue
        (folder / "portraits" / f"v{version}.json").write_text(portrait)
        versions[str(version)] = sha256
        reached("export.fetched")
    return versions, left
