"""`driftloop export` and `import`: the model is the same in the other installation, or is not there at all."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from alerts.outbox import enqueue_new
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from datasets_defs.store.database import engine_for
from datasets_defs.store.references import reference_of
from ops.cli.main import app
from ops.moving import archive, rows
from ops.moving.archive import ARCHIVE
from ops.stack.postgres import Cluster
from ops.verify.reading import broken_artifacts, broken_invariants
from tests.conftest import fresh_database
from tests.disks import fill, small_disk
from tests.ops.moving.installations import SECRET, Installation, incidents_of_others, lived
from tests.training.conftest import running_mlflow
from tests.training.test_killed import Serving
from tests.training.uploads import model_folder
from training.registry.manifest import KEY
from training.roll_back import roll_back_by_hand

EXPORT = ("export.recorded", "export.fetched", "export.sealed", "export.packed")
IMPORT = ("import.registered", "import.stored", "import.recorded")


@pytest.fixture(scope="session")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of two MLflow servers."""
    with running_mlflow(tmp_path_factory.mktemp("a")) as first, running_mlflow(tmp_path_factory.mktemp("b")) as second:
        yield first, second


@pytest.fixture(scope="session")
def old(
    cluster: Cluster, migrated: str, tmp_path_factory: pytest.TempPathFactory, registries: tuple[str, str]
) -> Iterator[Installation]:
    """Where the model has lived."""
    with fresh_database(cluster, migrated) as url:
        db = engine_for(url)
        found = made(db, tmp_path_factory.mktemp("old"), registries[0], f"writer-{secrets.token_hex(3)}")
        lived(found)
        yield found
        db.dispose()


@dataclass(frozen=True)
class Exported:
    """An archive, and what the record was when it was written."""

    folder: Path
    rows: dict[str, list[dict[str, Any]]]
    hashes: list[str]


@pytest.fixture(scope="session")
def exported(old: Installation, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The model as it was before any test touched it."""
    return export(old, tmp_path_factory.mktemp("exported") / "moved")


def export(old: Installation, target: Path) -> Exported:
    """Export a model, and read its record."""
    command(old, "export", old.model, target)
    hashes = [event.hash for event in Ledger(old.db).events(old.model)]
    return Exported(target, old.rows_by_table(target.with_name("read")), hashes)


@pytest.fixture
def new(
    cluster: Cluster, migrated: str, tmp_path: Path, registries: tuple[str, str], old: Installation
) -> Iterator[Installation]:
    """Where it is to live: incidents of other models have the first numbers there, and MLflow lacks the model."""
    with fresh_database(cluster, migrated) as url:
        db = engine_for(url)
        found = made(db, tmp_path / "new", registries[1], old.model)
        incidents_of_others(found, 2)
        yield found
        db.dispose()
        if old.model in found.registry.models():
            found.registry._client.delete_registered_model(old.model)


def made(db: Engine, home: Path, url: str, model: str) -> Installation:
    (home / "models").mkdir(parents=True)
    return Installation(db, home, url, model)


def command(where: Installation, *words: object) -> str:
    """Give a command in an installation, and give what it printed; an error is raised."""
    with where.here():
        done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return " ".join(done.output.split())


def is_the_same(old: Installation, new: Installation, exported: Exported, folder: Path) -> None:
    """Check that record and registry are what they were, and that nothing is wrong with them."""
    assert new.rows_by_table(folder / "read") == exported.rows
    assert new.registry.versions(new.model) == old.registry.versions(old.model) == [4, 2, 1]
    for version in (1, 2, 4):
        there, here = (each.registry.portrait(each.model, version) for each in (old, new))
        assert (here.params, here.metrics, here.curves) == (there.params, there.metrics, there.curves)
        assert here.description == f"version {version}, in words"
        assert "snapshot_uri" not in here.tags
        assert here.tags["before_the_move.snapshot_uri"] == "file:///gone"
        assert KEY in new.registry.tags(new.model, version)
    assert new.registry.aliases(new.model) == {"champion": 2, "previous_champion": 1}
    with new.here():
        record, wrong = broken_invariants(new.db)
        assert wrong == []
        assert broken_artifacts(record) == ([], [])
        assert enqueue_new(new.db) == 2, "messages about the other models' incidents alone"
        assert Ledger(new.db).verify(new.model) == []
    events = Ledger(new.db).events(new.model)
    assert [event.hash for event in events[:-1]] == exported.hashes
    assert events[-1].kind == "imported"
    assert (new.home / "models" / f"{new.model}.yaml").exists()


def test_a_model_that_moved_is_the_same_model(old: Installation, new: Installation, tmp_path: Path):
    """Record, hashes and versions are equal, the next window's verdict is, too, and the way back is open."""
    target = tmp_path / "moved.tar"
    exported = export(old, target)
    assert f"{target} is there already: {old.model} as of event" in command(old, "export", old.model, target)
    assert f"imported: {old.model} as of event" in command(new, "import", target)
    is_the_same(old, new, exported, tmp_path)
    assert "it is here already" in command(new, "import", target)
    assert [event.kind for event in Ledger(new.db).events(new.model)].count("imported") == 1

    there, here = old.judged(4), new.judged(4)
    assert set(here) == {"data", "drift", "loss"}
    assert here == there

    with new.here(), Serving(new.db, new.model):
        roll_back_by_hand(new.model, db=new.db, actor="cli:ann", reason="the old one was better")
        assert Ledger(new.db).champion(new.model).version == 1
        assert broken_invariants(new.db)[1] == []
    incident = Ledger(new.db).events(new.model)[3].incident_id
    assert Ledger(new.db).incident(incident).state is State.RESOLVED


def test_nothing_of_users_and_no_secret_travels(exported: Exported):
    """What a user asked stands in no file of the archive; references hold the rows that they are made of."""
    files = [path for path in exported.folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert {path.stem for path in files if path.suffix == ".jsonl"} == set(rows.TRAVELS)
    assert "password" not in "".join(path.read_text() for path in files if path.suffix in (".json", ".yaml"))


def test_each_table_travels_or_has_a_reason_to_stay():
    """Whoever adds a table decides whether a model takes its rows along."""
    assert set(rows.TRAVELS) | set(rows.STAYS) == set(tables.metadata.tables)
    assert set(rows.TRAVELS).isdisjoint(rows.STAYS)


def flipped(folder: Path, model: str) -> None:
    file = folder / "versions" / model / "v2" / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b"weights 2", b"weights 9"))


def of_tomorrow(folder: Path, _model: str) -> None:
    content = json.loads((folder / ARCHIVE).read_text())
    (folder / ARCHIVE).write_text(json.dumps({**content, "schema": "9999", "driftloop": "9.0"}))


def resealed(folder: Path, change: Callable[[], object]) -> None:
    """Change an archive as somebody would who knows how it is made."""
    found = archive.read(folder)
    change()
    archive.seal(folder, archive.Archive(**{
        **{name: getattr(found, name) for name in archive.Archive.__slots__}, "files": archive.listed(folder)
    }))  # fmt: skip


def with_other_weights(folder: Path, model: str) -> None:
    resealed(folder, lambda: flipped(folder, model))


def with_another_past(folder: Path, _model: str) -> None:
    file = folder / "tables" / "incident_event.jsonl"
    resealed(folder, lambda: file.write_text(file.read_text().replace("good again", "never bad")))


def without_a_file(folder: Path, _model: str) -> None:
    (folder / "tables" / "verdict.jsonl").unlink()


def with_one_more(folder: Path, _model: str) -> None:
    (folder / "tables" / "extra.jsonl").write_text("{}")


def with_a_link(folder: Path, _model: str) -> None:
    (folder / "tables" / "link").symlink_to("/etc/passwd")


REFUSED = [
    (flipped, "model.safetensors is not what was exported"),
    (of_tomorrow, r"written by driftloop 9.0 with schema 9999, newer than this release's \d{4}; install"),
    (with_other_weights, "is not what the ledger knows version 2 to be: model.safetensors is not what was written"),
    (with_another_past, "history in it is broken: .*content does not match its hash"),
    (without_a_file, "verdict.jsonl is missing; copy the archive again"),
    (with_one_more, "extra.jsonl was never written there"),
    (with_a_link, "neither a file nor a folder"),
    (lambda folder, _: (folder / ARCHIVE).unlink(), "holds no archive.json"),
    (lambda folder, _: (folder / ARCHIVE).write_text('{"format": 1'), "cannot be read"),
]


def test_what_is_not_as_exported_is_refused_and_nothing_is_written(
    new: Installation, exported: Exported, tmp_path: Path
):
    """Each damage has its sentence, and leaves database, registry and models as they were."""
    for number, (damage, words) in enumerate(REFUSED):
        folder = archive.copy_files(exported.folder, tmp_path / f"damaged-{number}")
        damage(folder, new.model)
        with pytest.raises(ContractError, match=words):
            command(new, "import", folder)
        assert new.is_empty()
        assert new.model not in new.registry.models()
    (cut := tmp_path / "cut.tar").write_bytes(b"no tar")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(exported.folder / ARCHIVE, "../outside.json")
    for path, words in ((cut, "is no whole tar"), (tmp_path / "evil.tar", "no file below"), (tmp_path / "n", "exist")):
        with pytest.raises(ContractError, match=words):
            command(new, "import", path)
    assert new.is_empty()


def test_a_model_that_is_here_is_never_mixed_with_another(
    old: Installation, new: Installation, exported: Exported, tmp_path: Path
):
    """Rows, a YAML or a version of it that are here already refuse the import; so does where it came from."""
    with pytest.raises(ContractError, match="exists here already: there are rows of it in incident,"):
        command(old, "import", exported.folder)
    yaml = new.home / "models" / f"{new.model}.yaml"
    yaml.write_text("name: another\n")
    with pytest.raises(ContractError, match="says something else than the archive"):
        command(new, "import", exported.folder)
    yaml.unlink()
    other = model_folder(tmp_path / "other", "other weights")
    new.registry.register(new.model, other, key="k", tags={}, params={}, metrics={})
    with pytest.raises(ContractError, match=r"has another version 1 of .*; delete the registered model"):
        command(new, "import", exported.folder)
    assert new.is_empty()


def test_a_model_at_work_is_not_exported(old: Installation, tmp_path: Path):
    """An open incident would be worked on twice: the refusal says how to end it; retired, the model can go."""
    with old.here() as loop:
        loop.ledger.open_incident(
            old.model, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
        )
    with pytest.raises(ContractError, match=r"is open \(open\).* driftloop retire"):
        command(old, "export", old.model, tmp_path / "moved")
    command(old, "retire", old.model, "--reason", "moved")
    (torn := tmp_path / ".moved.export" / "versions" / old.model / ".v1.killed").mkdir(parents=True)
    (torn / "model.safetensors").write_text("half of it")
    assert "is written" in command(old, "export", old.model, tmp_path / "moved")
    assert sorted(path.name for path in (tmp_path / "moved" / "versions" / old.model).iterdir()) == ["v1", "v2", "v4"]
    yaml = (old.home / "models" / f"{old.model}.yaml").read_text()
    (old.home / "models" / "nobody.yaml").write_text(yaml.replace(old.model, "nobody"))
    with pytest.raises(ContractError, match="no champion yet"):
        command(old, "export", "nobody", tmp_path / "none")
    command(old, "bring-back", old.model)


def test_one_mlflow_for_both_gets_no_version_twice(old: Installation, new: Installation, exported: Exported):
    """Versions that are there under their hash stay as they are."""
    before = old.registry.versions(old.model)
    shared = Installation(new.db, new.home, old.url, new.model)
    command(shared, "import", exported.folder)
    assert old.registry.versions(old.model) == before
    with shared.here():
        assert broken_artifacts(broken_invariants(new.db)[0]) == ([], [])
        assert reference_of(new.db, new.model, 2).uri.startswith(f"file://{new.home}")


@pytest.mark.parametrize("point", ["import.registered", "import.recorded"])
def test_an_import_that_was_killed_goes_on(
    old: Installation, new: Installation, exported: Exported, tmp_path: Path, point: str
):
    """Given again it ends as if it had not been killed: the registry without the record, or the record without YAML."""
    assert in_a_process(new, point, "import", exported.folder) == -signal.SIGKILL
    command(new, "import", exported.folder)
    is_the_same(old, new, exported, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("point", [*EXPORT, *IMPORT])
def test_killed_anywhere_and_given_again(old: Installation, new: Installation, tmp_path: Path, point: str):
    """An archive is whole or not there, and a model is here once and as it was, whatever the moment of the kill."""
    target, at_export = tmp_path / "moved.tar", point in EXPORT
    if at_export:
        assert in_a_process(old, point, "export", old.model, target) == -signal.SIGKILL
        assert target.exists() is (point == "export.packed")
    exported = export(old, target)
    if not at_export:
        assert in_a_process(new, point, "import", target) == -signal.SIGKILL
    command(new, "import", target)
    is_the_same(old, new, exported, tmp_path)


def test_every_point_of_a_move_is_killed_at():
    """The points in the code are those above."""
    code = "".join(path.read_text() for path in (ROOT / "ops" / "moving").glob("*.py"))
    assert code.count("reached(") == len([*EXPORT, *IMPORT])
    assert [point for point in (*EXPORT, *IMPORT) if f'reached("{point}")' not in code] == []


def in_a_process(where: Installation, point: str, *words: object) -> int:
    """Give a command in a process of its own that dies at a point; give how it ended."""
    line = [sys.executable, "-m", "ops.cli.main", *(str(word) for word in words)]
    with where.here():
        done = subprocess.run(line, env={**os.environ, KILL_AT: point}, cwd=ROOT, check=False, capture_output=True)
    return done.returncode


def test_a_full_disk_is_one_sentence(old: Installation, new: Installation, exported: Exported, tmp_path: Path):
    """Nothing is recorded, and given again with space the import goes through."""
    with small_disk(new.home / "tmp") as disk:
        filler = fill(disk)
        line = [sys.executable, "-m", "ops.cli.main", "import", str(exported.folder)]
        with new.here():
            done = subprocess.run(line, env={**os.environ}, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "disk is full" in done.stderr
        assert done.stderr.count("\n") == 1
        assert new.is_empty()
        filler.unlink()
        command(new, "import", exported.folder)
    is_the_same(old, new, exported, tmp_path)
