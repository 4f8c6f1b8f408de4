"""Champion against former champion: bounds that hold however often one looks, and a worse one that is found soon."""

from datetime import UTC, datetime
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_defs.spec.gate import ShadowSpec
from datasets_defs.store.shadow_log import ShadowScore, read_shadow_scores, save_shadow_scores, scored_requests
from monitors.incidents.shadow import on_probation, previous_is_better
from monitors.incidents.shadow_comparison import LEAST_UNITS, Shadow, compare, half_width
from tests.monitors.incidents.test_probation_and_quiet import in_probation
from tests.monitors.loop import MODEL, Loop

SPEC = ShadowSpec()
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def score(number: int, champion: float, previous: float, *, user: str | None = None, **more) -> ShadowScore:
    """One pair."""
    values = {"model": MODEL, "champion_version": 2, "previous_version": 1, "at": NOON, "bytes": 100, **more}
    return ShadowScore(request_id=f"r{number}", user_id=user, champion_bits=champion, previous_bits=previous, **values)


def traffic(rng: np.random.Generator, count: int, *, spread: float, worse: float = 0.0, kind: str = "normal"):
    """Bits of both versions on prompts of many lengths; the ratio spreads by `spread` and its mean is 1 + `worse`."""
    previous = rng.lognormal(5, 0.5, count) * 3 * np.exp(rng.normal(0, 0.2, count))
    if kind == "normal":
        ratio = rng.normal(1, spread, count)
    else:
        skewed = np.exp(rng.normal(-(spread**2) / 2, spread, count))
        ratio = skewed if kind == "above" else 2 - skewed
    return previous * ratio * (1 + worse), previous


def first_worse(champion: np.ndarray, previous: np.ndarray, every: int) -> int | None:
    """Give after how many prompts the champion is first surely worse, looking after each `every`."""
    rows = [score(n, c, p) for n, (c, p) in enumerate(zip(champion, previous, strict=True))]
    looks = range(every, len(rows) + 1, every)
    return next((n for n in looks if compare(rows[:n], SPEC).result is Shadow.WORSE), None)


@pytest.mark.parametrize("kind", ["normal", "above", "below"])
def test_an_equal_champion_is_hardly_ever_found_worse(kind: str) -> None:
    """The bounds of `compare`, looked at after every prompt of 2,000: one in a hundred runs misses at most."""
    rng, runs, missed = np.random.default_rng(7), 500, 0
    for _ in range(runs):
        champion, previous = traffic(rng, 2000, spread=0.15, kind=kind)
        count = np.arange(1, len(champion) + 1)
        c, p = champion.cumsum(), previous.cumsum()
        ratio = c / p
        squares = (
            (champion**2).cumsum() - 2 * ratio * (champion * previous).cumsum() + ratio**2 * (previous**2).cumsum()
        )
        looks = slice(LEAST_UNITS - 1, None)
        error = np.sqrt(squares[looks] * count[looks] / (count[looks] - 1)) / p[looks]
        miss = (1 - SPEC.confidence) / 2
        width = half_width(error, miss, units=count[looks])
        missed += bool((np.abs(ratio[looks] - 1) > width).any())
    assert missed / runs <= 1 - SPEC.confidence


def test_the_bounds_are_those_of_the_simulation() -> None:
    """What `compare` says of rows is what the simulation above computes from running sums."""
    champion, previous = traffic(np.random.default_rng(3), 400, spread=0.15)
    found = compare([score(n, *pair) for n, pair in enumerate(zip(champion, previous, strict=True))], SPEC)
    ratio = champion.sum() / previous.sum()
    error = np.sqrt(((champion - ratio * previous) ** 2).sum() * 400 / 399) / previous.sum()
    assert found.ratio == pytest.approx(ratio)
    assert found.at_most - found.ratio == pytest.approx(half_width(error, 0.005, units=400))
    assert found.ratio - found.at_least == pytest.approx(half_width(error, 0.005, units=400))


def test_three_per_cent_worse_is_found_within_three_windows() -> None:
    """With pairs that spread by a tenth, 3 % more bits are sure within three windows of 200 prompts, 20 times of 20."""
    for seed in range(20):
        champion, previous = traffic(np.random.default_rng(seed), 600, spread=0.1, worse=0.03)
        assert first_worse(champion, previous, every=200) is not None


def test_a_cured_champion_is_known_to_be_no_worse_at_once() -> None:
    """A fifth fewer bits, as after a retrain on the shifted text: surely not worse, and better, in the first window."""
    champion, previous = traffic(np.random.default_rng(1), 200, spread=0.15, worse=-0.2)
    found = compare([score(n, *pair) for n, pair in enumerate(zip(champion, previous, strict=True))], SPEC)
    assert (found.result, found.is_better) == (Shadow.NOT_WORSE, True)


def test_equal_versions_are_not_worse_and_not_better() -> None:
    """Two versions that cost exactly the same: no more than the margin, and no less."""
    found = compare([score(n, 300.0, 300.0) for n in range(200)], SPEC)
    assert (found.result, found.is_better, found.ratio) == (Shadow.NOT_WORSE, False, 1.0)


def test_what_cannot_be_told_stays_open() -> None:
    """A spread that hides the margin is no answer."""
    champion, previous = traffic(np.random.default_rng(4), 100, spread=0.3)
    found = compare([score(n, *pair) for n, pair in enumerate(zip(champion, previous, strict=True))], SPEC)
    assert found.result is Shadow.OPEN
    assert "surely" in found.reason


def test_a_users_prompts_count_as_one() -> None:
    """A thousand prompts of 29 users say nothing, however bad; of 30 they do."""
    rows = [score(n, 600.0 + n % 7, 300.0, user=f"u{n % 29}") for n in range(1000)]
    few = compare(rows, SPEC)
    assert (few.result, few.prompts, few.units) == (Shadow.TOO_FEW, 1000, 29)
    assert compare([*rows, score(1000, 600, 300, user="u29")], SPEC).result is Shadow.WORSE


def test_alike_users_weaken_the_evidence() -> None:
    """The same prompts are surer apart than when each user's ten are all worse or all better together."""
    rng = np.random.default_rng(5)
    of_user = rng.normal(1.03, 0.1, 60).repeat(10)
    alone = compare([score(n, 300 * r, 300.0) for n, r in enumerate(of_user)], SPEC)
    together = compare([score(n, 300 * r, 300.0, user=f"u{n // 10}") for n, r in enumerate(of_user)], SPEC)
    assert together.ratio == pytest.approx(alone.ratio)
    assert together.at_least < alone.at_least


def test_nothing_is_said_of_nothing() -> None:
    """No rows, and rows that are no figures, are too few."""
    assert compare([], SPEC).result is Shadow.TOO_FEW
    rows = [score(n, *pair) for n, pair in enumerate([(nan, 1.0), (1.0, nan), (1.0, 0.0), (inf, 1.0)] * 20)]
    found = compare(rows, SPEC)
    assert (found.result, found.prompts, found.ratio) == (Shadow.TOO_FEW, 0, None)


@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.sampled_from([None, "a", "b"])), max_size=80),
    st.randoms(use_true_random=False),
    st.floats(0.1, 1000),
)
def test_order_and_unit_do_not_matter(pairs, random, factor) -> None:
    """Rows in another order, or bits counted in another unit, give the same comparison; the bounds hold the ratio."""
    rows = [score(n, c, p, user=user) for n, (c, p, user) in enumerate(pairs)]
    other = [score(n, c * factor, p * factor, user=user) for n, (c, p, user) in enumerate(pairs)]
    random.shuffle(other)
    found, again = compare(rows, SPEC), compare(other, SPEC)
    assert (found.units, found.prompts) == (again.units, again.prompts)
    assert found.ratio == pytest.approx(again.ratio)
    assert (found.result is Shadow.TOO_FEW) == (found.units < LEAST_UNITS)
    if found.at_least is not None:
        assert found.at_least < found.ratio < found.at_most
        assert again.at_least == pytest.approx(found.at_least, rel=1e-6, abs=1e-9)


@given(st.floats(1e-5, 1), st.floats(1e-4, 0.2), st.floats(1.1, 10))
def test_surer_is_wider_and_more_data_is_narrower(error, miss, times) -> None:
    """The bound grows with the error and with the confidence, and is wider than the one for a single look."""
    from statistics import NormalDist

    width = half_width(error, miss, units=100)
    assert half_width(error * times, miss, units=100) > width
    assert half_width(error, miss / times, units=100) > width
    assert half_width(error, miss, units=50) > width > error * NormalDist().inv_cdf(1 - miss)


def test_a_request_is_scored_once(loop: Loop) -> None:
    """Saving pairs again changes nothing; another champion's pairs are its own."""
    rows = [score(n, 2.0, 1.0, user="ann") for n in range(5)]
    assert save_shadow_scores(loop.db, rows) == 5
    assert save_shadow_scores(loop.db, [score(0, 9.0, 9.0), score(7, 2.0, 1.0)]) == 1
    assert save_shadow_scores(loop.db, []) == 0
    found = read_shadow_scores(loop.db, MODEL, 2, 1, since=NOON)
    assert found == [*rows, score(7, 2.0, 1.0)]
    assert read_shadow_scores(loop.db, MODEL, 2, 3, since=NOON) == []
    assert scored_requests(loop.db, MODEL, 2, ["r0", "r6", "r7"]) == {"r0", "r7"}
    assert scored_requests(loop.db, MODEL, 3, ["r0"]) == set()


def test_who_is_on_probation(loop: Loop) -> None:
    """Only a model whose incident is in probation, on a champion that came after another."""
    assert on_probation(loop.db) == []
    incident = in_probation(loop)
    assert on_probation(loop.db) == [MODEL]
    loop.champion(1, kind="roll_back")
    assert on_probation(loop.db) == []
    loop.ledger.move(incident, "rolled_back", actor="t", reason="r")
    assert on_probation(loop.db) == []


@pytest.mark.parametrize(("ratio", "known"), [(1.2, True), (0.8, False)])
def test_whether_the_previous_is_better(loop: Loop, ratio: float, known: bool) -> None:  # noqa: FBT001 the answer
    """Known from pairs since the promotion; not known without them, from older ones, or with no version before."""
    in_probation(loop)
    champion, at = loop.ledger.champion(MODEL), loop.window(11).start
    assert previous_is_better(loop.db, champion, loop.spec()) is None
    rows = [score(n, (100 + n % 5) * ratio, 100.0 + n % 5, at=at) for n in range(60)]
    early = [score(100 + n, 100.0, 900.0, at=loop.window(9).start) for n in range(60)]
    save_shadow_scores(loop.db, early)
    assert previous_is_better(loop.db, champion, loop.spec()) is None
    save_shadow_scores(loop.db, rows)
    assert previous_is_better(loop.db, champion, loop.spec()) is known
    assert previous_is_better(loop.db, champion, loop.spec(), since=loop.window(12).start) is None
    loop.champion(1, kind="roll_back")
    assert previous_is_better(loop.db, loop.ledger.champion(MODEL), loop.spec()) is None
