"""Judges an open rollout: reads what both versions' users got, and writes down how it goes on."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.fleet import Done, for_each
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pauses
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.rollout import RolloutSpec
from monitors.incidents.arms import ArmsComparison
from monitors.incidents.divided import Division, compare_division
from monitors.incidents.rollout_decision import RolloutStep, RolloutVerdict, decide_step


def judge_open_rollouts(*, now: datetime, db: Engine, actor: str) -> Done:
    """Judge the rollout of every model that is in one; one that fails stops no other.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return for_each(Ledger(db).models_in(State.ROLLOUT), judge_open_rollout, now=now, db=db, actor=actor)


def judge_open_rollout(model: str, *, now: datetime, db: Engine, actor: str) -> Outcome:
    """Judge the model's rollout, if it is in one, and write down how it goes on; nothing is rung.

    What is surely worse answers nobody from the same transaction on that ends the incident. Done again it decides on
    what it finds then. A paused model's rollout stays as it is.

    Raises:
        ContractError: the spec is wrong, or incident or route moved on meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger, spec = Ledger(db), spec_of(model)
    incident, route = ledger.open_of(model), ledger.route(model)
    if incident is None or incident.state is not State.ROLLOUT or route is None or route.ending:
        return Outcome(f"{model} is in no rollout")
    if model in pauses(db, now):
        return Outcome(f"{model} is paused; {_stands(route)}")
    plan = spec.steps
    if plan is None:
        reason = f"version {route.challenger_version} goes back: the YAML has neither `rollout` nor `ab` any more"
        return _take_back(ledger, incident, State.ESCALATED, reason, {}, actor=actor)
    if route.since is None:
        return Outcome(f"{model}: step {route.step + 1} is being prepared; {_stands(route)}")
    comparison = compare_users(db, spec, plan, route)
    verdict = decide_step(comparison, plan, windows=int((now - route.since) / settings().window_length))
    return _carry_out(ledger, incident, route, verdict, comparison, actor=actor)


def compare_users(db: Engine, spec: ModelSpec, plan: RolloutSpec, route: Route) -> ArmsComparison:
    """Compare what both versions' users got since the present step began; too few where it has not begun.

    Raises:
        TransientError: PostgreSQL is away.
    """
    present = Division(
        champion=route.champion_version, challenger=route.challenger_version, incident_id=route.incident_id,
        step=route.step, since=route.since,
    )  # fmt: skip
    return compare_division(db, spec, plan, present)


def _carry_out(
    ledger: Ledger, incident: Incident, route: Route, verdict: RolloutVerdict, comparison: ArmsComparison, *, actor: str
) -> Outcome:
    reason = f"version {route.challenger_version} with {route.share:.0%} of users: {verdict.reason}"
    told = {"rollout": {name: asdict(measure) for name, measure in comparison.measures.items()}, "share": route.share}
    match verdict.step:
        case RolloutStep.STAY:
            return Outcome(f"incident {incident.id}: {reason}")
        case RolloutStep.ON:
            with ledger.transaction() as on:
                ledger.move(incident, State.ROLLOUT, actor=actor, reason=reason, evidence=told, connection=on)
                ledger.change_route(route, actor=actor, step=route.step + 1, since=None, connection=on)
            return Outcome(f"incident {incident.id}: {reason}; the next step follows")
        case RolloutStep.BACK:
            return _take_back(ledger, incident, State.ROLLED_BACK, reason, told, actor=actor)
        case RolloutStep.ASK:
            return _take_back(ledger, incident, State.ESCALATED, f"{reason}; a person decides", told, actor=actor)


def _take_back(
    ledger: Ledger, incident: Incident, to: State, reason: str, told: dict[str, Any], *, actor: str
) -> Outcome:
    ledger.move(incident, to, actor=actor, reason=reason, evidence=told, approved=False)  # which ends the route, too
    return Outcome(f"incident {incident.id}: {reason}")


def _stands(route: Route) -> str:
    return f"version {route.challenger_version} answers {route.share:.0%} of users"
