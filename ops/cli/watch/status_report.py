"""What `driftloop status` shows: components, models and unsent messages, gathered once as plain JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, func, select

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pauses
from datasets_defs.ledger.retirements import retirements
from datasets_defs.spec.changes import other_base
from datasets_defs.spec.files import load_all, model_names
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors, engine
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.places import PLACES
from datasets_defs.store.schema import require_schema
from datasets_defs.store.verdicts import newest_verdicts_by_model
from datasets_defs.store.versions import bases
from monitors.exporter_reading import is_current
from ops.cli.watch.next_action import next_action
from ops.stack import health, ports
from ops.stack.layout import Layout


def collect() -> dict[str, Any]:
    """Gather everything as plain JSON; what cannot be reached is said under `problems`, and nothing raises for it."""
    layout = Layout(settings().home.resolve())
    components = {}
    for name, item in health.check(layout).items():
        components[name] = {"state": item.state, "healthy": item.healthy, "detail": item.detail}
    status: dict[str, Any] = {
        "home": str(layout.home),
        "components": components,
        "urls": {
            name: f"http://127.0.0.1:{port}"
            for name, port in ports.remembered(layout.ports).items()
            if name != "postgres"
        },
        "models": {},
        "retention": {
            place.name: {"holds": place.holds, "users_texts": place.texts, "days": place.days, "kept": place.kept}
            for place in PLACES
        },
        "alerts_unsent": None,
        "alerts": [],
        "problems": [],
    }
    db = engine()
    try:
        require_schema(db)
        status |= {"models": _models(db), **_alerts(db)}
    except DriftloopError as err:
        status["problems"] = [_problem({str(item["state"]) for item in components.values()}, err)]
    finally:
        db.dispose()
    return status


def _problem(states: set[str], err: DriftloopError) -> str:
    """Say why nothing can be read; `states` are those of the components."""
    if states <= {"down"}:
        return f"The stack is down; `make up` starts it. ({err})"
    return f"The stack is being stopped. ({err})" if states == {"stopping"} else str(err)


def _models(db: Engine) -> dict[str, Any]:
    ledger, now = Ledger(db), datetime.now(UTC)
    specs, problems = load_all()
    retired, paused = retirements(db), pauses(db, now)
    names = sorted({*model_names(), *retired})
    champions, verdicts = (
        ledger.champions(),
        newest_verdicts_by_model(db, names, now=now, evidence_keys=("waits", "sight")),
    )
    beats, known_bases = heartbeats(db), bases(db)
    incidents = {incident.model: incident for incident in ledger.open_incidents()}
    report = {}
    for name in names:
        champion, incident = champions.get(name), incidents.get(name)
        wrong = [problem for problem in problems if problem.startswith(f"{settings().models_dir / name}.yaml")]
        if champion is None and not wrong:
            wrong = [f"no champion yet; run `driftloop bootstrap {name}`"]
        report[name] = {
            "champion_version": champion.version if champion else None,
            "previous_version": champion.previous_version if champion else None,
            "serving": _serving(specs.get(name), champion, beats),
            "since": champion.since.isoformat() if champion else None,
            "conditions": {verdict.signal: _condition(verdict) for verdict in verdicts[name] if is_current(verdict)},
            "sight": _sight(verdicts[name]),
            "incident": _plain(asdict(incident)) if incident else None,
            "next": _plain(asdict(next_action(incident, specs.get(name), paused.get(name), now))),
            "paused_until": paused[name].until.isoformat() if name in paused else None,
            "other_base": _other_base(specs.get(name), champion, known_bases),
            "retired": str(retired[name]) if name in retired else None,
            "problems": wrong,
            **(_AT_REST if name in retired else {}),
        }
    return report


def _other_base(spec: ModelSpec | None, champion: Champion | None, known: Mapping[tuple[str, int], str]) -> str | None:
    """Say that the YAML names another base than the champion's; None: it does not, or nobody knows."""
    return None if spec is None or champion is None else other_base(spec, champion.version, known)


_AT_REST: Mapping[str, Any] = {
    "serving": None,
    "conditions": {},
    "sight": None,
    "other_base": None,
    "next": {"action": "nothing: it is retired", "at": None, "why": "a person retired it"},
    "problems": [],
}
"""What is said of a retired model instead: nobody judges it any more, and it lacks nothing."""


def _serving(
    spec: ModelSpec | None, champion: Champion | None, beats: Mapping[str, tuple[datetime, dict[str, Any]]]
) -> str | None:
    """Say whether servers have the champion: `confirmed`, `not confirmed`; `unconfirmed` where none can be asked."""
    if spec is None or champion is None:
        return None
    if not spec.serving.can_say:
        return "unconfirmed"
    _, details = beats.get(f"serving:{champion.model}", (None, {}))
    return "confirmed" if details.get("loaded_version") == champion.version else "not confirmed"


def _condition(verdict: Verdict) -> dict[str, Any]:
    return {
        "condition": str(verdict.condition),
        "reason": verdict.reason,
        "score": verdict.score,
        "limit": verdict.limit,
        "window_end": verdict.window.end.isoformat(),
    }


def _sight(verdicts: Iterable[Verdict]) -> dict[str, Any] | None:
    """Say how far the newest window sees: `learning`, `thin` or `good` with figures, or `blind`; None: unjudged."""
    data = next((verdict for verdict in verdicts if verdict.signal == "data"), None)
    if data is None:
        return None
    if not is_current(data) or (data.condition is Condition.NO_DATA and not data.waits):
        return {"state": "blind"}
    return dict(data.evidence.get("sight", {"state": "thin" if data.waits else "good"}))


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
