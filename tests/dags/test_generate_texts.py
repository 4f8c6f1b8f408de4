"""`generate_texts` run whole by `dag.test`: a simulated API, a real PostgreSQL, and a person at the form."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.dags.test_approve import LIMIT_SECONDS, Person
from tests.dags.test_dag_runs import SPEC, airflow_database, run  # noqa: F401 fixtures
from tests.serving.generation.simulated_api import SimulatedAnswer, SimulatedRequest, completion, simulated_api

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it


def test_texts_are_written_published_and_reviewed(
    run, engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
):  # fmt: skip
    """A run by hand asks in two mapped tasks, publishes what passed, and what a person ticked.

    The address comes from a Connection, the model's name from a Variable, the topics from a file.
    """
    monkeypatch.setenv("AIRFLOW_VAR_TEXTS_MODEL", "gpt-x")
    (home / "topics.csv").write_text("topic\n" + "\n".join(f"topic {number}" for number in range(6)))
    section = {
        "topics": {"file": str(home / "topics.csv")},
        "api": {"connection": "texts_api", "model_variable": "texts_model"},
        "pace": {"batch_prompts": 3},
    }
    spec = SPEC.format(name="first") + "generate: " + json.dumps(section)
    (home / "models" / "first.yaml").write_text(spec)

    def behave(asked: SimulatedRequest) -> SimulatedAnswer:
        return completion(f"Words on {asked.prompt}.", finish="length" if asked.prompt == "topic 5" else "stop")

    person = Person("Publish all")
    with simulated_api(behave) as api:
        monkeypatch.setenv("AIRFLOW_CONN_TEXTS_API", f"http://:secret@{api.url.removeprefix('http://')}")
        person.start()
        states = run("generate_texts", {"model": "first"})
        person.join(LIMIT_SECONDS)
    assert person.failure is None
    assert "Words on topic 5" in person.form["body"]
    assert {asked.headers["authorization"] for asked in api.requests} == {"Bearer secret"}
    assert {asked.body["model"] for asked in api.requests} == {"gpt-x"}
    assert len(api.requests) == 6
    done = ("ask[0]", "ask[1]", "publish_accepted[-1]", "report[-1]", "questions[-1]", "review[0]", "record[-1]")
    assert {name: states[name] for name in done} == dict.fromkeys(done, "success")
    with engine.connect() as on:
        published = on.execute(text("SELECT topic->>'topic', approved_by FROM published_text ORDER BY 1")).all()
    assert published == [(f"topic {number}", "airflow:ann" if number == 5 else None) for number in range(6)]


def test_no_texts_are_written_for_a_model_without_the_section(run):  # noqa: F811
    """Nothing is planned, and every task of the pipeline is skipped or has nothing to do."""
    states = run("generate_texts", {"model": "first"})
    assert states["plan[-1]"] == "skipped"
    assert "failed" not in states.values()
