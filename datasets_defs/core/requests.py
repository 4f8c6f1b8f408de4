"""What a person asks for when they trigger a DAG by hand: read from its form, and matched with what is due. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Incident, Wake, due

NO_REASON = "triggered by hand in Airflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Why a run of a DAG exists: an event's key, or a person with a form."""

    key: str | None
    """Partition key of the event that woke it; None: a person, or `airflow dags test`."""
    who: str
    """`airflow:USER`, as the history names who acted."""
    model: str | None = None
    version: int | None = None
    reason: str = NO_REASON

    @classmethod
    def of(cls, key: str | None, who: str | None, form: Mapping[str, Any] | None) -> "Request":
        """Read a run's key, its user and its form, where an empty field is as good as none."""
        filled = {name: value for name, value in (form or {}).items() if value not in (None, "")}
        return cls(
            key=key or None,
            who=f"airflow:{who or 'somebody'}",
            model=filled.get("model"),
            version=filled.get("version"),
            reason=filled.get("reason", NO_REASON),
        )


def key_said(key: str) -> RingKey | str:
    """Read an event's key; a sentence where a person made an event with something else."""
    try:
        return RingKey.parse(key)
    except ContractError as err:
        return f"{err}; nothing is done. To ask for a model by hand, trigger the DAG and choose it in the form"


def chosen(wake: Wake, request: Request, incidents: Sequence[Incident], now: datetime) -> Incident | str:
    """Find the open incident, oldest first, whose next step a DAG woken by `wake` takes; a sentence where none is due.

    A person does not wait for a lost wake-up's patience, but for whoever holds the incident, and for `not_before`,
    unless they named the model.
    """
    about = [candidate for candidate in incidents if request.model in (None, candidate.model)]
    for incident in about:
        at = now if request.model is None or incident.not_before is None else max(now, incident.not_before)
        step = None if incident.holder(now) else due(incident, at, timedelta())
        if step is not None and step.wake is wake:
            return incident
    of = f" of {request.model}" if request.model is not None else ""
    if not about:
        return f"no incident{of} is open, so there is nothing to do here"
    stand = "; ".join(
        f"incident {candidate.id} of {candidate.model} is {candidate.state}"
        + (f" in the hands of {holder}" if (holder := candidate.holder(now)) is not None else "")
        for candidate in about[:5]
    )
    return f"nothing{of} is due here: {stand}"
