"""Whether the components of the local stack work: the supervisor's view, and a question that only ours can answer."""

import json
import ssl
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from ops.stack import ports
from ops.stack.components import AIRFLOW_COMPONENTS, AIRFLOW_USER
from ops.stack.layout import Layout, defined
from ops.stack.postgres import Cluster
from ops.stack.supervision import StoppingError, Supervisor

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one component stands."""

    name: str
    state: str
    """The supervisor's word: RUNNING, STARTING, BACKOFF, STOPPED …; `down`: none runs; `stopping`: it stops all."""
    healthy: bool
    detail: str
    """What the component answered, or why it did not."""
    started: bool = False
    """Healthy, or up and waiting only for a champion: for the first one to be made, or for its load to end."""


@dataclass(frozen=True, slots=True)
class _Peers:
    """What the questions need."""

    client: httpx.Client
    known: dict[str, int]
    """Ports by component."""
    layout: Layout
    airflow: Future[dict[str, tuple[bool, str]]]
    """The api-server's report on itself and its siblings: one question answers for four components."""


def check(layout: Layout) -> dict[str, Health]:
    """Ask every component of the stack how it is, all at once; nothing raises, a silent component is unhealthy."""
    order = list(defined(layout))
    try:
        states = Supervisor(layout).states()
    except StoppingError:
        return {name: _down(name, "stopping", "the stack is being stopped") for name in order}
    known = ports.remembered(layout.ports)
    names = [name for name in order if name in states] + [name for name in states if name not in order] or order
    if not states:
        return {name: _down(name, "down") for name in names}
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # all of it is HTTP on loopback: no certificates need be read
    loopback = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, verify=plain)
    with loopback as client, ThreadPoolExecutor() as together:
        airflow = together.submit(_airflow_report, client, known, layout)  # first: the others may wait for it
        peers = _Peers(client, known, layout, airflow)
        answers = {name: together.submit(_health, name, states[name], peers) for name in names}
        return {name: answer.result() for name, answer in answers.items()}


def _down(name: str, state: str, detail: str = "does not run") -> Health:
    return Health(name=name, state=state, healthy=False, detail=detail)


def _health(name: str, state: str, peers: _Peers) -> Health:
    if state != "RUNNING":
        return _down(name, state)
    if name in AIRFLOW_COMPONENTS:
        healthy, detail = peers.airflow.result()[name]
        return Health(name=name, state=state, healthy=healthy, detail=detail, started=healthy)
    if name == "postgres":
        healthy = _cluster(peers.known, peers.layout).answers()
        detail = "answers" if healthy else "does not take our connections"
        return Health(name=name, state=state, healthy=healthy, detail=detail, started=healthy)
    status, detail = _get(peers.client, f"http://127.0.0.1:{peers.known.get(name, 0)}{PATHS.get(name, '/')}")
    started = status == httpx.codes.OK
    if name == "serving" and status == httpx.codes.SERVICE_UNAVAILABLE:
        started, detail = True, _serving_waits_for(detail)
    return Health(name=name, state=state, healthy=status == httpx.codes.OK, detail=detail[:300], started=started)


PATHS = {
    "prometheus": "/-/ready",
    "mlflow": "/health",
    "serving": "/healthz",
    "gateway": "/health",
    "exporter": "/metrics",
    "gpu-simulator": "/metrics",
}


def _cluster(known: dict[str, int], layout: Layout) -> Cluster:
    return Cluster(layout.home / "postgres", known.get("postgres", 0), layout.load_credentials().postgres_password)


def _serving_waits_for(detail: str) -> str:
    """Tell a champion that loads, or cannot, from one that is yet to be made; `detail` holds what /healthz answers."""
    try:
        models = json.loads(detail[detail.index("{") :])["models"]
    except (ValueError, KeyError):
        return detail
    for name, status in models.items():
        if "load_error" in status:
            return f"{name}: {status['load_error']}"
    loads = [
        f"{name} version {status['wanted_version']}" for name, status in models.items() if "wanted_version" in status
    ]
    return f"loads {', '.join(loads)}" if loads else "waits for a first champion"


def _get(client: httpx.Client, url: str) -> tuple[int, str]:
    try:
        answer = client.get(url)
    except httpx.HTTPError as err:
        return 0, f"{url} does not answer ({type(err).__name__})"
    if answer.status_code == httpx.codes.OK:
        return answer.status_code, "answers"
    return answer.status_code, f"{url} answers {answer.status_code}: {answer.text.strip()}"


def _airflow_report(client: httpx.Client, known: dict[str, int], layout: Layout) -> dict[str, tuple[bool, str]]:
    """Ask the api-server, proving by our password that it is ours and not one that another stack left on the port."""
    url = f"http://127.0.0.1:{known.get('api-server', 0)}"
    password = layout.load_credentials().airflow_password
    try:
        login = client.post(f"{url}/auth/token", json={"username": AIRFLOW_USER, "password": password})
        if login.status_code != httpx.codes.CREATED:
            return dict.fromkeys(
                AIRFLOW_COMPONENTS, (False, f"{url} does not know our password: another Airflow holds the port")
            )
        report = client.get(f"{url}/api/v2/monitor/health")
        parts = report.json()
    except (httpx.HTTPError, ValueError) as err:
        return dict.fromkeys(AIRFLOW_COMPONENTS, (False, f"{url} does not answer ({type(err).__name__})"))
    return {"api-server": (True, "answers"), **{name: _heartbeat(parts, name) for name in AIRFLOW_COMPONENTS[1:]}}


def _heartbeat(parts: dict[str, Any], name: str) -> tuple[bool, str]:
    key = name.replace("-", "_")
    part = parts.get(key) or {}
    beat = part.get(f"latest_{key}_heartbeat")
    return part.get("status") == "healthy", f"last heartbeat {str(beat)[11:19]}Z" if beat else "no heartbeat yet"
