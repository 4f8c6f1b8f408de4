"""The ledger on real PostgreSQL against a model of it in plain Python, over random histories of many actors."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, text

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import TERMINAL, TRANSITIONS, Incident, State
from datasets_defs.ledger.ledger import Ledger

SINCE = datetime(2026, 5, 1, tzinfo=UTC)
LONG = timedelta(hours=1)
NUMBERS = count(1)
"""Each history has a model of its own, so that all share one database."""

actors = st.sampled_from(["run-1", "run-2", "run-3"])
signals = st.sampled_from(["drift", "loss", "quality:latency"])
states = st.sampled_from(sorted(State))
picks = st.integers(0, 1000)


@dataclass
class Expected:
    """What one incident should be."""

    id: int
    state: State = State.OPEN
    token: int = 0
    attempt: int = 0
    rings: int = 0
    claimed_by: str | None = None
    leased: bool = False
    signals: set[str] = field(default_factory=set)


class CrashError(Exception):
    """The process dies before its transaction commits."""


class LedgerMachine(RuleBasedStateMachine):
    """Many runs, sensors and people do whatever they like to one model, with knowledge new and old."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(self.engine)
        self.model = f"m{next(NUMBERS)}"
        self.incidents: list[Expected] = []
        self.known: list[Incident] = []
        """Everything that any actor ever read: zombies go on acting on it."""
        self.events = 0

    @property
    def present(self) -> Expected | None:
        """The open incident, as expected."""
        return next((each for each in self.incidents if each.state not in TERMINAL), None)

    def has_known(self) -> bool:
        """Whether anything was ever read."""
        return bool(self.known)

    @rule(signal=signals)
    def open(self, signal: str) -> None:
        """A sensor confirms a signal: a new incident, or evidence of the open one, each told once."""
        incident, new = self.ledger.open_incident(
            self.model, signal=signal, degraded_since=SINCE, reason="r", evidence={"x": 1}, actor="sensor"
        )
        present = self.present
        assert new == (present is None)
        if present is None:
            present = Expected(id=incident.id)
            self.incidents.append(present)
        assert incident.id == present.id
        self.events += signal not in present.signals
        present.signals.add(signal)
        self.known.append(incident)

    @precondition(has_known)
    @rule(pick=picks)
    def ring(self, pick: int) -> None:
        """Every wake-up has a key that was never given before."""
        expected = self.incidents[pick % len(self.incidents)]
        expected.rings += 1
        assert self.ledger.ring(expected.id).ring == expected.rings

    @precondition(has_known)
    @rule(pick=picks, actor=actors, frm=states, to=states)
    def claim(self, pick: int, actor: str, frm: State, to: State) -> None:
        """A claim is granted in the right state, and to one actor at a time."""
        expected = self.incidents[pick % len(self.incidents)]
        key = RingKey(self.model, expected.id, expected.rings)
        if to not in (TRANSITIONS[frm] | {frm}) - TERMINAL:
            with pytest.raises(ContractError, match="not a step that can be claimed"):
                self.ledger.claim(key, frm={frm}, to=to, actor=actor, lease=LONG, reason="r")
            return
        claim = self.ledger.claim(key, frm={frm}, to=to, actor=actor, lease=LONG, reason="r")
        held = expected.leased and expected.claimed_by != actor
        assert (claim.incident is not None) == (expected.state in (frm, to) and not held)
        if claim.incident is None:
            return
        expected.attempt += to is State.RETRAINING and expected.state is not State.RETRAINING
        expected.state, expected.claimed_by, expected.leased = to, actor, True
        expected.token += 1
        self.events += 1
        self.known.append(claim.incident)

    @precondition(has_known)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        """Who holds the newest token in the same state holds on; anybody else is told to stop."""
        known = self.known[pick % len(self.known)]
        expected = self.expected_of(known)
        if self.is_current(known):
            self.ledger.renew(known, LONG)
            expected.leased = True
        else:
            with pytest.raises(ContractError, match="must stop"):
                self.ledger.renew(known, LONG)

    @precondition(has_known)
    @rule(pick=picks, to=states, crash=st.booleans())
    def move(self, pick: int, to: State, crash: bool) -> None:  # noqa: FBT001 drawn
        """A move needs an allowed arrow and knowledge that is not out of date; a crash before the end undoes it all."""
        known = self.known[pick % len(self.known)]
        expected = self.expected_of(known)
        allowed = to is known.state or to in TRANSITIONS[known.state]
        if not (allowed and self.is_current(known)):
            with pytest.raises(ContractError):
                self.ledger.move(known, to, actor="run", reason="r")
            return
        if crash:
            with pytest.raises(CrashError):
                self.die_after_moving(known, to)
            return
        moved = self.ledger.move(known, to, actor="run", reason="r")
        expected.token += 1  # who read it before must not write over this
        expected.state, expected.claimed_by, expected.leased = to, None, False
        self.events += 1
        self.known.append(moved)

    @precondition(has_known)
    @rule(pick=picks)
    def expire(self, pick: int) -> None:
        """A holder dies, or stands still: its lease runs out."""
        expected = self.incidents[pick % len(self.incidents)]
        with self.engine.begin() as on:
            on.execute(
                text("UPDATE incident SET lease_until = now() - interval '1 second' "
                     "WHERE id = :id AND lease_until IS NOT NULL"),
                {"id": expected.id},
            )  # fmt: skip
        expected.leased = False

    @invariant()
    def agrees(self) -> None:
        """Each incident is what the model says, one at most is open, and the history is whole and complete."""
        for expected in self.incidents:
            found = self.ledger.incident(expected.id)
            assert replace(expected, signals=set(), leased=False) == Expected(
                found.id, found.state, found.token, found.attempt, found.rings, found.claimed_by
            )
            assert set(found.evidence) == expected.signals
            assert (found.closed_at is not None) == (found.state in TERMINAL)
        present = self.ledger.open_of(self.model)
        assert (present.id if present else None) == (self.present.id if self.present else None)
        assert len(self.ledger.events(self.model)) == self.events
        assert self.ledger.verify(self.model) == []

    def die_after_moving(self, known: Incident, to: State) -> None:
        """Move, and die before the commit."""
        with self.ledger.transaction() as on:
            self.ledger.move(known, to, actor="run", reason="r", connection=on)
            raise CrashError

    def expected_of(self, known: Incident) -> Expected:
        """Find the incident that somebody knows about."""
        return next(each for each in self.incidents if each.id == known.id)

    def is_current(self, known: Incident) -> bool:
        """Say whether nothing happened since it was read that its reader would have to know."""
        expected = self.expected_of(known)
        return (expected.state, expected.token) == (known.state, known.token)


@pytest.fixture
def machine(engine: Engine) -> type[LedgerMachine]:
    """The machine, on a fresh database."""
    return type("Machine", (LedgerMachine,), {"engine": engine})


def test_the_ledger_is_its_model(machine: type[LedgerMachine]):
    """Over random histories the ledger does what its model says, and refuses what its model refuses."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
