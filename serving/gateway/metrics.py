"""What the gateway tells Prometheus, in a registry of its own; every series exists from the start."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from serving.metrics import BUCKETS

OUTCOMES = ("ok", "error", "rejected", "not_ready", "cancelled")
"""As of serving, and `cancelled`: the caller went away before the answer's end."""

ARMS = ("champion", "challenger")


class GatewayMetrics:
    """The metrics of one gateway."""

    def __init__(self, models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.models = frozenset(models)
        self.requests = self._counter("requests", "Requests by how they ended", "outcome")
        self.retries = self._counter("retries", "Requests that were sent to another replica, or once more")
        text = "Requests of the users of each version while two serve, by how they ended"
        self.arm_requests = self._counter("arm_requests", text, "arm", "outcome")
        self.seconds = self._histogram("request_seconds", "Time from arrival to the answer's end, of answered requests")
        self.first_token = self._histogram("first_token_seconds", "Time from arrival to a stream's first text")
        self.in_flight = self._gauge("in_flight", "Requests that are being answered")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts, as servers count them")
        self.completion_tokens = self._counter("completion_tokens", "Tokens of answers, as servers count them")
        self.log_rows = self._counter("log_rows", "Rows written to the inference log")
        self.log_dropped = self._counter("log_dropped", "Rows that were lost because the inference log was away")
        self.log_unreadable = self._counter("log_unreadable", "Answered requests without a text to log, such as ids")
        self.replicas_resting = self._gauge("replicas_resting", "Replicas that fail and are left alone for now")
        for model in self.models:
            for outcome in OUTCOMES:
                self.requests.labels(model, outcome)
                for arm in ARMS:
                    self.arm_requests.labels(model, arm, outcome)

    def follow(self, model: str, resting: Callable[[], int], in_flight: Callable[[], int]) -> None:
        """Read a model's gauges when they are scraped."""
        self.in_flight.labels(model).set_function(in_flight)
        self.replicas_resting.labels(model).set_function(resting)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        metric = Counter(f"driftloop_gateway_{name}", text, ["model", *labels], registry=self.registry)
        if not labels:
            for model in self.models:
                metric.labels(model)
        return metric

    def _gauge(self, name: str, text: str) -> Gauge:
        metric = Gauge(f"driftloop_gateway_{name}", text, ["model"], registry=self.registry)
        for model in self.models:
            metric.labels(model)
        return metric

    def _histogram(self, name: str, text: str) -> Histogram:
        metric = Histogram(f"driftloop_gateway_{name}", text, ["model"], buckets=BUCKETS, registry=self.registry)
        for model in self.models:
            metric.labels(model)
        return metric
