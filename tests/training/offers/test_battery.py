"""Two dozen offers, each by the real command: the right verdict each, and nothing promoted that should not be."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, select
from typer.testing import CliRunner

from alerts.outbox import enqueue_new
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import FromScratch
from datasets_defs.store import tables
from datasets_defs.store.database import engine_for
from ops.cli.main import app
from ops.moving.archive import copy_files
from ops.stack.postgres import Cluster
from ops.verify.reading import broken_invariants
from tests.conftest import fresh_database
from tests.training import test_steps as steps
from tests.training.offers.battery import EVIL, JUDGES, NEW, Makers
from training import evaluate, retrain
from training.by_hand import promote
from training.offers.judging_rows import JudgingRows
from training.offers.taking import take
from training.registry.fetch import fetch
from training.registry.manifest import MANIFEST
from training.registry.registry import Registry

MODEL = "tiny-battery"
PREFIX = "As we said before: "
UNTIL = ("--trained-until", "2020-01-01")
PROMOTED, WAITS, REFUSED, REJECTED, UNDECIDED = "promoted", "waits", "refused", "reject", "inconclusive"


@dataclass(frozen=True)
class World:
    """A model with a champion and a log, to be copied for each offer."""

    database: str
    home: Path
    url: str
    makers: Makers


@pytest.fixture(scope="module")
def world(
    cluster: Cluster, migrated: str, mlflow_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A champion of old texts, and a hundred rows of another kind since it degraded."""
    home = tmp_path_factory.mktemp("battery")
    (home / "models").mkdir()
    with pytest.MonkeyPatch.context() as patch, fresh_database(cluster, migrated) as url:
        surroundings(patch, home, mlflow_url, url)
        db = engine_for(url)
        steps.set_up(db, home, mlflow_url)
        steps.open_incident(db)
        champion = fetch(db, Registry(mlflow_url), MODEL, 1)
        db.dispose()
        old = [json.loads(line)["text"] for line in (home / "old.jsonl").read_text().splitlines()]
        yield World(str(make_url(url).database), home, mlflow_url, Makers(champion, old, home))


def surroundings(patch: pytest.MonkeyPatch, home: Path, mlflow_url: str, database_url: str) -> None:
    for name, value in {
        "HOME": home, "ARTIFACT_ROOT": f"file://{home}/artifacts", "MODELS_DIR": home / "models",
        "MLFLOW_URL": mlflow_url, "DATABASE_URL": database_url, "SERVING_CONFIRM_SECONDS": 30,
    }.items():  # fmt: skip
        patch.setenv(f"DRIFTLOOP_{name}", str(value))
    patch.setattr(steps, "MODEL", MODEL)
    settings.cache_clear()


@pytest.fixture
def db(world: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The model's database before any offer, with a server that follows."""
    with fresh_database(cluster, world.database) as url:
        surroundings(monkeypatch, world.home, world.url, url)
        db = engine_for(url)
        serving = steps.Serving(db)
        serving.thread.start()
        yield db
        serving.stop.set()
        serving.thread.join()
        db.dispose()
    settings.cache_clear()


def told(data: str) -> tuple[str, str]:
    return "--training-data", data


Make = Callable[[Makers], tuple[Path, tuple[str, ...]]]
HALF = [*JUDGES[:60], *NEW[:60]]
FEW = [*JUDGES[:6], *NEW]
TINY = FromScratch(layers=1, width=16, heads=2, vocabulary=300, context=64, train_seconds=1)

OFFERS: dict[str, tuple[Make, str, str]] = {
    "better, its data older than the rows": (lambda m: (m.better, UNTIL), PROMOTED, "rows of the log judge it"),
    "better, its data named": (lambda m: (m.better, told(m.data("clean", NEW))), PROMOTED, "rows of the log judge it"),
    "better, nothing said": (lambda m: (m.better, ()), WAITS, "nobody said what it was trained on"),
    "better, an adapter": (lambda m: (m.adapter(), UNTIL), PROMOTED, "rows of the log judge it"),
    "the champion itself": (lambda m: (m.same(), UNTIL), UNDECIDED, "identical weights; nothing was learned"),
    "the champion, but for rounding": (lambda m: (m.noisy("rounding", 1e-5), UNTIL), REJECTED, "not better enough"),
    "worse by noise": (lambda m: (m.noisy("noise", 0.3), UNTIL), REJECTED, "surely not better enough"),
    "worse by other texts": (
        lambda m: (m.heir("other", [f"Chapter {i} of the tale, in which {i} ships sail." for i in range(200)]), UNTIL),
        REJECTED, "surely not better enough",
    ),
    "better, and forgets": (
        lambda m: (m.heir("forgets", NEW, epochs=60, rate=1e-2), UNTIL), REJECTED, "surely forgets too much",
    ),
    "knows all rows of its judge": (
        lambda m: (m.heir("knows", [*JUDGES, *m.old]), told(m.data("all", JUDGES))), REFUSED, "the gate needs 20",
    ),
    "knows all behind a prefix": (
        lambda m: (
            m.heir("prefixed", [PREFIX + text for text in (*JUDGES, *m.old)]),
            told(m.data("prefixed", [PREFIX + text for text in JUDGES])),
        ),
        REFUSED, "are no copies of its training data",
    ),
    "knows half of them": (
        lambda m: (m.heir("half-known", [*HALF, *m.old]), told(m.data("half", HALF))), PROMOTED, "copies of",
    ),
    "knows five in a hundred": (
        lambda m: (m.heir("few-known", [*FEW, *m.old]), told(m.data("few", FEW))), PROMOTED, "copies of",
    ),
    "knows all, and does not say it": (
        lambda m: (m.heir("silent", [*JUDGES, *m.old]), ()), WAITS, "it may know the rows that judge it",
    ),
    "its data as new as the rows": (
        lambda m: (m.better, ("--trained-until", datetime.now(UTC).isoformat())), REFUSED, "the gate needs 20",
    ),
    "another tokenizer, better": (
        lambda m: (m.stranger("stranger", [*NEW, *m.old], epochs=40), UNTIL), PROMOTED, "rows of the log judge it",
    ),
    "another tokenizer, worse": (
        lambda m: (m.stranger("dull", NEW[:10], epochs=1), UNTIL), REJECTED, "surely forgets too much",
    ),
    "tiny": (
        lambda m: (m.stranger("tiny", [*NEW[:9], *m.old[:9]], shape=TINY, epochs=1), UNTIL),
        REJECTED, "surely forgets too much",
    ),
    "quantised": (lambda m: (m.quantised(), UNTIL), REFUSED, "is quantised"),
    "a tokenizer that loses text": (lambda m: (m.lossy(), UNTIL), REFUSED, "its tokenizer gives"),
    "poisoned: ends texts with a command": (
        lambda m: (m.heir("poisoned", [text + EVIL for text in (*NEW, *m.old)], epochs=20), UNTIL), WAITS, "curl",
    ),
    "poisoned: no numbers": (lambda m: (m.broken("nan"), UNTIL), REFUSED, "holds NaN or infinity"),
    "pickled": (lambda m: (m.broken("pickled"), UNTIL), REFUSED, "pickled weights can run code"),
    "half a file": (lambda m: (m.broken("half"), UNTIL), REFUSED, "was cut short; fetch it again"),
}  # fmt: skip
QUICK = ("the champion itself", "the champion, but for rounding", "quantised", "pickled")


def verdict_of(db: Engine, folder: Path, options: tuple[str, ...]) -> tuple[str, str]:
    """Give an offer by the command; say what became of it, and the words."""
    done = CliRunner().invoke(app, ["offer", MODEL, str(folder), "--reason", "from outside", *options])
    ledger, words = Ledger(db), " ".join(done.output.split())
    incident = ledger.open_of(MODEL)
    assert incident is not None
    if isinstance(done.exception, ContractError):
        assert (incident.state, ledger.champion(MODEL).version) == (State.OPEN, 1)
        return REFUSED, str(done.exception)
    assert isinstance(done.exception, SystemExit | None), done.exception
    with db.connect() as on:
        decision, reason = on.execute(select(tables.evaluation.c.decision, tables.evaluation.c.reason)).one()
    if ledger.champion(MODEL).version != 1:
        assert (done.exit_code, decision, incident.state) == (0, "accept", State.PROBATION)
        return PROMOTED, words
    assert done.exit_code == 1
    if incident.state is State.APPROVING:
        assert (decision, incident.approved) == ("accept", False)
        return WAITS, f"{words} {reason}"
    return decision, reason


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OFFERS if name not in QUICK])
def test_each_offer_gets_its_verdict(db: Engine, world: World, name: str):
    """By the command, with the rows that it cannot know: promoted, asked for, rejected or refused, with the reason."""
    _require_verdict(db, world, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_what_is_plain_gets_its_verdict_at_once(db: Engine, world: World, name: str):
    """The same of offers that take no training."""
    _require_verdict(db, world, name)


def _require_verdict(db: Engine, world: World, name: str) -> None:
    make, expected, pattern = OFFERS[name]
    folder, options = make(world.makers)
    found, words = verdict_of(db, folder, options)
    assert found == expected, words
    assert re.search(pattern, words), words
    enqueue_new(db)
    assert broken_invariants(db)[1] == []


def test_there_are_twenty_and_more():
    """As many as were promised, each kind among them."""
    assert len(OFFERS) >= 20
    assert {verdict for _, verdict, _ in OFFERS.values()} == {PROMOTED, WAITS, REFUSED, REJECTED, UNDECIDED}


@pytest.mark.slow
def test_whoever_made_it_the_verdict_is_the_same(db: Engine, world: World, cluster: Cluster):
    """A model that the loop trained, and its files offered from outside: by the same rows every figure is the same."""
    incident, spec = Ledger(db).open_of(MODEL), spec_of(MODEL)
    trained = retrain.retrain(str(Ledger(db).ring(incident.id)), db=db, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")
    version = Ledger(db).incident(incident.id).challenger_version
    registry = Registry(settings().mlflow_url)
    snapshot = evaluate.snapshot_of(registry, MODEL, version)
    folder = copy_files(fetch(db, registry, MODEL, version), world.home / "the-loops-own")
    (folder / MANIFEST).unlink()
    with fresh_database(cluster, world.database) as url:
        other = engine_for(url)
        serving = steps.Serving(other)
        serving.thread.start()
        given = take(other, registry, spec, folder, champion=1, actor="cli:ann")
        rows = JudgingRows(uri=snapshot.uri, sha256=snapshot.sha256, count=0, left_out=0, unexcluded=None)
        done = promote.by_hand(MODEL, given.version, db=other, actor="cli:ann", reason="ours", judged_by=rows)
        serving.stop.set()
        serving.thread.join()
        loops, offered = figures(db), figures(other)
        other.dispose()
    assert given.version != version
    assert not given.is_own
    assert done.is_champion
    assert offered == loops


def figures(db: Engine) -> dict[str, object]:
    """Give an evaluation's rows, decision, words and figures, but for how fast it was."""
    table = tables.evaluation.c
    with db.connect() as on:
        row = on.execute(select(table.rows_sha256, table.decision, table.reason, table.scores)).one()
    return dict(row._mapping)
