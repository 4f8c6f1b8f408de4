"""What the dashboard shows, as data: titles, what each panel means, units, queries."""

from dataclasses import dataclass
from enum import StrEnum

MODEL = 'model=~"$model"'
RATE = "$__rate_interval"
SERVING = "driftloop_serving"


class Kind(StrEnum):
    """How a panel is drawn."""

    LINES = "lines"
    BARS = "bars"
    FIGURE = "figure"
    STATES = "states"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One panel. Queries are (PromQL, legend); widths are in 24ths of the dashboard."""

    title: str
    description: str
    unit: str
    """A unit id of Grafana's."""
    queries: tuple[tuple[str, str], ...]
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 7
    minimum: float | None = None
    maximum: float | None = None
    limit: float | None = None
    """Drawn as a red line."""


def _each(metric: str, more: str = "") -> str:
    return f"{metric}{{{MODEL}{more}}}"


def _rate(metric: str, more: str = "") -> str:
    return f"sum by (model) (rate({SERVING}_{metric}{{{MODEL}{more}}}[{RATE}]))"


def _quantile(share: float) -> tuple[str, str]:
    buckets = f"sum by (model, le) (rate({SERVING}_request_seconds_bucket{{{MODEL}}}[{RATE}]))"
    return f"histogram_quantile({share}, {buckets})", f"{{{{model}}}} p{share * 100:g}"


CONDITIONS = " + on (model, signal) ".join(
    f'{rank} * driftloop_condition{{{MODEL},condition="{condition}"}}'
    for rank, condition in enumerate(("OK", "WARN", "BAD", "NO_DATA", "STALE"))
)
"""The newest condition of each signal as a number: 0 OK, 1 WARN, 2 BAD, 3 NO_DATA, 4 STALE."""

ROWS: dict[str, tuple[Chart, ...]] = {
    "Now": (
        Chart(
            title="Champion version",
            description="Version that serves, says the ledger. It changes by promotion, rollback or revert only.",
            unit="none",
            queries=((_each("driftloop_champion_version"), "{{model}}"),),
            kind=Kind.FIGURE,
            width=4,
            height=5,
        ),
        Chart(
            title="Loaded version",
            description="Version that serving has in memory. For longer than a minute it should equal the champion's.",
            unit="none",
            queries=((_each(f"{SERVING}_loaded_version"), "{{model}}"),),
            kind=Kind.FIGURE,
            width=4,
            height=5,
        ),
        Chart(
            title="Open incidents",
            description="Open incidents by the state they stand in. `driftloop status` says what they are about.",
            unit="none",
            queries=((f"sum by (state) ({_each('driftloop_incident_open')}) > 0 or vector(0)", "{{state}}"),),
            kind=Kind.FIGURE,
            width=6,
            height=5,
        ),
        Chart(
            title="Messages waiting",
            description="Messages to people that Slack has not taken yet, and those that it has not for half an hour. "
            "`driftloop status` shows them.",
            unit="none",
            queries=(("driftloop_alerts_waiting", "waiting"), ("driftloop_alerts_stuck", "stuck")),
            kind=Kind.FIGURE,
            width=5,
            height=5,
        ),
        Chart(
            title="Requests",
            description="Requests that arrive, all outcomes together.",
            unit="reqps",
            queries=((_rate("requests_total"), "{{model}}"),),
            kind=Kind.FIGURE,
            width=5,
            height=5,
        ),
    ),
    "Judgement": (
        Chart(
            title="Conditions per signal",
            description="Newest condition of every signal. NO_DATA and STALE are not health; nothing acts on them.",
            unit="none",
            queries=((CONDITIONS, "{{model}} {{signal}}"),),
            kind=Kind.STATES,
            width=24,
            height=8,
        ),
        Chart(
            title="Drift evidence",
            description="log10 of the evidence for a changed input. By chance it passes the line once in ten years.",
            unit="none",
            queries=((_each("driftloop_drift_evidence_log10"), "{{model}}"),),
            limit=4.94,
        ),
        Chart(
            title="Drift share",
            description="Share of the judged columns whose own evidence reached the limit.",
            unit="percentunit",
            queries=((_each("driftloop_drift_share_ratio"), "{{model}}"),),
            minimum=0,
            maximum=1,
        ),
        Chart(
            title="Loss ratio",
            description="Mean bits per byte of the window's prompts over the reference's, the least it surely is since "
            "it began to rise, and the limit that this has to pass.",
            unit="none",
            queries=(
                (_each("driftloop_loss_ratio"), "{{model}}"),
                (_each("driftloop_loss_ratio_at_least"), "{{model}} at least"),
                (_each("driftloop_signal_limit", ',signal="loss"'), "{{model}} limit"),
            ),
        ),
        Chart(
            title="Prompt loss",
            description="Bits per byte that prompts cost the model; lower is better. It needs no labels.",
            unit="none",
            queries=((f"{_rate('prompt_bits_total')} / {_rate('prompt_bytes_total')}", "{{model}}"),),
            width=6,
            minimum=0,
        ),
        Chart(
            title="Incidents by state",
            description="1 while the model's open incident stands in the state.",
            unit="none",
            width=6,
            queries=((f"{_each('driftloop_incident_open')}", "{{model}} {{state}}"),),
            kind=Kind.BARS,
        ),
        Chart(
            title="Changes of champion",
            description="Promotions, rollbacks and reverts so far.",
            unit="none",
            width=6,
            queries=((_each("driftloop_champion_changes_total"), "{{model}} {{kind}}"),),
            minimum=0,
        ),
        Chart(
            title="Rows in the newest window",
            description="Logged requests in the newest complete window; too few make its verdict NO_DATA.",
            unit="none",
            width=6,
            queries=((_each("driftloop_inference_rows"), "{{model}}"),),
            kind=Kind.BARS,
            minimum=0,
        ),
    ),
    "Serving": (
        Chart(
            title="Latency",
            description="Time from arrival to answer, waiting in the queue included.",
            unit="s",
            queries=(_quantile(0.5), _quantile(0.95)),
            minimum=0,
        ),
        Chart(
            title="Requests by outcome",
            description="`rejected`: impossible requests and full queues. `error`: the server's fault.",
            unit="reqps",
            queries=((f"sum by (outcome) (rate({SERVING}_requests_total{{{MODEL}}}[{RATE}]))", "{{outcome}}"),),
            kind=Kind.BARS,
            minimum=0,
        ),
        Chart(
            title="Tokens",
            description="Tokens read and written per second.",
            unit="short",
            queries=(
                (_rate("prompt_tokens_total"), "{{model}} read"),
                (_rate("completion_tokens_total"), "{{model}} written"),
            ),
            minimum=0,
        ),
        Chart(
            title="Queue",
            description="Requests that wait or are being answered; at 64 further ones are refused.",
            unit="none",
            queries=((_each(f"{SERVING}_queue_length"), "{{model}}"),),
            minimum=0,
            limit=64,
        ),
        Chart(
            title="Log rows lost",
            description="Rows that the inference log never got because PostgreSQL was away for too long.",
            unit="cps",
            queries=((_rate("log_dropped_total"), "{{model}}"),),
            kind=Kind.BARS,
            minimum=0,
        ),
        Chart(
            title="Completion loss",
            description="Bits per byte of the model's own completions. Low means that it repeats itself.",
            unit="none",
            queries=((f"{_rate('completion_bits_total')} / {_rate('completion_bytes_total')}", "{{model}}"),),
            minimum=0,
        ),
    ),
    "GPU": (
        Chart(
            title="Utilisation",
            description="Share of time in which a kernel ran, as NVIDIA's DCGM exporter reports it. Absent under MIG.",
            unit="percent",
            queries=(("DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}}"),),
            width=6,
            minimum=0,
            maximum=100,
        ),
        Chart(
            title="Memory used",
            description="Framebuffer memory in use.",
            unit="mbytes",
            queries=(("DCGM_FI_DEV_FB_USED", "GPU {{gpu}}"),),
            width=6,
            minimum=0,
        ),
        Chart(
            title="Temperature",
            description="Temperature of the GPU's core.",
            unit="celsius",
            queries=(("DCGM_FI_DEV_GPU_TEMP", "GPU {{gpu}}"),),
            width=6,
            limit=90,
        ),
        Chart(
            title="Power",
            description="Power drawn by the board.",
            unit="watt",
            queries=(("DCGM_FI_DEV_POWER_USAGE", "GPU {{gpu}}"),),
            width=6,
            minimum=0,
        ),
    ),
    "Training": (
        Chart(
            title="Training progress",
            description="Steps done of those planned. A training that stops early, or has ended, is shown no more.",
            unit="percentunit",
            queries=((f"{_each('driftloop_training_step')} / {_each('driftloop_training_steps')}", "{{model}}"),),
            width=6,
            minimum=0,
            maximum=1,
        ),
        Chart(
            title="Training loss",
            description="Nats per token of the newest batch of the training at work.",
            unit="none",
            queries=((_each("driftloop_training_loss"), "{{model}}"),),
            width=6,
        ),
        Chart(
            title="Validation loss",
            description="Bits per byte of texts that are not trained on, at the newest look; "
            "only with `data.validation_share`.",
            unit="none",
            queries=((_each("driftloop_training_validation_bits_per_byte"), "{{model}}"),),
            width=6,
        ),
        Chart(
            title="Training speed",
            description="Tokens that the training at work learns from per second.",
            unit="short",
            queries=((_each("driftloop_training_tokens_per_second"), "{{model}}"),),
            width=6,
            minimum=0,
        ),
    ),
    "The loop itself": (
        Chart(
            title="Heartbeats",
            description="Time since each component was last heard of. A sensor's grows to one window and falls back.",
            unit="s",
            queries=(("driftloop_heartbeat_age_seconds", "{{component}}"),),
            width=12,
            minimum=0,
        ),
        Chart(
            title="Age of verdicts",
            description="Time since the end of the newest judged window of each signal.",
            unit="s",
            queries=((_each("driftloop_verdict_age_seconds"), "{{model}} {{signal}}"),),
            width=6,
            minimum=0,
        ),
        Chart(
            title="Database",
            description="1 while the exporter can read the loop's PostgreSQL.",
            unit="none",
            queries=(("driftloop_database_up", "reachable"),),
            width=6,
            minimum=0,
            maximum=1,
        ),
    ),
}
"""Every panel, by the row it stands in."""
