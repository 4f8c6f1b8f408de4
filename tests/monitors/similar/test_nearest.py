"""The nearest prompts on real PostgreSQL: by pgvector and by numpy alike, and as brute force finds them."""

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.store.prompt_vectors import Indexed, has_pgvector, save_vectors
from monitors.similar.index import keep_up
from monitors.similar.nearest import nearest, nearest_by_numpy, similar_to
from monitors.similar.spaces import HASHED, WIDTH, PromptSpace
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

MOST = 25


@pytest.fixture(params=["pgvector", "numpy"])
def server(request: pytest.FixtureRequest, loop: Loop, owner: Engine) -> str:
    """A database with pgvector, and one without, where numpy compares."""
    if request.param == "numpy":
        with owner.begin() as on:
            on.execute(text("DROP EXTENSION vector"))
    assert has_pgvector(loop.db) == (request.param == "pgvector")
    return str(request.param)


def whole(loop: Loop) -> Window:
    """Give all windows of a test."""
    return Window(loop.window(0).start, loop.window(99).end)


def test_as_brute_force_finds_them(loop: Loop, server: str) -> None:
    """Whoever compares finds the very nearest of 3,000, in order, whatever the stretch of time: recall is 1."""
    rng = np.random.default_rng(7)
    made = rng.normal(size=(3_000, WIDTH)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    for number in range(6):
        start = loop.window(number).start
        rows = [
            Indexed(f"r{at}", start + timedelta(seconds=at % 1_000), made[at].tolist())
            for at in range(500 * number, 500 * number + 500)
        ]
        save_vectors(loop.db, MODEL, loop.window(number), HASHED, rows)
        save_vectors(loop.db, "another", loop.window(number), HASHED, rows[:10])
        save_vectors(loop.db, MODEL, loop.window(number + 50), "another space", rows[:10])
    for asked in rng.normal(size=(3, WIDTH)).astype(np.float32):
        unit = asked / np.linalg.norm(asked)
        for first, last in ((0, 6), (2, 5)):
            within = Window(loop.window(first).start, loop.window(last).start)
            scores = made[500 * first : 500 * last].astype(np.float64) @ unit
            best = np.argsort(-scores)[:MOST]
            found = nearest(loop.db, MODEL, HASHED, unit, within, most=MOST)
            assert [each.request_id for each in found] == [f"r{500 * first + at}" for at in best]
            np.testing.assert_allclose([each.similarity for each in found], scores[best], atol=1e-5)


def test_both_ways_agree_on_real_prompts(loop: Loop) -> None:
    """On real texts pgvector and numpy give the same requests with the same figures."""
    spec = loop.spec()
    loop.traffic(0, documentation()[:50])
    loop.traffic(1, licences()[:50])
    keep_up(loop.db, spec, until=loop.window(1).end)
    asked = PromptSpace(HASHED).vectors(licences()[60:61])[0]
    one = nearest(loop.db, MODEL, HASHED, asked, whole(loop), most=10)
    other = nearest_by_numpy(loop.db, MODEL, HASHED, asked, whole(loop), most=10)
    assert [each.request_id for each in one] == [each.request_id for each in other]
    np.testing.assert_allclose(*([each.similarity for each in some] for some in (one, other)), atol=1e-6)
    assert sum(each.request_id.startswith("1-") for each in one) >= 9  # a licence is like licences


def test_texts_come_from_the_log_redacted_and_together(loop: Loop, server: str) -> None:
    """Equal texts are one, with their count and the newest time; what the log lost is not shown."""
    spec = loop.spec()
    loop.traffic(0, ("a refund for ann@example.com please", "how are tuples sorted?", "what is a refund?"))
    loop.traffic(1, ("a refund for bob@example.com please",))
    keep_up(loop.db, spec, until=loop.window(1).end)
    found = similar_to(loop.db, spec, "a refund for eve@example.com please", whole(loop), count=2)
    first, second = found.prompts
    assert (first.times, first.request_id, round(first.similarity, 4)) == (2, "1-1-0", 1)
    assert "@example.com" not in first.prompt
    assert (second.prompt, second.times) == ("what is a refund?", 1)
    assert found.searched == 4
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM inference"))
    lost = similar_to(loop.db, spec, "a refund", whole(loop), count=2)
    assert lost.prompts == ()
    assert lost.summary(MODEL) == "the log holds none of the nearest of 4 indexed prompts any more"


def test_what_was_indexed_by_other_means_is_counted(loop: Loop) -> None:
    """Vectors of another space are not compared, and said."""
    spec = loop.spec()
    loop.traffic(0, documentation()[:3])
    keep_up(loop.db, spec, until=loop.window(0).end)
    rows = [Indexed("x", loop.window(1).start, [1.0, 0.0])]
    save_vectors(loop.db, MODEL, loop.window(1), "model-0123", rows)
    found = similar_to(loop.db, spec, "sorted", whole(loop), count=5)
    assert (found.searched, found.elsewhere) == (3, 1)
    assert "1 were indexed by other means and are not compared" in found.summary(MODEL)


def test_nothing_is_indexed_yet(loop: Loop, server: str) -> None:
    """An empty index says who fills it; a blank text is refused with an example."""
    found = similar_to(loop.db, loop.spec(), "sorted", whole(loop), count=5)
    assert (
        found.summary(MODEL) == f"no prompt of {MODEL} is indexed; watch_drift indexes each window that it has judged"
    )
    with pytest.raises(ContractError, match="the text is blank; give a prompt"):
        similar_to(loop.db, loop.spec(), " \n", whole(loop), count=5)


def test_a_vector_of_another_length_is_named(loop: Loop) -> None:
    """A stored vector that does not fit its space is no silent zero."""
    save_vectors(loop.db, MODEL, loop.window(0), HASHED, [Indexed("x", loop.window(0).start, [1.0, 0.0])])
    asked = PromptSpace(HASHED).vectors(["a"])[0]
    with pytest.raises(ContractError, match=f"a vector of 2 numbers stands in a space of {WIDTH}"):
        nearest_by_numpy(loop.db, MODEL, HASHED, asked, whole(loop), most=5)
