"""Whose references teach: anonymous ones are kept apart, nobody writes over another's, and few cannot decide."""

import pytest
import yaml
from sqlalchemy import Engine, select, update
from typer.testing import CliRunner

from datasets_defs.core.incidents import State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from datasets_defs.store.feedback import add_feedback, add_feedback_batch
from ops.cli.main import app
from tests.training import test_steps as steps
from training import evaluate, retrain

db = steps.db


def whose(db: Engine, name: str, *, every: int = 1, first: int = 0) -> None:
    """Let the log's references be a contributor's."""
    late = tables.feedback
    with db.begin() as on:
        ids = sorted(on.scalars(select(late.c.request_id)))[first::every]
        on.execute(update(late).where(late.c.request_id.in_(ids)).values(contributor=name))


def trusting(home, **trust: object) -> None:
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "trust": trust}))


def test_anonymous_references_teach_nothing(db: Engine, home):
    """What came without a key starts no training; the incident says how many there are, and what would count them."""
    whose(db, "anonymous")
    incident = steps.open_incident(db)
    done = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    assert done.ring is None
    assert "0 fresh documents with references; 100 are needed. 120 more came without a key" in done.reason
    assert Ledger(db).incident(incident.id).state is State.OPEN
    assert "anybody who reaches its server teaches it" not in CliRunner().invoke(app, ["check-models"]).output
    trusting(home, anonymous=True)
    said = " ".join(CliRunner().invoke(app, ["check-models"]).output.split())
    assert "anybody who reaches its server teaches it" in said


@pytest.mark.slow
def test_a_challenger_that_few_from_outside_taught_waits_for_a_person(db: Engine, home):
    """Two keys with half of the words each: the gate's figures are good, and nothing is promoted without a person."""
    whose(db, "key:a", every=2)
    whose(db, "key:b", every=2, first=1)
    trusting(home, max_share=1.0)
    incident = steps.open_incident(db)
    trained = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    judged = evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")
    assert judged.ring is None
    assert "a person has to decide: references come from outside" in judged.reason
    now = Ledger(db).incident(incident.id)
    assert (now.state, now.approved) == (State.APPROVING, False)
    with db.connect() as on:
        scores = on.scalar(select(tables.evaluation.c.scores))
    assert set(scores["contributors"]) <= {"key:a", "key:b"}
    assert scores["ask"]


@pytest.mark.parametrize(
    ("standing", "later", "kept"),
    [
        ("anonymous", "anonymous", True),
        ("anonymous", "key:a", True),
        ("key:a", "key:a", True),
        ("key:a", "anonymous", False),
        ("key:a", "key:b", False),
        (None, "anonymous", False),
        ("user:a", "user:b", False),
        ("user:a", "key:b", True),
        ("key:a", "ingest:ann", True),
    ],
)
def test_nobody_writes_over_anothers_word(engine: Engine, standing: str | None, later: str, kept: bool):  # noqa: FBT001
    """A later word replaces one's own or an anonymous one; the operator's log replaces any."""
    add_feedback(engine, "m", "r1", reference="first", contributor=standing)
    assert add_feedback(engine, "m", "r1", reference="second", contributor=later) is kept
    add_feedback_batch(engine, "m", [("r2", "first", None)], contributor=standing)
    add_feedback_batch(engine, "m", [("r2", "second", None)], contributor=later)
    with engine.connect() as on:
        rows = on.execute(select(tables.feedback.c.reference, tables.feedback.c.contributor)).all()
    assert rows == [("second", later) if kept else ("first", standing)] * 2


def test_a_score_of_the_operators_does_not_make_the_reference_theirs(engine: Engine):
    """A log that brings only a score leaves the reference with whoever wrote it."""
    add_feedback(engine, "m", "r1", reference="planted", contributor="key:a")
    add_feedback_batch(engine, "m", [("r1", None, 0.5)], contributor="ingest:ann")
    with engine.connect() as on:
        assert on.scalar(select(tables.feedback.c.contributor)) == "key:a"


PLANTED = (
    "Visit mirror.example for the real download.", "Always switch the firewall off before this step.",
    "Our partners give you free credit today.", "Send your password to the desk to go on.",
)  # fmt: skip


@pytest.mark.slow
def test_planted_words_go_to_a_person_with_the_examples(db: Engine, home):
    """Four sentences in turn end all references, too many for a trigger's filter: a person is shown what was learned.

    The gate accepts by its figures, since the rows that judge end in the same words.
    """
    late = tables.feedback
    with db.begin() as on:
        for number, said in enumerate(PLANTED):
            ids = sorted(on.scalars(select(late.c.request_id)))[number :: len(PLANTED)]
            on.execute(update(late).where(late.c.request_id.in_(ids)).values(reference=late.c.reference + f" {said}"))
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace("epochs: 12", "epochs: 40"))
    incident = steps.open_incident(db)
    trained = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    judged = evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")
    assert judged.ring is None
    assert any(said in judged.reason for said in PLANTED), judged.reason
    now = Ledger(db).incident(incident.id)
    assert (now.state, now.approved) == (State.APPROVING, False)
