"""Triage: the pure decision, and the step that records it."""

from dataclasses import replace

import pytest

from datasets_defs.core.conditions import About, Condition
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Action, Cause, HarmKind, State, due
from monitors import scale_gpu
from monitors.incidents.triage_rules import TriageEvidence, triage
from monitors.triage import decide, ring_for
from monitors.verdicts.conclude import conclude
from tests.monitors.loop import MODEL, Loop

ABOUT = {
    "gpu:utilisation_percent": About.CAPACITY, "gpu:memory_used_share": About.CAPACITY,
    "gpu:temperature_celsius": About.MACHINES, "quality:latency_p95_seconds": About.MACHINES,
    "quality:error_share": About.ANSWERS, "quality:unsaid": None,
}  # fmt: skip


def evidence(*signals: str, since: float | None = None, previous: bool = True, left: int = 2) -> TriageEvidence:
    """Make evidence."""
    return TriageEvidence(
        signals=frozenset(signals), about={each: ABOUT.get(each, About.MODEL) for each in signals},
        windows_since_promotion=since, probation_windows=3, has_previous=previous,
        drift=Condition.OK, loss=Condition.OK, attempts_left=left, mean_losses=frozenset({"quality:prompt_loss"}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "cause", "action"),
    [
        (evidence("drift"), Cause.INPUT_SHIFT, Action.WATCH),
        (evidence("drift", "loss"), Cause.INPUT_SHIFT, Action.RETRAIN),
        (evidence("loss"), Cause.QUALITY_LOSS, Action.RETRAIN),
        (evidence("quality:prompt_loss"), Cause.INPUT_SHIFT, Action.WATCH),
        (evidence("quality:my_prompt_loss"), Cause.QUALITY_LOSS, Action.RETRAIN),
        (replace(evidence("quality:prompt_loss"), loss=Condition.NO_DATA), Cause.QUALITY_LOSS, Action.RETRAIN),
        (replace(evidence("quality:prompt_loss"), learning=True), Cause.INPUT_SHIFT, Action.WATCH),
        (replace(evidence("loss", "drift"), harm_kind=HarmKind.SAME), Cause.QUALITY_LOSS, Action.ALERT),
        (replace(evidence("loss", "drift"), harm_kind=HarmKind.NEW), Cause.INPUT_SHIFT, Action.RETRAIN),
        (
            replace(evidence("loss", since=1), harm_kind=HarmKind.SAME),
            Cause.REGRESSION_AFTER_PROMOTION,
            Action.ROLL_BACK,
        ),
        (evidence("data", "loss", "drift"), Cause.DATA_BREAK, Action.QUARANTINE),
        (evidence("gpu:utilisation_percent"), Cause.INFRASTRUCTURE, Action.SCALE),
        (evidence("gpu:memory_used_share", "drift"), Cause.INFRASTRUCTURE, Action.SCALE),
        (evidence("gpu:temperature_celsius"), Cause.INFRASTRUCTURE, Action.ALERT),
        (evidence("quality:latency_p95_seconds"), Cause.INFRASTRUCTURE, Action.ALERT),
        (evidence("quality:error_share", "drift"), Cause.INFRASTRUCTURE, Action.ALERT),
        (evidence("quality:latency_p95_seconds", "gpu:utilisation_percent"), Cause.INFRASTRUCTURE, Action.SCALE),
        (evidence("quality:error_share", "loss"), Cause.QUALITY_LOSS, Action.RETRAIN),
        (evidence("quality:error_share", since=1), Cause.REGRESSION_AFTER_PROMOTION, Action.ROLL_BACK),
        (evidence("quality:error_share", since=-5), Cause.INFRASTRUCTURE, Action.ALERT),
        (evidence("quality:error_share", since=1, previous=False), Cause.INFRASTRUCTURE, Action.ALERT),
        (evidence("quality:latency_p95_seconds", since=1), Cause.INFRASTRUCTURE, Action.ALERT),
        (evidence("quality:unsaid", since=1), Cause.QUALITY_LOSS, Action.ALERT),
        (evidence("quality:unsaid", "drift", "quality:latency_p95_seconds"), Cause.QUALITY_LOSS, Action.ALERT),
        (evidence("quality:unsaid", "loss"), Cause.QUALITY_LOSS, Action.RETRAIN),
        (evidence("loss", since=2), Cause.REGRESSION_AFTER_PROMOTION, Action.ROLL_BACK),
        (evidence("loss", since=-0.5), Cause.REGRESSION_AFTER_PROMOTION, Action.ROLL_BACK),
        (evidence("loss", since=-5), Cause.QUALITY_LOSS, Action.RETRAIN),
        (evidence("loss", since=4), Cause.QUALITY_LOSS, Action.RETRAIN),
        (evidence("loss", since=2, previous=False), Cause.QUALITY_LOSS, Action.RETRAIN),
        (evidence("gpu:utilisation_percent", since=1), Cause.INFRASTRUCTURE, Action.SCALE),
        (evidence("drift", since=1), Cause.INPUT_SHIFT, Action.WATCH),
        (evidence("loss", left=0), Cause.QUALITY_LOSS, Action.ALERT),
        (
            replace(evidence("loss"), previous_champion_better=True),
            Cause.REGRESSION_AFTER_PROMOTION,
            Action.ROLL_BACK,
        ),
    ],
)
def test_decision(given: TriageEvidence, cause: Cause, action: Action) -> None:
    """Each kind of evidence has its cause and action, and a reason in words."""
    decision = triage(given)
    assert (decision.cause, decision.action) == (cause, action)
    assert decision.reason


@pytest.mark.parametrize(
    ("drift", "loss", "action"),
    [
        (Condition.OK, Condition.OK, Action.ALERT),
        (Condition.WARN, Condition.WARN, Action.ALERT),
        (Condition.OK, Condition.NO_DATA, Action.RETRAIN),
        (Condition.NO_DATA, Condition.OK, Action.RETRAIN),
        (Condition.OK, Condition.BAD, Action.RETRAIN),
        (Condition.BAD, Condition.OK, Action.RETRAIN),
    ],
)
def test_labels_that_fall_alone(drift: Condition, loss: Condition, action: Action) -> None:
    """Labels are doubted only when input and loss are known now and neither is beyond its limit."""
    assert triage(replace(evidence("label:good"), drift=drift, loss=loss)).action is action


@pytest.mark.parametrize(
    ("loss", "words"),
    [(Condition.OK, "within its limit"), (Condition.BAD, "not confirmed yet"), (Condition.STALE, "not measured")],
)
def test_a_watched_shift_says_what_is_known_of_the_loss(loss: Condition, words: str) -> None:
    """The reason of a watched shift claims of the loss no more than is known."""
    assert words in triage(replace(evidence("drift"), loss=loss)).reason


def test_machines_never_retrain() -> None:
    """GPU and latency signals, and those that do not say what they speak of, never retrain or roll back."""
    names = ["gpu:temperature_celsius", "gpu:utilisation_percent", "quality:latency_p95_seconds", "quality:unsaid"]
    for number in range(1, 2 ** len(names)):
        chosen = [name for bit, name in enumerate(names) if number >> bit & 1]
        assert triage(evidence(*chosen, since=1)).action in (Action.SCALE, Action.ALERT)


def test_nothing_stands() -> None:
    """Triage without a signal is a mistake of the caller."""
    with pytest.raises(ValueError, match="signal"):
        triage(evidence())


def opened(loop: Loop, *signals: str) -> str:
    """Open an incident on signals that are bad now; give a key."""
    for signal in signals:
        loop.verdict(1, signal, Condition.BAD)
        incident, _ = loop.ledger.open_incident(
            MODEL, signal=signal, degraded_since=loop.window(1).start, reason="r", evidence={"x": 1}, actor="t"
        )
    return str(loop.ledger.ring(incident.id))


def run(loop: Loop, key: str, number: int = 1) -> dict[str, object]:
    """Decide at a window."""
    return decide(key, db=loop.db, actor="triage:t", now=loop.until(number))


def test_decided_once_rung_again(loop: Loop) -> None:
    """A retrain is recorded once; a retried task and a second wake-up give the same answer without a new event."""
    loop.champion()
    key = opened(loop, "drift", "loss")
    first = run(loop, key)
    assert first["action"] == "retrain"
    events = loop.kinds()
    assert run(loop, key) == first
    assert loop.kinds() == events == ["opened", "evidence", "progress"]
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    assert (incident.cause, incident.action) == (Cause.INPUT_SHIFT, Action.RETRAIN)
    assert ring_for(first, Action.ROLL_BACK, db=loop.db).ring is None
    rung = ring_for(first, Action.RETRAIN, db=loop.db).ring
    assert rung is not None
    assert str(rung) != key


def test_watch_waits_and_joins(loop: Loop) -> None:
    """A harmless shift stays open and is not due for a day; when harm joins, triage decides anew at once."""
    loop.champion()
    key = opened(loop, "drift")
    assert run(loop, key)["action"] == "watch"
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    assert due(incident, loop.until(20), loop.length) is None
    assert incident.not_before == loop.until(1) + 24 * loop.length
    assert run(loop, opened(loop, "loss"))["action"] == "retrain"
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    assert incident.not_before is None


@pytest.mark.parametrize(
    ("signal", "action", "state"),
    [("data", "quarantine", State.QUARANTINED), ("quality:latency_seconds", "alert", State.ESCALATED)],
)
def test_moves(loop: Loop, signal: str, action: str, state: State) -> None:
    """Broken data is quarantined and machines go to a person; asked again, the same is said."""
    loop.spec(quality=[{"name": "latency_seconds", "promql": "x", "bad": 1}])
    loop.champion()
    key = opened(loop, signal)
    assert run(loop, key)["action"] == action
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    assert incident.state is state
    events = loop.kinds()
    assert run(loop, key)["action"] == action
    assert loop.kinds() == events


def test_rejected_gets_another_attempt_then_a_person(loop: Loop) -> None:
    """A rejected incident is taken up again when its time has come, until no attempt is left."""
    loop.champion()
    key = opened(loop, "loss")
    for attempt, expected in ((1, "retrain"), (2, "none")):
        ring = loop.ledger.ring(1)
        claim = loop.ledger.claim(ring, frm={State.OPEN}, to=State.RETRAINING, actor="t", lease=loop.length, reason="r")
        assert claim.incident is not None
        incident = loop.ledger.move(claim.incident, State.EVALUATING, actor="t", reason="r")
        loop.ledger.move(incident, State.REJECTED, actor="t", reason="r", not_before=loop.window(3).start)
        assert run(loop, key, 1)["action"] == "none"
        assert run(loop, key, 3)["action"] == expected, attempt
    assert loop.ledger.incident(1).state is State.ESCALATED


def test_waits_for_the_next_attempt(loop: Loop) -> None:
    """An inconclusive attempt's waiting time is kept."""
    loop.champion()
    key = opened(loop, "loss")
    run(loop, key)
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    loop.ledger.move(incident, State.OPEN, actor="t", reason="r", not_before=loop.window(5).start)
    assert run(loop, key, 2)["action"] == "none"
    assert run(loop, key, 5)["action"] == "retrain"


def test_quiet_signals_do_not_count(loop: Loop) -> None:
    """Data that is whole again no longer quarantines; an incident whose signals are all quiet does nothing."""
    loop.champion()
    key = opened(loop, "data", "loss")
    for number in range(2, 8):
        loop.verdict(number, "data", Condition.OK)
        loop.verdict(number, "loss", Condition.BAD)
    assert run(loop, key, 7)["action"] == "retrain"
    for number in range(8, 14):
        loop.verdict(number, "data", Condition.OK)
        loop.verdict(number, "loss", Condition.OK)
    assert run(loop, key, 13)["action"] == "none"


def test_held_is_left_alone(loop: Loop) -> None:
    """While a rollback is at work on an open incident, triage does not decide anew on the champion half changed."""
    loop.champion()
    key = opened(loop, "loss")
    loop.ledger.claim(
        loop.ledger.ring(1), frm={State.OPEN}, to=State.OPEN, actor="roll_back:1", lease=loop.length, reason="r"
    )
    assert run(loop, key)["reason"] == "incident 1 is in the hands of roll_back:1"
    assert loop.kinds() == ["opened", "claimed"]


def test_harm_that_returns_is_not_watched(loop: Loop) -> None:
    """A loss that went quiet and is back rings at once: the patience of a day was for the shift alone."""
    spec = loop.spec()
    loop.champion()
    key = opened(loop, "drift", "loss")
    for number in range(2, 8):
        loop.verdict(number, "drift", Condition.BAD)
        loop.verdict(number, "loss", Condition.OK)
    assert run(loop, key, 7)["action"] == "watch"
    loop.verdict(8, "loss", Condition.BAD)
    rules = {"drift": spec.drift.confirm, "loss": spec.drift.confirm}
    verdicts = [loop.verdict(9, "drift", Condition.BAD), loop.verdict(9, "loss", Condition.BAD)]
    outcome = conclude(verdicts, rules, blind_after=3, db=loop.db, actor="t")
    assert outcome.ring is not None
    assert run(loop, str(outcome.ring), 9)["action"] == "retrain"
    assert conclude(verdicts, rules, blind_after=3, db=loop.db, actor="t").ring is None


def test_a_late_wake_up_asks_for_no_capacity(loop: Loop) -> None:
    """What triage no longer asks for is not asked for, and the incident is as it was."""
    loop.champion()
    key = opened(loop, "loss")
    assert run(loop, key)["action"] == "retrain"
    assert "no longer scale" in scale_gpu.scale_gpu(key, db=loop.db, actor="t").reason
    assert loop.ledger.incident(1).state is State.OPEN


def test_soon_after_a_promotion(loop: Loop) -> None:
    """A model that turns bad in the windows after a promotion goes back to the version before."""
    loop.champion(1)
    loop.champion(2, since=loop.window(0).start, kind="promote")
    loop.verdict(1, "loss", Condition.BAD, version=2)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    assert run(loop, str(loop.ledger.ring(incident.id)))["action"] == "roll_back"


def test_closed_or_unknown(loop: Loop) -> None:
    """A late wake-up of a closed incident does nothing; a key that is none is an error."""
    key = opened(loop, "loss")
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    loop.ledger.move(incident, State.RESOLVED, actor="t", reason="r")
    assert run(loop, key)["action"] == "none"
    with pytest.raises(ContractError, match="partition key"):
        run(loop, "nonsense")
