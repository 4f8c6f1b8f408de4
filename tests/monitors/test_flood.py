"""Whether one prompt floods a window costs little, on real PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event

from datasets_defs.core.conditions import Condition
from datasets_defs.store.inference_log import Inference, append
from monitors.drift.flood import flood, most_repeated
from tests.monitors.loop import MODEL, Loop


@pytest.fixture
def loop(engine: Engine, home) -> Loop:
    """A model with its champion."""
    found = Loop(engine, home)
    found.spec()
    found.champion()
    return found


def logged(loop: Loop, number: int, prompts: list[str]) -> None:
    start = loop.window(number).start
    append(
        loop.db,
        [
            Inference(model=MODEL, request_id=f"{number}-{at}", at=start + timedelta(seconds=at), prompt=prompt)
            for at, prompt in enumerate(prompts)
        ],
    )


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Collect the queries that are sent meanwhile."""
    sent: list[str] = []

    def remember(_connection, _cursor, statement, *_rest):
        if statement.lstrip().upper().startswith("SELECT"):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", remember)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", remember)


def test_few_rows_cost_one_statement(loop: Loop):
    """A window of a single row is no flood, and nothing before it is read."""
    logged(loop, 0, ["same"] * 50)
    logged(loop, 1, ["same"])
    champion = loop.ledger.champion(MODEL)
    with statements(loop.db) as sent:
        repeated = most_repeated(loop.db, champion, loop.window(1), min_rows=20)
    assert len(sent) == 1
    assert flood(repeated, min_rows=20) is None


def test_no_row_is_asked_about_by_itself(loop: Loop):
    """Broken windows are left out of what is usual by spans of time: the plan has no query within a query."""
    logged(loop, 0, ["usual"] * 30)
    for number in (1, 2, 4):
        logged(loop, number, ["flood"] * 30)
        loop.verdict(number, "data", Condition.BAD)
    logged(loop, 5, ["flood"] * 30)
    champion = loop.ledger.champion(MODEL)
    with statements(loop.db) as sent:
        repeated = most_repeated(loop.db, champion, loop.window(5), min_rows=20)
    assert repeated is not None
    assert (repeated.rows, repeated.times, repeated.share_before) == (30, 30, 0.0)
    assert "100% of 30 rows" in (flood(repeated, min_rows=20) or "")
    assert not [statement for statement in sent if "EXISTS" in statement]


def test_what_was_usual_before_is_no_flood(loop: Loop):
    """A health check that always asked the same is none; without rows before nobody can say."""
    champion = loop.ledger.champion(MODEL)
    logged(loop, 4, ["check"] * 30)
    assert most_repeated(loop.db, champion, loop.window(4), min_rows=20).share_before is None
    logged(loop, 5, ["check"] * 30)
    repeated = most_repeated(loop.db, champion, loop.window(5), min_rows=20)
    assert repeated.share_before == 1.0
    assert flood(repeated, min_rows=20) is None
