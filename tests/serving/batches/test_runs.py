"""Runs of `batch_inference` against a simulated API: each row asked once, each shard whole, whoever is killed when."""

import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.store.batch_runs import batch_runs
from datasets_defs.store.locks import held
from serving import batch_inference
from tests.serving.batches.conftest import Batches
from tests.serving.generation.simulated_api import SimulatedRequest, completion, error, simulated_api

Prompts = Callable[[int], list]


def fine(asked: SimulatedRequest):
    return completion(f"So it is: {asked.prompt}")


def test_rows_become_parquet_with_version_and_lineage(batches: Batches, prompts: Prompts):
    """25 rows are three shards; each row has its completion, and the manifest says where all of it comes from."""
    with simulated_api(fine) as api:
        batches.rows(prompts(25))
        batches.spec(api={"url": api.url, "model": "gpt-x"}, id="id", template="Say {{ prompt }}")
        runs = batches.open()
        assert isinstance(runs, list)
        assert [shard["shard"] for shard in batches.shards(runs)] == [0, 1, 2]
        said = [batches.ask(shard) for shard in batches.shards(runs)]
        assert said[2].startswith("writer, batch 1: 5 of 5 rows completed")
        assert batch_inference.finish(runs, db=batches.db) == ["writer|batch|1"]
        assert batches.shards(runs) == []
        assert len(api.requests) == 25
        assert set(api.times.values()) == {1}
    rows = batches.completed()
    assert [row["id"] for row in rows] == [f"r{at}" for at in range(25)]
    assert {row["completion"] for row in rows} == {f"So it is: Say prompt {at:03d}" for at in range(25)}
    assert {(row["asked_model"], row["version"], row["fault"]) for row in rows} == {("gpt-x", None, None)}
    assert rows[3]["input"] == '{"id": "r3", "prompt": "prompt 003"}'
    manifest = batches.manifest()
    assert (manifest["run"], manifest["asked_model"], manifest["figures"]["answered"]) == (
        "writer|batch|1",
        "gpt-x",
        25,
    )
    assert [each["rows"] for each in manifest["shards"]] == [10, 10, 5]
    assert manifest["figures"]["rows_per_second"] > 0
    assert batches.newest.figures["rows_per_second"] == manifest["figures"]["rows_per_second"]
    folder = batches.newest.output.removeprefix("file://")
    assert pq.ParquetDataset(folder).read().num_rows == 25  # whoever reads the folder meets no other file


@pytest.mark.parametrize("point", ["batch_inference.answered", "batch_inference.written", "batch_inference.logged"])
def test_a_shard_that_is_killed_is_written_whole(batches: Batches, prompts: Prompts, point: str):
    """Before its file stands it is asked again, whole; after that nobody asks it; its log has each row once."""
    with simulated_api(fine) as api:
        batches.rows(prompts(10))
        batches.spec(api={"url": api.url})
        runs = batches.open()
        (shard,) = batches.shards(runs)
        assert batches.in_process(shard, kill_at=point) == -signal.SIGKILL
        assert batches.shards(runs) == [shard]
        assert Path(f"{batches.newest.output}/part-00000.parquet".removeprefix("file://")).exists() is (
            point != "batch_inference.answered"
        )
        batches.ask(shard)
        assert set(api.times.values()) == ({2} if point == "batch_inference.answered" else {1})
        batches.ask(shard)
        assert batch_inference.finish(runs, db=batches.db) == ["writer|batch|1"]
    assert len(batches.completed()) == len(batches.logged()) == 10
    assert batches.newest.figures["answered"] == 10


def test_who_comes_later_goes_on_with_what_was_begun(batches: Batches, prompts: Prompts):
    """A run that died is gone on with by the next one, with the rows that it took; then a person may ask anew."""
    with simulated_api(fine) as api:
        batches.rows(prompts(20))
        batches.spec(api={"url": api.url})
        runs = batches.open("batch_inference:1")
        batches.ask(batches.shards(runs)[0])
        batches.rows(prompts(99))
        assert batches.open("batch_inference:2") == runs
        assert batches.run("batch_inference:2") == ["writer|batch|1"]
        assert len(batches.completed()) == len(api.requests) == 20
        assert batches.run("batch_inference:3") == ["writer|batch|2"]
        assert len(batches.completed()) == 99


def test_a_promotion_runs_once_for_each_version(batches: Batches, prompts: Prompts):
    """An event that comes twice finds its batch done; the next version, or another section, has its own."""
    with simulated_api(fine) as api:
        batches.rows(prompts(2))
        batches.spec(api={"url": api.url})
        batches.champion(1)
        assert batches.run("batch_inference:1", "writer|1|1") == ["writer|batch|1"]
        assert batches.run("batch_inference:1", "writer|1|1") == ["writer|batch|1"]  # its own task, cleared
        said = batches.open("batch_inference:2", "writer|1|1")
        assert str(said).startswith("writer|batch|1 has done this for version 1: ")
        batches.champion(2)
        assert batches.run("batch_inference:3", "writer|2|1") == ["writer|batch|2"]
        batches.spec(api={"url": api.url}, max_tokens=21)
        assert batches.run("batch_inference:4", "writer|2|1") == ["writer|batch|3"]
        batches.spec(api={"url": api.url}, after_promotion=False)
        assert "after_promotion` is false" in str(batches.open("batch_inference:5", "writer|2|1"))
    assert {run.why for run in batch_runs(batches.db, "writer")} == {"the champion changed"}


def test_rows_come_from_sql_and_other_files(batches: Batches):
    """A query by Connection, a CSV, a Parquet file and plain text are inputs; a query that writes is refused."""
    with simulated_api(fine) as api:
        api_at = {"url": api.url}
        batches.world.databases["mine"] = batches.db
        query = "SELECT n AS id, 'number ' || n AS prompt FROM generate_series(1, 2500) AS n"
        batches.spec(api=api_at, input={"sql": query, "connection": "mine"}, pace={"batch_prompts": 1000})
        runs = batches.open("batch_inference:1")
        assert len(batches.shards(runs)) == 3
        assert batches.newest.rows == 2500
        (batches.home / "rows.csv").write_text("prompt;tone\nseas;calm\n")
        batches.spec(api=api_at, input={"file": str(batches.home / "rows.csv")}, template="{{ prompt }}, {{ tone }}")
        batches.run("batch_inference:2")
        pq.write_table(pa.table({"prompt": ["parquet"]}), batches.home / "rows.parquet")
        batches.spec(api=api_at, input={"file": str(batches.home / "rows.parquet")})
        batches.run("batch_inference:3")
        (batches.home / "rows.txt").write_text("first\n\nsecond\n")
        batches.spec(api=api_at, input={"file": str(batches.home / "rows.txt"), "limit": 1})
        batches.run("batch_inference:4")
        assert [asked.prompt for asked in api.requests] == ["seas, calm", "parquet", "first"]
        assert batches.newest.figures["cut_at_limit"] == 1
        batches.spec(api=api_at, input={"sql": "DELETE FROM champion RETURNING model AS prompt"})
        with pytest.raises(ContractError, match=r"batch\.input\.sql: .*can only read"):
            batches.open("batch_inference:5")


def test_a_server_that_is_away_leaves_no_shard(batches: Batches, prompts: Prompts):
    """Nothing is written of a shard whose server failed or refuses the key; the next try asks it whole."""
    broken = [True]
    with simulated_api(lambda asked: error(503) if broken[0] else fine(asked)) as api:
        batches.rows(prompts(5))
        batches.spec(api={"url": api.url})
        runs = batches.open()
        (shard,) = batches.shards(runs)
        with pytest.raises(TransientError, match="5 of 5 rows failed by the server, over 1"):
            batches.ask(shard)
        with pytest.raises(ContractError, match="shards 0 are not answered"):
            batch_inference.finish(runs, db=batches.db)
        broken[0] = False
        batches.ask(shard)
        assert batch_inference.finish(runs, db=batches.db) == ["writer|batch|1"]
    with simulated_api(lambda _: error(401)) as api:
        batches.spec(api={"url": api.url})
        (shard,) = batches.shards(batches.open("batch_inference:2"))
        with pytest.raises(ContractError, match=r"unauthorised: 401.*clear the task `ask_shard`"):
            batches.ask(shard)
    assert batches.logged() != []


def test_a_limit_on_tokens_counts_all_shards(batches: Batches, prompts: Prompts):
    """What earlier shards took counts, and a shard over the limit is not written; a higher limit is another run."""
    with simulated_api(fine) as api:
        batches.rows(prompts(20))
        batches.spec(api={"url": api.url}, pace={"most_tokens": 400})
        runs = batches.open()
        first, second = batches.shards(runs)
        batches.ask(first)
        with pytest.raises(ContractError, match="limit of 400 tokens"):
            batches.ask(second)
        assert batches.shards(runs) == [second]


def test_one_process_answers_a_shard(batches: Batches, prompts: Prompts):
    """A second one that wants the same shard comes again later; so does one that opens a run at the same time."""
    batches.rows(prompts(1))
    batches.spec(api={"url": "http://127.0.0.1:9"})
    (shard,) = batches.shards(batches.open())
    with (
        held(batches.db, "batch_inference", "writer|batch|1|0"),
        pytest.raises(TransientError, match="another process"),
    ):
        batches.ask(shard)
    with held(batches.db, "batch_inference", "writer"), pytest.raises(TransientError, match="is opening a batch"):
        batches.open("batch_inference:2")


def test_with_nothing_to_complete_it_says_so(batches: Batches):
    """No section, no rows, no model, no champion: each is a sentence, and no run is opened."""
    (batches.home / "models" / "writer.yaml").write_text(
        "name: writer\nbase_model: {layers: 1}\ntraining_text: builtin:python-docs\n"
    )
    assert "no section `batch`" in str(batches.open())
    batches.rows([])
    batches.spec(api={"url": "http://127.0.0.1:9"})
    assert "the input has no rows" in str(batches.open())
    batches.spec(machine="local")
    with pytest.raises(ContractError, match="writer has no champion to complete with"):
        batches.open()
    batches.spec(max_tokens=1_000)
    with pytest.raises(ContractError, match=r"batch\.max_tokens is 1000, and serving\.max_completion_tokens 256"):
        batches.open()
    assert batch_inference.finish(None, db=batches.db) == []
    with batches.db.connect() as on:
        assert on.scalar(text("SELECT count(*) FROM batch_run")) == 0
