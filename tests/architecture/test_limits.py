"""Nothing waits without end: every call over a network says how long it may take, or stands here with its reason.

That every task has a limit is held by `tests/dags/test_graph.py`, and that a silent server is given up on by
`tests/datasets_defs/store/test_database.py`; here no call is left out.
"""

import ast
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT

PACKAGES = ("dags", "datasets_defs", "monitors", "training", "alerts", "serving", "ops")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HTTP = {
    f"httpx.{name}" for name in ("get", "post", "put", "patch", "delete", "request", "stream", "Client", "AsyncClient")
}
LIMIT_OF: dict[Callable[[str], bool], str] = {
    HTTP.__contains__: "timeout",
    lambda name: name == "SlackHook": "timeout",
    lambda name: "_namespaced_pod" in name and name.startswith("self._client."): "_request_timeout",
    lambda name: name.startswith("self._apps.") and name.endswith("_scale"): "_request_timeout",
    lambda name: name in ("psycopg.connect", "psycopg.AsyncConnection.connect"): "connect_timeout",
}
"""Calls over a network, and the argument that limits each."""
WITHOUT = {
    ("monitors/prometheus/client.py", "httpx.Client"): "its options hold the timeout; a test below looks",
    ("monitors/prometheus/client.py", "httpx.AsyncClient"): "the same options",
}
"""Calls that do not name their limit, with the reason."""
LONGER = {
    "datasets_defs/store/published_texts.py": "a user's query may search a large table before its first rows come",
    "monitors/counts/rollup.py": "a window of millions of rows is counted in one transaction, on one snapshot",
    "monitors/drift/flood.py": "a week of the log is searched for prompts that repeat",
}
"""Files whose SQL takes longer than the usual limit, with the reason; each says for how long."""
LIBRARIES = {
    "huggingface_hub": "HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT are its own limits, 10 s each",
    "mlflow": "MLFLOW_HTTP_REQUEST_TIMEOUT is set where it is imported; a test below looks",
    "fsspec": "object stores have limits of their own: botocore's are 60 s to connect and 60 s to read",
}
"""Libraries that call over a network by themselves, with what limits them."""


@cache
def calls() -> tuple[tuple[str, str, frozenset[str | None]], ...]:
    """Give every call in the code: its file, the name of what is called, and the names of its arguments."""
    return tuple(
        (str(path.relative_to(ROOT)), dotted(node.func), frozenset(keyword.arg for keyword in node.keywords))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    )


def dotted(called: ast.expr) -> str:
    """Write what is called, as the code does; names with dots are most of it, and unparsing takes long."""
    if isinstance(called, ast.Name):
        return called.id
    if isinstance(called, ast.Attribute):
        return f"{dotted(called.value)}.{called.attr}"
    return ast.unparse(called)


def test_every_call_over_a_network_says_its_limit() -> None:
    """HTTP, Slack, Kubernetes and PostgreSQL: each names its limit, or is listed with a reason."""
    without, seen = set(), set()
    for file, name, given in calls():
        for is_one, argument in LIMIT_OF.items():
            if is_one(name):
                seen.add(argument)
                if argument not in given:
                    without.add((file, name))
    assert without == set(WITHOUT)
    assert seen == set(LIMIT_OF.values())  # the search finds such calls at all


def test_every_engine_has_a_limit() -> None:
    """Engines are made in one place, which gives each session its limit; who needs longer is listed with a reason."""
    makers = {file for file, name, _ in calls() if name.split(".")[-1] == "create_engine"}
    assert makers == {"datasets_defs/store/database.py"}
    assert {file for file, name, _ in calls() if name == "allow"} == set(LONGER)
    unlimited = [path for path in SOURCES if "statement_timeout = 0" in path.read_text()]
    assert unlimited == []


def test_no_other_library_calls_over_a_network() -> None:
    """A library for HTTP that comes to be imported needs a line here: none but httpx is used without one."""
    others = {"requests", "urllib3", "aiohttp", "urllib.request", "http.client", "socket", "slack_sdk", "boto3"}
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                if name in others or name.split(".")[0] in others - {"urllib.request", "http.client"}:
                    found.setdefault(str(path.relative_to(ROOT)), set()).add(name)
    assert found == {
        "training/registry/client.py": {"requests"},  # the errors of MLflow's client
        "alerts/slack.py": {"slack_sdk.errors", "http.client"},  # the errors of Slack's
        "datasets_defs/store/gpu_leases.py": {"socket"},  # this machine's name
        "datasets_defs/cluster.py": {"urllib3.exceptions"},  # the errors of Kubernetes' client
        "training/trainers/kubernetes.py": {"urllib3.exceptions"},  # the same
        "ops/stack/ports.py": {"socket"},  # binds, and connects to nobody
        "serving/wire/http_client.py": {"aiohttp"},  # each request's ClientTimeout is made of the YAML's limits
        "training/trainers/launcher.py": {"socket"},  # the names of this machine's interfaces
    }


def test_limits_of_clients_that_are_made_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus's client and MLflow's have the limit that the lists above say."""
    from monitors.prometheus.client import PrometheusClient

    assert PrometheusClient("http://127.0.0.1:1")._options["timeout"] > 0
    import training.registry.client  # noqa: F401  # sets the environment

    assert 0 < float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 60
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 3


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_of_the_list_is_used(library: str) -> None:
    """A line of the list is about something that is there."""
    assert any(f"import {library}" in text or f"from {library}" in text for text in map(Path.read_text, SOURCES))
