"""What the exporter reads from PostgreSQL at a scrape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, func, select

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import Incident, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import count_changes
from datasets_defs.ledger.retirements import retirements
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.files import model_names
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.heartbeats import SENSORS, heartbeats
from datasets_defs.store.incidents import count_incidents
from datasets_defs.store.inference_log import count_rows
from datasets_defs.store.messages import stuck_messages
from datasets_defs.store.verdicts import newest_verdicts_by_model
from monitors.exporter_gpus import GpuReading, read_gpus
from monitors.verdicts.conclude import judged_window

_NOW_AND_THEN = ("drift_report", "embedding")
"""Signals without a verdict on every window."""
_SAID = ("waits", "drift_share", "loss_ratio_at_least", "window_bits_per_byte")
"""What is told of a verdict's evidence."""
_TRAINING_PATIENCE = timedelta(minutes=5)
"""Silence after which a training is not shown any more; a step of a large model takes long."""


def scheduled() -> dict[str, float]:
    """Give each scheduled DAG that is not a sensor, and every how many seconds it should finish."""
    known = settings()
    return {
        "compare_champions": known.sensor_interval_seconds,
        "deliver_alerts": known.alert_interval_seconds,
        "maintain": 86_400.0,
        "prepare_pairs": 3_600.0,
        "reconcile": known.reconcile_interval_seconds,
        "roll_out": known.reconcile_interval_seconds,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """When a scheduled DAG last did its work, and how often it should."""

    dag: str
    model: str
    """Empty for a DAG that works for all models at once."""
    at: datetime
    """Before its first time: since when it could be expected to, the first champion's beginning."""
    every_seconds: float


def finished(beats: Mapping[str, datetime], since: Mapping[str, datetime]) -> list[Finished]:
    """Work out when each scheduled DAG last finished; `since` says when each model got its first champion. Pure.

    Without any champion nothing is expected of anybody.
    """
    entries = [
        Finished(
            dag=dag, model=model, at=max(first, beats.get(f"{dag}:{model}", first)),
            every_seconds=settings().sensor_interval_seconds,
        )
        for model, first in since.items()
        for dag in SENSORS
    ]  # fmt: skip
    if since:
        oldest = min(since.values())
        entries += [
            Finished(dag=dag, model="", at=max(oldest, beats.get(f"dag:{dag}", oldest)), every_seconds=seconds)
            for dag, seconds in scheduled().items()
        ]
    return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The state of the loop at one time; only models that have a spec and are not retired: labels stay bounded."""

    models: Sequence[str]
    verdicts: Sequence[Verdict]
    """The newest of each signal; of a report only while it is fresh."""
    incidents: dict[str, Incident]
    """The open one, by model."""
    incidents_total: dict[str, int]
    champions: Sequence[Champion]
    routes: Mapping[str, Route]
    """How models' users are divided between two versions, by model."""
    changes: dict[tuple[str, str], int]
    """Changes of champion, by model and kind."""
    heartbeats: dict[str, datetime]
    trainings: dict[str, dict[str, Any]]
    """What the trainings that are at work said last, by model."""
    idle: dict[str, float]
    """Seconds since the newest step of the training that the model's open incident waits for, once it has begun."""
    finished: Sequence[Finished]
    alerts_waiting: int
    oldest_alert: datetime | None
    """When the oldest unsent message was written."""
    alerts_stuck: int
    """Messages that could not be sent for long."""
    history: dict[str, int]
    """Events ever appended, by model."""
    rows: dict[str, int]
    """Logged requests in the newest complete window, by model."""
    gpus: GpuReading
    """GPUs that are lent."""


class CountedRows:
    """Counts the requests of each model's newest complete window once, since a long window takes long to count."""

    def __init__(self) -> None:
        self._window: Window | None = None
        self._rows: dict[str, int] = {}

    def of(self, db: Engine, models: Sequence[str], window: Window) -> dict[str, int]:
        """Give the rows of each model; what was counted of this window before is not counted again."""
        if window != self._window:
            self._window, self._rows = window, {}
        for model in models:
            if model not in self._rows:
                self._rows[model] = count_rows(db, model, window)
        return {model: self._rows[model] for model in models}


def read(db: Engine, *, now: datetime, counted: CountedRows) -> Reading:
    """Read it all; what is read does not grow with the verdicts and events of years.

    Raises:
        TransientError: PostgreSQL is away.
    """
    retired, ledger, window = retirements(db), Ledger(db), judged_window(now)
    models = [model for model in model_names() if model not in retired]
    outbox = tables.alert_outbox.c
    with database_errors("reading the loop's state"), db.connect() as on:
        totals, changes = count_incidents(on), count_changes(on)
        waiting, oldest = on.execute(
            select(func.count(), func.min(outbox.created_at)).where(outbox.sent_at.is_(None))
        ).one()
    served = ledger.champions()
    champions = [served[model] for model in models if model in served]
    heard = heartbeats(db)
    beats = {component: at for component, (at, _) in heard.items() if _concerns(component, models)}
    incidents = {incident.model: incident for incident in ledger.open_incidents()}
    verdicts = newest_verdicts_by_model(db, models, now=now, evidence_keys=_SAID)
    heads = ledger.heads()
    return Reading(
        models=models,
        verdicts=[verdict for model in models for verdict in verdicts[model] if is_current(verdict)],
        incidents=incidents,
        incidents_total=totals,
        champions=champions,
        routes=ledger.routes(),
        changes=changes,
        heartbeats=beats,
        trainings=_trainings(heard, models, now),
        idle=_idle(heard, incidents, now),
        finished=finished(beats, ledger.first_served_of(*models)),
        alerts_waiting=waiting,
        oldest_alert=oldest,
        alerts_stuck=stuck_messages(db, now=now),
        history={model: heads[model].seq for model in models if model in heads},
        rows=counted.of(db, models, window),
        gpus=read_gpus(db, models),
    )


def is_current(verdict: Verdict) -> bool:
    """Say whether a verdict stands for the present; a spec may want few reports, so an old one is no blindness."""
    return not (verdict.signal in _NOW_AND_THEN and verdict.condition is Condition.STALE)


def _trainings(
    beats: dict[str, tuple[datetime, dict[str, Any]]], models: Sequence[str], now: datetime
) -> dict[str, dict[str, Any]]:
    """Choose the trainings that are at work; one that says nothing any more was stopped, or its machine was."""
    by_model = {model: beats.get(f"training:{model}") for model in models}
    return {
        model: details
        for model, beat in by_model.items()
        if beat is not None and (details := beat[1]).get("at_work") and now - beat[0] <= _TRAINING_PATIENCE
    }


def _idle(
    beats: dict[str, tuple[datetime, dict[str, Any]]], incidents: Mapping[str, Incident], now: datetime
) -> dict[str, float]:
    """Say for how long each training that an incident waits for has taken no step; it says so with every few.

    One that has not begun (it waits for a GPU, or prepares its data) or is over (it is being registered) is not idle,
    and one by hand has a person who looks on.
    """
    idle = {}
    for model, incident in incidents.items():
        at, details = beats.get(f"training:{model}", (now, {}))
        is_its = details.get("attempt") == attempt_name(incident.id, incident.attempt)
        if incident.awaits_training and is_its and details.get("at_work"):
            idle[model] = max(0.0, (now - at).total_seconds())
    return idle


def _concerns(component: str, models: Sequence[str]) -> bool:
    """Say whether a heartbeat still matters: one of a model without a spec never comes again."""
    kind, _, model = component.partition(":")
    if kind == "training":  # it comes and goes, and has metrics of its own
        return False
    return model in models or not (kind == "serving" or kind.startswith("watch_"))
