"""The DAGs of trainings on schedule: their timetables are what the YAML says, and they run whole in real Airflow."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.schedules import schedules
from tests.dags.test_dag_runs import SPEC, airflow_database, run  # noqa: F401 fixtures

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

NAME = "train_on_schedule.first"


def bag(home: Path, schedule: str):
    from airflow.dag_processing.dagbag import DagBag

    (home / "models" / "first.yaml").write_text(SPEC.format(name="first") + schedule)
    found = DagBag(str(ROOT / "dags" / "train_on_schedule.py"))
    assert not found.import_errors
    return found.dags


@pytest.mark.parametrize(
    ("schedule", "cron", "zone"),
    [
        ("schedule: weekly", "0 0 * * 0", "UTC"),
        ("schedule: monthly", "0 0 1 * *", "UTC"),
        ('schedule: {cron: "30 3 * * 1", timezone: Europe/Berlin}', "30 3 * * 1", "Europe/Berlin"),
    ],
)
def test_the_clock_is_what_the_yaml_says(home: Path, schedule: str, cron: str, zone: str):
    """A model's DAG runs by the cron expression of its YAML, in its time zone; nothing else is scheduled."""
    from airflow.sdk import CronTriggerTimetable

    dags = bag(home, schedule)
    assert set(dags) == {"train_on_schedule", NAME}
    timetable = dags[NAME].timetable
    assert isinstance(timetable, CronTriggerTimetable)
    assert (timetable.expression, str(timetable.timezone)) == (cron, zone)
    assert dags["train_on_schedule"].timetable.__class__.__name__ == "NullTimetable"
    assert dags[NAME].params["model"] == "first"


def test_the_assets_are_what_the_yaml_says(home: Path):
    """Assets are meant by URI or by name, any of them; with a cron expression beside them both order a training."""
    from airflow.sdk import AssetAny, AssetOrTimeSchedule
    from airflow.sdk.definitions.asset import AssetNameRef, AssetUriRef

    dags = bag(home, "schedule: {assets: ['s3://team/corpus', nightly_export]}")
    condition = dags[NAME].timetable.asset_condition
    assert isinstance(condition, AssetAny)
    assert list(condition.objects) == [AssetUriRef("s3://team/corpus"), AssetNameRef("nightly_export")]
    both = bag(home, "schedule: {cron: weekly, assets: [nightly_export]}")[NAME].timetable
    assert isinstance(both, AssetOrTimeSchedule)
    assert both.timetable.expression == "0 0 * * 0"
    assert list(both.asset_condition.objects) == [AssetNameRef("nightly_export")]


def test_the_published_asset_queues_a_training(home: Path, run, engine: Engine):  # noqa: F811
    """A real event of the user's Asset, registered in Airflow's database, queues the model's DAG."""
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetDagRunQueue
    from airflow.models.dag import DagModel
    from airflow.sdk import DAG, Asset
    from airflow.sdk.definitions.asset import AssetUniqueKey
    from airflow.utils.session import create_session

    asset = Asset(name="nightly_export", uri="s3://team/corpus")
    with DAG("users_pipeline", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as pipeline:
        from airflow.providers.standard.operators.empty import EmptyOperator

        EmptyOperator(task_id="export", outlets=[asset])
    dags = bag(home, "schedule: {assets: ['s3://team/corpus']}")
    _store(pipeline, dags[NAME])
    with create_session() as session:
        session.get(DagModel, NAME).is_paused = False
    with create_session() as session:
        asset_manager.register_asset_change(asset=AssetUniqueKey.from_asset(asset), session=session)
    with create_session() as session:
        queued = session.query(AssetDagRunQueue.target_dag_id).filter_by(target_dag_id=NAME).all()
    assert [row[0] for row in queued] == [NAME]


def _store(*dags) -> None:
    """Write DAGs into Airflow's database as the dag-processor does."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        if session.get(DagBundleModel, "dags-folder") is None:
            session.add(DagBundleModel(name="dags-folder"))
        session.commit()
        update_dag_parsing_results_in_db(
            bundle_name="dags-folder", bundle_version=None, version_data=None,
            dags=[LazyDeserializedDAG.from_dag(dag) for dag in dags],
            import_errors={}, parse_duration=None, warnings=set(), session=session,
        )  # fmt: skip


def test_a_run_refuses_in_words(run, engine: Engine, home: Path):  # noqa: F811
    """Without a champion the model's own DAG skips, and the history says why; so does a person's run."""
    assert set(run("train_on_schedule").values()) == {"skipped"}
    assert set(run("train_on_schedule", {"model": "second", "reason": "to try it"}).values()) == {"skipped"}
    (refused,) = Ledger(engine).events("second")
    assert (refused.kind, "no champion to train from" in refused.reason) == (EventKind.SCHEDULE_REFUSED, True)
    dag = bag(home, "schedule: weekly")[NAME]
    for task in dag.tasks:
        task.retries = 0
    ended = dag.test(logical_date=datetime(2026, 5, 3, tzinfo=UTC))
    assert {str(ti.state) for ti in ended.get_task_instances()} == {"skipped"}
    assert len(Ledger(engine).events("first")) == 1


def test_a_run_orders_and_wakes_the_retrain(run, engine: Engine, home: Path, owner: Engine):  # noqa: F811
    """With a champion and fresh rows the run opens the incident and rings `retrain_requested` under its key."""
    _make_due(engine, owner)
    (home / "models" / "second.yaml").write_text(
        SPEC.format(name="second") + "retrain: {min_documents: 1}\ntrust: {anonymous: true}\n"
    )
    states = run("train_on_schedule", {"model": "second", "reason": "new corpus"})
    assert states == {
        "order[-1]": "success",
        "settings_to_try[-1]": "success",
        "try_setting[-1]": "skipped",
        "hand_over[-1]": "success",
    }
    ledger = Ledger(engine)
    incident = ledger.open_of("second")
    assert (incident.signal, incident.is_ordered) == ("schedule", True)
    assert "airflow:dag_test asks for it: new corpus" in ledger.events("second")[-1].reason
    assert incident.rings >= 1


def test_trials_are_mapped_and_their_failures_hold_up_nothing(run, engine: Engine, home: Path, owner: Engine):  # noqa: F811
    """Each setting is a mapped task with a trainer of its own; with MLflow away all fail, and the retrain is woken."""
    _make_due(engine, owner)
    (home / "models" / "second.yaml").write_text(
        SPEC.format(name="second") + "retrain: {min_documents: 1}\ntrust: {anonymous: true}\n"
        "data: {validation_share: 0.1}\nsearch: {grid: {epochs: [1, 2]}}\n"
    )
    states = run("train_on_schedule", {"model": "second", "reason": "new corpus"})
    assert states["settings_to_try[-1]"] == "success"
    assert (states["try_setting[0]"], states["try_setting[1]"]) == ("failed", "failed")
    assert states["hand_over[-1]"] == "success"
    incident = Ledger(engine).open_of("second")
    assert (incident.awaits_training, incident.claimed_by) == (True, None)
    assert incident.rung_at is not None


def _make_due(engine: Engine, owner: Engine) -> None:
    from datasets_defs.store import tables
    from datasets_defs.store.feedback import add_feedback
    from datasets_defs.store.inference_log import Inference, append

    now = datetime.now(UTC)
    Ledger(engine).change_champion("second", expected=None, to=1, kind="bootstrap", reason="first", actor="t")
    append(engine, [Inference(model="second", request_id="r", at=now, prompt="p ", model_version=1)])
    add_feedback(engine, "second", "r", reference="a")
    with owner.begin() as on:
        on.execute(tables.champion.update().values(since=now - timedelta(days=7)))


@pytest.mark.parametrize(("ends", "expected"), [("success", "skipped"), ("failed", "upstream_failed")])
def test_it_waits_for_another_dags_end(run, engine: Engine, home: Path, ends: str, expected: str):  # noqa: F811
    """`after` waits, deferrable, for the run an hour earlier; where that failed, nothing is asked of the model."""
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG

    def export() -> None:
        if ends == "failed":
            raise ValueError("no corpus today")

    at = datetime(2026, 5, 4, 3, tzinfo=UTC)
    pipeline = f"export_{ends}"
    with DAG(pipeline, schedule="0 2 * * *", start_date=datetime(2026, 1, 1, tzinfo=UTC)) as other:
        PythonOperator(task_id="upload", python_callable=export, retries=0)
    _store(other)
    other.test(logical_date=at - timedelta(hours=1))
    dag = bag(home, f"schedule: {{cron: '0 3 * * 1', after: {{dag: {pipeline}, task: upload, minutes_before: 60}}}}")[
        NAME
    ]
    assert dag.get_task("wait_for_pipeline").deferrable
    for task in dag.tasks:
        task.retries = 0
    ended = dag.test(logical_date=at)
    states = {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
    assert states["wait_for_pipeline"] == ("success" if ends == "success" else "failed")
    assert states["order"] == expected
    with engine.connect() as on:
        assert on.scalar(text("SELECT count(*) FROM incident")) == 0


def test_a_wrong_schedule_is_named(home: Path):
    """What Airflow could not read is refused by the YAML's check, in a sentence that names the field."""
    from datasets_defs.core.errors import ContractError
    from datasets_defs.spec.files import spec_of

    for wrong, words in (
        ("schedule: fortnightly", "neither `weekly`, `monthly` nor a cron expression"),
        ("schedule: {cron: '0 3 * *'}", "cron expression of five fields"),
        ("schedule: {timezone: Europe/Berlin}", "neither when (`cron`) nor after what"),
        ("schedule: {cron: weekly, timezone: Berlin}", "is no time zone"),
        ("schedule: {assets: [a], after: {dag: b}}", "give `cron`, too"),
    ):
        (home / "models" / "first.yaml").write_text(SPEC.format(name="first") + wrong)
        with pytest.raises(ContractError) as err:
            spec_of("first")
        assert words in str(err.value)
        assert [each.dag_id for each in schedules()] == ["train_on_schedule"]
