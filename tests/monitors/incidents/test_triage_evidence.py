"""Triage's evidence: the step and the dry run decide the same, and nothing stale is claimed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import Action, State
from datasets_defs.spec.files import spec_of
from datasets_defs.store.shadow_log import ShadowScore, save_shadow_scores
from monitors.dry_run import Check, check
from monitors.incidents.triage_evidence import condition_now
from monitors.prometheus.client import PrometheusClient
from monitors.triage import decide
from monitors.verdicts.conclude import conclude
from monitors.verdicts.rules import rule_of
from ops.stack.ports import free_port
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()
NOW = 3
"""Number of the window that is judged."""


def prepared(loop: Loop, *, serving: int = 1) -> None:
    """Log two windows that shifted and cost more; the first of them has been judged."""
    loop.reference(OLD[:400], version=serving)
    for number in (NOW - 1, NOW):
        loop.traffic(number, NEW[100 * number : 100 * number + 100], version=serving, loss=4.5)


def promoted(loop: Loop, at: datetime) -> None:
    """Make version 2 the champion after version 1."""
    loop.champion(1)
    loop.champion(2, since=at, kind="promote")


def shadow(loop: Loop, ratio: float) -> None:
    """Score version 2 and the one before on the same prompts; above 1 version 2 costs more."""
    save_shadow_scores(
        loop.db,
        [
            ShadowScore(
                model=MODEL, champion_version=2, previous_version=1, request_id=f"s{n}", at=loop.window(NOW).start,
                user_id=None, bytes=100, champion_bits=100 * (ratio + 0.01 * (n % 5 - 2)), previous_bits=100.0,
            )
            for n in range(60)
        ],
    )  # fmt: skip


def first_champion(loop: Loop) -> None:
    """Nothing but a shift that costs."""
    loop.champion()
    prepared(loop)


def soon_after_a_promotion(loop: Loop) -> None:
    """Both bad windows lie after a promotion."""
    promoted(loop, loop.window(NOW - 1).start)
    prepared(loop, serving=2)


def bad_before_the_promotion(loop: Loop) -> None:
    """The bad window that was kept lies well before the promotion: the promotion did not bring it."""
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "confirm": {"bad": 2, "of": 6}})
    promoted(loop, loop.window(NOW).start)
    prepared(loop, serving=2)
    for signal in ("drift", "loss"):
        loop.verdict(0, signal, Condition.BAD, version=2)


def the_one_before_is_better(loop: Loop) -> None:
    """Long after a promotion, what both were scored on says that the one before costs less."""
    promoted(loop, loop.window(-20).start)
    prepared(loop, serving=2)
    shadow(loop, 1.2)


def the_one_before_is_worse(loop: Loop) -> None:
    """Soon after a promotion, what both were scored on says that the champion is the better one."""
    promoted(loop, loop.window(NOW - 1).start)
    prepared(loop, serving=2)
    shadow(loop, 0.8)


def a_signal_stands(loop: Loop) -> None:
    """Broken data of an open incident stands, though this window's is whole."""
    loop.champion()
    prepared(loop)
    loop.verdict(0, "data", Condition.BAD)
    loop.ledger.open_incident(
        MODEL, signal="data", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )


def no_attempt_is_left(loop: Loop) -> None:
    """The open incident has used up its attempts."""
    loop.champion()
    prepared(loop)
    loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    for _ in range(2):
        claim = loop.ledger.claim(
            loop.ledger.ring(1), frm={State.OPEN}, to=State.RETRAINING, actor="t", lease=loop.length, reason="r"
        )
        assert claim.incident is not None
        loop.ledger.move(claim.incident, State.OPEN, actor="t", reason="r")


def dry_run(loop: Loop) -> Check:
    """Check the window."""
    unreachable = PrometheusClient(f"http://127.0.0.1:{free_port()}")
    return check(MODEL, until=loop.until(NOW), db=loop.db, prometheus=unreachable)


def sensed(loop: Loop, verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    """Let the sensors conclude on these verdicts, and triage the incident."""
    spec = spec_of(MODEL)
    rules = {each.signal: rule for each in verdicts if (rule := rule_of(spec, each.signal)) is not None}
    conclude([each for each in verdicts if each.signal in rules], rules, blind_after=9, db=loop.db, actor="t")
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    return decide(str(loop.ledger.ring(incident.id)), db=loop.db, actor="t", now=loop.until(NOW))


@pytest.mark.parametrize(
    ("situation", "action"),
    [
        (first_champion, Action.RETRAIN),
        (soon_after_a_promotion, Action.ROLL_BACK),
        (bad_before_the_promotion, Action.RETRAIN),
        (the_one_before_is_better, Action.ROLL_BACK),
        (the_one_before_is_worse, Action.RETRAIN),
        (a_signal_stands, Action.QUARANTINE),
        (no_attempt_is_left, Action.ALERT),
    ],
)
def test_the_dry_run_decides_as_the_step(loop: Loop, situation: Callable[[Loop], None], action: Action) -> None:
    """What the dry run says of a window is what triage decides once the sensors have confirmed it."""
    situation(loop)
    if situation is not bad_before_the_promotion:
        for signal in ("drift", "loss"):
            champion = loop.ledger.champion(MODEL)
            assert champion is not None
            loop.verdict(NOW - 1, signal, Condition.BAD, version=champion.version)
    said = dry_run(loop)
    assert said.decision is not None
    decided = sensed(loop, said.verdicts)
    assert (said.decision.action, said.decision.reason) == (decided["action"], decided["reason"])
    assert said.decision.action is action


def test_nothing_stands(loop: Loop) -> None:
    """With nothing bad and no incident there is nothing to decide."""
    loop.champion()
    assert (dry_run(loop).decision, dry_run(loop).held) == (None, None)


def test_an_incident_that_triage_leaves_alone(loop: Loop) -> None:
    """While an incident is being retrained the dry run decides nothing, as the step does not, and says why."""
    first_champion(loop)
    loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    loop.ledger.claim(
        loop.ledger.ring(1), frm={State.OPEN}, to=State.RETRAINING, actor="t", lease=-loop.length, reason="r"
    )
    assert (dry_run(loop).decision, dry_run(loop).held) == (None, "incident 1 is retraining")


@pytest.mark.parametrize(
    ("age", "action"), [(0, Action.ALERT), (1, Action.ALERT), (2, Action.RETRAIN), (72, Action.RETRAIN)]
)
def test_an_old_loss_is_not_claimed(loop: Loop, age: int, action: Action) -> None:
    """A loss that was OK days ago does not make labels doubtful: only a current one does."""
    loop.spec(labels=[{"name": "good"}])
    loop.champion(since=loop.window(-100).start)
    for signal in ("drift", "loss"):
        loop.verdict(NOW - age, signal, Condition.OK)
    loop.verdict(NOW, "label:good", Condition.BAD)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="label:good", degraded_since=loop.window(NOW).start, reason="r", evidence={}, actor="t"
    )
    decided = decide(str(loop.ledger.ring(incident.id)), db=loop.db, actor="t", now=loop.until(NOW))
    assert decided["action"] == action


def test_what_counts_as_current(loop: Loop) -> None:
    """Verdicts that wait are passed over, a gap or another champion ends the knowledge."""
    loop.spec()
    window = loop.window(NOW)
    known = loop.verdict(NOW - 3, "loss", Condition.OK)
    waits = [loop.verdict(NOW - n, "loss", Condition.NO_DATA, evidence={"waits": True}) for n in (0, 1, 2)]
    assert condition_now([*waits, known], window, 1) is Condition.OK
    assert condition_now([waits[0], known], window, 1) is Condition.NO_DATA
    assert condition_now([replace(known, window=window)], window, 2) is Condition.NO_DATA
    assert condition_now([], window, 1) is Condition.NO_DATA
