"""Logs as gateways and tracing tools write them become requests, or say what they lack."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, select

from datasets_defs.store import tables
from ops.ingest.ingest import ingest
from ops.ingest.rows import parse

CASES = Path(__file__).parents[2] / "datasets_defs" / "rows" / "cases"
ASKED = "user: Which oil?\n\nassistant: "


def kept(engine: Engine) -> dict[str, dict[str, object]]:
    """Give the logged requests by their id."""
    with engine.connect() as on:
        return {row.request_id: row._asdict() for row in on.execute(select(tables.inference))}


def test_litellm(engine: Engine) -> None:
    """A spend log is read where messages were stored; without them a row says which setting stores them."""
    summary = ingest(engine, "writer", CASES / "litellm-spend.jsonl")
    row = kept(engine)["chatcmpl-0001"]
    assert (row["prompt"], row["completion"]) == (f"system: You help with pumps.\n\n{ASKED}", "Number four.")
    assert (row["user_id"], row["latency_seconds"], row["prompt_tokens"]) == ("user-7", 1.18, 14)
    assert "api_key" not in row["attributes"]  # type: ignore[operator]
    (reason,) = summary.quarantined
    assert "store_prompts_in_spend_logs" in reason


def test_openai_stored(engine: Engine) -> None:
    """A stored completion is read: a picture by its kind, a tool by its call, the provider's model as an attribute."""
    assert ingest(engine, "writer", CASES / "openai-stored.jsonl").new == 1
    row = kept(engine)["chatcmpl-0003"]
    assert row["prompt"] == "user: What is on this picture?\n[image_url]\n\nassistant: "
    assert row["completion"] == 'look_up_oil({"pump": 4})'
    assert row["attributes"]["served_model"] == "gpt-4o-mini-2024-07-18"  # type: ignore[index]


def test_langfuse(engine: Engine) -> None:
    """An export with JSON in its cells is read; what is no generation is no request."""
    assert ingest(engine, "writer", CASES / "langfuse-observations.csv").new == 1
    row = kept(engine)["obs-1"]
    assert (row["prompt"], row["completion"], row["user_id"], row["session_id"]) == (
        ASKED,
        "Number four.",
        "user-7",
        "s-1",
    )
    span = {"id": "o", "traceId": "t", "type": "SPAN", "startTime": "2026-11-20T10:00:00Z", "input": "x"}
    with pytest.raises(ValueError, match="only GENERATION is"):
        parse(span, "writer")


def test_every_time_of_a_log(engine: Engine) -> None:
    """A log in twelve forms of time comes in whole; two had no zone."""
    summary = ingest(engine, "writer", CASES / "times.jsonl")
    assert (summary.new, summary.quarantined, summary.naive_times) == (12, {}, 2)


def test_messages_in_place_of_a_prompt() -> None:
    """Our own form takes messages, whose last turn of the assistant is the completion unless one is given."""
    messages = [{"role": "user", "content": "Which oil?"}, {"role": "assistant", "content": "Number four."}]
    row = parse({"request_id": "r", "at": 1795168800, "messages": messages, "team": "a"}, "writer").inference
    assert row is not None
    assert (row.prompt, row.completion, row.attributes) == (ASKED, "Number four.", {"team": "a"})


def test_the_model_s_name_hides_nothing() -> None:
    """A row of another model that is wrong in other ways, too, says both."""
    with pytest.raises(ValueError, match=r"column 'at' is missing; column 'model' is 'other', not 'writer'"):
        parse({"request_id": "r", "prompt": "p", "model": "other"}, "writer")
    with pytest.raises(ValueError, match=r"^column 'model' is 'other', not 'writer'$"):
        parse({"request_id": "r", "prompt": "p", "at": 1795168800, "model": "other"}, "writer")


@pytest.mark.parametrize("score", [-0.1, 1.1, 5])
def test_a_score_outside_its_range_is_refused(score: float, engine: Engine, tmp_path: Path) -> None:
    """Scores are 0 to 1, as the API asks; the row is kept apart with its place."""
    (tmp_path / "a.jsonl").write_text(f'{{"request_id": "a", "score": 0.5}}\n{{"request_id": "b", "score": {score}}}')
    summary = ingest(engine, "writer", tmp_path / "a.jsonl")
    with engine.connect() as on:
        (row,) = on.execute(select(tables.quarantined_row)).all()
    assert (summary.feedback, row.row_number, row.reason) == (1, 2, "column 'score' needs a number from 0 to 1")


def test_a_data_frame_with_gaps(engine: Engine, tmp_path: Path) -> None:
    """Whole numbers that gaps made floats are the same users; NaN in any column costs nothing."""
    nan = float("nan")
    table = pa.table(
        {
            "request_id": [1.0, 2.0],
            "at": [1795168800.0, 1795168801.0],
            "prompt": ["a", "b"],
            "user_id": [17.0, nan],
            "latency_seconds": [nan, 0.5],
            "prompt_tokens": [3.0, nan],
            "score": [nan, nan],
            "temperature": [0.5, nan],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert ingest(engine, "writer", tmp_path / "a.parquet").new == 2
    first, second = kept(engine)["1"], kept(engine)["2"]
    assert (first["user_id"], first["latency_seconds"], first["prompt_tokens"]) == ("17", None, 3)
    assert (second["user_id"], second["latency_seconds"], second["attributes"]) == (None, 0.5, {})


ODD: tuple[Any, ...] = (
    *(None, "", " ", "x", "{", '{"a":1}', "[1]", '"s"', "nan", "9" * 5_000, "\ud800", b"\xff"),
    *(0, -1, 10**400, 1.5, math.nan, math.inf, True, complex(1, 1)),
    *(Decimal("sNaN"), Decimal("Infinity"), datetime(9999, 12, 31, tzinfo=UTC), timedelta(1), UUID(int=1)),
    *([], {}, [1], [None], {"a": 1}, {1: 2}, [{}], [("a", 1)], [[["a"]]], {"$date": {}}, {"$oid": None}),
    *([{"role": "user"}], [{"role": 1, "content": "x"}], [{"role": "user", "content": [None]}], {"messages": [1]}),
    *({"choices": []}, {"choices": [{"message": 5}]}, {"choices": {}}),
)
ASKS = [{"role": "user", "content": "q"}]
GOOD: dict[str, dict[str, Any]] = {
    "own": {"request_id": "r", "at": 1777600000, "prompt": "p", "user_id": "u", "score": 1, "attributes": {}},
    "litellm": {"request_id": "r", "call_type": "x", "startTime": 1777600000, "messages": ASKS, "response": {}},
    "openai": {
        "id": "i", "object": "chat.completion", "choices": [], "created": 1777600000, "usage": {}, "metadata": {},
        "messages": ASKS,
    },
    "langfuse": {"id": "i", "type": "GENERATION", "traceId": "t", "startTime": 1777600000, "input": "q", "output": ""},
    "messages": {"request_id": "r", "at": 1777600000, "messages": ASKS},
}  # fmt: skip


@pytest.mark.parametrize("form", GOOD)
def test_an_odd_value_is_the_end_of_its_row_at_most(form: str) -> None:
    """Whatever stands in a column, a row is read or refused with a reason; five forms ended their whole file."""
    read = 0
    for column in GOOD[form]:
        for value in ODD:
            try:
                parse({**GOOD[form], column: value}, "m")
                read += 1
            except ValueError as err:
                assert str(err)  # noqa: PT017 a reason, whichever
    assert read
    odd = parse({**GOOD["openai"], "metadata": "tenant-a", "usage": [1]}, "m").inference
    assert odd is not None
    assert odd.attributes["metadata"] == "tenant-a"
