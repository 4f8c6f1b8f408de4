"""Wake-ups that get lost, doubled or late, on a real Airflow: each incident is handled once, none is lost."""

import time
from collections.abc import Iterator

import pytest

from tests.integration.airflow import Airflow, airflow_of_its_own, end, wait_until

BURST = [f"burst-{number:02}" for number in range(20)]
MODELS = ["asleep", "broken-file", "without-api", *(f"twin-{number}" for number in range(4)), *BURST]
ONCE = [("open", "quarantined")]
API_SECONDS = 120

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    """One Airflow for all cases, each with models of its own."""
    with pytest.MonkeyPatch.context() as patch, airflow_of_its_own(patch, MODELS) as found:
        yield found


def wait_until_quarantined(airflow: Airflow, *models: str) -> None:
    """Wait until triage answered for every model, and until no run is left that could answer once more."""
    wait_until(lambda: all(airflow.moves(model) for model in models), f"quarantine of {models}")
    left = "SELECT count(*) FROM dag_run WHERE dag_id = 'triage' AND state IN ('queued', 'running')"
    wait_until(lambda: airflow.ask_airflow(left) == 0, "the end of every run of triage")


def assert_handled_once(airflow: Airflow, *models: str) -> None:
    """Each incident was moved by exactly one run, and its history is whole."""
    assert {model: airflow.moves(model) for model in models} == dict.fromkeys(models, ONCE)
    for model in models:
        assert airflow.ledger.verify(model) == []


def test_a_wake_up_that_was_lost_on_a_paused_consumer(airflow: Airflow):
    """An event for a paused DAG starts nothing after the pause; reconcile rings again, and says so."""
    airflow.command("dags", "pause", "triage", "-y")
    incident = airflow.break_data("asleep")
    wait_until(lambda: airflow.ring(incident), "the event is taken")
    wait_until(lambda: airflow.ledger.incident(incident.id).rings >= 2, "reconcile rings again")
    assert airflow.moves("asleep") == []
    airflow.command("dags", "unpause", "triage", "-y")
    wait_until_quarantined(airflow, "asleep")
    assert_handled_once(airflow, "asleep")
    rung = [event.reason for event in airflow.ledger.events("asleep") if event.kind == "rung"]
    assert rung
    assert "nobody answered" in rung[0]


def test_a_burst_of_twenty(airflow: Airflow):
    """Twenty incidents at once, each rung three times: every one is triaged, none twice."""
    incidents = [airflow.break_data(model) for model in BURST]
    for _ in range(3):
        for incident in incidents:
            airflow.ring(incident)
    wait_until_quarantined(airflow, *BURST)
    assert_handled_once(airflow, *BURST)


def test_two_schedulers_at_once(airflow: Airflow):
    """A second scheduler on the same database doubles nothing."""
    twins = [model for model in MODELS if model.startswith("twin")]
    second = airflow.second_scheduler()
    try:
        query = "SELECT count(*) FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'"
        wait_until(lambda: airflow.ask_airflow(query) == 2, "both schedulers beat")
        for model in twins:
            incident = airflow.break_data(model)
            for _ in range(2):
                airflow.ring(incident)
        wait_until_quarantined(airflow, *twins)
        assert_handled_once(airflow, *twins)
    finally:
        end(second)


def test_a_dag_file_that_does_not_load_for_a_while(airflow: Airflow):
    """While the consumer's file is broken nobody answers; once it loads again the wake-up is repeated."""
    file = airflow.dags / "triage.py"
    whole = file.read_text()
    file.write_text("from airflow.sdk import dag\nraise ImportError('a library is missing')\n")
    wait_until(lambda: airflow.ask_airflow("SELECT count(*) FROM import_error") == 1, "the error is seen")
    incident = airflow.break_data("broken-file")
    airflow.ring(incident)
    wait_until(lambda: airflow.ledger.incident(incident.id).rings >= 2, "reconcile rings again")
    file.write_text(whole)
    wait_until_quarantined(airflow, "broken-file")
    assert_handled_once(airflow, "broken-file")


def test_two_minutes_without_the_api_server(airflow: Airflow):
    """Tasks cannot start or report for two minutes; afterwards what was due is done, once, with nobody's help."""
    airflow.supervisor.stop_component("api-server")
    incident = airflow.break_data("without-api")
    assert not airflow.ring(incident)
    time.sleep(API_SECONDS)  # the outage itself
    assert airflow.moves("without-api") == []
    airflow.supervisor.start_component("api-server")
    wait_until_quarantined(airflow, "without-api")
    assert_handled_once(airflow, "without-api")
