"""What serving tells Prometheus. Rates of the bits and bytes counters give bits per byte over any window."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from datasets_defs.core.streams import model_of
from datasets_defs.store.inference_log import Inference

OUTCOMES = ("ok", "error", "rejected", "not_ready")
"""`rejected`: the caller asked for something impossible, or the queue was full. `error`: our fault. `not_ready`: no
champion is in memory yet, or no more, which says nothing of how well it answers."""
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60)


class ServingMetrics:
    """The metrics of one process, in a registry of its own; every series exists from the start."""

    def __init__(self, models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.models = frozenset(models)
        self.requests = self._counter("requests", "Requests by how they ended", "outcome")
        self.seconds = Histogram(
            "driftloop_serving_request_seconds",
            "Time from arrival to answer, waiting in the queue included, of answered requests",
            ["model"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts")
        self.completion_tokens = self._counter("completion_tokens", "Tokens of completions")
        self.prompt_bits = self._counter("prompt_bits", "Bits that the prompts cost the model")
        self.prompt_bytes = self._counter("prompt_bytes", "UTF-8 bytes of those prompts")
        self.completion_bits = self._counter("completion_bits", "Bits that the model's own completions cost it")
        self.completion_bytes = self._counter("completion_bytes", "UTF-8 bytes of those completions")
        self.log_rows = self._counter("log_rows", "Rows written to the inference log")
        self.log_dropped = self._counter("log_dropped", "Rows that were lost because the inference log was away")
        self.loaded_version = self._gauge("loaded_version", "Version in memory; NaN before the first")
        self.queue_length = self._gauge("queue_length", "Requests that wait or are being answered")
        for model in self.models:
            self.seconds.labels(model)
            self.loaded_version.labels(model).set(float("nan"))
            for outcome in OUTCOMES:
                self.requests.labels(model, outcome)

    def follow(self, model: str, version: Callable[[], int | None], queue: Callable[[], int]) -> None:
        """Read a model's gauges when they are scraped."""
        self.loaded_version.labels(model).set_function(lambda: v if (v := version()) is not None else float("nan"))
        self.queue_length.labels(model).set_function(queue)

    def ended(self, model: str, outcome: str) -> None:
        """Count one request, of live traffic or of a batch; one that names no model of ours counts for none."""
        if model_of(model) in self.models:
            self.requests.labels(model, outcome).inc()

    def answered(self, row: Inference, *, prompt: tuple[float, int], completion: tuple[float, int]) -> None:
        """Count what an answered request cost; `prompt` and `completion` are (bits, UTF-8 bytes)."""
        model = row.model
        self.seconds.labels(model).observe(row.latency_seconds or 0)
        self.prompt_tokens.labels(model).inc(row.prompt_tokens or 0)
        self.completion_tokens.labels(model).inc(row.completion_tokens or 0)
        self.prompt_bits.labels(model).inc(prompt[0])
        self.prompt_bytes.labels(model).inc(prompt[1])
        self.completion_bits.labels(model).inc(completion[0])
        self.completion_bytes.labels(model).inc(completion[1])

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        metric = Counter(f"driftloop_serving_{name}", text, ["model", *labels], registry=self.registry)
        if not labels:
            for model in self.models:
                metric.labels(model)
        return metric

    def _gauge(self, name: str, text: str) -> Gauge:
        metric = Gauge(f"driftloop_serving_{name}", text, ["model"], registry=self.registry)
        for model in self.models:
            metric.labels(model)
        return metric
