"""The step that judges a challenger: both scored afresh on the same frozen rows, the gate's decision recorded."""

import logging
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Incident, State, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import artifact_url, write_named_rows
from datasets_defs.store.evaluations import NewEvaluation, save_evaluation
from datasets_defs.store.references import ReferenceProfile, reference_of, save_reference
from training.data.snapshot import KNOWN, Snapshot, text_of
from training.fit.threads import use_threads
from training.judge.frozen_rows import MOST_RECENT, Rows, frozen, gather, stored
from training.judge.gate import GateDecision
from training.judge.paired import Spread
from training.judge.power import OLD
from training.judge.score_table import as_markdown, as_metrics
from training.judge.spreads import spreads_seen
from training.judge.trial import Comparison, Trial, judge
from training.limits.governor import back_off_windows
from training.model.sampling import Loss
from training.registry.registry import Registry

log = logging.getLogger(__name__)
UNDECIDED_WAIT_WINDOWS = 1
"""Windows until another attempt, where the rows were too few to tell."""


def evaluate(key: str, *, db: Engine, actor: str, now: datetime | None = None, by_hand: bool = False) -> Outcome:
    """Evaluate the wake-up's challenger; the ring is for its promotion, if it may go ahead without a person.

    What a person does by hand is done in a pause, too.

    Raises:
        ContractError: the key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL or the registry is away.
    """
    ring, ledger = RingKey.parse(key), Ledger(db)
    spec, incident = spec_of(ring.model), ledger.incident(ring.incident_id)
    if incident.state is State.APPROVING and incident.approved:
        return Outcome(f"version {incident.challenger_version} stands accepted", ledger.ring(incident.id))
    if incident.challenger_version is None:
        return Outcome(f"incident {incident.id} is {incident.state} and has no challenger to evaluate")
    reason = f"evaluation of challenger version {incident.challenger_version}"
    claim = ledger.claim(
        ring, frm={State.RETRAINING}, to=State.EVALUATING, actor=actor, lease=settings().lease, reason=reason,
        in_pause=by_hand,
    )  # fmt: skip
    if claim.incident is None:
        return Outcome(claim.reason)
    reached("evaluate.claimed")
    try:
        decision = _evaluate(ledger, claim.incident, spec, actor)
    except ContractError as err:
        ledger.move(claim.incident, State.ESCALATED, actor=actor, reason=f"{reason}: {err}")
        reached("evaluate.escalated")
        return Outcome(str(err))
    outcome = _conclude(ledger, claim.incident, spec, decision, actor=actor, now=now or datetime.now(UTC))
    reached("evaluate.concluded")
    return outcome


def _evaluate(ledger: Ledger, incident: Incident, spec: ModelSpec, actor: str) -> GateDecision:
    db, registry = ledger.engine, Registry(settings().mlflow_url)
    champion, challenger = ledger.champion(spec.name), incident.challenger_version
    if champion is None or challenger is None:
        raise ContractError(f"champion {champion}, challenger {challenger}: both are needed for a comparison")
    snapshot = _snapshot(registry, incident, challenger)
    known = spreads_seen(db, spec.name, besides=(incident.id, incident.attempt))
    asked = Comparison(
        spec=spec,
        champion=champion.version,
        challenger=challenger,
        rows=_frozen_rows(db, spec, incident, snapshot, champion.version, known),
        snapshot=snapshot,
        known=known,
    )
    reached("evaluate.frozen")
    _announce(ledger, incident, asked, actor)
    reached("evaluate.announced")
    new = reference_of(db, spec.name, challenger) is None  # a version's reference is never written over
    judged = judge(
        db, registry, asked, prompts=new, use=use_threads, tick=lambda *_: ledger.renew(incident, settings().lease)
    )
    decision = judged.decision
    log.info("incident %d: %s: %s", incident.id, decision.decision, decision.reason)
    if new and judged.measured is not None:
        _save_reference(db, spec, incident, challenger, asked.rows, judged.measured.prompts, trained=_trained(snapshot))
    _save_evaluation(db, incident, asked, judged)
    reached("evaluate.saved")
    _show_in_registry(registry, asked, judged, step=incident.attempt)
    reached("evaluate.shown")
    return decision


def _show_in_registry(registry: Registry, asked: Comparison, judged: Trial, *, step: int) -> None:
    """Show the evaluation beside the version in MLflow; what decides is PostgreSQL's, and MLflow may refuse it."""
    decision, model, challenger = judged.decision, asked.spec.name, asked.challenger
    scores = as_markdown(judged, champion=asked.champion, challenger=challenger)
    try:
        registry.log_evaluation(
            model, challenger, metrics=as_metrics(judged), files={"evaluation/scores.md": scores}, step=step
        )
        tags = {"driftloop.gate": decision.decision, "driftloop.gate_reason": decision.reason[:500]}
        registry.set_tags(model, challenger, tags)
    except DriftloopError as err:
        log.warning("the evaluation of %s version %d is kept, and MLflow does not show it: %s", model, challenger, err)


def snapshot_of(registry: Registry, model: str, version: int) -> Snapshot:
    """Find the rows that a version was trained on, and those held out for it.

    Raises:
        ContractError: it names no snapshot, or that is gone or damaged.
    """
    tags = registry.tags(model, version)
    if "snapshot_uri" not in tags:
        raise ContractError(f"version {version} names no training snapshot; there are no held-out rows to judge by")
    return Snapshot.of(tags["snapshot_uri"], tags["snapshot_sha256"])


def _snapshot(registry: Registry, incident: Incident, challenger: int) -> Snapshot:
    """Give the rows of a challenger: those frozen to judge what a person offered, or those it was trained on."""
    offer = incident.offer
    if offer is not None and offer.rows_uri is not None:
        return Snapshot.of(offer.rows_uri, offer.rows_sha256)
    return snapshot_of(registry, incident.model, challenger)


def _frozen_rows(
    db: Engine, spec: ModelSpec, incident: Incident, snapshot: Snapshot, champion: int, known: dict[str, Spread]
) -> Rows:
    uri = artifact_url("evaluations", incident.model, f"{attempt_name(incident.id, incident.attempt)}.parquet")
    learned = {text_of(row) for row in snapshot.rows(KNOWN)}
    rows = stored(uri)
    return rows or frozen(gather(db, spec, snapshot.holdout, champion, known=known.get(OLD), learned=learned), uri)


def _announce(ledger: Ledger, incident: Incident, asked: Comparison, actor: str) -> None:
    """Say in the history what the look can see, before it is taken; once for an attempt."""
    reason = f"evaluation of version {asked.challenger}: {asked.plan.reason}"
    if any(
        event.kind == EventKind.ANNOUNCED and event.reason == reason
        for event in ledger.events(incident.model, incident_id=incident.id, newest=20)
    ):
        return
    ledger.note(incident.model, EventKind.ANNOUNCED, reason, {}, actor=actor, incident=incident)


def _trained(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Give the fresh rows that the challenger learned from, as rows of its reference.

    They show what the traffic looks like and say nothing of what it costs, since the model knows them.
    """
    kept = {"reference": None, "prompt_bits_per_byte": None, "role": "trained"}
    return [
        {"request_id": row["request_id"], "prompt": row["prompt"], **kept}
        for row in islice(snapshot.rows("train"), MOST_RECENT)
    ]


def _save_reference(
    db: Engine,
    spec: ModelSpec,
    incident: Incident,
    challenger: int,
    rows: Rows,
    losses: list[Loss],
    *,
    trained: list[dict[str, Any]],
) -> None:
    roles = {"recent": "recent", "old": "anchor"}
    profile = [
        {
            "request_id": row["request_id"],
            "prompt": row["prompt"],
            "reference": row["reference"],
            "prompt_bits_per_byte": loss.bits_per_byte,
            "role": roles[row["slice"]],
        }
        for row, loss in zip(rows.rows, losses, strict=True)
        if row["slice"] in roles  # the golden set has a file of its own
    ]
    profile += trained
    uri, sha256 = write_named_rows(artifact_url("references", spec.name, f"v{challenger}"), profile)
    reached("evaluate.written")
    source = f"the fresh rows of incident {incident.id}, attempt {incident.attempt}, and the older champion's rows"
    save_reference(
        db,
        ReferenceProfile(
            model=spec.name,
            version=challenger,
            uri=uri,
            sha256=sha256,
            rows=len(profile),
            source=source,
        ),
    )
    reached("evaluate.referenced")


def _save_evaluation(db: Engine, incident: Incident, asked: Comparison, judged: Trial) -> None:
    save_evaluation(
        db,
        NewEvaluation(
            incident_id=incident.id,
            attempt=incident.attempt,
            model=incident.model,
            champion_version=asked.champion,
            challenger_version=asked.challenger,
            rows_uri=asked.rows.uri,
            rows_sha256=asked.rows.sha256,
            scores=judged.scores,
            decision=judged.decision.decision,
            reason=judged.decision.reason,
        ),
    )


def _conclude(
    ledger: Ledger, incident: Incident, spec: ModelSpec, decision: GateDecision, *, actor: str, now: datetime
) -> Outcome:
    reason = f"challenger version {incident.challenger_version}: {decision.decision}: {decision.reason}"
    if incident.offer is not None:
        return _conclude_offer(ledger, incident, spec, decision, reason, actor=actor)
    if decision.decision == "accept":
        approved = spec.promotion == "auto" and not decision.ask
        words = reason if approved else f"{reason}; waits for a person: `driftloop approve {spec.name}`"
        ledger.move(incident, State.APPROVING, actor=actor, reason=words, evidence=decision.scores, approved=approved)
        reached("evaluate.accepted")
        return Outcome(words, ledger.ring(incident.id) if approved else None)
    if decision.escalate:
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason, evidence=decision.scores)
        return Outcome(reason)
    if decision.decision == "reject":
        to, wait, changes = State.REJECTED, back_off_windows(incident.attempt, spec.retrain), {}
    else:
        to, wait, changes = State.OPEN, UNDECIDED_WAIT_WINDOWS, {"challenger_version": None}
    not_before = now + spec.window_count(wait)
    ledger.move(incident, to, actor=actor, reason=reason, evidence=decision.scores, not_before=not_before, **changes)
    return Outcome(reason)


def _conclude_offer(
    ledger: Ledger, incident: Incident, spec: ModelSpec, decision: GateDecision, reason: str, *, actor: str
) -> Outcome:
    """Let a person's version go ahead on the gate's yes, or against its no if that was asked for.

    Nobody is asked again, since a person has said that they want it; unless the version may know the rows that judged
    it. One that is not taken leaves the incident as it was. An evaluation that cannot be trusted says nothing that
    could be passed over.
    """
    offer = incident.offer
    if offer is None:
        raise ContractError(f"incident {incident.id} holds no offer")
    told = {**decision.scores, "offered_by": offer.who, "challenger_version": offer.version}
    if decision.escalate:
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason, evidence=told)
        return Outcome(reason)
    why = [*([offer.unexcluded] if offer.unexcluded is not None else []), *decision.ask]
    if decision.decision == "accept" and why and not offer.force:
        told["unexcluded"] = "; ".join(why)
        reason = f"{reason}; {offer.unexcluded}" if offer.unexcluded is not None else reason
        reason = f"{reason}. It waits for a person: `driftloop approve {spec.name}`"
        ledger.move(incident, State.APPROVING, actor=actor, reason=reason, evidence=told, approved=False)
        return Outcome(reason)
    if decision.decision == "accept" or offer.force:
        if decision.decision != "accept":
            told["forced_by"] = offer.who
            reason = f"{reason}; promoted all the same, as {offer.who} asked: {offer.reason}"
        ledger.move(incident, State.APPROVING, actor=actor, reason=reason, evidence=told, approved=True)
        return Outcome(reason, ledger.ring(incident.id))
    ledger.move(
        incident, State.OPEN, actor=actor, reason=reason, evidence=told, not_before=offer.not_before,
        challenger_version=None,
    )  # fmt: skip
    return Outcome(reason)
