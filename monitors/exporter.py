"""The loop's own metrics, read from PostgreSQL at every scrape.

`python -m monitors.exporter --port 9108` serves them. A database that is away leaves the exporter up, saying so.
"""

import argparse
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import TransientError
from datasets_defs.core.incidents import TERMINAL, State
from datasets_defs.ledger.way_back import DRILLS
from datasets_defs.store.database import engine
from monitors.exporter_gpus import gpu_families
from monitors.exporter_reading import CountedRows, Reading, read

_CHANGES = ("bootstrap", "promote", "roll_back", "revert", *DRILLS)
_OPEN_STATES = [state for state in State if state not in TERMINAL]


class LoopCollector(Collector):
    """Turns one reading of the database into metric families."""

    def __init__(self, db: Engine) -> None:
        self.db = db
        self.last_success = 0.0
        self._counted = CountedRows()

    def describe(self) -> list[Metric]:
        """Name nothing in advance, so that registering does not need the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the database now; all of it or nothing."""
        families: list[Metric] = []
        up = GaugeMetricFamily("driftloop_database_up", "Whether the loop's PostgreSQL can be read (1) or not (0).")
        try:
            now = datetime.now(UTC)
            families = list(metric_families(read(self.db, now=now, counted=self._counted), now))
            self.last_success = now.timestamp()
            up.add_metric([], 1)
        except (TransientError, SQLAlchemyError):  # a missing schema counts as away: nothing can be read
            up.add_metric([], 0)
        yield up
        yield _gauge(
            "exporter_last_success_timestamp_seconds", "Last complete read (0: never).", {(): self.last_success}
        )
        yield from families


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"driftloop_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"driftloop_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def metric_families(reading: Reading, now: datetime) -> Iterator[Metric]:
    """Give the metric families of a reading; a family without a value is given, too."""
    yield from _verdicts(reading, now)
    yield from _incidents(reading, now)
    yield from _champions(reading)
    yield from _trainings(reading)
    yield from gpu_families(reading.gpus, now)
    beats = {(component,): (now - at).total_seconds() for component, at in reading.heartbeats.items()}
    yield _gauge("heartbeat_age_seconds", "Since the component was last heard of.", beats, ("component",))
    keyed = [((item.dag, item.model), item) for item in reading.finished]
    done = {key: item.at.timestamp() for key, item in keyed}
    yield _gauge("last_finished_timestamp_seconds", "When a scheduled DAG last did its work.", done, ("dag", "model"))
    pace = {key: item.every_seconds for key, item in keyed}
    yield _gauge("finish_interval_seconds", "Every how many seconds it should.", pace, ("dag", "model"))
    yield _gauge("alerts_waiting", "Messages to people that are not sent yet.", {(): float(reading.alerts_waiting)})
    oldest = reading.oldest_alert
    age = (now - oldest).total_seconds() if oldest is not None else 0.0
    yield _gauge("alerts_oldest_waiting_seconds", "Age of the oldest unsent message.", {(): age})
    stuck = float(reading.alerts_stuck)
    yield _gauge("alerts_stuck", "Messages to people that were tried, and not sent, for half an hour.", {(): stuck})
    events = {(model,): float(reading.history.get(model, 0)) for model in reading.models}
    yield _gauge("history_events", "Events in the model's history, by PostgreSQL's own count.", events, ("model",))
    rows = {(model,): float(count) for model, count in reading.rows.items()}
    yield _gauge("inference_rows", "Logged requests in the newest complete window.", rows, ("model",))


def _verdicts(reading: Reading, now: datetime) -> Iterator[Metric]:
    keyed = [((verdict.model, verdict.signal), verdict) for verdict in reading.verdicts]
    yield _gauge(
        "condition",
        "Condition of the signal's newest verdict: 1 for the one it is in.",
        {(*key, c.value): float(verdict.condition is c) for key, verdict in keyed for c in Condition},
        ("model", "signal", "condition"),
    )
    by_signal = ("model", "signal")
    age = {key: (now - verdict.window.end).total_seconds() for key, verdict in keyed}
    yield _gauge("verdict_age_seconds", "Since the end of the newest judged window.", age, by_signal)
    scores = {key: _number(verdict.score) for key, verdict in keyed}
    yield _gauge("signal_score", "Score of the newest verdict; NaN when unknown.", scores, by_signal)
    limits = {key: _number(verdict.limit) for key, verdict in keyed}
    yield _gauge("signal_limit", "Limit of the newest verdict; NaN when unknown.", limits, by_signal)
    waits = {key: float(verdict.waits) for key, verdict in keyed}
    yield _gauge("signal_waits", "Whether the newest verdict only waits for what is not due yet.", waits, by_signal)
    yield from _drift_and_loss(reading)


def _drift_and_loss(reading: Reading) -> Iterator[Metric]:
    by_model = ("model",)
    drift, loss, reports = (
        {verdict.model: verdict for verdict in reading.verdicts if verdict.signal == signal}
        for signal in ("drift", "loss", "drift_report")
    )
    evidence = {(model,): _number(verdict.score) for model, verdict in drift.items()}
    yield _gauge("drift_evidence_log10", "log10 of the evidence against no drift, M.", evidence, by_model)
    shares = {(model,): _share(verdict, reports.get(model)) for model, verdict in drift.items()}
    yield _gauge("drift_share_ratio", "Share of the judged columns that drifted.", shares, by_model)
    ratios = {(model,): _number(verdict.score) for model, verdict in loss.items()}
    yield _gauge("loss_ratio", "Loss of the window's prompts over the reference's.", ratios, by_model)
    least = {(model,): _said(verdict, "loss_ratio_at_least") for model, verdict in loss.items()}
    yield _gauge("loss_ratio_at_least", "Lower end of the loss ratio's confidence sequence.", least, by_model)
    bits = {(model,): _said(verdict, "window_bits_per_byte") for model, verdict in loss.items()}
    yield _gauge("prompt_bits_per_byte", "Mean loss of the newest judged window's prompts.", bits, by_model)


def _share(drift: Verdict, report: Verdict | None) -> float:
    """Give the drift share of Evidently's report on the window, or what the detector said if there is none of it."""
    if report is not None and report.window == drift.window and report.score is not None:
        return report.score
    return _said(drift, "drift_share")


def _said(verdict: Verdict, name: str) -> float:
    return _number(verdict.evidence.get(name) if verdict.condition.is_known else None)


def _incidents(reading: Reading, now: datetime) -> Iterator[Metric]:
    states = {
        (model, state.value): float(model in reading.incidents and reading.incidents[model].state is state)
        for model in reading.models
        for state in _OPEN_STATES
    }
    yield _gauge("incident_open", "Whether the model has an open incident in this state.", states, ("model", "state"))
    by_hand = {
        (model,): float(model in reading.incidents and reading.incidents[model].is_no_alarm) for model in reading.models
    }
    about = "Whether the open incident is about a person's offer or a training on schedule alone: nothing is bad."
    yield _gauge("incident_by_hand", about, by_hand, ("model",))
    ages = {
        (model,): (now - reading.incidents[model].opened_at).total_seconds() if model in reading.incidents else 0.0
        for model in reading.models
    }
    yield _gauge("incident_age_seconds", "Since the open incident was opened; 0 without one.", ages, ("model",))
    totals = {(model,): float(reading.incidents_total.get(model, 0)) for model in reading.models}
    yield _counter("incidents", "Incidents ever opened.", totals, ("model",))


def _champions(reading: Reading) -> Iterator[Metric]:
    versions = {(champion.model,): float(champion.version) for champion in reading.champions}
    yield _gauge("champion_version", "Version that serves, as the ledger has it.", versions, ("model",))
    since = {(champion.model,): champion.since.timestamp() for champion in reading.champions}
    yield _gauge("champion_since_timestamp_seconds", "When it began to serve.", since, ("model",))
    routes = [(model, reading.routes.get(model)) for model in reading.models]
    shares = {(model,): route.share if route is not None else 0.0 for model, route in routes}
    text = "Share of the users whom a challenger answers; 0 without one."
    yield _gauge("rollout_share_ratio", text, shares, ("model",))
    steps = {(model,): float(route.step + 1) if route is not None else 0.0 for model, route in routes}
    yield _gauge("rollout_step", "Step of the rollout that is wanted, from 1 on; 0 without one.", steps, ("model",))
    changes = {
        (model, kind): float(reading.changes.get((model, kind), 0)) for model in reading.models for kind in _CHANGES
    }
    yield _counter("champion_changes", "Changes of champion, by kind.", changes, ("model", "kind"))


def _trainings(reading: Reading) -> Iterator[Metric]:
    figures = {
        "step": "Optimizer steps that the running training has done.",
        "steps": "Optimizer steps that the running training has planned.",
        "loss": "Loss of the running training's newest batch, nats per token.",
        "validation_bits_per_byte": "Loss of the validation texts at the running training's newest look.",
        "tokens_per_second": "Tokens that the running training learns from per second.",
        "elapsed_seconds": "How long the running training has trained, over all its resumptions.",
    }
    for name, text in figures.items():
        values = {(model,): _number(training.get(name)) for model, training in reading.trainings.items()}
        yield _gauge(f"training_{name}", text, values, ("model",))
    idle = {(model,): seconds for model, seconds in reading.idle.items() if model in reading.models}
    text = "Since the newest step of the training that the open incident waits for."
    yield _gauge("training_idle_seconds", text, idle, ("model",))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def serve(port: int, host: str = "127.0.0.1") -> None:
    """Serve `/metrics` until the process ends."""
    registry = CollectorRegistry()
    registry.register(LoopCollector(engine()))
    start_http_server(port, addr=host, registry=registry)
    threading.Event().wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m monitors.exporter", description="Serve the loop's own metrics.")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    arguments = parser.parse_args()
    serve(arguments.port, arguments.host)


if __name__ == "__main__":
    main()
