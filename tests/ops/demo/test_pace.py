"""The demo's clock fits the machine: on a slow one its hours are longer, and as much happens in each."""

from pathlib import Path

import pytest
import yaml

from datasets_defs.core.schedule import cron_every
from datasets_defs.core.settings import ROOT
from ops.demo import spec
from ops.demo.pace import FASTEST_WINDOW, REQUESTS, TASK_SECONDS, WINDOWS, measured, pace_of


@pytest.mark.parametrize(
    ("task_seconds", "cores", "window"),
    [(TASK_SECONDS, 2, 20), (0.1, 2, 20), (1.4 * TASK_SECONDS, 2, 30), (2.2 * TASK_SECONDS, 2, 60),
     (2.2 * TASK_SECONDS, 8, 20), (TASK_SECONDS, 1, 60), (50 * TASK_SECONDS, 2, 120)],
)  # fmt: skip
def test_hours_are_as_long_as_the_machine_needs(task_seconds: float, cores: int, window: int):
    """Time for starting tasks decides, and how many cores share it; windows are such as Airflow's clock can keep."""
    pace = pace_of(task_seconds, cores)
    assert pace.window_seconds == window
    assert pace.requests_per_second * window == pytest.approx(REQUESTS)
    assert pace.limit(60) >= 60
    assert str(FASTEST_WINDOW) in str(pace)
    assert str(window) in str(pace)
    assert all(cron_every(each) for each in WINDOWS)
    for name in ("SENSOR", "RECONCILE", "ALERT"):
        assert cron_every(float(pace.settings[f"DRIFTLOOP_{name}_INTERVAL_SECONDS"]))


@pytest.mark.slow
def test_the_time_of_a_start_is_measured():
    """Starting a process of Airflow's takes time on any machine, and never makes the clock faster than planned."""
    assert measured().window_seconds in WINDOWS
    assert measured().slowness >= 1


def test_trainings_may_take_as_many_times_longer(home, monkeypatch: pytest.MonkeyPatch):
    """A slow machine learns as much, in more time; on one that is fast enough the user's own file is read."""
    assert spec.models_of("full", slowness=1) == {}
    monkeypatch.setenv("DRIFTLOOP_MODELS_DIR", str(ROOT / "models"))
    folder = spec.models_of("full", slowness=2.5)["DRIFTLOOP_MODELS_DIR"]
    usual, slow = (yaml.safe_load(Path(place, "docs-writer.yaml").read_text()) for place in (ROOT / "models", folder))
    assert slow["base_model"]["train_seconds"] == 2.5 * usual["base_model"]["train_seconds"]
    assert slow["retrain"]["max_seconds"] == 2.5 * usual["retrain"]["max_seconds"]
