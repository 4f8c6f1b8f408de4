"""Carries a rollout out: the challenger is brought beside the champion, then answers its share of the users."""

import time
from collections.abc import Callable
from math import ceil

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.heartbeats import heartbeats
from training.registry.registry import Registry
from training.servers.follow import follow
from training.servers.seam import Word

POLL_SECONDS = 0.5
GATEWAYS_KNOW_SECONDS = 3.0
"""From a change of the route until every gateway goes by it: each reads it once a second."""


def begin(ledger: Ledger, ring: RingKey, incident: Incident, *, actor: str, in_pause: bool) -> Outcome | None:
    """Begin to roll the incident's challenger out, in one transaction; nobody is answered by it yet. None: it begins.

    The outcome says why it does not: the incident is in other hands, the model is paused, or an earlier rollout's
    replicas are still being brought back.
    """
    challenger = incident.challenger_version
    reason = f"version {challenger} takes the users over step by step"
    try:
        with ledger.transaction() as on:
            champion = ledger.champion(incident.model, connection=on, lock=True)
            claim = ledger.claim(
                ring,
                frm={State.APPROVING},
                to=State.ROLLOUT,
                actor=actor,
                lease=settings().lease,
                reason=reason,
                in_pause=in_pause,
                connection=on,
            )
            if claim.incident is None or champion is None or challenger is None:
                return Outcome(claim.reason)
            ledger.begin_route(claim.incident, champion=champion.version, challenger=challenger, connection=on)
            reason = f"version {challenger} is brought beside version {champion.version}; nobody is answered by it yet"
            ledger.move(claim.incident, State.ROLLOUT, actor=actor, reason=reason, connection=on)
            reached("rollout.beginning")
    except ContractError as err:
        return Outcome(str(err))
    reached("rollout.begun")
    return None


def carry_on(ledger: Ledger, spec: ModelSpec, *, actor: str) -> Outcome:
    """Bring the model's rollout to the step that is wanted; the ring is for the promotion that follows the last.

    Killed anywhere and run again, it goes on. Done twice it does nothing more.

    Raises:
        ContractError: incident or route moved on meanwhile.
        TransientError: PostgreSQL is away.
    """
    incident, route, champion = ledger.open_of(spec.name), ledger.route(spec.name), ledger.champion(spec.name)
    if incident is None or incident.state is not State.ROLLOUT or route is None or route.ending or champion is None:
        return Outcome(f"{spec.name} is in no rollout")
    if route.since is not None or spec.steps is None:
        return Outcome(f"version {route.challenger_version} answers {route.share:.0%} of users")
    target = spec.steps.steps[min(route.step, len(spec.steps.steps) - 1)]
    word, route = _beside(ledger, spec, champion, route, target, actor=actor)
    if not word.is_confirmed:
        return give_up(ledger, incident, State.ESCALATED, word.reason, actor=actor)
    if target < 1:
        reason = f"version {route.challenger_version} answers {target:.0%} of users ({word.reason})"
        ledger.reach_share(route, share=target, actor=actor, reason=reason)
        reached("rollout.shared")
        return Outcome(reason)
    reason = f"version {route.challenger_version} was rolled out; it becomes champion"
    ledger.move(incident, State.PROMOTING, actor=actor, reason=reason)
    reached("rollout.promoting")
    return Outcome(reason, ledger.ring(incident.id))


def stop_by_hand(ledger: Ledger, spec: ModelSpec, incident: Incident, *, actor: str, reason: str) -> Outcome:
    """Take the challenger back at a person's word, which ends the incident; the champion stays what it is."""
    outcome = give_up(ledger, incident, State.ROLLED_BACK, reason, actor=actor)
    champion = ledger.champion(spec.name)
    if champion is not None and spec.serving.swap != "none":
        word = follow(ledger.engine, Registry(settings().mlflow_url), spec, champion)
        if word.is_confirmed:
            ledger.confirm_champion(champion)
        return Outcome(f"{outcome.reason}; {word.reason}", is_done=True)
    return Outcome(outcome.reason, is_done=True)


def give_up(ledger: Ledger, incident: Incident, to: State, reason: str, *, actor: str) -> Outcome:
    """End a rollout: all users are the champion's at once, and the incident moves, in one transaction."""
    words = f"version {incident.challenger_version} is taken back from its users: {reason}"
    with ledger.transaction() as on:
        ledger.move(incident, to, actor=actor, reason=words, approved=False, connection=on)
        reached("rollout.ending")
    reached("rollout.ended")
    return Outcome(words)


def _beside(
    ledger: Ledger, spec: ModelSpec, champion: Champion, route: Route, target: float, *, actor: str
) -> tuple[Word, Route]:
    """Bring the challenger beside the champion, so far that it can answer a share of users."""
    if spec.serving.swap == "none":
        return _waited(lambda: _told(ledger, route)), route
    registry, every = Registry(settings().mlflow_url), spec.serving.replicas
    if spec.serving.swap == "adapters":  # each replica holds both, and the gateway names one
        return _waited(lambda: follow(ledger.engine, registry, spec, champion)), route
    wanted = min(max(ceil(target * len(every)), 1), len(every) - 1)
    word = Word(True, f"{len(route.replicas)} of {len(every)} replicas have it")
    while route.held or len(route.replicas) < wanted:
        if not route.held:
            held = next(url for url in reversed(every) if url not in route.replicas)
            route = ledger.change_route(route, actor=actor, held=(held,))
            reached("rollout.held")
            time.sleep(GATEWAYS_KNOW_SECONDS)
        word = _waited(lambda: follow(ledger.engine, registry, spec, champion))
        if not word.is_confirmed:
            return word, route
        reached("rollout.loaded")
        replicas = (*route.replicas, *route.held)
        share = max(route.share, len(replicas) / len(every)) if target == 1 else route.share
        route = ledger.change_route(route, actor=actor, replicas=replicas, held=(), share=share)
    return word, route


def _told(ledger: Ledger, route: Route) -> Word:
    """Ask once whether our own server says that it holds the challenger beside the champion."""
    _, details = heartbeats(ledger.engine).get(f"serving:{route.model}", (None, {}))
    if details.get("beside_version") == route.challenger_version:
        return Word(True, "serving holds both versions")
    late = f"serving did not load version {route.challenger_version} beside the champion"
    return Word(False, f"{late}: {details['beside_error']}" if details.get("beside_error") else late, may_change=True)


def _waited(ask: Callable[[], Word]) -> Word:
    """Ask until the answer is sure, at most as long as serving has to confirm a version."""
    give_up_at = time.monotonic() + settings().serving_confirm_seconds
    while not (word := ask()).is_confirmed and word.may_change and time.monotonic() < give_up_at:
        time.sleep(POLL_SECONDS)
    return word
