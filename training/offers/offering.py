"""A version made the challenger of its model's incident, or of one of its own, as if it had just been trained."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import BY_HAND, Incident, State
from datasets_defs.ledger.ledger import Ledger

if TYPE_CHECKING:
    from training.offers.judging_rows import JudgingRows

FREE = (State.OPEN, State.REJECTED, State.ESCALATED)
"""States of an incident in which nobody is at work, so that a version may be offered."""
_INSTEAD = {
    State.QUARANTINED: "its data is broken: mend that, or end it with `driftloop incident resolve`",
    State.PROBATION: "a new champion is being judged: wait for that, or go back with `driftloop rollback`",
    State.ROLLOUT: "its own challenger is rolled out: wait for that, or end it with `driftloop rollback`",
    State.APPROVING: "its own challenger waits: answer with `driftloop approve` or `reject`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """Who offers what, and why."""

    model: str
    version: int
    actor: str
    reason: str
    force: bool = False
    judged_by: "JudgingRows | None" = None
    """None: it has held-out rows of its own."""


def offer(ledger: Ledger, what: Offering, *, connection: Connection | None = None) -> Incident:
    """Make a version the challenger.

    Raises:
        ContractError: somebody is at work on the model's incident.
    """
    now = datetime.now(UTC)
    words = f"version {what.version} offered by {what.actor}{' by force' if what.force else ''}: {what.reason}"
    with ledger.transaction(connection) as on:
        present = ledger.open_of(what.model, connection=on, lock=True)
        if present is not None:
            require_free_in(present, now)
        waits = present.not_before if present is not None else None
        evidence: dict[str, Any] = {
            "version": what.version,
            "by": what.actor,
            "reason": what.reason,
            "force": what.force,
            "attempt": (present.attempt if present is not None else 0) + 1,
            "not_before": waits.isoformat() if waits is not None else None,
        }
        if (rows := what.judged_by) is not None:
            evidence |= {"rows_uri": rows.uri, "rows_sha256": rows.sha256, "unexcluded": rows.unexcluded}
        incident, _ = ledger.open_incident(
            what.model, signal=BY_HAND, degraded_since=now, reason=words, evidence=evidence, actor=what.actor,
            connection=on,
        )  # fmt: skip
        offered = ledger.move(
            incident, State.RETRAINING, actor=what.actor, reason=words, connection=on, attempt=evidence["attempt"],
            challenger_version=what.version, approved=False, not_before=None,
        )  # fmt: skip
        reached("offer.making")
    reached("offer.made")
    return offered


def require_free(ledger: Ledger, model: str, now: datetime) -> None:
    """Refuse where nobody may offer a version to a model just now.

    Raises:
        ContractError: somebody is at work on its incident; says who, and what to do instead.
    """
    incident = ledger.open_of(model)
    if incident is not None and (incident.offer is None or incident.state in FREE):  # else it may be this very offer
        require_free_in(incident, now)


def require_free_in(incident: Incident, now: datetime) -> None:
    """Refuse where somebody is at work on an incident.

    Raises:
        ContractError: says who, and what to do instead.
    """
    standing = f"{incident.model}: incident {incident.id} is {incident.state}"
    if (holder := incident.holder(now)) is not None:
        raise ContractError(f"{standing} and in the hands of {holder}; wait for it, then promote by hand")
    if incident.state not in FREE:
        instead = _INSTEAD.get(incident.state, "its own challenger is on its way: wait for it")
        raise ContractError(f"{standing}; {instead}")
