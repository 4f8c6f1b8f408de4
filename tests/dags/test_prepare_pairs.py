"""`prepare_pairs` run whole by Airflow, from an empty home to its event; and its sensor, which holds no worker."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.sdk.module_loading import import_string
from sqlalchemy import Engine

from datasets_defs.core.settings import ROOT
from datasets_defs.store.takes import takes_of
from tests.dags.test_dag_runs import airflow_database  # noqa: F401  # Airflow's own database
from tests.training.pairs.conftest import PairSet
from tests.training.pairs.made_images import saved, scene, sentence
from training.pairs.join import read_report
from training.pairs.sensor import PairsSensor

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it


@pytest.fixture
def photos(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> PairSet:
    """A set of pairs; Airflow knows the loop's database."""
    monkeypatch.setenv("AIRFLOW_CONN_DRIFTLOOP_DB", database_url.replace("postgresql+psycopg://", "postgres://"))
    return PairSet(home)


def run(form: dict[str, object] | None = None) -> Counter[str]:
    """Run the DAG whole in this process; give how many task instances ended in which state."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(ROOT / "dags" / "prepare_pairs.py")).dags["prepare_pairs"]
    for task in dag.tasks:
        task.retries = 0
    ended = dag.test(logical_date=None, run_conf=form)
    return Counter(f"{ti.task_id} {ti.state}" for ti in ended.get_task_instances())


def events() -> list[str]:
    """Give the keys under which `pairs_prepared` was rung, oldest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = (
            select(AssetEvent.partition_key)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetModel.name == "pairs_prepared")
            .order_by(AssetEvent.id)
        )
        return list(session.scalars(query))


def test_from_an_empty_home_to_the_event(photos: PairSet, engine: Engine):
    """Batches of both branches run as mapped tasks, the join publishes the take, and a second run finds nothing new."""
    photos.describe(batch_pairs=4)
    photos.fill(range(10))
    photos.put("bad.jpg", b"no image", sentence(99))
    before = len(events())
    assert run() == {
        "wait_for_pairs success": 1, "open_takes success": 1, "list_batches success": 1, "prepare_images success": 3,
        "prepare_captions success": 3, "join success": 1, "announce success": 1, "compare success": 1,
    }  # fmt: skip
    assert events()[before:] == ["photos|1"]
    (take,) = takes_of(engine, "photos")
    assert (take.pairs, take.kept) == (11, 10)
    assert take.announced_at is not None
    assert read_report(take)["lost"] == {"image": {"not an image": 1}}
    states = run()
    assert states["wait_for_pairs skipped"] == 1
    assert {name.split()[1] for name in states} == {"skipped"}
    assert events()[before:] == ["photos|1"]


def test_a_wrong_set_holds_up_no_other(photos: PairSet, engine: Engine):
    """A set whose YAML or source is wrong is told of; the set beside it is prepared."""
    photos.fill(range(3))
    wrong = photos.home / "models" / "pairs" / "wrong.yaml"
    wrong.write_text("name: wrong\nsource: /nowhere/at/all\n")
    assert run()["join success"] == 1
    wrong.write_text("name: wrong\nsource: [")
    photos.fill(range(3, 6))
    assert run({"pair_set": "photos"})["join success"] == 1
    assert [take.kept for take in takes_of(engine, "photos")] == [3, 3]


def test_with_nothing_kept_nobody_is_woken(photos: PairSet, engine: Engine):
    """A take of which all is lost is reported, announced to nobody, and not prepared again."""
    before = len(events())
    photos.put("bad.jpg", b"no image", sentence(99))
    assert run()["join skipped"] == 1
    assert events()[before:] == []
    assert run()["wait_for_pairs skipped"] == 1
    (take,) = takes_of(engine, "photos")
    assert take.kept == 0


class _Scheduled:
    run_type = "scheduled"


def test_the_sensor_defers_and_resumes(photos: PairSet, engine: Engine):
    """With nothing new it goes to the triggerer, whose trigger fires once a pair has come; a late one skips."""
    sensor = PairsSensor(task_id="wait", poke_interval=0.2, timeout=60)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"dag_run": _Scheduled(), "params": {}})
    path, arguments = deferred.value.trigger.serialize()
    trigger = import_string(path)(**json.loads(json.dumps(arguments)))

    async def wait() -> object:
        event = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.to_thread(photos.put, "one.jpg", saved(scene(1)), sentence(1))
        return (await asyncio.wait_for(event, 60)).payload

    payload = asyncio.run(wait())
    assert getattr(sensor, deferred.value.method_name)({}, event=payload) == ["photos"]
    assert "password" not in json.dumps(arguments)
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    (photos.source / "one.jpg").unlink()
    (photos.source / "one.txt").unlink()
    late = import_string(path)(**{**arguments, "until": past})

    async def once() -> object:
        return (await asyncio.wait_for(anext(late.run()), 60)).payload

    with pytest.raises(AirflowSkipException, match="the next run waits on"):
        sensor.execute_complete({}, event=asyncio.run(once()))


def test_without_a_set_nothing_waits(home: Path, monkeypatch: pytest.MonkeyPatch, database_url: str):
    """An installation that has no pairs skips, and says why."""
    with pytest.raises(AirflowSkipException, match=r"no models/pairs/\*\.yaml"):
        PairsSensor(task_id="wait").execute({"dag_run": _Scheduled(), "params": {}})
