"""Compares the users of two versions while both served, during a rollout and again in the probation that follows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.rollout import RolloutSpec
from datasets_defs.store.arm_log import ArmsAsked, ArmUnit, read_arms
from monitors.incidents.arms import ArmsComparison, compare_arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A step of a rollout during which each of two versions had users of its own."""

    champion: int
    challenger: int
    incident_id: int
    step: int
    since: datetime | None
    """None: it has not begun."""
    until: datetime | None = None
    """None: it lasts."""


def compare_division(db: Engine, spec: ModelSpec, plan: RolloutSpec, division: Division) -> ArmsComparison:
    """Compare what both versions' users got in a step; too few where it has not begun.

    Feedback that comes after the step on what was answered in it counts, too.

    Raises:
        TransientError: PostgreSQL is away.
    """
    arms: dict[int, list[ArmUnit]] = {division.champion: [], division.challenger: []}
    if division.since is not None:
        arms = read_arms(db, ArmsAsked(
            model=spec.name, incident_id=division.incident_id, step=division.step, since=division.since,
            until=division.until, versions=(division.champion, division.challenger),
            refusals=spec.evaluation.refusals, blocked=spec.evaluation.blocked_phrases, anonymous=spec.trust.anonymous,
        ))  # fmt: skip
    return compare_arms(arms[division.champion], arms[division.challenger], plan, steps=len(plan.steps) - 1)


def compared_again(db: Engine, spec: ModelSpec, incident: Incident, champion: Champion) -> ArmsComparison | None:
    """Compare a new champion's users with those of the one before it, in the last step that divided them.

    None: no rollout divided users between the two, or the YAML has no margins for one any more.

    Raises:
        TransientError: PostgreSQL is away.
    """
    division = last_division(Ledger(db).events(spec.name, incident_id=incident.id), champion)
    if division is None or spec.steps is None:
        return None
    return compare_division(db, spec, spec.steps, division)


def last_division(events: Sequence[Event], champion: Champion) -> Division | None:
    """Find the last step of an incident's rollout that was judged, in its history, oldest first. Pure."""
    for at in range(len(events) - 1, -1, -1):
        event, told = events[at], events[at].evidence
        versions = (told.get("champion_version"), told.get("challenger_version"))
        if event.kind != EventKind.ROUTED or versions != (champion.previous_version, champion.version):
            continue
        ended = next((later for later in events[at + 1 :] if later.kind == EventKind.MOVED), None)
        if 0 < float(told.get("share", 0)) < 1 and ended is not None and event.incident_id is not None:
            return Division(
                champion=int(versions[0] or 0), challenger=champion.version, incident_id=event.incident_id,
                step=int(told["step"]), since=event.at, until=ended.at,
            )  # fmt: skip
    return None
