"""The page on metrics: what the loop's exporter, the reference server and the gateway tell Prometheus."""

from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client.core import Metric

from monitors.exporter import metric_families
from monitors.exporter_gpus import GpuReading
from monitors.exporter_reading import Reading
from ops.reference.markdown import code, page, table
from serving.gateway.metrics import OUTCOMES as GATEWAY_OUTCOMES
from serving.gateway.metrics import GatewayMetrics
from serving.metrics import OUTCOMES, ServingMetrics

LEAD = (
    "Names end in their unit: `_seconds`, `_ratio`, `_total`; shares are 0 to 1. A value that is not known is NaN, "
    "never zero. Alerts on these metrics are in [Messages and alerts](messages.md)."
)
AT_EVERY_SCRAPE = (
    ("driftloop_database_up", "gauge", "", "Whether the loop's PostgreSQL can be read (1) or not (0)."),
    ("driftloop_exporter_last_success_timestamp_seconds", "gauge", "", "Last complete read (0: never)."),
)
"""What the exporter says of itself, also when PostgreSQL is away."""
_NOTHING = Reading(
    models=(), verdicts=(), incidents={}, incidents_total={}, champions=(), routes={}, changes={}, heartbeats={},
    trainings={}, idle={}, finished=(), alerts_waiting=0, oldest_alert=None, alerts_stuck=0, history={}, rows={},
    gpus=GpuReading(floors={}, stays={}, jobs=()),
)  # fmt: skip


def write() -> str:
    """Write the page."""
    header = ("metric", "kind", "labels", "meaning")
    exporter = [*AT_EVERY_SCRAPE, *_rows(metric_families(_NOTHING, datetime.fromtimestamp(0, UTC)))]
    serving = list(_rows(ServingMetrics(["model"]).registry.collect()))
    gateway = list(_rows(GatewayMetrics(["model"]).registry.collect()))
    return page(
        "Metrics",
        LEAD,
        "## The loop's exporter\n\n`python -m monitors.exporter`, read from PostgreSQL at every scrape.\n\n"
        + table(header, [(code(row[0]), *row[1:]) for row in exporter]),
        "## The reference server\n\n`/metrics` of serving; `outcome` is "
        + ", ".join(map(code, OUTCOMES))
        + ".\n\n"
        + table(header, [(code(row[0]), *row[1:]) for row in serving]),
        "## The gateway\n\n`/metrics` of `driftloop gateway`; `outcome` is "
        + ", ".join(map(code, GATEWAY_OUTCOMES))
        + ".\n\n"
        + table(header, [(code(row[0]), *row[1:]) for row in gateway]),
    )


def _rows(metrics: Iterable[Metric]) -> list[tuple[str, str, str, str]]:
    rows = []
    for metric in metrics:
        if metric.name.startswith("driftloop_"):
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            rows.append((name, metric.type, ", ".join(map(code, labels_of(metric))), metric.documentation))
    return rows


def labels_of(metric: Metric) -> list[str]:
    """Name a metric's labels, of a family that has no sample yet, too."""
    declared = getattr(metric, "_labelnames", ())
    seen = {name: None for sample in metric.samples for name in sample.labels}
    return [name for name in [*declared, *seen] if name not in ("le", "quantile")]
