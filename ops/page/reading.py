"""What the page reads: one query per kind for all models, in one transaction that cannot write."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    func,
    select,
    text,
)
from sqlalchemy.exc import ProgrammingError

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.errors import TransientError
from datasets_defs.core.incidents import TERMINAL, Incident
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.outlook import Outlook, outlook
from datasets_defs.ledger.pauses import Pause, pauses
from datasets_defs.ledger.promotions import changes_with_grounds
from datasets_defs.ledger.retirements import Retirement, retirements_in
from datasets_defs.ledger.routes import all_routes
from datasets_defs.spec.files import load_all, model_names, spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.incidents import incidents_since, newest_incidents, open_incidents
from datasets_defs.store.inference_log import first_day_kept
from monitors.similar.nearest import Similar, similar_to
from monitors.verdicts.conclude import judged_window
from ops.page.state import (
    Detail,
    Model,
    Overview,
    ReportLink,
    ServedChange,
    Unsent,
    expected_signals,
    urgency,
)
from ops.page.verdicts import newest_verdicts, report_of, verdicts_since, worst_by_window

SHOWN_WINDOWS = 72
"""Length of the strips, in windows: three days of hours."""
PAST_INCIDENTS = 12
PAST_CHANGES = 30
PAST_MESSAGES = 20
PAST_EVENTS = 60
"""Newest events that a model's page shows, and whose chain it checks; `driftloop verify` checks all."""
SHOWN_TEXTS = 20
LONGEST_TEXT = 400
"""Characters that may be asked for; hashed features read no more."""
TIMEOUT_SECONDS = 10
"""A query of the page never holds anything up for longer."""

T = TypeVar("T")
_terminal = [state.value for state in TERMINAL]


@contextmanager
def snapshot(db: Engine) -> Iterator[Connection]:
    """Give one consistent view of the database, in a transaction that refuses to write.

    Raises:
        TransientError: PostgreSQL is away, or its tables are not this release's.
    """
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with database_errors("reading for the page"), db.connect().execution_options(**options) as on, on.begin():
            on.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT_SECONDS}s'"))
            yield on
    except ProgrammingError as err:
        problem = str(err.orig).strip().splitlines()[0]
        raise TransientError(f"the loop's tables are not this release's; run `driftloop migrate` ({problem})") from err


def read_overview(db: Engine, *, now: datetime | None = None) -> Overview:
    """Read the state of all models.

    Raises:
        TransientError: PostgreSQL is away, or its tables are not this release's.
    """
    at = now or datetime.now(UTC)
    with snapshot(db) as on:
        paused = pauses(db.execution_options(postgresql_readonly=True), at)
        models = _models(on, at, paused)
        since = _shown_since(at)
        names = [model.name for model in models]
        count, oldest = on.execute(
            select(func.count(), func.min(tables.alert_outbox.c.created_at)).where(
                tables.alert_outbox.c.sent_at.is_(None)
            )
        ).one()
        return Overview(
            now=at,
            last_end=judged_window(at).end,
            length=settings().window_length,
            models=tuple(sorted(models, key=urgency)),
            cells=worst_by_window(on, names, since),
            incidents=_by_model((incident.model, incident) for incident in incidents_since(on, since)),
            changes=_by_model(_changes(changes_with_grounds(on, since=since))),
            unsent=count,
            oldest_unsent=oldest,
            heartbeats=_heartbeats(on),
        )


def read_model(db: Engine, name: str, *, now: datetime | None = None) -> Detail | None:
    """Read one model with its past; None when neither a file nor the ledger knows it.

    Raises:
        TransientError: PostgreSQL is away, or its tables are not this release's.
    """
    at = now or datetime.now(UTC)
    with snapshot(db) as on:
        paused = pauses(db.execution_options(postgresql_readonly=True), at)
        models = [model for model in _models(on, at, paused, only=name) if model.name == name]
        if not models:
            return None
        windows: dict[str, list[Verdict]] = {}
        for verdict in verdicts_since(on, name, _shown_since(at)):
            windows.setdefault(verdict.signal, []).append(verdict)
        ledger = Ledger(db.execution_options(postgresql_readonly=True))
        return Detail(
            now=at,
            last_end=judged_window(at).end,
            length=settings().window_length,
            model=models[0],
            windows=windows,
            incidents=[*newest_incidents(on, name, limit=PAST_INCIDENTS)],
            changes=[change for _, change in _changes(changes_with_grounds(on, model=name, limit=PAST_CHANGES))],
            events=ledger.events(name, newest=PAST_EVENTS),
            broken=ledger.verify(name, newest=PAST_EVENTS),
            unsent=_unsent(on, name),
            report=report_of(on, name),
        )


def read_report(db: Engine, name: str) -> ReportLink | None:
    """Read where the model's latest drift report is; None: there is none."""
    with snapshot(db) as on:
        return report_of(on, name)


def read_similar(db: Engine, name: str, asked: str, *, now: datetime) -> Similar | None:
    """Read what users asked that is like a text; None where the text is blank.

    Raises:
        ContractError: no file describes the model, or its embedding model is not on this machine.
        TransientError: PostgreSQL is away.
    """
    spec = spec_of(name)
    if not asked.strip():
        return None
    reader = db.execution_options(postgresql_readonly=True)
    return similar_to(reader, spec, asked, Window(first_day_kept(now), now), count=SHOWN_TEXTS)


# --- models ----------------------------------------------------------------------------------------------------------


def _models(on: Connection, now: datetime, paused: Mapping[str, Pause], *, only: str | None = None) -> list[Model]:
    """Read the models that have a file, and those that only the ledger knows; of one name, if it is given."""
    specs, problems = load_all()
    champions = {row.model: Champion(**row._mapping) for row in on.execute(select(tables.champion))}
    incidents, routes = {opened.model: opened for opened in open_incidents(on)}, all_routes(on)
    names, retired = {*model_names(), *champions, *incidents}, retirements_in(on)
    if only is not None:
        names &= {only}
    expected = {name: expected_signals(specs.get(name)) for name in names}
    verdicts = newest_verdicts(on, expected, now)
    models = []
    for name in sorted(names):
        spec, incident, pause, judged = specs.get(name), incidents.get(name), paused.get(name), verdicts.get(name, {})
        models.append(
            Model(
                name=name,
                spec=spec,
                problem="" if spec is not None or name in retired else _problem(name, problems),
                champion=champions.get(name),
                route=routes.get(name),
                incident=incident,
                pause=pause,
                retired=retired.get(name),
                verdicts=tuple(judged.values()),
                unjudged=tuple(signal for signal in expected[name] if signal not in judged),
                outlook=_outlook(incident, pause, retired.get(name), spec, now),
            )
        )
    return models


def _outlook(
    incident: Incident | None, pause: Pause | None, retired: Retirement | None, spec: ModelSpec | None, now: datetime
) -> Outlook:
    if retired is not None:
        return Outlook(action="none: it is retired", at=None, why=str(retired))
    return outlook(
        incident,
        now=now,
        paused_until=pause.until if pause is not None else None,
        reconcile_period=timedelta(seconds=settings().reconcile_interval_seconds),
        spec=spec,
    )


def _problem(name: str, problems: Sequence[str]) -> str:
    path = f"{settings().models_dir / name}.yaml"
    return next(
        (problem for problem in problems if problem.startswith(path)), f"{path} is gone: the model is not watched"
    )


def _shown_since(now: datetime) -> datetime:
    """Give the end of the window before the oldest that is shown."""
    return judged_window(now).end - SHOWN_WINDOWS * settings().window_length


# --- incidents, champions, messages ----------------------------------------------------------------------------------


def _changes(rows: Iterable[Any]) -> Iterator[tuple[str, ServedChange]]:
    for row in rows:
        known = {name: value for name, value in row._mapping.items() if name != "model"}
        yield row.model, ServedChange(**{**known, "scores": _by_slice(row.scores or {})})


def _by_slice(scores: dict[str, Any]) -> dict[str, Any]:
    """Keep the slices' changes of an evaluation, the deciding ones first; its other metrics are told elsewhere."""
    needed = {"champion", "challenger", "low", "high", "documents"}
    kept = {name: figures for name, figures in scores.items() if isinstance(figures, dict) and needed <= figures.keys()}
    first = [name for name in ("recent", "old") if name in kept]
    return {name: kept[name] for name in (*first, *sorted(set(kept) - set(first)))}


def _unsent(on: Connection, model: str) -> list[Unsent]:
    table = tables.alert_outbox.c
    query = (
        select(table.created_at.label("at"), table.severity, table.text, table.attempts, table.last_error)
        .where(table.model == model, table.sent_at.is_(None))
        .order_by(table.id.desc())
        .limit(PAST_MESSAGES)
    )
    return [Unsent(**row._mapping) for row in on.execute(query)]


def _heartbeats(on: Connection) -> dict[str, datetime]:
    """Read when the loop's own parts were last heard of; those of single models stand on no overview."""
    table = tables.heartbeat.c
    query = select(table.component, table.at).where(~table.component.contains(":")).order_by(table.component)
    return {row.component: row.at for row in on.execute(query)}


def _by_model(pairs: Iterator[tuple[str, T]]) -> dict[str, list[T]]:
    grouped: dict[str, list[T]] = {}
    for model, value in pairs:
        grouped.setdefault(model, []).append(value)
    return grouped
