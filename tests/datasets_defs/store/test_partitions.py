"""Days of the inference log are made and dropped beside readers and writers, on real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import TransientError
from datasets_defs.store import inference_log, partitions
from datasets_defs.store.inference_log import Inference
from datasets_defs.store.partitions import drop_days, ensure_days

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(name: str, at: datetime = NOON) -> Inference:
    return Inference(model="m", request_id=name, at=at, prompt="p")


def days(engine: Engine) -> list[str]:
    with engine.connect() as on:
        query = text(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'inference'::regclass ORDER BY 1"
        )
        return list(on.scalars(query))


def test_made_twice_and_at_once(engine: Engine):
    """Making what is there is no error, and eight makers at once make each day once, with the log's indexes."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ensure_days(engine, [date(2026, 5, 1), date(2026, 5, 2)]), range(8)))
    assert days(engine) == ["inference_20260501", "inference_20260502"]
    with engine.connect() as on:
        indexes = on.scalar(text("SELECT count(*) FROM pg_indexes WHERE tablename = 'inference_20260501'"))
    assert indexes == 2


def test_an_open_reader_stops_neither_makers_nor_writers(engine: Engine):
    """While somebody reads in a transaction that never ends, days are made, and batches of old and new days written."""
    inference_log.append(engine, [row("first")])
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM inference"))  # begins a transaction, and holds its locks
        ensure_days(engine, [date(2026, 5, 2)])
        assert inference_log.append(engine, [row("second")]) == 1
        assert inference_log.append(engine, [row("third", NOON + timedelta(days=2))]) == 1
    assert days(engine) == ["inference_20260501", "inference_20260502", "inference_20260503"]


def test_an_open_reader_keeps_its_day_and_stops_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """A day that is read all the while is not dropped; others read and write meanwhile, and the next try drops it."""
    monkeypatch.setattr(partitions, "DETACH_LIMIT", timedelta(seconds=0.5))
    for after in range(3):
        inference_log.append(engine, [row(f"r{after}", NOON + timedelta(days=after))])
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM inference"))
        assert drop_days(engine, NOON + timedelta(days=1)) == []
        assert inference_log.append(engine, [row("new", NOON + timedelta(days=2))]) == 1
    assert drop_days(engine, NOON + timedelta(days=1)) == ["inference_20260501"]
    assert days(engine) == ["inference_20260502", "inference_20260503"]


def test_a_lock_that_is_not_to_be_had_is_transient(engine: Engine, owner: Engine, monkeypatch: pytest.MonkeyPatch):
    """Somebody who holds the whole table is not waited for without end."""
    monkeypatch.setattr(partitions, "LOCK_LIMIT", timedelta(seconds=0.3))
    with engine.begin() as other:
        other.execute(text("LOCK TABLE inference IN SHARE ROW EXCLUSIVE MODE"))
        with pytest.raises(TransientError, match="making inference_20260501"):
            ensure_days(engine, [date(2026, 5, 1)])
    ensure_days(engine, [date(2026, 5, 1)])


def test_a_dropping_that_was_killed_goes_on(engine: Engine):
    """A day that was detached and not yet dropped is dropped the next time."""
    ensure_days(engine, [date(2026, 5, 1), date(2026, 5, 2)])
    with engine.begin() as on:
        on.execute(text("ALTER TABLE inference DETACH PARTITION inference_20260501"))
    assert drop_days(engine, NOON + timedelta(days=2)) == ["inference_20260501", "inference_20260502"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_days(engine: Engine):
    """With a row on each of 2,300 days a default server still has locks to write, to read by id, and to drop."""
    first = NOON - timedelta(days=2300)
    for after in range(2300):
        inference_log.append(engine, [row(f"d{after}", first + timedelta(days=after))])
    assert inference_log.append(engine, [row("new", first)]) == 1
    assert inference_log.oldest_row(engine, "m") == first
    assert set(inference_log.read_origins(engine, "m", ["d7", "new"])) == {"d7", "new"}
    assert len(drop_days(engine, NOON)) == 2300
    assert days(engine) == []
