"""The step that judges a challenger: both scored afresh on the same frozen rows, the gate's decision recorded."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from datasets_defs import tables
from datasets_defs.artifacts import artifact_url, exists, read_bytes, read_rows, write_rows
from datasets_defs.conditions import Outcome, RingKey
from datasets_defs.database import database_errors
from datasets_defs.errors import ContractError
from datasets_defs.history import clean_text, plain
from datasets_defs.incidents import Incident, State
from datasets_defs.ledger import Ledger
from datasets_defs.models import ModelSpec, spec_of
from datasets_defs.records import ReferenceProfile, reference_of, save_reference
from datasets_defs.settings import settings
from training.comparison import Pair
from training.gate import GateDecision, GateEvidence, decide
from training.governor import back_off_windows
from training.language_model import LanguageModel
from training.registry import Registry
from training.retrain import use_threads
from training.sampling import Loss
from training.snapshot import text_of

log = logging.getLogger(__name__)
MOST_RECENT, MOST_OLD = 2000, 400
"""Rows judged, and of the old ones kept as anchors, at most."""
UNDECIDED_WAIT_WINDOWS = 1
SCORED_AT_ONCE = 64
"""Texts between two renewals of the claim."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The frozen rows of an evaluation, as stored: the snapshot's columns plus `slice` (recent, old)."""

    uri: str
    sha256: str
    rows: list[dict[str, Any]]

    def slice(self, name: str) -> list[dict[str, Any]]:
        """Give one slice's rows."""
        return [row for row in self.rows if row["slice"] == name]


def run(key: str, *, db: Engine, actor: str, now: datetime | None = None) -> Outcome:
    """Evaluate the wake-up's challenger; the ring is for its promotion, if it may go ahead without a person.

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
        ring, frm={State.RETRAINING}, to=State.EVALUATING, actor=actor, lease=settings().lease, reason=reason
    )
    if claim.incident is None:
        return Outcome(claim.reason)
    try:
        decision = _evaluate(ledger, claim.incident, spec)
    except ContractError as err:
        ledger.move(claim.incident, State.ESCALATED, actor=actor, reason=f"{reason}: {err}")
        return Outcome(str(err))
    return _conclude(ledger, claim.incident, spec, decision, actor=actor, now=now or datetime.now(UTC))


def _evaluate(ledger: Ledger, incident: Incident, spec: ModelSpec) -> GateDecision:
    db, registry = ledger.engine, Registry(settings().mlflow_url)
    champion, challenger = ledger.champion(spec.name), incident.challenger_version
    if champion is None or challenger is None:
        raise ContractError(f"champion {champion}, challenger {challenger}: both are needed for a comparison")
    frozen = _frozen_rows(db, registry, incident, champion.version, challenger)
    use_threads()
    cache = settings().home / "cache"
    texts = [text_of(row) for row in frozen.rows]
    scores = []
    for version in (champion.version, challenger):
        model = LanguageModel.load(registry.download(spec.name, version, cache))
        scores.append(_score(model, texts, ledger, incident))
    pairs = [Pair(a.bits, b.bits, a.bytes) for a, b in zip(*scores, strict=True)]
    recent = [pair for pair, row in zip(pairs, frozen.rows, strict=True) if row["slice"] == "recent"]
    old = [pair for pair, row in zip(pairs, frozen.rows, strict=True) if row["slice"] == "old"]
    decision = decide(GateEvidence(recent=recent, old=old, champion_version=champion.version), spec.gate)
    log.info("incident %d: %s: %s", incident.id, decision.decision, decision.reason)
    if reference_of(db, spec.name, challenger) is None:  # a version's reference is never written over
        losses = _score(model, _prompts(frozen), ledger, incident)
        _save_reference(db, spec, incident, challenger, frozen, losses, trained=_trained_on(registry, spec, challenger))
    _save_evaluation(db, incident, champion.version, challenger, frozen, decision)
    registry.set_tags(
        spec.name,
        challenger,
        {"driftloop.gate": decision.decision, "driftloop.gate_reason": decision.reason[:500]},
    )
    return decision


def _frozen_rows(db: Engine, registry: Registry, incident: Incident, champion: int, challenger: int) -> Rows:
    uri = artifact_url("evaluations", incident.model, f"incident-{incident.id}-attempt-{incident.attempt}.parquet")
    if exists(uri):
        sha256 = hashlib.sha256(read_bytes(uri)).hexdigest()
        return Rows(uri, sha256, read_rows(uri, sha256))
    tags = registry.tags(incident.model, challenger)
    if "snapshot_uri" not in tags:
        raise ContractError(f"version {challenger} names no training snapshot; there are no held-out rows to judge by")
    snapshot = read_rows(tags["snapshot_uri"], tags["snapshot_sha256"])
    profile = reference_of(db, incident.model, champion)
    old = read_rows(profile.uri, profile.sha256) if profile is not None else []
    rows = [
        *(_plain_row("recent", row) for row in snapshot if row["part"] == "holdout"),
        *(_plain_row("old", row) for row in _by_hash(old)[:MOST_OLD] if row["reference"] is not None),
    ]
    recent = [row for row in rows if row["slice"] == "recent"][:MOST_RECENT]
    rows = recent + [row for row in rows if row["slice"] == "old"]
    return Rows(uri, write_rows(uri, rows), rows)


def _plain_row(which: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"slice": which, **{name: row[name] for name in ("request_id", "prompt", "reference")}}


def _by_hash(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: hashlib.sha256(f"{row['prompt']}{row['reference']}".encode()).hexdigest())


def _prompts(frozen: Rows) -> list[str]:
    return [str(row["prompt"]) for row in frozen.rows]


def _score(model: LanguageModel, texts: Sequence[str], ledger: Ledger, incident: Incident) -> list[Loss]:
    losses: list[Loss] = []
    for at in range(0, len(texts), SCORED_AT_ONCE):
        losses += model.losses(texts[at : at + SCORED_AT_ONCE])
        ledger.renew(incident, settings().lease)
    return losses


def _trained_on(registry: Registry, spec: ModelSpec, challenger: int) -> list[dict[str, Any]]:
    """Give the fresh rows that the challenger learned from, as rows of its reference.

    They show what the traffic looks like and say nothing of what it costs, since the model knows them.
    """
    tags = registry.tags(spec.name, challenger)
    snapshot = read_rows(tags["snapshot_uri"], tags["snapshot_sha256"])
    fresh = [row for row in snapshot if row["part"] == "train"]
    kept = {"reference": None, "prompt_bits_per_byte": None, "role": "trained"}
    return [{"request_id": row["request_id"], "prompt": row["prompt"], **kept} for row in fresh[:MOST_RECENT]]


def _save_reference(
    db: Engine,
    spec: ModelSpec,
    incident: Incident,
    challenger: int,
    frozen: Rows,
    losses: list[Loss],
    *,
    trained: list[dict[str, Any]],
) -> None:
    roles = {"recent": "recent", "old": "anchor"}
    rows = [
        {
            "request_id": row["request_id"],
            "prompt": row["prompt"],
            "reference": row["reference"],
            "prompt_bits_per_byte": loss.bits_per_byte,
            "role": roles[row["slice"]],
        }
        for row, loss in zip(frozen.rows, losses, strict=True)
    ]
    rows += trained
    uri = artifact_url("references", spec.name, f"v{challenger}.parquet")
    source = f"the fresh rows of incident {incident.id}, attempt {incident.attempt}, and the older champion's rows"
    save_reference(
        db,
        ReferenceProfile(
            model=spec.name, version=challenger, uri=uri, sha256=write_rows(uri, rows), rows=len(rows), source=source
        ),
    )


def _save_evaluation(
    db: Engine, incident: Incident, champion: int, challenger: int, frozen: Rows, decision: GateDecision
) -> None:
    table = tables.evaluation
    values = {
        "incident_id": incident.id,
        "attempt": incident.attempt,
        "model": incident.model,
        "champion_version": champion,
        "challenger_version": challenger,
        "rows_uri": frozen.uri,
        "rows_sha256": frozen.sha256,
        "scores": plain(decision.scores),
        "decision": decision.decision,
        "reason": clean_text(decision.reason),
    }
    with database_errors("saving an evaluation"), db.begin() as on:
        on.execute(
            insert(table)
            .values(values)
            .on_conflict_do_update(index_elements=table.primary_key, set_={**values, "at": func.now()})
        )


def champion_judged(db: Engine, incident: Incident) -> int | None:
    """Read which champion the incident's newest attempt was judged against; None without an evaluation."""
    table = tables.evaluation.c
    query = select(table.champion_version).where(
        table.incident_id == incident.id, table.attempt == incident.attempt, table.decision == "accept"
    )
    with database_errors("reading an evaluation"), db.connect() as on:
        version: int | None = on.scalar(query)
    return version


def _conclude(
    ledger: Ledger, incident: Incident, spec: ModelSpec, decision: GateDecision, *, actor: str, now: datetime
) -> Outcome:
    reason = f"challenger version {incident.challenger_version}: {decision.decision}: {decision.reason}"
    if decision.decision == "accept":
        approved = spec.promotion == "auto"
        said = reason if approved else f"{reason}; waits for a person: `driftloop approve {spec.name}`"
        ledger.move(incident, State.APPROVING, actor=actor, reason=said, evidence=decision.scores, approved=approved)
        return Outcome(said, ledger.ring(incident.id) if approved else None)
    if decision.decision == "reject":
        to, wait, changes = State.REJECTED, back_off_windows(incident.attempt, spec.retrain), {}
    else:
        to, wait, changes = State.OPEN, UNDECIDED_WAIT_WINDOWS, {"challenger_version": None}
    not_before = now + spec.window_count(wait)
    ledger.move(incident, to, actor=actor, reason=reason, evidence=decision.scores, not_before=not_before, **changes)
    return Outcome(reason)
