"""What the loop does next for a model, as its settings have it."""

from datetime import datetime, timedelta

from datasets_defs.core.incidents import Incident
from datasets_defs.core.settings import settings
from datasets_defs.ledger.outlook import Outlook, outlook
from datasets_defs.ledger.pauses import Pause
from datasets_defs.spec.model import ModelSpec


def next_action(incident: Incident | None, spec: ModelSpec | None, pause: Pause | None, now: datetime) -> Outlook:
    """Say what the loop does next for a model, when, and why."""
    return outlook(
        incident,
        now=now,
        paused_until=pause.until if pause is not None else None,
        reconcile_period=timedelta(seconds=settings().reconcile_interval_seconds),
        spec=spec,
    )
