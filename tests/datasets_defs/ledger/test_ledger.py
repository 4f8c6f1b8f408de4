"""The ledger on real PostgreSQL: moves, claims, history, champions."""

import contextlib
import multiprocessing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import TERMINAL, TRANSITIONS, State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.database import engine_for

SINCE = datetime(2026, 5, 1, tzinfo=UTC)
LEASE = timedelta(seconds=60)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


def opened(ledger: Ledger, model: str = "m", signal: str = "drift"):
    return ledger.open_incident(
        model, signal=signal, degraded_since=SINCE, reason="half the columns drifted", evidence={"x": 1.5}, actor="t"
    )


def test_a_model_has_one_open_incident(engine: Engine):
    """A second confirmation joins the open incident; its signal becomes an event of its own, once."""
    ledger = Ledger(engine)
    first, new = opened(ledger)
    second, again = opened(ledger, signal="loss")
    opened(ledger, signal="loss")
    assert (new, again) == (True, False)
    assert first.id == second.id
    assert {"drift", "loss"} == set(second.evidence)
    assert [event.kind for event in ledger.events("m")] == ["opened", "evidence"]


def test_an_ended_incident_makes_room_for_the_next(engine: Engine):
    """After its end, the model's next confirmation opens another incident."""
    ledger = Ledger(engine)
    first, _ = opened(ledger)
    ledger.move(first, State.RESOLVED, actor="t", reason="quiet")
    second, new = opened(ledger)
    assert new
    assert second.id != first.id
    assert first.id == ledger.last_closed("m").id


@pytest.mark.parametrize("frm", list(State))
def test_only_the_table_of_transitions_is_allowed(engine: Engine, frm: State):
    """Every move outside the table is refused and leaves the incident as it was."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    with engine.begin() as on:
        on.execute(text("UPDATE incident SET state = :state WHERE id = :id"), {"state": frm, "id": incident.id})
    incident = ledger.incident(incident.id)
    for to in set(State) - TRANSITIONS[frm] - {frm}:
        with pytest.raises(ContractError, match="not an allowed move"):
            ledger.move(incident, to, actor="t", reason="no")
    assert frm is ledger.incident(incident.id).state


def test_terminal_states_lead_nowhere():
    """What has ended stays ended, and every other state can end."""
    assert all(not TRANSITIONS[state] for state in TERMINAL)
    assert all(TRANSITIONS[state] for state in set(State) - TERMINAL)


def test_a_claim_is_exclusive_until_its_lease_ends(engine: Engine):
    """The holder may claim again (a retried task); anybody else only after the lease has run out."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    key = ledger.ring(incident.id)
    take = {"frm": {State.OPEN}, "to": State.RETRAINING, "reason": "due"}
    first = ledger.claim(key, actor="run-1", lease=LEASE, **take).incident
    assert ledger.claim(key, actor="run-2", lease=LEASE, **take).incident is None
    again = ledger.claim(key, actor="run-1", lease=timedelta(0), **take).incident
    taken_over = ledger.claim(key, actor="run-2", lease=LEASE, **take).incident
    assert [first.token, again.token, taken_over.token] == [1, 2, 3]
    assert taken_over.attempt == 1


def test_a_holder_that_was_replaced_can_no_longer_write(engine: Engine):
    """The fencing token stops a zombie: it can neither renew nor move."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    key = ledger.ring(incident.id)
    take = {"frm": {State.OPEN}, "to": State.RETRAINING, "reason": "due"}
    zombie = ledger.claim(key, actor="run-1", lease=timedelta(0), **take).incident
    ledger.claim(key, actor="run-2", lease=LEASE, **take)
    with pytest.raises(ContractError, match="taken over"):
        ledger.renew(zombie, LEASE)
    with pytest.raises(ContractError, match="must stop"):
        ledger.move(zombie, State.EVALUATING, actor="run-1", reason="done")


def test_a_holder_hears_that_a_person_ended_the_incident(engine: Engine):
    """A training that runs while somebody resolves its incident by hand stops at its next sign of life."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    key = ledger.ring(incident.id)
    held = ledger.claim(key, frm={State.OPEN}, to=State.RETRAINING, actor="r", lease=LEASE, reason="due").incident
    ledger.renew(held, LEASE)
    assert held.holder(datetime.now(UTC)) == "r"
    assert held.holder(datetime.now(UTC) + 2 * LEASE) is None
    escalated = ledger.move(held, State.ESCALATED, actor="cli:ann", reason="mine")
    ledger.move(escalated, State.RESOLVED, actor="cli:ann", reason="mine")
    with pytest.raises(ContractError, match="is resolved; this one must stop"):
        ledger.renew(held, LEASE)


def test_a_claim_in_another_state_says_why_not(engine: Engine):
    """A late wake-up finds the work done and is told so."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    ledger.move(incident, State.RESOLVED, actor="t", reason="quiet")
    key = ledger.ring(incident.id)
    claim = ledger.claim(key, frm={State.OPEN}, to=State.RETRAINING, actor="r", lease=LEASE, reason="due")
    assert claim.incident is None
    assert "is resolved; this step needs open" in claim.reason


def test_no_key_is_rung_twice(engine: Engine):
    """Every wake-up has a key of its own."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    keys = [str(ledger.ring(incident.id)) for _ in range(5)]
    assert [f"m|{incident.id}|{ring}" for ring in range(1, 6)] == keys


def _race(url: str, number: int, incident_id: int, results) -> None:
    ledger = Ledger(engine_for(url))
    key = ledger.ring(incident_id)
    claim = ledger.claim(key, frm={State.OPEN}, to=State.RETRAINING, actor=f"run-{number}", lease=LEASE, reason="due")
    results.put((number, claim.incident is not None))


@pytest.mark.slow
def test_of_many_claimants_one_wins(engine: Engine, database_url: str):
    """Five processes claim the same step at once: exactly one gets it, and the chain of events is whole."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    results = FORKS.Queue()
    processes = [FORKS.Process(target=_race, args=(database_url, number, incident.id, results)) for number in range(5)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert sum(won for _, won in outcomes) == 1
    assert ledger.verify("m") == []


PROCESSES, ROUNDS, NOTES = 6, 8, 3


def _storm(url: str, number: int, barrier, results) -> None:
    """Do, at the same moment as all the others, everything that only one of them may succeed at."""
    ledger = Ledger(engine_for(url))
    won = {"opened": 0, "claimed": 0, "champion": 0, "moved": 0}
    for turn in range(ROUNDS):
        model = f"m{turn}"
        barrier.wait(timeout=120)
        incident, new = opened(ledger, model)
        won["opened"] += new
        key, lease = ledger.ring(incident.id), {"actor": f"run-{number}", "lease": LEASE, "reason": "due"}
        held = ledger.claim(key, frm={State.OPEN}, to=State.RETRAINING, **lease).incident
        won["claimed"] += held is not None
        for say in range(NOTES):
            ledger.note(model, "note", f"{number} says {say}", {"said": say}, actor="t")
        with contextlib.suppress(ContractError):
            ledger.change_champion(model, expected=None, to=number + 1, kind="bootstrap", reason="first", actor="t")
            won["champion"] += 1
        barrier.wait(timeout=120)
        known = ledger.open_of(model)
        barrier.wait(timeout=120)
        with contextlib.suppress(ContractError):
            ledger.move(known, State.ESCALATED, actor=f"run-{number}", reason="enough")
            won["moved"] += 1
    results.put(won)


def test_many_processes_at_once(engine: Engine, database_url: str):
    """Of six processes that open, claim, promote and move at once one wins each time; no event of theirs is lost."""
    ledger = Ledger(engine)
    results, barrier = FORKS.Queue(), FORKS.Barrier(PROCESSES)
    processes = [
        FORKS.Process(target=_storm, args=(database_url, number, barrier, results)) for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=240) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    for what in ("opened", "claimed", "champion", "moved"):
        assert (what, sum(won[what] for won in outcomes)) == (what, ROUNDS)
    for turn in range(ROUNDS):
        kinds = [event.kind for event in ledger.events(f"m{turn}")]
        assert ledger.verify(f"m{turn}") == []
        assert sorted(kinds) == sorted(["opened", "moved", "champion", "moved", *["note"] * NOTES * PROCESSES])
        assert ledger.open_of(f"m{turn}").rings == PROCESSES


def test_a_champion_changes_only_from_the_expected_version(engine: Engine):
    """The compare-and-set of the champion: the second promoter is told who serves."""
    ledger = Ledger(engine)
    first = ledger.change_champion("m", expected=None, to=1, kind="bootstrap", reason="first", actor="t")
    second = ledger.change_champion("m", expected=1, to=2, kind="promote", reason="better", actor="t")
    with pytest.raises(ContractError, match="version 2 serves, not 1"):
        ledger.change_champion("m", expected=1, to=3, kind="promote", reason="better", actor="t")
    back = ledger.change_champion("m", expected=2, to=1, kind="roll_back", reason="worse", actor="t")
    assert [(c.version, c.previous_version) for c in (first, second, back)] == [(1, None), (2, 1), (1, None)]
    assert [c.token for c in (first, second, back)] == [1, 2, 3]


def test_the_previous_good_champion_stays_in_reach(engine: Engine):
    """After v1, v2 (good), v3 and back to v2, a rollback goes to v1; a drill changes nothing about that."""
    ledger = Ledger(engine)
    changes = [
        (None, 1, "bootstrap", None), (1, 2, "promote", 1), (2, 3, "promote", 2), (3, 2, "revert", 1),
        (2, 1, "drill", None), (1, 2, "drill_end", 1), (2, 4, "promote", 2), (4, 2, "roll_back", 1),
        (2, 1, "roll_back", None),
    ]  # fmt: skip
    for token, (expected, to, kind, previous) in enumerate(changes, start=1):
        champion = ledger.change_champion("m", expected=expected, to=to, kind=kind, reason=kind, actor="t")
        assert (token, champion.previous_version) == (token, previous)
        assert ledger.is_promoted(champion) is (token in (2, 3, 7)), kind
    assert ledger.champion_at("m", ledger.champion("m").since).previous_version == 1


REWRITINGS = (
    "UPDATE incident_event SET reason = 'fine'",
    "DELETE FROM incident_event",
    "TRUNCATE incident_event",
)


@pytest.mark.parametrize("statement", REWRITINGS)
def test_the_history_cannot_be_rewritten(engine: Engine, owner: Engine, statement: str):
    """The loop's role is denied it; even the owner is refused as long as the triggers stand."""
    opened(Ledger(engine))
    with pytest.raises(DBAPIError, match="permission denied"), engine.begin() as on:
        on.execute(text(statement))
    with pytest.raises(DBAPIError, match="append-only"), owner.begin() as on:
        on.execute(text(statement))


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        pytest.param("UPDATE incident_event SET reason = 'fine' WHERE seq = 2", "was altered", id="altered"),
        pytest.param("DELETE FROM incident_event WHERE seq = 2", "event 2 is missing", id="removed"),
        pytest.param("UPDATE incident_event SET evidence = '{}' WHERE seq = 1", "was altered", id="evidence"),
        pytest.param("DELETE FROM incident_event WHERE seq = 3", "the newest event 3 is missing", id="cut short"),
        pytest.param("DELETE FROM incident_event", "the newest events 1 to 3 are missing", id="all gone"),
        pytest.param("UPDATE history_head SET seq = 2", "not the newest that was written", id="head moved back"),
        pytest.param("DELETE FROM history_head", "its record was deleted", id="head gone"),
    ],
)
def test_tampering_is_found(engine: Engine, owner: Engine, tamper: str, problem: str):
    """Whoever gets past the database's guard still breaks the chain of hashes."""
    ledger = Ledger(engine)
    incident, _ = opened(ledger)
    incident = ledger.move(incident, State.ESCALATED, actor="t", reason="stuck", evidence={"a": [1.0, 2.5, None]})
    ledger.move(incident, State.RESOLVED, actor="t", reason="by hand")
    assert ledger.verify("m") == []
    with owner.begin() as on:
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER append_only"))
        on.execute(text(tamper))
    assert problem in " ".join(ledger.verify("m"))


def test_a_history_that_was_cut_short_goes_on_and_keeps_the_gap(engine: Engine, owner: Engine):
    """Tampering stops no work: what happens next is appended after the gap, which shows for good."""
    ledger = Ledger(engine)
    for number in range(3):
        ledger.note("m", "note", f"note {number}", {}, actor="t")
    with owner.begin() as on:
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER append_only"))
        on.execute(text("DELETE FROM incident_event WHERE seq > 1"))
    assert ledger.note("m", "note", "on we go", {}, actor="t").seq == 4
    assert ledger.verify("m") == ["m event 4: event 2 is missing"]


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_an_event_that_does_not_follow_is_refused(engine: Engine, seq: int):
    """Who writes past the ledger, with the loop's own role, can neither fork a chain nor leave a gap in it."""
    ledger = Ledger(engine)
    for number in range(2):
        ledger.note("m", "note", f"note {number}", {}, actor="t")
    forged = (
        "INSERT INTO incident_event (model, seq, at, kind, actor, reason, evidence, prev_hash, hash) "
        "VALUES ('m', :seq, now(), 'note', 'x', 'x', '{}', :prev, 'x')"
    )
    with pytest.raises(DBAPIError), engine.begin() as on:
        on.execute(text(forged), {"seq": seq, "prev": "0" * 64})
    assert ledger.verify("m") == []
    assert len(ledger.events("m")) == 2


def test_what_json_cannot_hold_does_not_break_the_chain(engine: Engine):
    """NaN, NUL, lone surrogates, huge and tiny numbers survive the way through JSONB with their hash."""
    ledger = Ledger(engine)
    odd = {"nan": float("nan"), "nul": "a\x00b", "lone": "\ud800", "huge": 1e22, "tiny": 1e-12, "whole": 3.0, "ü": "ß"}
    ledger.note("m", "note", "odd\x00", odd, actor="t")
    assert ledger.verify("m") == []
