"""The inference log on real PostgreSQL."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from datasets_defs.core.errors import TransientError
from datasets_defs.core.windows import Window
from datasets_defs.store import documents, inference_log
from datasets_defs.store.database import database_errors
from datasets_defs.store.feedback import add_feedback, add_feedback_batch
from datasets_defs.store.inference_log import Inference
from datasets_defs.store.quarantined import quarantine

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = Window(NOON - timedelta(hours=12), NOON + timedelta(hours=12))


def rows(count: int, at: datetime = NOON) -> list[Inference]:
    return [Inference(model="m", request_id=f"r{number}", at=at, prompt=f"prompt {number}") for number in range(count)]


def test_a_batch_written_twice_is_there_once(engine: Engine):
    """Writing again after a lost answer adds nothing."""
    assert inference_log.append(engine, rows(5)) == 5
    assert inference_log.append(engine, rows(5)) == 0
    assert inference_log.count_rows(engine, "m", DAY) == 5


def test_a_request_id_is_unique_across_days(engine: Engine):
    """The same request with another time, in another partition, is not a second request."""
    inference_log.append(engine, rows(1))
    assert inference_log.append(engine, rows(1, at=NOON + timedelta(days=3))) == 0


def test_rows_stand_in_the_partition_of_their_day(engine: Engine):
    """One partition a day; old ones are dropped whole."""
    inference_log.append(
        engine, [*rows(1), Inference(model="m", request_id="x", at=NOON + timedelta(days=1), prompt="")]
    )
    with engine.connect() as on:
        names = on.scalars(text("SELECT DISTINCT tableoid::regclass::text FROM inference ORDER BY 1")).all()
    assert names == ["inference_20260501", "inference_20260502"]
    assert inference_log.drop_before(engine, NOON + timedelta(hours=12)) == ["inference_20260501"]
    assert inference_log.count_rows(engine, "m", Window(DAY.start, DAY.end + timedelta(days=5))) == 1


def test_the_same_request_with_two_times_is_one(engine: Engine):
    """Two exports that overlap and round times differently keep one row, also when both write at once."""
    rounded = [replace(row, at=row.at + timedelta(milliseconds=700)) for row in rows(200)]
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda batch: inference_log.append(engine, batch), [rows(200), rounded] * 4))
    assert sum(written) == 200
    assert inference_log.count_rows(engine, "m", DAY) == 200


def test_ten_thousand_batches_leave_no_dead_catalog_rows(engine: Engine):
    """Batches are written without temporary tables: beside an open snapshot the catalog does not grow."""
    size = text("SELECT pg_relation_size('pg_attribute')")
    inference_log.append(engine, rows(1))
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM inference"))
        before = reader.scalar(size)
        for number in range(500):  # each temporary table left 40 dead rows: 3 MB by now
            inference_log.append(engine, [replace(row, request_id=f"b{number}") for row in rows(1)])
        assert reader.scalar(size) - before < 100_000


def test_a_reference_may_come_late_or_early(engine: Engine):
    """A reference joins by request id before the request or after; prompts without one are left out."""
    add_feedback(engine, "m", "r0", reference="early")
    inference_log.append(engine, rows(3))
    add_feedback(engine, "m", "r1", score=0.5)
    add_feedback(engine, "m", "r1", reference="late")
    found = documents.read_documents(engine, "m", DAY, limit=10)
    assert {document.request_id: document.text for document in found} == {"r0": "prompt 0early", "r1": "prompt 1late"}


@pytest.mark.parametrize("odd", ["nul \x00", "lone \ud800", "", "\u202e", "x" * 1_000_000], ids=repr)
def test_any_text_can_be_logged(engine: Engine, odd: str):
    """What PostgreSQL cannot store is replaced, never refused: a request is not lost for its characters."""
    row = Inference(model="m", request_id="r", at=NOON, prompt=odd, attributes={"k": odd})
    assert inference_log.append(engine, [row]) == 1
    (read,) = inference_log.read_window(engine, "m", DAY, limit=5)
    assert len(odd) == len(read["prompt"])


def test_rows_of_certain_requests(engine: Engine):
    """Only those asked for come back, and only from the window; ids of any number and kind may be asked."""
    inference_log.append(engine, [*rows(5), *rows(1, at=NOON + timedelta(days=3))])
    ids = ["r3", "r1", "none", "'; --%s", *map(str, range(50_000))]
    found = inference_log.read_requests(engine, "m", DAY, ids)
    assert [row["request_id"] for row in found] == ["r1", "r3"]
    assert all(row in inference_log.read_window(engine, "m", DAY, limit=5) for row in found)
    assert inference_log.read_requests(engine, "m", Window(NOON - timedelta(1), NOON), ids) == []
    assert inference_log.read_requests(engine, "other", DAY, ids) == []


def test_a_sample_of_a_window_is_the_same_every_time(engine: Engine):
    """Sampling goes by the hash of the request id, not by chance or order of arrival."""
    inference_log.append(engine, rows(50))
    once, again = (inference_log.read_window(engine, "m", DAY, limit=10) for _ in range(2))
    assert once == again
    assert len(once) == 10


def test_quarantined_rows_are_kept_once(engine: Engine):
    """The same bad row of the same file is kept once, with its reason."""
    for _ in range(2):
        quarantine(engine, "m", "l\udcffg.jsonl", [(7, "no prompt", '{"a": "\x00"}')])
    with engine.connect() as on:
        assert on.execute(text("SELECT row_number, reason FROM quarantined_row")).all() == [(7, "no prompt")]


def test_any_request_id_can_get_feedback(engine: Engine):
    """An id that PostgreSQL cannot store joins the row that was logged under the same id."""
    inference_log.append(engine, [Inference(model="m", request_id="r\x00", at=NOON, prompt="prompt ")])
    add_feedback(engine, "m", "r\x00", reference="reference")
    (document,) = documents.read_documents(engine, "m", DAY, limit=10)
    assert document.text == "prompt reference"


def test_errors_hold_no_texts(engine: Engine):
    """What the database refuses is told without the values, which may be what users wrote."""
    with pytest.raises(DataError) as caught:
        add_feedback(engine, "m\x00", "r", reference="very private")
    assert "very private" not in str(caught.value)


@pytest.mark.parametrize("error", [psycopg.OperationalError("server closed"), NoConnectionFree("pool")], ids=repr)
def test_a_database_that_goes_away_is_transient(error: Exception):
    """A connection cut within COPY, and a pool that a hanging server keeps busy, are TransientError too."""
    with pytest.raises(TransientError, match="writing the inference log"), database_errors("writing the inference log"):
        raise error


@pytest.mark.slow
def test_documents_are_counted_without_being_read(engine: Engine):
    """Two hundred documents of a megabyte are counted in little memory; no more are counted than are asked for."""
    texts = [replace(row, prompt="x" * 1_000_000) for row in rows(200)]
    for start in range(0, 200, 20):
        inference_log.append(engine, texts[start : start + 20])
    add_feedback_batch(engine, "m", [(row.request_id, "y" * 1000, None) for row in texts])
    tracemalloc.start()
    counted = documents.count_documents(engine, "m", DAY, most=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (counted, documents.count_documents(engine, "m", DAY, most=50)) == (200, 50)
    assert peak < 10_000_000
