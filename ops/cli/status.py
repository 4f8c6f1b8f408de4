"""`driftloop status`: components, models and unsent messages, gathered once and shown in two forms."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine, func, select

from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.incidents import Incident
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.outlook import Outlook, outlook
from datasets_defs.ledger.pauses import Pause, pauses
from datasets_defs.spec.files import load_all, model_names
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors, engine
from datasets_defs.store.schema import require_schema
from datasets_defs.store.verdicts import newest_verdicts
from monitors.exporter_reading import is_current
from ops.stack import health, ports
from ops.stack.layout import Layout

STYLES = {"OK": "green", "WARN": "yellow", "BAD": "red", "NO_DATA": "dim", "STALE": "dim"}


def collect() -> dict[str, Any]:
    """Gather everything as plain JSON; what cannot be reached is said under `problems`, and nothing raises for it."""
    layout = Layout(settings().home.resolve())
    components = {}
    for name, item in health.check(layout).items():
        components[name] = {"state": item.state, "healthy": item.healthy, "detail": item.detail}
    found: dict[str, Any] = {
        "home": str(layout.home),
        "components": components,
        "urls": {
            name: f"http://127.0.0.1:{port}"
            for name, port in ports.remembered(layout.ports).items()
            if name != "postgres"
        },
        "models": {},
        "alerts_unsent": None,
        "alerts": [],
        "problems": [],
    }
    db = engine()
    try:
        require_schema(db)
        found |= {"models": _models(db), **_alerts(db)}
    except DriftloopError as err:
        down = not any(item["state"] != "down" for item in components.values())
        found["problems"] = [f"The stack is down; `make up` starts it. ({err})" if down else str(err)]
    finally:
        db.dispose()
    return found


def _models(db: Engine) -> dict[str, Any]:
    ledger, now = Ledger(db), datetime.now(UTC)
    specs, problems = load_all()
    paused = pauses(db, now)
    report = {}
    for name in model_names():
        champion, incident = ledger.champion(name), ledger.open_of(name)
        wrong = [problem for problem in problems if problem.startswith(f"{settings().models_dir / name}.yaml")]
        if champion is None and not wrong:
            wrong = [f"no champion yet; run `driftloop bootstrap {name}`"]
        report[name] = {
            "champion_version": champion.version if champion else None,
            "previous_version": champion.previous_version if champion else None,
            "since": champion.since.isoformat() if champion else None,
            "conditions": {
                verdict.signal: {
                    "condition": str(verdict.condition),
                    "reason": verdict.reason,
                    "score": verdict.score,
                    "limit": verdict.limit,
                    "window_end": verdict.window.end.isoformat(),
                }
                for verdict in newest_verdicts(db, name, now=now)
                if is_current(verdict)
            },
            "incident": _plain(asdict(incident)) if incident else None,
            "next": _plain(asdict(next_action(incident, specs.get(name), paused.get(name), now))),
            "paused_until": paused[name].until.isoformat() if name in paused else None,
            "problems": wrong,
        }
    return report


def next_action(incident: Incident | None, spec: ModelSpec | None, pause: Pause | None, now: datetime) -> Outlook:
    """Say what the loop does next for a model, as its settings have it."""
    return outlook(
        incident,
        now=now,
        paused_until=pause.until if pause is not None else None,
        reconcile_period=timedelta(seconds=settings().reconcile_interval_seconds),
        spec=spec,
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}


def _alerts(db: Engine) -> dict[str, Any]:
    table = tables.alert_outbox
    waiting = table.c.sent_at.is_(None)
    with database_errors("reading the outbox"), db.connect() as on:
        count = on.scalar(select(func.count()).select_from(table).where(waiting))
        latest = on.execute(select(table).where(waiting).order_by(table.c.id.desc()).limit(5)).all()
    return {
        "alerts_unsent": count,
        "alerts": [
            {
                "at": row.created_at.isoformat(),
                "model": row.model,
                "severity": row.severity,
                "text": row.text,
                "last_error": row.last_error,
            }
            for row in latest
        ],
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the report on one screen."""
    parts: list[Any] = [_component_table(found)]
    if found["models"]:
        parts.append(_model_table(found["models"]))
        wrong = ((name, problem) for name, item in found["models"].items() for problem in item["problems"])
        parts += [f"[red]{escape(name)}: {escape(problem)}[/]" for name, problem in wrong]
    if found["alerts_unsent"]:
        parts.append(f"[bold]{found['alerts_unsent']} messages not sent to Slack[/], the latest:")
        parts += [
            f"  {alert['at'][:19]} {escape(alert['severity'])}: {escape(alert['text'].splitlines()[0][:120])}"
            for alert in found["alerts"]
        ]
    parts += [f"[red]{escape(problem)}[/]" for problem in found["problems"]]
    console.print(Group(*parts), highlight=False)


def _component_table(found: dict[str, Any]) -> Any:
    if not found["components"]:
        return f"No stack in {found['home']}; start one with `make up` or `make demo`."
    table = Table("component", "state", "", "address", box=None, pad_edge=False)
    for name, item in found["components"].items():
        style = "green" if item["healthy"] else "red"
        table.add_row(
            name, f"[{style}]{item['state'].lower()}[/]", escape(item["detail"][:70]), found["urls"].get(name, "")
        )
    return table


def _model_table(models: dict[str, Any]) -> Table:
    table = Table("model", "champion", "conditions", "incident", "next", box=None, pad_edge=False)
    for name, item in models.items():
        incident = item["incident"]
        version = f"v{item['champion_version']}" if item["champion_version"] else "none"
        since = f"\nsince {item['since'][:16]}" if item["since"] else ""
        state = f"{incident['id']} {incident['state']}" if incident else "none"
        paused = f"\n[yellow]paused until {item['paused_until'][:16]}[/]" if item["paused_until"] else ""
        conditions = _conditions(item["conditions"]) or "nothing judged yet"
        table.add_row(escape(name), version + since, conditions, state + paused, escape(_next(item["next"])))
    return table


def _next(foreseen: dict[str, Any]) -> str:
    return f"{foreseen['action']}\n{foreseen['at'][:19]}Z" if foreseen["at"] else str(foreseen["action"])


def _conditions(signals: dict[str, Any]) -> str:
    """Name the signals under their condition, the worst first."""
    lines = []
    for condition in ("BAD", "STALE", "NO_DATA", "WARN", "OK"):
        names = [escape(name) for name, signal in signals.items() if signal["condition"] == condition]
        if names:
            lines.append(f"[{STYLES[condition]}]{condition}[/] {', '.join(names)}")
    return "\n".join(lines)
