"""The invariants on real PostgreSQL: a whole life breaks none, and each is broken on purpose and said."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, text
from typer.testing import CliRunner

from alerts.outbox import enqueue_new
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from ops.cli.main import app
from ops.verify.invariants import in_progress
from ops.verify.reading import broken_invariants, read_record
from training.trainers.locks import only_trainer

LEASE = timedelta(seconds=60)
SINCE = datetime(2026, 5, 1, tzinfo=UTC)


def opened(ledger: Ledger, model: str = "m") -> Incident:
    incident, _ = ledger.open_incident(
        model, signal="drift", degraded_since=SINCE, reason="half drifted", evidence={}, actor="watch"
    )
    return incident


def claimed(ledger: Ledger, incident: Incident, frm: State, to: State, actor: str) -> Incident:
    claim = ledger.claim(ledger.ring(incident.id), frm={frm}, to=to, actor=actor, lease=LEASE, reason=f"to {to}")
    assert claim.incident is not None, claim.reason
    return claim.incident


def trained(ledger: Ledger, incident: Incident, actor: str = "retrain:1", version: int = 2) -> Incident:
    incident = claimed(ledger, incident, State.OPEN, State.RETRAINING, actor)
    return ledger.move(incident, State.RETRAINING, actor=actor, reason="registered", challenger_version=version)


def promoted(ledger: Ledger, incident: Incident, *, champion: int = 1, challenger: int = 2) -> Incident:
    """Go from a registered challenger to probation as the steps do."""
    incident = claimed(ledger, incident, State.RETRAINING, State.EVALUATING, "evaluate:1")
    with ledger.transaction() as on:
        on.execute(
            insert(tables.evaluation).values(
                incident_id=incident.id, attempt=incident.attempt, model=incident.model, champion_version=champion,
                challenger_version=challenger, rows_uri="file:///rows", rows_sha256="0", scores={}, decision="accept",
                reason="better",
            )
        )  # fmt: skip
        incident = ledger.move(
            incident, State.APPROVING, actor="evaluate:1", reason="accepted", approved=True, connection=on
        )
    incident = claimed(ledger, incident, State.APPROVING, State.PROMOTING, "promote:1")
    changed = ledger.change_champion(
        incident.model, expected=champion, to=challenger, kind="promote", reason="accepted", actor="promote:1",
        incident=incident,
    )  # fmt: skip
    ledger.confirm_champion(changed)
    return ledger.move(incident, State.PROBATION, actor="promote:1", reason="serves")


def first_champion(ledger: Ledger, model: str = "m") -> None:
    ledger.change_champion(model, expected=None, to=1, kind="bootstrap", reason="first", actor="bootstrap")


@pytest.fixture
def ledger(engine: Engine, home: Path) -> Ledger:
    return Ledger(engine)


@pytest.fixture
def life(ledger: Ledger) -> Incident:
    """A model whose incident was answered with a promotion, and whose next one is open, all of it told."""
    first_champion(ledger)
    incident = promoted(ledger, trained(ledger, opened(ledger)))
    ledger.move(incident, State.RESOLVED, actor="watch_quality", reason="good again")
    later = opened(ledger)
    ledger.ring(later.id)
    enqueue_new(ledger.engine)
    return later


def sentences(ledger: Ledger) -> list[str]:
    return broken_invariants(ledger.engine)[1]


def tamper(owner: Engine, *statements: str) -> None:
    """Change rows behind the ledger's back, as only the tables' owner can."""
    with owner.begin() as on:
        on.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            on.execute(text(statement))


def test_a_whole_life_breaks_nothing(ledger: Ledger, life: Incident):
    """From the first champion through a promotion to the next open incident, every invariant holds."""
    assert sentences(ledger) == []


def test_every_way_to_wait_is_no_breach(ledger: Ledger, owner: Engine, life: Incident):
    """An old incident that is at work, waits for a time, a person or its windows, or is paused, is not stuck."""
    late = "updated_at = now() - interval '1 day', rung_at = now() - interval '1 day'"
    waits = {
        "claimed_by = 'run', lease_until = now() + interval '1 minute'": "run is at work",
        "not_before = now() + interval '1 hour'": "waits until",
        "state = 'escalated'": "waits for a person",
        "state = 'quarantined'": "waits for the data",
        "state = 'probation'": "window by window",
    }
    for changes, words in waits.items():
        tamper(owner, f"UPDATE incident SET {late}, {changes} WHERE id = {life.id}")
        found = [each for each in sentences(ledger) if "nobody took it up" in each]
        assert (changes, found) == (changes, [])
        now = read_record(ledger.engine).now
        assert words in in_progress(ledger.incident(life.id), now)
        tamper(owner, f"UPDATE incident SET state = 'open', lease_until = NULL, not_before = NULL WHERE id = {life.id}")
    asked = replace(ledger.incident(life.id), state=State.APPROVING)
    assert in_progress(asked, datetime.now(UTC)) == "waits for a person's approval"
    assert any("nobody took it up" in each for each in sentences(ledger))
    with ledger.transaction() as on:
        on.execute(
            insert(tables.pause).values(model="m", reason="r", actor="a", until=datetime.now(UTC) + timedelta(hours=1))
        )
    assert not any("nobody took it up" in each for each in sentences(ledger))


BREACHES = {
    "two open": (
        "DROP INDEX uq_incident_one_open_per_model",
        "INSERT INTO incident (model, state, signal, degraded_since) VALUES ('m', 'open', 'drift', now())",
        "2 incidents are open at once",
    ),
    "state behind the history's back": (
        "UPDATE incident SET state = 'rejected' WHERE closed_at IS NULL",
        "the ledger says rejected, its history open",
    ),
    "a move that is not allowed": (
        "UPDATE incident_event SET state = 'promoting' WHERE kind = 'moved' AND state = 'retraining'",
        "moves it from open to promoting, which is not allowed",
    ),
    "a move from nowhere": (
        "UPDATE incident_event SET from_state = 'approving' WHERE kind = 'moved' AND state = 'evaluating'",
        "moves it from approving, but it was retraining",
    ),
    "two ends": (
        (
            "UPDATE incident_event SET state = 'resolved', from_state = 'probation' "
            "WHERE kind = 'moved' AND state = 'promoting'"
        ),
        "it ended 2 times",
    ),
    "an end without its time": (
        "UPDATE incident SET closed_at = NULL WHERE closed_at IS NOT NULL",
        "it is resolved, and closed at None",
    ),
    "no opening": ("DELETE FROM incident_event WHERE kind = 'opened'", "does not begin with its opening"),
    "a ring that was never counted": ("UPDATE incident SET rings = 0", "0 wake-ups are counted"),
    "stuck": (
        (
            "UPDATE incident SET updated_at = now() - interval '1 day', rung_at = now() - interval '1 day' "
            "WHERE closed_at IS NULL"
        ),
        "nobody took it up within 4 reconciliations",
    ),
    "a registration after a takeover": (
        "UPDATE incident_event SET actor = 'retrain:0' WHERE kind = 'progress'",
        "retrain:0 registered a challenger after retrain:1 had taken the training over",
    ),
    "altered": ("UPDATE incident_event SET reason = 'all was fine' WHERE seq = 2", "it was altered"),
    "cut short": ("DELETE FROM incident_event WHERE seq = (SELECT max(seq) FROM incident_event)", "cut short"),
    "another champion": (
        "UPDATE champion SET version = 7",
        "version 7 (token 2) is champion, but the last change made it version 2",
    ),
    "another way back": ("UPDATE champion SET previous_version = 5", "a rollback would go to version 5"),
    "a champion from nowhere": ("DELETE FROM promotion", "must be there both or not at all"),
    "a gap in the tokens": ("UPDATE promotion SET token = 9 WHERE token = 2", "tokens must leave no gap"),
    "a change that follows nothing": ("UPDATE promotion SET from_version = 4 WHERE token = 2", "goes from version 4"),
    "a change that nobody tells of": (
        "DELETE FROM incident_event WHERE kind = 'champion' AND incident_id IS NOT NULL",
        "the history tells of 1 changes of champion that are not the 2 made",
    ),
    "a promotion without a yes": (
        "UPDATE evaluation SET decision = 'reject'",
        "version 2 was promoted without an accepting evaluation",
    ),
    "a yes that came afterwards": (
        "UPDATE evaluation SET at = now() + interval '1 hour'",
        "version 2 was promoted without an accepting evaluation",
    ),
    "a yes to another challenger": (
        "UPDATE evaluation SET challenger_version = 3",
        "version 2 was promoted without an accepting evaluation",
    ),
    "promoted again": (
        "UPDATE promotion SET kind = 'roll_back', from_version = 2 WHERE token = 1",
        "version 2 was promoted after it had been rolled back",
    ),
    "probation without serving": (
        "UPDATE promotion SET confirmed_at = NULL",
        "DELETE FROM incident WHERE closed_at IS NULL",
        "UPDATE incident SET state = 'probation', closed_at = NULL",
        "is on probation, though serving never confirmed it",
    ),
    "a change that serving never confirmed": (
        "UPDATE promotion SET confirmed_at = NULL, at = now() - interval '1 day' WHERE token = 2",
        "(promote), and serving has not confirmed it",
    ),
    "a drill that nobody ended": (
        "UPDATE promotion SET kind = 'drill', at = now() - interval '1 day' WHERE token = 2",
        "by a drill that nobody ended",
    ),
    "nobody was told": (
        "UPDATE incident_event SET at = now() - interval '1 day' WHERE kind = 'opened'",
        "DELETE FROM alert_outbox",
        "nobody was told of event 2 (opened: half drifted)",
    ),
    "a message about nothing": (
        "INSERT INTO alert_outbox (key, model, severity, text, blocks) VALUES ('event:m:99', 'm', 'info', 't', '{}')",
        "message event:m:99 is about an event that is not there",
    ),
    "a message that Slack refuses": (
        "UPDATE alert_outbox SET blocks = blocks || '{\"odd\": true}' WHERE key = 'event:m:1'",
        "message event:m:1 was refused by Slack",
    ),
}


@pytest.mark.parametrize("breach", list(BREACHES))
def test_each_breach_is_said(ledger: Ledger, owner: Engine, life: Incident, breach: str):
    """What only somebody with the owner's rights can do is found, and named."""
    *statements, sentence = BREACHES[breach]
    tamper(owner, *statements)
    found = sentences(ledger)
    assert [each for each in found if sentence in each], found


def test_two_trainings_of_one_model_are_said(ledger: Ledger, owner: Engine):
    """A second incident's training that begins before the first one's has ended is a breach."""
    first_champion(ledger)
    first = claimed(ledger, opened(ledger), State.OPEN, State.RETRAINING, "retrain:1")
    tamper(owner, "DROP INDEX uq_incident_one_open_per_model", f"UPDATE incident SET model = 'x' WHERE id = {first.id}")
    claimed(ledger, opened(ledger), State.OPEN, State.RETRAINING, "retrain:2")
    assert [each for each in sentences(ledger) if "while retrain:1 trains for incident" in each]


def test_a_takeover_is_no_breach(ledger: Ledger, owner: Engine):
    """A training that another run goes on with after the lease is one trainer after the other."""
    first_champion(ledger)
    incident = claimed(ledger, opened(ledger), State.OPEN, State.RETRAINING, "retrain:1")
    tamper(owner, f"UPDATE incident SET lease_until = now() - interval '1 s' WHERE id = {incident.id}")
    claimed(ledger, incident, State.OPEN, State.RETRAINING, "retrain:2")
    assert sentences(ledger) == []


def test_locks_are_counted(ledger: Ledger):
    """The trainer's lock of a model is seen while it is held, and of no other model."""
    for model in ("m", "other"):
        first_champion(ledger, model)
    with only_trainer(ledger.engine, "m"):
        assert read_record(ledger.engine).trainers == {"m": 1, "other": 0}
    assert read_record(ledger.engine).trainers == {"m": 0, "other": 0}


@pytest.fixture
def console(ledger: Ledger, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    shutil.copy(ROOT / "models" / "docs-writer.yaml", settings().models_dir)
    return lambda *arguments: CliRunner().invoke(app, ["verify", "--records-only", *arguments])


def test_the_command_says_what_waits_and_that_all_holds(console, life: Incident):
    """Exit code 0, the open incident with what it waits for, and how much was checked."""
    result = console()
    assert result.exit_code == 0, result.output
    assert f"incident {life.id} is rung for" in result.output
    assert "all invariants hold: 1 models, 2 incidents" in result.output


def test_the_command_fails_with_sentences(console, life: Incident, owner: Engine):
    """Exit code 1 and the sentence, as text and as JSON."""
    tamper(owner, "UPDATE champion SET version = 7")
    result = console("--json")
    said = json.loads(result.output)
    assert (result.exit_code, said["holds"], len(said["broken"])) == (1, False, 1)
    assert "version 7 (token 2) is champion" in console().output
