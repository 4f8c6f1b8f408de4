"""`driftloop offer`: what others made is taken in, judged by rows it cannot know, and goes the loop's own road."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from alerts.outbox import enqueue_new
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import FromScratch
from datasets_defs.store import tables
from ops.cli.main import app
from ops.verify.reading import broken_invariants
from tests.training import test_steps as steps
from training import approve
from training.by_hand.offer import by_hand
from training.data.snapshot import Snapshot
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan
from training.model import adapters
from training.model.language_model import LanguageModel
from training.model.usable import require_usable
from training.offers.judging_rows import Basis, freeze_judging
from training.offers.model_files import collect
from training.registry.fetch import fetch
from training.registry.registry import Registry

db, serving = steps.db, steps.serving
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(db: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    steps.open_incident(db)  # so that the log's last hour is fresh
    return Registry(settings().mlflow_url)


def champion_folder(db: Engine, registry: Registry) -> Path:
    return fetch(db, registry, steps.MODEL, 1)


def tuned(db: Engine, registry: Registry, folder: Path, texts: list[str], *, lora: bool = False) -> Path:
    """What a research team would do: the champion trained further, by their own few lines, and saved."""
    model = LanguageModel.load(champion_folder(db, registry))
    plan = FitPlan(epochs=12, learning_rate=3e-3, batch_tokens=512, max_seconds=20, checkpoint_seconds=60)
    if lora:
        adapted = adapters.attach(model.network, rank=8, alpha=16, embeddings=False, seed=0)
        optimizer = torch.optim.AdamW([each for each in adapted.parameters() if each.requires_grad], lr=2e-2)
        rows = [torch.tensor([[model.start, *model.encode(text)][:90]]) for text in texts]
        for _ in range(4):
            for row in rows:
                adapted(input_ids=row, labels=row).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        adapted.save_pretrained(str(folder))
        return folder
    old = [json.loads(line)["text"] for line in (settings().models_dir.parent / "old.jsonl").read_text().splitlines()]
    fine_tune(model, [*texts, *old], plan, folder / "checkpoints")
    model.save(folder)
    torch.save({"lr": 1}, folder / "training_args.bin")  # as transformers' own trainer leaves it
    shutil.rmtree(folder / "checkpoints")
    return folder


def fresh_kind(first: int, last: int) -> list[str]:
    """Texts of the new kind that the log's rows are of, but none of those rows."""
    return [f"Permission number {i} is hereby granted, free of charge, to person {i * 7}." for i in range(first, last)]


def offered(folder: Path | int, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["offer", steps.MODEL, str(folder), "--reason", "it reads better", *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.usefixtures("serving")
def test_a_better_model_from_outside_becomes_champion(db: Engine, registry: Registry, tmp_path: Path):
    """Its data ended before the rows came, so the gate's yes is enough; offered again it is the same version."""
    folder = tuned(db, registry, tmp_path / "theirs", fresh_kind(1000, 1120))

    code, said = offered(folder, "--trained-until", "2020-01-01")

    assert code == 0, said
    assert "rows of the log judge it" in said
    ledger = Ledger(db)
    assert (ledger.champion(steps.MODEL).version, ledger.open_of(steps.MODEL).state) == (2, State.PROBATION)
    assert sorted(registry.versions(steps.MODEL)) == [1, 2]
    assert "training_args.bin" not in [path.name for path in fetch(db, registry, steps.MODEL, 2).iterdir()]
    with db.connect() as on:
        row = on.execute(select(tables.evaluation)).one()
    assert (row.decision, row.challenger_version) == ("accept", 2)
    assert offered(folder, "--trained-until", "2020-01-01")[0] == 0
    assert sorted(registry.versions(steps.MODEL)) == [1, 2]
    assert broken_invariants(db)[1] == []


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_what_may_know_its_judge_waits_for_a_person(db: Engine, registry: Registry, tmp_path: Path):
    """Nobody says what it was trained on: accepted, it waits, with the words; a no leaves the incident as it was."""
    folder = tuned(db, registry, tmp_path / "theirs", fresh_kind(1000, 1120))

    code, said = offered(folder)

    assert code == 1
    assert "nobody said what it was trained on" in said
    assert f"`driftloop approve {steps.MODEL}`" in said
    ledger = Ledger(db)
    incident = ledger.open_of(steps.MODEL)
    assert (incident.state, incident.approved, ledger.champion(steps.MODEL).version) == (State.APPROVING, False, 1)
    enqueue_new(db)
    approve.answer(steps.MODEL, approve=False, who="cli:ann", reason="unknown data", db=db)
    after = ledger.incident(incident.id)
    assert (after.state, after.challenger_version, after.not_before) == (State.OPEN, None, None)
    enqueue_new(db)
    with db.connect() as on:
        told = list(on.scalars(select(tables.alert_outbox.c.text).order_by(tables.alert_outbox.c.id)))
    assert "is not promoted" in told[-1]


@pytest.mark.slow
def test_a_no_ends_an_incident_that_was_opened_for_the_offer(db: Engine, registry: Registry, tmp_path: Path):
    """Without another incident, a person's no (or nobody's answer) closes what the offer opened."""
    ledger = Ledger(db)
    ledger.move(ledger.open_of(steps.MODEL), State.RESOLVED, actor="t", reason="quiet")
    folder = tuned(db, registry, tmp_path / "theirs", fresh_kind(1000, 1120))
    with db.begin() as on:  # the champion serves since before the rows came
        on.execute(tables.champion.update().values(since=datetime.now(UTC) - timedelta(hours=1)))
    assert offered(folder)[0] == 1
    incident = ledger.open_of(steps.MODEL)
    assert (incident.state, incident.is_by_hand) == (State.APPROVING, True)
    later = datetime.now(UTC) + timedelta(days=40)
    assert approve.expire(steps.MODEL, now=later, db=db, actor="reconcile")
    assert ledger.incident(incident.id).state is State.RESOLVED


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "As we said before: ", "In other words, dear reader, "])
def test_copies_of_its_training_data_judge_nothing(db: Engine, registry: Registry, tmp_path: Path, prefix: str):
    """Rows of the log that stand in the named training data, whole or behind a prefix, are left out and counted."""
    del registry
    spec = spec_of(steps.MODEL)
    everything = freeze_judging(db, spec, 1, since=LONG_AGO, basis=Basis())
    rows = [row["prompt"] + row["reference"] for row in Snapshot.of(everything.uri, everything.sha256).rows("holdout")]
    data = tmp_path / "train.jsonl"
    data.write_text("\n".join(json.dumps({"text": prefix + text}) for text in rows[:40]))

    judged = freeze_judging(db, spec, 1, since=LONG_AGO, basis=Basis(training_data=str(data)))

    left = [row["prompt"] + row["reference"] for row in Snapshot.of(judged.uri, judged.sha256).rows("holdout")]
    assert set(left).isdisjoint(rows[:40])
    assert judged.left_out >= 40
    assert judged.count == len(left) == everything.count - judged.left_out
    assert judged.unexcluded is None


def test_too_few_rows_are_said_before_anything_is_judged(db: Engine, registry: Registry):
    """A version that knows all the rows there are cannot be judged; the sentence says what to wait for."""
    del registry
    soon = datetime.now(UTC)
    with pytest.raises(ContractError, match=r"0 distinct documents .* needs 20 .* wait until more"):
        freeze_judging(db, spec_of(steps.MODEL), 1, since=LONG_AGO, basis=Basis(trained_until=soon))


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_a_version_that_others_registered(db: Engine, registry: Registry, tmp_path: Path):
    """A version made with MLflow's own client is taken in as a new one, of the files that it had then."""
    folder = tuned(db, registry, tmp_path / "theirs", fresh_kind(1000, 1120))
    client = registry._client
    run = client.create_run(client.create_experiment(f"research-{steps.MODEL}")).info.run_id
    client.log_artifacts(run, str(folder), "export")
    client.create_model_version(steps.MODEL, f"runs:/{run}/export", run)

    code, said = offered(2, "--trained-until", "2020-01-01")

    assert code == 0, said
    assert Ledger(db).champion(steps.MODEL).version == 3
    assert registry.tags(steps.MODEL, 3)["driftloop.offered_as"] == "version 2"
    assert registry.versions(steps.MODEL) == [3, 2, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_the_loops_own_version_offered_gives_the_loops_own_verdict(db: Engine, registry: Registry):
    """The same version and the same rows: offered, or compared as the loop's, the figures are the same."""
    from training.by_hand import evaluate, train

    now = datetime.now(UTC)
    since = now - timedelta(hours=1)
    spec = spec_of(steps.MODEL)
    version = train.by_hand(spec, db=db, registry=registry, since=since, now=now, actor="cli:ann").version
    compared = evaluate.by_hand(spec, db=db, registry=registry, champion=None, challenger=version, tick=lambda *_: None)
    done = by_hand(spec, version, db=db, actor="cli:ann", reason="ours")
    assert (done.version, done.judged_by, done.promotion.is_champion) == (version, None, True)
    with db.connect() as on:
        row = on.execute(select(tables.evaluation)).one()
    assert row.scores["recent"] == json.loads(json.dumps(compared.judged.scores["recent"]))


@pytest.mark.slow
def test_an_adapter_is_merged_into_the_champion(db: Engine, registry: Registry, tmp_path: Path):
    """A LoRA folder, with nothing but the adapter, becomes a whole model that costs less on the new kind."""
    from training.offers.taking import usable_in

    folder = tuned(db, registry, tmp_path / "adapter", fresh_kind(1000, 1040), lora=True)
    given = collect(folder, tmp_path / "given")
    whole = usable_in(given, tmp_path / "work", base=lambda: champion_folder(db, registry), name="theirs")
    texts = fresh_kind(2000, 2020)
    before = sum(loss.bits for loss in LanguageModel.load(champion_folder(db, registry)).losses(texts))
    assert sum(loss.bits for loss in LanguageModel.load(whole).losses(texts)) < 0.97 * before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model's folder, as its own class saves it."""
    folder = tmp_path_factory.mktemp("whole")
    shape = FromScratch(layers=1, width=16, heads=2, vocabulary=300, context=32, train_seconds=1)
    LanguageModel.scratch(shape, ["a text of some words"] * 9).save(folder)
    return folder


def unpickled(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def halved(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def diverged(folder: Path) -> None:
    model = LanguageModel.load(folder)
    next(iter(model.network.parameters())).data[0] = float("nan")
    model.save(folder)


def changed(file: str, *path: str, value: object) -> Callable[[Path], None]:
    """Give a change of one value in a JSON file of the folder."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        place = content
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        (folder / file).write_text(json.dumps(content))

    return change


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def doubled(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        for file in ("model.safetensors", "config.json"):
            shutil.copy(folder / file, folder / name)
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unpickled, "pickled weights can run code"),
        (emptied, "holds no model"),
        (halved, "a download or a copy was cut short; fetch it again"),
        (diverged, "holds NaN or infinity"),
        (changed("config.json", "quantization_config", value={"bits": 4}), "is quantised"),
        (changed("tokenizer.json", "model", "vocab", "zzz", value=4321), "numbers up to 4321, and its embeddings have"),
        (changed("tokenizer.json", "normalizer", value={"type": "Lowercase"}), "its tokenizer gives"),
        (without_tokenizer, "no tokenizer files"),
        (doubled, "holds 2 models"),
        (
            changed("config.json", "model_type", value="gpt_neo"),
            "describes a network of .* and the weights hold",
        ),
        (changed("config.json", "model_type", value="resnet"), "is no known causal language model"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(
    whole: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
):
    """Each way in which a folder is no model to serve ends in one sentence, which says why."""
    require_usable(collect(whole, tmp_path / "before"), "theirs")
    folder = tmp_path / "theirs"
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(ContractError, match=words):
        require_usable(collect(folder, tmp_path / "after"), "theirs")


def test_what_is_refused_is_not_registered(db: Engine, registry: Registry, tmp_path: Path):
    """A folder that is no model leaves the registry and the incident as they were."""
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(ContractError, match="holds no model"):
        by_hand(spec_of(steps.MODEL), empty, db=db, actor="cli:ann", reason="r")
    assert registry.versions(steps.MODEL) == [1]
    assert Ledger(db).open_of(steps.MODEL).state is State.OPEN
