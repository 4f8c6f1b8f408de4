"""Rows of a real PostgreSQL, counted without becoming objects: the same counts as row by row."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.windows import Window
from datasets_defs.store.database import engine_for
from datasets_defs.store.inference_log import Inference, append
from monitors.counts import rollup
from monitors.counts.columns import Encoding, learn_encoding, sketches
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch, add_up, roll_up
from monitors.counts.sketch import NumericSketch
from tests.monitors.counts.test_embeddings import make_model
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

ODD = ["", "a\tb", "c\nd\r", 'quo"te', "back\\slash\\", "\\N", "null", "true", "12", "é 字 \u2028", "</script>", "{}"]


def log(loop: Loop, rows: list[dict[str, Any]], *, number: int = 1, prefix: str = "r") -> list[Inference]:
    """Log rows in a window."""
    window = loop.window(number)
    made = [
        Inference(
            model=MODEL, request_id=f"{prefix}{place}", at=window.start + place / len(rows) * window.length,
            **{"model_version": 1, "prompt": "a prompt", **row},
        )
        for place, row in enumerate(rows)
    ]  # fmt: skip
    append(loop.db, made)
    return made


def mixed(count: int = 400) -> list[dict[str, Any]]:
    """Rows with every kind of value in every kind of column."""
    draw = np.random.default_rng(5)
    numbers = [1, -2.5, 1e-7, 10**400, None, "12", "x", True, [1], {"a": "b"}]
    return [
        {
            "prompt": documentation()[place % 50],
            "prompt_bits_per_byte": [2.5, None, math.nan, math.inf, 3.25][place % 5],
            "latency_seconds": float(draw.lognormal()),
            "prompt_tokens": int(draw.integers(1, 99)),
            "attributes": {
                "clean": float(draw.normal()),
                "odd 'name\"\\%s {}": numbers[place % len(numbers)] if place % 40 < 10 else float(place),
                "level": ODD[place % len(ODD)],
                "yes": place % 3 == 0,
                "untidy": numbers[place % len(numbers)] if place % 40 < 10 else ODD[place % 4],
                **({"sometimes": place} if place % 2 else {}),
            },
        }
        for place in range(count)
    ]


def learned(**more: Any) -> Encoding:
    """Learn from rows in which every attribute is of one type."""
    clean = [
        {**row, "attributes": {**row["attributes"], "odd 'name\"\\%s {}": float(place), "untidy": ODD[place % 3]}}
        for place, row in enumerate(mixed())
    ]
    return learn_encoding(clean, **more)


def test_the_same_counts_as_row_by_row(loop: Loop):
    """Numbers, levels, nulls, NaN and wrong values of every column are counted as from rows in memory."""
    rows, encoding = mixed(), learned()
    log(loop, rows)
    found = roll_up(loop.db, MODEL, 1, loop.window(1), encoding, text_rows=1_000)
    assert {column.name for column in encoding.of("attribute")} == {
        f"attribute:{name}" for name in rows[1]["attributes"]
    }
    assert found.columns == sketches(encoding, rows)
    odd = found.columns["attribute:odd 'name\"\\%s {}"]
    assert isinstance(odd, NumericSketch)
    assert (odd.infinities, odd.nulls, odd.wrong) == (10, 10, 50)
    assert (found.rows, found.window, found.empty_prompts, found.rows_per_user) == (400, loop.window(1), 0, 1.0)
    bits = [row["prompt_bits_per_byte"] for row in rows]
    weights = [len(row["prompt"].encode()) for row in rows]
    expected = Moments.of([math.nan if each is None else each for each in bits], weights)
    assert found.loss == replace(expected, **{
        name: pytest.approx(getattr(expected, name)) for name in ("w", "wx", "w2", "w2x", "w2x2")
    })  # fmt: skip


def test_in_any_blocks(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    """How the stream is cut into blocks changes nothing, nor into how many windows."""
    encoding = learned()
    log(loop, mixed())
    whole = roll_up(loop.db, MODEL, 1, loop.window(1), encoding, text_rows=1_000)
    monkeypatch.setattr(rollup, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(rollup, "TEXT_BATCH", 7)
    window, middle = loop.window(1), loop.window(1).start + 0.3 * loop.length
    halves = [Window(window.start, middle), Window(middle, window.end)]
    parts = [roll_up(loop.db, MODEL, 1, half, encoding, text_rows=1_000) for half in halves]
    assert [part.rows for part in parts] == [120, 280]
    for found in (roll_up(loop.db, MODEL, 1, window, encoding, text_rows=1_000), add_up(parts)):
        assert (found.columns, found.rows, found.window) == (whole.columns, whole.rows, whole.window)
        assert found.loss.mean == pytest.approx(whole.loss.mean)


def test_whose_rows_count(loop: Loop):
    """Rows of the version, and those of no version; not another's, another model's, or from outside the window."""
    log(loop, [{}] * 5)
    log(loop, [{"model_version": None}] * 3, prefix="foreign")
    log(loop, [{"model_version": 2}] * 7, prefix="other")
    log(loop, [{}] * 9, number=2)
    append(loop.db, [Inference(model="other", request_id="r", at=loop.window(1).start, prompt="p", model_version=1)])
    assert roll_up(loop.db, MODEL, 1, loop.window(1), Encoding(()), text_rows=9).rows == 8


def test_users(loop: Loop):
    """Rows of the user of a random row, by user, or session where there is no user; a row of neither is alone."""
    log(loop, [{"user_id": "a"}] * 3 + [{"user_id": "b", "session_id": "s"}] + [{"session_id": "t"}] * 2 + [{}] * 4)
    found = roll_up(loop.db, MODEL, 1, loop.window(1), Encoding(()), text_rows=9)
    assert found.rows_per_user == (9 + 1 + 4 + 4) / 10


def test_a_sample_of_the_texts(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    """Texts are counted of a sample, the same each time; no more are read once they come to very many characters."""
    encoding = learned()
    log(loop, mixed())
    found = [roll_up(loop.db, MODEL, 1, loop.window(1), encoding, text_rows=40) for _ in range(2)]
    assert found[0] == found[1]
    assert (found[0].columns["words"].rows, found[0].columns["latency_seconds"].rows) == (40, 400)
    monkeypatch.setattr(rollup, "TEXT_BATCH", 10)
    monkeypatch.setattr(rollup, "MAX_TEXT_CHARACTERS", 10_000)
    few = roll_up(loop.db, MODEL, 1, loop.window(1), encoding, text_rows=400)
    assert few.columns["words"].rows == 30


def test_a_smaller_sample_of_the_embedded(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the sampled texts the first so many are embedded, in whatever batches they are read."""
    rows = [{"prompt": text} for text in documentation()[:60]]
    log(loop, rows)
    encoding = learn_encoding([{**row, "attributes": {}} for row in rows], embedding=make_model(tmp_path / "model"))
    monkeypatch.setattr(rollup, "EMBEDDED_ROWS", 25)
    monkeypatch.setattr(rollup, "TEXT_BATCH", 10)
    found = roll_up(loop.db, MODEL, 1, loop.window(1), encoding, text_rows=50)
    assert (found.columns["embedding_distance"].rows, found.columns["words"].rows) == (25, 50)


def test_blank_prompts(loop: Loop):
    """A prompt of nothing but white space of any kind, however long, is empty."""
    blank = ["", " ", "\n\t\u3000\u2003\xa0", " " * 1_000]
    log(loop, [{"prompt": prompt} for prompt in [*blank, " " * 1_000 + "x", "\n.", "\u200b"]])
    assert roll_up(loop.db, MODEL, 1, loop.window(1), Encoding(()), text_rows=9).empty_prompts == 4


def test_an_empty_window(loop: Loop):
    """A window without rows, even of days without a partition, has every column, and nothing in it."""
    encoding = learned()
    for window in (loop.window(1), loop.window(9_000)):
        found = roll_up(loop.db, MODEL, 1, window, encoding, text_rows=9)
        assert (found.rows, found.loss, found.rows_per_user) == (0, Moments(), 1.0)
        assert {name: sketch.rows for name, sketch in found.columns.items()} == {
            column.name: 0 for column in encoding.columns
        }


def test_bytes(loop: Loop):
    """A window's sketch comes back from its bytes as it was."""
    encoding = learned()
    log(loop, mixed(50))
    found = roll_up(loop.db, MODEL, 1, loop.window(1), encoding, text_rows=9)
    assert WindowSketch.from_bytes(found.to_bytes()) == found


def test_damaged_bytes(loop: Loop):
    """What is no window's sketch is refused in words, wherever it is cut."""
    whole = roll_up(loop.db, MODEL, 1, loop.window(1), learned(), text_rows=9).to_bytes()
    head = json.dumps({"head": {"rows": 1}, "sizes": {}}).encode()
    wrong = b"W1" + len(head).to_bytes(4, "big") + head
    minus = json.dumps({"head": {}, "sizes": {"a": 5, "b": -5}}).encode()
    for content in (b"", b"W0", b"W1", whole[:5], whole[:40], whole[:-1], whole + b"x", wrong,
                    b"W1" + len(minus).to_bytes(4, "big") + minus):  # fmt: skip
        with pytest.raises(ContractError, match="a window's sketch"):
            WindowSketch.from_bytes(content)


def test_adding_up_nothing():
    """There is no sum of no windows."""
    with pytest.raises(ContractError, match="no window"):
        add_up([])


def test_users_of_several_windows(loop: Loop):
    """Users of added windows are taken for different ones: the mean by rows; of no rows at all it is 1."""
    some = WindowSketch(window=loop.window(1), rows=30, columns={}, loss=Moments(), rows_per_user=4)
    more = replace(some, window=loop.window(2), rows=10, rows_per_user=2, empty_prompts=3)
    total = add_up([some, more])
    assert (total.rows, total.rows_per_user, total.empty_prompts) == (40, 3.5, 3)
    assert total.window == Window(loop.window(1).start, loop.window(2).end)
    assert add_up([replace(some, rows=0)]).rows_per_user == 1.0


def test_the_database_is_left_as_it_was(engine: Engine, loop: Loop):
    """The next user of the connection finds PostgreSQL's usual isolation again."""
    roll_up(engine, MODEL, 1, loop.window(1), Encoding(()), text_rows=9)
    with engine.connect() as on:
        assert on.scalar(text("SHOW transaction_isolation")) == "read committed"


def test_a_database_that_is_away(loop: Loop):
    """It is an error of the kind that is tried again."""
    away = engine_for("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(TransientError, match="inference log"):
        roll_up(away, MODEL, 1, Window(loop.window(1).start, loop.window(1).start + timedelta(1)), Encoding(()),
                text_rows=9)  # fmt: skip
