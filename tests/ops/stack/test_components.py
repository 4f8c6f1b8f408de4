import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from datasets_defs.core.errors import ContractError
from ops.stack import prometheus_binary
from ops.stack.components import AIRFLOW_COMPONENTS, Stack, components
from ops.stack.layout import Layout
from ops.stack.ports import PREFERRED
from ops.stack.prometheus_config import prometheus_config, scrape_seconds
from ops.stack.warm_airflow import modules, warm


def stack(tmp_path: Path, **more: object) -> Stack:
    layout = Layout(tmp_path)
    settings = {"DRIFTLOOP_SENSOR_INTERVAL_SECONDS": "25"}
    values = {"layout": layout, "credentials": layout.load_credentials(), "ports": PREFERRED, "settings": settings}
    return Stack(**{**values, **more})


def test_no_secret_is_on_a_command_line(tmp_path):
    """Every user of the machine can read command lines, so passwords and keys travel in the environment alone."""
    found = stack(tmp_path)
    secrets = json.loads(found.layout.credentials.read_text()).values()
    words = [word for item in components(found, "") for word in item.command]
    assert [word for word in words if any(secret in word for secret in secrets)] == []


def test_airflow_is_closed_to_others(tmp_path):
    """Airflow listens on loopback, asks for a password, shares fixed keys, and starts no log server."""
    listed = {item.name: item for item in components(stack(tmp_path), "")}
    environments = [listed[name].environment for name in AIRFLOW_COMPONENTS]
    assert all(environment == environments[0] for environment in environments)
    assert environments[0]["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environments[0]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "driftloop:admin"
    assert "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS" not in environments[0]
    assert "--skip-serve-logs" in listed["scheduler"].command
    assert json.loads(environments[0]["AIRFLOW_CONN_DRIFTLOOP_DB"])["schema"] == "driftloop"


def test_everything_of_ours_gets_the_chosen_settings(tmp_path):
    """Sensor interval and addresses reach Airflow's tasks, serving and the exporter alike."""
    listed = {item.name: item.environment for item in components(stack(tmp_path), "")}
    for name in (*AIRFLOW_COMPONENTS, "serving", "exporter"):
        assert listed[name]["DRIFTLOOP_SENSOR_INTERVAL_SECONDS"] == "25"
        assert listed[name]["DRIFTLOOP_MLFLOW_URL"] == "http://127.0.0.1:5000"


def test_a_real_gpu_exporter_replaces_the_simulator(tmp_path):
    """With an address of a real exporter, no simulated figure is made."""
    simulated = [item.name for item in components(stack(tmp_path), "")]
    real = [item.name for item in components(stack(tmp_path, dcgm_url="http://gpu:9400/metrics"), "")]
    assert (simulated[-1], set(simulated) - set(real)) == ("gpu-simulator", {"gpu-simulator"})


def test_users_connections_reach_airflow_but_not_in_place_of_ours(tmp_path):
    """Slack's connection is passed on; the loop's own database stays the stack's."""
    given = {"AIRFLOW_CONN_SLACK_DEFAULT": "slack://:x@", "AIRFLOW_CONN_DRIFTLOOP_DB": "postgres://elsewhere"}
    scheduler = next(i for i in components(stack(tmp_path, connections=given), "") if i.name == "scheduler")
    assert scheduler.environment["AIRFLOW_CONN_SLACK_DEFAULT"] == "slack://:x@"
    assert "elsewhere" not in scheduler.environment["AIRFLOW_CONN_DRIFTLOOP_DB"]


@pytest.mark.parametrize(("window", "seconds"), [(3600, 15), (25, 5), (5, 1)])
def test_a_window_holds_at_least_five_scrapes(window, seconds):
    """Short windows are scraped more often."""
    assert scrape_seconds(window) == seconds


def test_prometheus_accepts_its_configuration(tmp_path):
    """Nothing is wrong to promtool, with the rules of alerts/ in it."""
    file = tmp_path / "prometheus.yml"
    address = "https://ann:p%40ss@gpu.example/dcgm/metrics"
    file.write_text(prometheus_config(PREFERRED, window_seconds=25, dcgm_url=address))
    promtool = prometheus_binary.ensure() / "promtool"
    result = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "metrics_path: /dcgm/metrics" in file.read_text()
    job = yaml.safe_load(file.read_text())["scrape_configs"][-1]
    assert job["static_configs"] == [{"targets": ["gpu.example"]}]  # no password on Prometheus' pages
    assert job["basic_auth"] == {"username": "ann", "password": "p@ss"}


def test_a_wrong_gpu_address_is_named():
    """An address without a scheme is refused with an example."""
    with pytest.raises(ContractError, match="http://gpu-host:9400/metrics"):
        prometheus_config(PREFERRED, window_seconds=25, dcgm_url="gpu:9400")


def test_the_users_exporters_are_scraped(tmp_path):
    """Each exporter is a job of its own, with the labels of its fragment, and promtool is content."""
    file = tmp_path / "prometheus.yml"
    mine = "vllm=http://a:8000/metrics tgi=https://b/stats#model=my-model&site=x"
    file.write_text(prometheus_config(PREFERRED, window_seconds=25, dcgm_url=None, exporters=mine))
    promtool = prometheus_binary.ensure() / "promtool"
    result = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    vllm, tgi = yaml.safe_load(file.read_text())["scrape_configs"][-2:]
    assert vllm["static_configs"] == [{"targets": ["a:8000"]}]
    assert tgi["static_configs"] == [{"targets": ["b"], "labels": {"model": "my-model", "site": "x"}}]
    assert tgi["metrics_path"] == "/stats"


@pytest.mark.parametrize("mine", ["http://a:8000/metrics", "vllm=a:8000", "=http://a/metrics", "dcgm=http://a/metrics"])
def test_a_wrong_exporter_is_named(mine):
    """An exporter without job name or address, or with a name that is taken, is refused with the setting's name."""
    with pytest.raises(ContractError, match="DRIFTLOOP_EXPORTERS"):
        prometheus_config(PREFERRED, window_seconds=25, dcgm_url=None, exporters=mine)


def test_the_simulated_gpu_says_so_in_every_series():
    """Each figure carries modelName SIMULATED and the real exporter's labels and name."""
    from prometheus_client import CollectorRegistry, generate_latest

    from ops.stack.simulated_dcgm import SimulatedGpu

    registry = CollectorRegistry()
    registry.register(SimulatedGpu(0.0))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert len(lines) == 11
    assert all('modelName="SIMULATED"' in line and 'Hostname="simulated"' in line for line in lines)
    assert any(line.startswith("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{") for line in lines)


@pytest.mark.parametrize("part", ["scheduler", "dag-processor"])
def test_what_forks_is_warm(tmp_path, part):
    """It starts as the warm one, and again where our sources are others."""
    listed = {item.name: item for item in components(replace(stack(tmp_path), sources="a"), "")}
    assert listed[part].command[1:4] == ("-m", "ops.stack.warm_airflow", part)
    assert listed[part].depends == "a"
    assert listed["triggerer"].depends == ""


def test_what_is_imported_beforehand(tmp_path):
    """The scheduler holds what the tasks import; the processor only what the files themselves do."""
    (tmp_path / "a.py").write_text("import b.c\n\n\ndef f():\n    from d import e\n")
    assert modules(tmp_path, of_tasks=False) == ["b.c"]
    assert modules(tmp_path, of_tasks=True) == ["b.c", "d"]
    assert {"datasets_defs.assets", "training.evaluate"} <= set(modules(of_tasks=True))
    assert "training.evaluate" not in modules(of_tasks=False)
    assert warm(("json", "no_such_library_at_all")) == ["json"]


FORKED = """
import os
import torch
from ops.stack.warm_airflow import LIBRARIES, modules, warm

names = [*LIBRARIES, *modules(of_tasks=True)]
assert warm(names) == names
task = os.fork()
if not task:
    torch.set_num_threads(2)
    ones = torch.ones(900, 900)
    os._exit(0 if float((ones @ ones).sum()) == 900.0**3 else 1)
assert os.waitpid(task, 0)[1] == 0
"""


@pytest.mark.slow
def test_a_task_finds_its_step_in_the_scheduler():
    """Everything that tasks import can be imported beforehand, and a forked task computes with threads of its own."""
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=300)


def test_the_gateway_is_this_machines(tmp_path):
    """The local stack's door listens on loopback whether or not there are keys, and everything of ours finds it."""
    found = stack(tmp_path)
    listed = {item.name: item for item in components(found, "")}
    assert listed["gateway"].command[1:] == (
        "-m", "serving.gateway", "--port", str(PREFERRED["gateway"]), "--host", "127.0.0.1",
    )  # fmt: skip
    assert found.addresses()["DRIFTLOOP_GATEWAY_URL"] == f"http://127.0.0.1:{PREFERRED['gateway']}"
