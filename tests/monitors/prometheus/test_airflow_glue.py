"""Hook, sensor and trigger, with Airflow's own classes and a real Prometheus."""

import asyncio
import importlib
import json
from datetime import timedelta

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import BaseTrigger

from monitors.prometheus.access import OPTIONS
from monitors.prometheus.hook import PrometheusHook
from monitors.prometheus.sensor import PrometheusSensor
from ops.stack.ports import free_port
from tests.prometheus_server import PrometheusServer


def connect(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Set the default connection as an environment would."""
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS_DEFAULT", json.dumps({"conn_type": "prometheus", **fields}))


@pytest.fixture
def connected(prometheus: PrometheusServer, monkeypatch: pytest.MonkeyPatch) -> PrometheusServer:
    """The real Prometheus, as the connection `prometheus_default`."""
    connect(monkeypatch, host="127.0.0.1", port=int(prometheus.url.rpartition(":")[2]))
    return prometheus


def sensor(**more: object) -> PrometheusSensor:
    """A sensor that waits for `level` to pass 5."""
    arguments = {"task_id": "wait", "promql": "level", "threshold": 5, "poke_interval": 0.2, "timeout": 60, **more}
    return PrometheusSensor(**arguments)


def deferral(of: PrometheusSensor) -> TaskDeferred:
    """Execute up to the deferral."""
    with pytest.raises(TaskDeferred) as deferred:
        of.execute({})
    return deferred.value


def test_airflow_knows_the_connection_type() -> None:
    """Airflow's own provider discovery finds the connection type and its hook."""
    hook = ProvidersManager().hooks["prometheus"]
    assert (hook.hook_class_name, hook.hook_name) == ("monitors.prometheus.hook.PrometheusHook", "Prometheus")


def test_airflow_knows_all_that_the_package_brings() -> None:
    """What the provider lists can be imported and is what it is called; the form has a field for each option."""
    info = ProvidersManager().providers["driftloop"].data
    bases = {"operators": BaseOperator, "sensors": BaseSensorOperator, "hooks": BaseHook, "triggers": BaseTrigger}
    found = {
        kind: {
            name
            for each in info[kind]
            for module in each["python-modules"]
            for name, value in vars(importlib.import_module(module)).items()
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module
        }
        for kind, base in bases.items()
    }
    assert found == {
        "operators": {"GPUJobOperator"}, "sensors": {"PrometheusSensor"}, "hooks": {"PrometheusHook"},
        "triggers": {"PrometheusTrigger", "GPUJobTrigger"},
    }  # fmt: skip
    names = {each["integration-name"] for each in info["integrations"]}
    assert names == {each["integration-name"] for kind in bases for each in info[kind]}
    widgets = ProvidersManager().connection_form_widgets
    form = {name.removeprefix("extra__prometheus__") for name in widgets if name.startswith("extra__prometheus__")}
    assert form == set(OPTIONS) - {"headers"}
    assert widgets["extra__prometheus__bearer"].is_sensitive
    assert ProvidersManager().field_behaviours["prometheus"]["relabeling"]["schema"] == "Scheme (http or https)"


def test_a_field_that_is_left_empty_says_nothing(connected: PrometheusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form stores what nobody filled in as null or as an empty text: the client is that of an empty extra."""
    empty = {name: None if name.startswith("c") else "" for name in OPTIONS if name != "headers"}
    connect(monkeypatch, host="127.0.0.1", port=int(connected.url.rpartition(":")[2]), extra=empty)
    assert PrometheusHook().test_connection() == (True, f"Prometheus at {connected.url} answers queries")


def test_connection_test(connected: PrometheusServer) -> None:
    """The Test button asks Prometheus for real."""
    assert PrometheusHook().test_connection() == (True, f"Prometheus at {connected.url} answers queries")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": ""}, "has no host"),
        ({"host": "x", "schema": "ftp"}, "scheme 'ftp'"),
        ({"host": "x", "extra": {"headers": ["a"]}}, "'headers'"),
        ({"host": "x", "extra": {"timeout_seconds": -1}}, "'timeout_seconds'"),
        ({"host": "127.0.0.1", "port": 1}, "not reachable"),
    ],
)
def test_wrong_connection(fields: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a connection is said in words, not in a traceback."""
    connect(monkeypatch, **fields)
    fine, message = PrometheusHook().test_connection()
    assert not fine
    assert said in message


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "h", "port": 9090}, "http://h:9090"),
        ({"host": "h", "schema": "https"}, "https://h"),
        ({"host": "https://h/prom/"}, "https://h/prom"),
        ({"host": "h", "port": 1, "extra": {"path": "/p"}}, "http://h:1/p"),
    ],
)
def test_address(fields: dict[str, object], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, port, scheme and path make the address."""
    connect(monkeypatch, **fields)
    assert PrometheusHook().client().url == url


def test_defer_and_resume(connected: PrometheusServer) -> None:
    """The sensor defers while the value is low, its trigger fires when it has crossed, and the value is the result."""
    connected.say("level 1")
    waiting = sensor()
    deferred = deferral(waiting)
    path, arguments = deferred.trigger.serialize()
    trigger = import_string(path)(**json.loads(json.dumps(arguments)))

    async def wait() -> object:
        events = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.5)
        assert not events.done()
        await asyncio.to_thread(connected.say, 'level{gpu="0"} 9')
        return (await asyncio.wait_for(events, 20)).payload

    payload = asyncio.run(wait())
    result = getattr(waiting, deferred.method_name)({}, event=payload)
    assert (result["value"], result["labels"]["gpu"]) == (9.0, "0")


def test_crossed_at_once(connected: PrometheusServer) -> None:
    """A value that has crossed already needs no trigger; NaN crosses nothing."""
    connected.say("level 9\nzero 0")
    assert sensor().execute({})["value"] == 9
    assert sensor(deferrable=False).execute({})["value"] == 9
    deferral(sensor(promql="zero / zero", operator="!="))


def test_old_samples_cross_nothing(connected: PrometheusServer) -> None:
    """A target that is gone no longer says anything, even through a long rate."""
    connected.say("work_total 1")
    connected.leave()
    waiting = sensor(promql="1 + increase(work_total[1h])", threshold=0, max_age=timedelta(microseconds=1))
    deferral(waiting)


def test_no_secret_in_the_trigger(connected: PrometheusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trigger arguments are stored in clear: they hold the connection's id and no password or header."""
    port = int(connected.url.rpartition(":")[2])
    connect(monkeypatch, host="127.0.0.1", port=port, login="u", password="hush", extra={"headers": {"X": "hush"}})
    connected.say("level 1")
    assert "hush" not in json.dumps(deferral(sensor()).trigger.serialize())


def test_wrong_query_fails_for_good(connected: PrometheusServer) -> None:
    """A query that Prometheus refuses fails the task without retries, in the worker and through the trigger."""
    connected.say("level 1")
    with pytest.raises(AirflowFailException, match="sum"):
        sensor(promql="sum(").execute({})
    trigger = deferral(sensor()).trigger
    trigger.promql = "sum("
    event = asyncio.run(asyncio.wait_for(anext(trigger.run()), 10))
    with pytest.raises(AirflowFailException, match="sum"):
        sensor().execute_complete({}, event=event.payload)


def test_away_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prometheus that is away does not fail the sensor; it waits."""
    connect(monkeypatch, host="127.0.0.1", port=free_port())
    deferral(sensor())


def test_nonsense_is_refused_when_the_dag_is_read() -> None:
    """An unknown operator does not wait for the first run to be noticed."""
    with pytest.raises(ValueError, match="=>"):
        sensor(operator="=>")
