"""What a batch asks, what becomes of a shard, and how fast it was: without a server or a database."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from datasets_defs.core.streams import batch_stream, model_of, stream_of
from datasets_defs.spec.batch import BatchInput, BatchPace, BatchSpec
from serving.batches.answers import BatchAnswer, at_work, figures_of, summary_of, totals, why_again
from serving.batches.rows import batch_rows, in_shards, log_key

SPEC = BatchSpec(input=BatchInput(file="x.jsonl"), id="id", template="Say {{ word }}.")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def answered(row: int, fault: str | None = None) -> BatchAnswer:
    return BatchAnswer(
        row=row, at=NOON, completion=None if fault else "so", fault=fault, completion_tokens=5, version=3
    )


def test_every_row_is_a_prompt_or_a_named_fault():
    """No row is lost, and each that cannot be asked says why."""
    source = [
        {"id": "a", "word": "hello"}, "a line that is no JSON", {"id": "b"}, {"word": "no name"},
        {"id": "a", "word": "again"}, {"id": " ", "word": "blank"}, {"id": "c", "word": "x" * 300_000},
    ]  # fmt: skip
    rows = list(batch_rows(source, SPEC))
    assert [each.row for each in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.fault for each in rows] == [
        None, "unreadable", "no_prompt", "no_id", "repeated_id", "no_id", "no_prompt",
    ]  # fmt: skip
    assert rows[0].prompt == "Say hello."
    assert all(each.reason for each in rows[1:])
    assert "'word' is undefined" in str(rows[2].reason)


def test_a_row_of_odd_text_is_asked_as_postgresql_can_keep_it():
    """NUL and lone surrogates do not reach a file, a server or a table."""
    (row,) = batch_rows([{"id": "\ud800", "word": "a\x00b\udfff"}], SPEC)
    assert row.id == "?"
    assert row.prompt is not None
    assert row.prompt.encode()
    assert "\x00" not in row.prompt


def test_shards_hold_all_rows_in_order():
    """The last one is shorter."""
    rows = list(batch_rows(({"id": at, "word": "w"} for at in range(7)), SPEC))
    assert [[each.row for each in some] for some in in_shards(rows, 3)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert log_key("run-1", 7) == log_key("run-1", 7) != log_key("run-2", 7)


@pytest.mark.parametrize(
    ("faults", "again"),
    [
        ([None] * 20, False),
        ([None] * 19 + ["server_error"], False),  # the row may be the reason
        ([None] * 17 + ["server_error"] * 3, True),
        (["unreachable"] * 3, True),
        (["unreachable"], True),  # a server away says nothing of its only row
        (["server_error"], False),
        (["request_refused"] * 20, False),  # does not pass: asking again would not help
    ],
)
def test_a_shard_is_asked_again_when_its_server_failed(faults: list[str | None], *, again: bool):
    """Faults that pass are the server's unless they are few; a shard of them is not written."""
    answers = [answered(at, fault) for at, fault in enumerate(faults)]
    reason = why_again(answers, BatchPace(most_failed=0.1))
    assert (reason is not None) is again


def test_speed_counts_only_the_time_at_work():
    """Two shards side by side count once, and a night between them not at all."""
    second = timedelta(seconds=1)
    times = [(NOON, NOON + 4 * second), (NOON + 2 * second, NOON + 6 * second)]
    assert at_work(times) == 6
    assert at_work([*times, (NOON + timedelta(hours=9), NOON + timedelta(hours=9) + 4 * second)]) == 10
    assert at_work([]) == 0
    shards = [figures_of([answered(1), answered(2, "timeout")], {"no_id": 1}, began=began, ended=ended)
              for began, ended in times]  # fmt: skip
    found = totals(shards)
    assert (found["rows"], found["answered"], found["faults"]) == (6, 2, {"no_id": 2, "timeout": 2})
    assert found["versions"] == {"3": 4}
    assert found["rows_per_second"] == 0.333
    said = summary_of("writer", 4, found)
    assert said.startswith("writer, batch 4: 2 of 6 rows completed in 6.0 s; 0.333 rows")
    assert "not completed: 2 no_id, 2 timeout" in said


def test_a_batch_is_a_stream_of_its_own():
    """What says that it is of a batch is logged beside live traffic; a model cannot have such a name."""
    assert stream_of("writer", {"purpose": "batch_inference"}) == batch_stream("writer") == "writer@batch"
    assert stream_of("writer", {"purpose": "generate_texts"}) == stream_of("writer", None) == "writer"
    assert model_of("writer@batch") == model_of("writer") == "writer"


@pytest.mark.parametrize("given", [{}, {"file": "a.csv", "sql": "SELECT 1"}, {"file": "a.csv", "connection": "mine"}])
def test_an_input_is_one_thing(given: dict[str, str]):
    """None, two, or a Connection without a query are refused."""
    with pytest.raises(ValidationError, match=r"give one of file, sql and asset|connection is the database of sql"):
        BatchInput(**given)
