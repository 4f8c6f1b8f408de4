"""Realistic states of the loop for the page: written as the loop would have written them over the last three days."""

import math
import random
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, insert

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.ledger.events import GENESIS, Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from datasets_defs.store.artifacts import artifact_url, write_bytes
from datasets_defs.store.heartbeats import beat
from datasets_defs.store.verdicts import save_verdict
from monitors.verdicts.conclude import judged_window
from ops.page.reading import SHOWN_WINDOWS

HOUR = timedelta(hours=1)
SENSOR, TRAINER, TRIAGE = "watch_drift__scheduled__2026", "retrain__asset_triggered__1", "triage__asset_triggered__1"
OPENED = "loss 1.31 times the reference's, surely above 1.02"
SCORES = {
    "recent": {"documents": 126, "champion": 3.912, "challenger": 2.874, "low": -0.281, "high": -0.249},
    "old": {"documents": 180, "champion": 2.583, "challenger": 2.571, "low": -0.012, "high": 0.003},
}
SIGNALS = {
    "data": ("gates", 0.0, 1.0),
    "drift": ("e_detector", 1.2, 4.94),
    "loss": ("confidence_sequence", 1.0, 1.02),
    "quality:prompt_loss": ("promql", 2.61, 3.4),
    "quality:latency_p95_seconds": ("promql", 0.41, 2.0),
    "quality:error_share": ("promql", 0.001, 0.05),
    "gpu:temperature_celsius": ("promql", 61.0, 90.0),
}
SPEC = """
name: {name}
description: "{description}"
base_model: {{layers: 1, width: 16, heads: 2, vocabulary: 300, context: 64}}
training_text: builtin:python-docs
drift: {{season: none, reports: on_warn}}
quality:
- {{name: prompt_loss, promql: up, bad: 3.4}}
- {{name: latency_p95_seconds, promql: up, bad: 2}}
- {{name: error_share, promql: up, bad: 0.05}}
gpu: [{{name: temperature_celsius, promql: up, bad: 90}}]
"""
REPORT = """<!doctype html><title>report</title><body style="font: 14px sans-serif; padding: 24px">
<h2>drift 2026</h2><p id="told">no script ran</p><script>
document.getElementById("told").textContent = "its own script ran";
try { parent.document.body.id = "taken"; } catch (err) { document.body.append(" parent: refused."); }
try { document.cookie; } catch (err) { document.body.append(" cookies: refused."); }
fetch("/api/v2/version").catch(() => document.body.append(" network: refused."));
</script></body>"""


class Past:
    """Writes one model's past, event by event."""

    def __init__(self, engine: Engine, model: str, now: datetime) -> None:
        self.engine, self.model, self.now = engine, model, now
        self.last = judged_window(now)
        self.seq, self.hash, self.token = 0, GENESIS, 0

    def note(self, hours: float, kind: str, reason: str, **more) -> None:
        """Append an event that happened so many hours ago."""
        known = {
            "incident_id": None,
            "from_state": None,
            "state": None,
            "actor": "watch_drift__scheduled__2026",
            "evidence": {},
        }
        self.seq += 1
        event = Event(
            **{**known, "model": self.model, "seq": self.seq, "at": self.now - hours * HOUR, "kind": kind,
               "reason": reason, "prev_hash": self.hash, **more}
        )  # fmt: skip
        self.hash = event.digest()
        values = {field.name: getattr(event, field.name) for field in fields(Event)}
        with self.engine.begin() as on:
            on.execute(insert(tables.incident_event).values({**values, "hash": self.hash}))

    def incident(self, state: str, opened: float, **more) -> int:
        """Put an incident into the ledger."""
        values = {
            "model": self.model, "state": state, "signal": "loss", "opened_at": self.now - opened * HOUR,
            "updated_at": self.now - opened * HOUR, "degraded_since": self.now - (opened + 2) * HOUR, **more,
        }  # fmt: skip
        with self.engine.begin() as on:
            return on.execute(insert(tables.incident).values(values).returning(tables.incident.c.id)).scalar_one()

    def change(self, kind: str, hours: float, to: int, frm: int | None = None, incident: int | None = None) -> None:
        """Record a change of champion."""
        self.token += 1
        at = self.now - hours * HOUR
        accepted = f"accepted challenger of incident {incident}, attempt 1"
        reason = {"bootstrap": "first champion", "roll_back": f"rollback for incident {incident}"}.get(kind, accepted)
        actor = {"bootstrap": "cli:anna"}.get(kind, f"{kind}__asset_triggered__1")
        with self.engine.begin() as on:
            on.execute(
                insert(tables.promotion).values(
                    model=self.model, incident_id=incident, kind=kind, from_version=frm, to_version=to,
                    token=self.token, reason=reason, actor=actor, at=at, confirmed_at=at + HOUR / 60,
                )
            )  # fmt: skip
        self.note(hours, "champion", reason, incident_id=incident, actor=actor)

    def champion(self, version: int, hours: float, previous: int | None = None) -> None:
        """Say which version serves."""
        with self.engine.begin() as on:
            on.execute(
                insert(tables.champion).values(
                    model=self.model, version=version, previous_version=previous, since=self.now - hours * HOUR,
                    token=max(self.token, 1),
                )
            )  # fmt: skip

    def evaluation(self, incident: int, champion: int, challenger: int, hours: float) -> None:
        """Record an accepting evaluation, and the challenger's reference."""
        with self.engine.begin() as on:
            on.execute(
                insert(tables.evaluation).values(
                    incident_id=incident,
                    attempt=1,
                    model=self.model,
                    champion_version=champion,
                    challenger_version=challenger,
                    rows_uri="file:///x.parquet",
                    rows_sha256="9f2c41d07be3" + "0" * 52,
                    scores=SCORES,
                    decision="accept",
                    at=self.now - hours * HOUR,
                    reason="recent 3.912 → 2.874 bits/byte; old 2.583 → 2.571",
                )
            )
            on.execute(
                insert(tables.reference_profile).values(
                    model=self.model, version=challenger, uri="file:///r.parquet", sha256="51ce0aa4d9f7" + "0" * 52,
                    rows=306, source=f"the fresh rows of incident {incident}, attempt 1, and the older champion's rows",
                )
            )  # fmt: skip

    def verdicts(self, looks) -> None:
        """Judge the shown windows: `looks(signal, windows ago)` gives the condition, or None for no verdict."""
        draw, rows = random.Random(self.model), []
        for signal, (method, usual, limit) in SIGNALS.items():
            for ago in range(SHOWN_WINDOWS):
                condition = looks(signal, ago)
                if condition is None:
                    continue
                share = {"WARN": 0.85, "BAD": 1.35}.get(condition)
                usually = usual * (1 + 0.06 * math.sin(ago / 4) + 0.02 * draw.random())
                score = round(limit * share if share else usually, 4) if condition != "NO_DATA" else None
                words = "12 rows; 200 are needed" if score is None else f"{score:.3g} against a limit of {limit:.3g}"
                window = self.last.before(ago)
                rows.append(
                    {
                        "model": self.model, "signal": signal, "window_start": window.start, "window_end": window.end,
                        "condition": condition, "reason": f"{signal.partition(':')[2] or signal} {words}",
                        "method": method, "score": score, "limit": limit, "champion_version": 3,
                    }
                )  # fmt: skip
        with self.engine.begin() as on:
            on.execute(insert(tables.verdict), rows)


def describe(folder, name: str, description: str) -> None:
    """Write a model's file."""
    (folder / f"{name}.yaml").write_text(SPEC.format(name=name, description=description))


def fill(engine: Engine, folder, *, now: datetime | None = None) -> dict[str, int]:
    """Four models: one OK, one in retraining, one rolled back, one without data; give their incidents by name."""
    at = now or datetime.now(UTC)
    numbers = {}
    describe(folder, "docs-writer", "Continues passages of the Python documentation.")
    describe(folder, "support-replies", "Drafts first answers to customers' questions.")
    describe(folder, "code-review", "Comments on changes before people do.")
    describe(folder, "captions", "Describes product photos in a sentence.")
    _healthy(Past(engine, "docs-writer", at))
    numbers["support-replies"] = _retraining(Past(engine, "support-replies", at))
    numbers["code-review"] = _rolled_back(Past(engine, "code-review", at))
    _blind(Past(engine, "captions", at))
    _report(engine, "support-replies", judged_window(at))
    for ago, words in ((3.2, "loss is BAD, incident opened"), (0.4, "retraining began")):
        with engine.begin() as on:
            on.execute(
                insert(tables.alert_outbox).values(
                    key=words, model="support-replies", severity="warning", text=f"support-replies: {words}",
                    blocks=[], attempts=4, last_error="Slack answered 503", created_at=at - ago * HOUR,
                )
            )  # fmt: skip
    for component in ("watch_drift", "watch_quality", "watch_gpu", "reconcile", "deliver_alerts"):
        beat(engine, component)
    return numbers


def _healthy(past: Past) -> None:
    past.verdicts(lambda signal, ago: "WARN" if signal == "quality:latency_p95_seconds" and ago in (31, 32) else "OK")
    past.change("bootstrap", 2000, 1)
    number = past.incident(
        "resolved", 60, closed_at=past.now - 51 * HOUR, cause="input_shift", action="retrain", attempt=1
    )
    past.note(60, "opened", OPENED, incident_id=number, state="open")
    past.evaluation(number, 1, 2, 57)
    past.change("promote", 56.5, 2, 1, number)
    good = "3 good windows of loss since the promotion"
    past.note(51, "moved", good, incident_id=number, from_state="probation", state="resolved")
    past.champion(2, 56.5, 1)


def _retraining(past: Past) -> int:
    def looks(signal: str, ago: int) -> str:
        if ago < 7 and signal in ("drift", "loss"):
            return "BAD"
        return "WARN" if (ago < 9 and signal == "drift") or (ago < 5 and signal == "quality:prompt_loss") else "OK"

    past.verdicts(looks)
    past.change("bootstrap", 900, 3)
    past.champion(3, 900)
    number = past.incident(
        "retraining", 3.2, cause="input_shift", action="retrain", attempt=1, claimed_by=TRAINER,
        lease_until=past.now + HOUR / 12, token=1, rung_at=past.now - HOUR / 2, rings=2, updated_at=past.now - HOUR / 3,
    )  # fmt: skip
    past.note(3.2, "opened", OPENED, incident_id=number, state="open")
    costs = "the input has shifted and it costs: loss"
    past.note(3.1, "triaged", costs, incident_id=number, state="open", actor=TRIAGE)
    past.note(
        0.33, "moved", f"training attempt of incident {number}", incident_id=number, from_state="open",
        state="retraining", actor=TRAINER,
    )  # fmt: skip
    return number


def _rolled_back(past: Past) -> int:
    def looks(signal: str, ago: int) -> str:
        if signal == "loss" and 12 <= ago < 16:
            return "BAD"
        return "WARN" if signal == "drift" and 10 < ago < 30 else "OK"

    past.verdicts(looks)
    past.change("bootstrap", 700, 5)
    number = past.incident(
        "rolled_back", 33, closed_at=past.now - 11 * HOUR, cause="regression_after_promotion", action="roll_back",
        attempt=1,
    )  # fmt: skip
    past.note(33, "opened", OPENED, incident_id=number, state="open")
    past.evaluation(number, 5, 6, 18)
    past.change("promote", 17, 6, 5, number)
    past.change("roll_back", 11.2, 5, 6, number)
    past.note(
        11, "moved", "version 5 serves again", incident_id=number, from_state="probation", state="rolled_back",
        actor="roll_back__asset_triggered__1",
    )  # fmt: skip
    past.champion(5, 11.2)
    with past.engine.begin() as on:
        on.execute(
            insert(tables.pause).values(
                model=past.model, reason="the new tokenizer is being rolled out", actor="cli:anna",
                since=past.now - 2 * HOUR, until=past.now + 6 * HOUR,
            )
        )  # fmt: skip
    return number


def _blind(past: Past) -> None:
    def looks(signal: str, ago: int) -> str | None:
        if signal.startswith("gpu"):
            return "OK" if ago > 40 else None
        return "NO_DATA" if ago < 25 else "OK"

    past.verdicts(looks)
    past.change("bootstrap", 400, 1)
    past.champion(1, 400)


def _report(engine: Engine, model: str, window: Window) -> None:
    url = artifact_url("reports", model, "drift", "newest.html")
    write_bytes(url, REPORT.encode())
    verdict = Verdict(
        model=model, signal="drift_report", window=window, condition=Condition.BAD, method="evidently", score=0.67,
        reason="6 of 9 columns drifted, as Evidently counts them: share 0.67; drift is BAD",
        evidence={"report_html": url},
    )  # fmt: skip
    save_verdict(engine, verdict)


def hostile(engine: Engine, folder, payload: str, now: datetime) -> None:
    """A model of which everything that data can say is the payload."""
    describe(folder, "hostile", "x")
    path = folder / "hostile.yaml"
    path.write_text(path.read_text().replace('description: "x"', f"description: {payload!r}"))
    past = Past(engine, "hostile", now)
    past.verdicts(lambda _, ago: "BAD" if ago < 3 else "OK")
    number = past.incident("open", 2, signal=payload, claimed_by=payload, lease_until=now + HOUR)
    past.note(2, payload, payload, incident_id=number, state=payload, from_state="x", actor=payload)
    past.change("bootstrap", 3, 1)
    past.champion(1, 3)
    Past(engine, payload, now).champion(1, 3)
    newest = Verdict(
        model="hostile", signal="loss", window=past.last, condition=Condition.BAD, reason=payload, method="m",
    )  # fmt: skip
    save_verdict(engine, newest)
    save_verdict(engine, replace(newest, signal=payload))
    with engine.begin() as on:
        on.execute(
            insert(tables.alert_outbox).values(
                key="h", model="hostile", severity=payload, text=payload, blocks=[], last_error=payload
            )
        )
        on.execute(
            insert(tables.pause).values(
                model="hostile", reason=payload, actor=payload, since=now - HOUR, until=now + HOUR
            )
        )
    beat(engine, payload)
    assert Ledger(engine).verify("hostile") == []
