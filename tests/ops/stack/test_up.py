import json

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.spec.files import load, spec_of
from ops.demo import spec
from ops.demo.texts import MODEL
from ops.stack import plan, ports
from ops.stack import up as stack
from ops.stack.layout import DEMO_MODELS, Layout


@pytest.fixture
def layout(home, monkeypatch) -> Layout:
    """A home that was never started, in an environment without settings of its own."""
    for name in ("DRIFTLOOP_ARTIFACT_ROOT", "DRIFTLOOP_MODELS_DIR"):
        monkeypatch.delenv(name)
    layout = Layout(home)
    layout.create()
    return layout


def start(layout: Layout, overrides: dict[str, str] | None = None) -> list[str]:
    """Do what `up` does before it starts anything; give the names of the components that changed."""
    found, wanted = plan.define(layout, overrides, stack.quiet)
    changed = plan.changed(layout, wanted)
    plan.write(found, wanted)
    return changed


def test_a_demos_clock_ends_with_the_demo(layout):
    """Overrides hold for one start; the next without them is hourly again, and restarts what they touched."""
    fast = start(layout, {"DRIFTLOOP_SENSOR_INTERVAL_SECONDS": "20"})
    assert settings().sensor_interval_seconds == 20
    assert start(layout, {"DRIFTLOOP_SENSOR_INTERVAL_SECONDS": "20"}) == []
    changed = start(layout)
    assert settings().sensor_interval_seconds == 3600
    assert "postgres" in fast
    assert "scheduler" in changed
    assert {"postgres", "mlflow"}.isdisjoint(changed)


def test_the_demos_own_specs_end_with_the_demo(layout):
    """A demo by adapters reads a copy of the specs with that one change; the next start reads the user's again."""
    overrides = spec.models_of("lora")
    start(layout, overrides)
    assert settings().models_dir == layout.home / DEMO_MODELS
    changed, usual = spec_of(MODEL).retrain, load(ROOT / "models" / f"{MODEL}.yaml").retrain
    assert changed == usual.model_copy(update=dict(spec.METHODS["lora"]["retrain"]))
    assert spec.models_of("lora") == overrides  # of the user's specs, not of its own
    assert spec.models_of("full") == {}
    start(layout)
    assert settings().models_dir == ROOT / "models"
    with pytest.raises(ContractError, match="full or lora"):
        spec.models_of("distil")
    start(layout, spec.models_of("full", "trl"))
    assert spec_of(MODEL).trainer.kind == "command"
    with pytest.raises(ContractError, match="driftloop or trl"):
        spec.models_of("full", "axolotl")


def test_places_once_given_stay(layout, monkeypatch, tmp_path):
    """The models' folder and the GPU exporter's address outlive the shell that named them."""
    monkeypatch.setenv("DRIFTLOOP_MODELS_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("DRIFTLOOP_DCGM_URL", "http://gpu:9400/metrics")
    start(layout)
    monkeypatch.delenv("DRIFTLOOP_MODELS_DIR")
    monkeypatch.delenv("DRIFTLOOP_DCGM_URL")
    start(layout)
    assert settings().models_dir == tmp_path / "mine"
    assert "gpu:9400" in (layout.home / "prometheus.yml").read_text()


def test_slacks_connection_outlives_the_shell_too(layout, monkeypatch):
    """Alerts do not fall silent because a second `up` came from another terminal; an empty value forgets it."""
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", "slack://:token@")
    start(layout)
    monkeypatch.delenv("AIRFLOW_CONN_SLACK_DEFAULT")
    assert start(layout) == []
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", "")
    assert "scheduler" in start(layout)


def test_artifacts_lie_in_the_home(layout):
    """A home elsewhere holds its artifacts too."""
    start(layout)
    assert settings().artifact_root == f"file://{layout.home}/artifacts"


def test_files_with_secrets_are_private(layout):
    """Settings, definitions, credentials and Airflow's password are readable by their owner alone."""
    start(layout)
    files = [layout.settings, layout.components, layout.credentials, layout.home / "airflow" / "passwords.json"]
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}


def test_a_wrong_interval_is_named(layout, monkeypatch):
    """A number is needed, and the variable is named."""
    monkeypatch.setenv("DRIFTLOOP_SENSOR_INTERVAL_SECONDS", "hourly")
    with pytest.raises(ContractError, match="DRIFTLOOP_SENSOR_INTERVAL_SECONDS is 'hourly'"):
        start(layout)
    assert not layout.settings.exists()  # a wrong value is not kept, or every later command would fail on it


def test_components_inherit_nothing_that_contradicts_the_stack(monkeypatch):
    """A caller's PYTHONPATH, Airflow settings or proxy do not reach the components' loopback."""
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("NO_PROXY", "corp.example")
    found = plan.environment()
    assert "PYTHONPATH" not in found
    assert "AIRFLOW__CORE__EXECUTOR" not in found
    assert found["NO_PROXY"] == found["no_proxy"] == "corp.example,127.0.0.1,localhost"


def test_down_of_what_never_ran_is_fine(layout):
    """Stopping a stopped stack, or none at all, changes nothing."""
    stack.down()
    stack.down()
    assert ports.remembered(layout.ports) == {}


def test_info_names_every_address(layout):
    """Addresses follow the remembered ports; PostgreSQL's is no web address."""
    with pytest.raises(ContractError, match="holds no stack yet"):
        stack.info(layout)
    layout.load_credentials()
    layout.ports.write_text(json.dumps({"postgres": 1, "mlflow": 2}))
    assert stack.info(layout).urls == {"mlflow": "http://127.0.0.1:2"}
