"""The index of prompts on real PostgreSQL: each window once, whoever is killed, and no longer than the log."""

import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.settings import ROOT
from datasets_defs.store import prompt_vectors
from datasets_defs.store.retention import drop_old
from monitors.counts import embeddings
from monitors.maintain import DAY, index, tidy
from monitors.similar import index as module
from monitors.similar.index import WINDOW_PROMPTS, keep_up
from monitors.similar.spaces import HASHED, WIDTH, PromptSpace
from monitors.watch_drift import watch
from tests.monitors.embedding_model import make_model
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

KEEP_UP = """
import sys
from datetime import datetime
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from monitors.similar.index import keep_up
keep_up(engine_for(sys.argv[1]), spec_of(sys.argv[2]), until=datetime.fromisoformat(sys.argv[3]))
"""


def kept(loop: Loop) -> list[tuple[int, str]]:
    """Read which requests are indexed, with the number of their window."""
    first = loop.window(0).end
    with loop.db.connect() as on:
        rows = on.execute(text("SELECT window_end, request_id FROM prompt_vector ORDER BY window_end, request_id"))
        return [((row.window_end - first) // loop.length, row.request_id) for row in rows]


def vectors(loop: Loop) -> list[list[float]]:
    """Read the vectors, by request."""
    with loop.db.connect() as on:
        return [*on.scalars(text("SELECT vector FROM prompt_vector ORDER BY request_id"))]


def test_each_window_is_indexed_once(loop: Loop) -> None:
    """At most fifty prompts of each window are kept; a second run, or a later one, adds only what is new."""
    spec = loop.spec()
    loop.traffic(0, documentation()[:120])
    loop.traffic(7, documentation()[120:140])
    assert str(keep_up(loop.db, spec, until=loop.window(7).end)) == "70 prompts of 2 windows were indexed"
    before, where = kept(loop), vectors(loop)
    assert [number for number, _ in before] == [0] * WINDOW_PROMPTS + [7] * 20
    assert keep_up(loop.db, spec, until=loop.window(7).end).windows == 0
    loop.traffic(8, documentation()[140:150])
    assert keep_up(loop.db, spec, until=loop.window(8).end).prompts == 10
    assert [each for each in kept(loop) if each[0] < 8] == before
    expected = PromptSpace(HASHED).vectors(documentation()[:1])[0]
    assert max(float(np.dot(each, expected)) for each in where) <= 1 + 1e-6
    np.testing.assert_allclose(np.linalg.norm(where, axis=1), 1, atol=1e-5)


def test_a_window_that_is_not_over_waits(loop: Loop) -> None:
    """A window whose end is later than asked for is left; a run that may do so many stops there."""
    spec = loop.spec()
    for number in range(3):
        loop.traffic(number, documentation()[10 * number : 10 * number + 10])
    assert keep_up(loop.db, spec, until=loop.window(1).end - timedelta(seconds=1)).windows == 1
    assert keep_up(loop.db, spec, until=loop.window(2).end, most=1).windows == 1
    assert keep_up(loop.db, spec, until=loop.window(2).end, most=1).windows == 1
    assert [number for number, _ in kept(loop)] == [0] * 10 + [1] * 10 + [2] * 10


def test_a_repeated_text_counts_once_and_a_blank_one_never(loop: Loop) -> None:
    """Of prompts that say the same one is indexed; those of white space are none, and a single sign is one."""
    loop.traffic(0, ("what is a tuple?",) * 9 + (" \n\t ", "", "?"))
    assert keep_up(loop.db, loop.spec(), until=loop.window(0).end).prompts == 2
    np.testing.assert_allclose(np.linalg.norm(vectors(loop), axis=1), 1, atol=1e-5)


def test_what_is_redacted_leaves_no_trace_in_a_vector(loop: Loop) -> None:
    """Two prompts that differ in an address of mail lie in one place, and count as one text."""
    loop.traffic(0, ("write to ann@example.com about the refund", "write to bob@example.org about the refund"))
    assert keep_up(loop.db, loop.spec(), until=loop.window(0).end).prompts == 1


@pytest.mark.parametrize("point", ["similar.made", "similar.indexed"])
def test_killed_anywhere_it_goes_on(loop: Loop, database_url: str, point: str) -> None:
    """A writer that dies before or after a window leaves whole windows, and the next run does the rest."""
    spec = loop.spec()
    for number in range(3):
        loop.traffic(number, documentation()[20 * number : 20 * number + 20])
    arguments = [database_url, MODEL, loop.window(2).end.isoformat()]
    killed = subprocess.run(
        [sys.executable, "-c", KEEP_UP, *arguments], cwd=ROOT, env={**os.environ, KILL_AT: point}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert [number for number, _ in kept(loop)] == ([] if point == "similar.made" else [0] * 20)
    keep_up(loop.db, spec, until=loop.window(2).end)
    assert [number for number, _ in kept(loop)] == [0] * 20 + [1] * 20 + [2] * 20


def test_every_point_is_tried() -> None:
    """The points in the code are those that are killed at, here and in `test_newcomers.py`."""
    found = set()
    for path in (ROOT / "monitors" / "similar").glob("*.py"):
        found |= set(re.findall(r'reached\("([a-z_.]+)"\)', path.read_text()))
    assert found == {"similar.made", "similar.indexed", "similar.named"}


def test_the_sensor_indexes_after_its_verdict(loop: Loop) -> None:
    """A judged window is indexed; what `maintain` finds left, it does, and a retired model's log it leaves alone."""
    loop.champion()
    loop.reference(documentation()[:200])
    loop.traffic(1, documentation()[200:300])
    watch(MODEL, until=loop.until(1), db=loop.db, actor="test")
    assert [number for number, _ in kept(loop)] == [1] * WINDOW_PROMPTS
    loop.traffic(2, documentation()[300:310])
    assert index(MODEL, db=loop.db, until=loop.until(2)) == "10 prompts of 1 windows were indexed"


def test_a_broken_index_fails_no_verdict(loop: Loop, owner: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Without the table the sensor judges as ever, and says in its log what is left."""
    loop.champion()
    loop.reference(documentation()[:200])
    loop.traffic(1, documentation()[200:300])
    with owner.begin() as on:
        on.execute(text("DROP TABLE prompt_vector"))
    outcome = watch(MODEL, until=loop.until(1), db=loop.db, actor="test")
    assert "drift" in outcome.reason or outcome.ring is None
    with loop.db.connect() as on:
        assert on.scalar(text("SELECT count(*) FROM verdict")) == 3
    assert "the next window or `maintain` indexes" in caplog.text


def test_vectors_go_with_the_log(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the log's days they are deleted; so are an erased request's, and those beyond a day's."""
    spec, midnight = loop.spec(), loop.window(0).start
    monkeypatch.setattr(prompt_vectors, "DAY_PROMPTS", 12)
    monkeypatch.setattr(module, "WINDOW_PROMPTS", 5)
    for number in (0, 1, 2, 24, 25):
        loop.traffic(number, documentation()[5 * number : 5 * number + 5])
    keep_up(loop.db, spec, until=loop.window(25).end)
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM inference WHERE request_id = '24-1-2'"))
    gone = tidy(db=loop.db, now=midnight + 2 * DAY)
    assert gone["vectors_deleted"] == 3 + 1
    assert ("24-1-2" in {each for _, each in kept(loop)}, len(kept(loop))) == (False, 12 + 9)
    assert tidy(db=loop.db, now=midnight + 2 * DAY)["vectors_deleted"] == 0
    gone = tidy(db=loop.db, now=midnight + 91 * DAY)
    assert gone["vectors_deleted"] == 12
    assert {number for number, _ in kept(loop)} == {24, 25}
    tidy(db=loop.db, now=midnight + 92 * DAY)
    assert kept(loop) == []


def test_past_their_days_vectors_go_even_if_the_log_stays(loop: Loop) -> None:
    """A vector is no older than the log's days allow, whatever keeps the log's own day."""
    spec = loop.spec()
    loop.traffic(0, documentation()[:10])
    keep_up(loop.db, spec, until=loop.window(0).end)
    assert drop_old(loop.db, loop.window(0).end + 90 * DAY)["prompt_vector"] == 10


def test_today_is_not_thinned(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that goes on keeps what it has: later windows of it are still to come."""
    monkeypatch.setattr(prompt_vectors, "DAY_PROMPTS", 3)
    loop.traffic(0, documentation()[:10])
    keep_up(loop.db, loop.spec(), until=loop.window(0).end)
    assert tidy(db=loop.db, now=loop.window(5).start)["vectors_deleted"] == 0


def test_the_models_own_embeddings(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the YAML names an embedding model its vectors are kept, and the sensor makes none of them twice."""
    folder = make_model(tmp_path / "tiny")
    spec = loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "embedding": folder})
    loop.champion()
    loop.reference(documentation()[:200])
    loop.traffic(1, documentation()[200:260])
    encoder = embeddings._encoder(folder)
    asked: list[str] = []
    real = encoder.encode

    def encode(heads: list[str], **more: object) -> object:
        asked.extend(heads)
        return real(heads, **more)

    monkeypatch.setattr(encoder, "encode", encode)
    watch(MODEL, until=loop.until(1), db=loop.db, actor="test")
    assert len(kept(loop)) == WINDOW_PROMPTS
    assert len(asked) == len(set(asked))
    with loop.db.connect() as on:
        spaces = set(on.scalars(text("SELECT space FROM prompt_vector")))
    assert spaces == {PromptSpace.of(spec).name} != {HASHED}


def test_a_missing_embedding_model_is_named(loop: Loop) -> None:
    """A folder that is not there is said with what to give, and nothing is indexed by other means."""
    spec = loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "embedding": "/nowhere/model"})
    loop.traffic(0, documentation()[:10])
    with pytest.raises(ContractError, match="/nowhere/model"):
        keep_up(loop.db, spec, until=loop.window(0).end)
    assert kept(loop) == []


def test_hashed_vectors_know_what_is_alike() -> None:
    """A passage of a text lies nearer to others of it than to other texts', in any script."""
    of = PromptSpace(HASHED).vectors
    asked, like, unlike = of(
        [
            "How do I get a refund for a broken order?",
            "my order arrived broken, can I have a refund",
            "Translate the poem into French verse.",
        ]
    )
    assert asked @ like > 3 * max(asked @ unlike, 0.05)
    asked, like, unlike = of(["退货和退款的规定是什么", "请告诉我退款的规定", "明天北京的天气怎么样"])
    assert asked @ like > 2 * max(asked @ unlike, 0.05)
    assert of([]).shape == (0, WIDTH)
