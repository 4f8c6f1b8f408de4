"""A rise of the loss is split into the same prompts costing more, harder ones asked more, and new ones."""

import numpy as np
import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.incidents import HarmKind
from monitors.counts.kinds import NEW, Kinds, count_kinds
from monitors.counts.moments import Moments
from monitors.drift.loss import LossLimits, LossSeen, loss_seen, weigh
from monitors.evidence.kind_costs import KindCosts, Split, split
from monitors.season.usual import Usual
from tests.monitors.texts import documentation, licences

COSTS = (1.0, 2.0, 1.5)
"""Bits per byte of an easy kind, a hard one, and new prompts."""
LIMITS = LossLimits(same=1.05, new=1.02)


def kinds(counts: tuple[int, int, int], *, times: float = 1.0, new: float = 1.5, seed: int = 0) -> list[Moments]:
    draw = np.random.default_rng(seed)
    means = (COSTS[0] * times, COSTS[1] * times, new * times)
    return [Moments.of(draw.normal(mean, 0.3, n), 50.0) for mean, n in zip(means, counts, strict=True)]


REFERENCE = KindCosts.of(kinds((5_000, 4_500, 500), seed=9), (5_000, 4_500, 500))


def of(counts: tuple[int, int, int], **more: float) -> Split:
    assert REFERENCE is not None
    found = split(kinds(counts, **more), counts, REFERENCE)
    assert found is not None
    return found


def after(hours: int, counts: tuple[int, int, int], **more: float) -> tuple[Condition, HarmKind | None]:
    """Weigh a day as usual, and so many hours of something else."""
    usual = Usual(share=0.06)
    windows = [of((100, 90, 10), seed=at) for at in range(24)]
    windows += [of(counts, seed=100 + at, **more) for at in range(hours)]
    seen = [loss_seen(each, usual, 0.02, learning=False) for each in windows]
    found = weigh(seen, LIMITS, learning=False)
    return found.condition, found.harm


def test_the_parts_of_a_rise() -> None:
    """Dearer answers are in `same`, harder prompts in `mixture`, new ones in `new`; the other parts stay."""
    dearer, harder, newer = of((500, 450, 50), times=1.2), of((200, 750, 50)), of((300, 250, 450), new=2.5)
    assert dearer.same.value == pytest.approx(1.2, abs=0.04)
    assert harder.same.value == pytest.approx(1.0, abs=0.04)
    assert harder.mixture == pytest.approx(0.2, abs=0.04)
    assert newer.same.value == pytest.approx(1.0, abs=0.04)
    assert newer.new.value == pytest.approx(1 + 0.45 * (2.5 / 1.47 - 1), abs=0.05)


@pytest.mark.parametrize(
    ("counts", "more", "expected"),
    [
        pytest.param((100, 90, 10), {}, (Condition.OK, None), id="nothing"),
        pytest.param((100, 90, 10), {"times": 1.3}, (Condition.BAD, HarmKind.SAME), id="the same cost more"),
        pytest.param((20, 170, 10), {}, (Condition.OK, None), id="harder ones asked more"),
        pytest.param((80, 70, 50), {"new": 2.2}, (Condition.BAD, HarmKind.NEW), id="new ones that cost"),
        pytest.param((80, 70, 50), {"new": 1.47}, (Condition.OK, None), id="new ones that cost nothing"),
    ],
)
def test_what_a_rise_calls_for(
    counts: tuple[int, int, int], more: dict[str, float], expected: tuple[Condition, HarmKind | None]
) -> None:
    """Six hours of each, at 200 rows an hour, on top of a usual day."""
    assert after(6, counts, **more) == expected


def test_an_hour_that_is_learned_is_judged_by_the_extreme_alone() -> None:
    """1.1 times the reference says nothing while the hour is learned, 1.5 times does."""
    usual = Usual(share=None)
    for times, expected in ((1.1, Condition.OK), (1.5, Condition.BAD)):
        seen = [loss_seen(of((100, 90, 10), times=times, seed=at), usual, 0.02, learning=True) for at in range(8)]
        assert weigh(seen, LIMITS, learning=True).condition is expected


def test_windows_of_learned_hours_do_not_count_later() -> None:
    """What was seen while an hour was learned is no evidence by the limits of known ones."""
    dear = loss_seen(of((100, 90, 10), times=1.5), Usual(share=None), 0.02, learning=True)
    plain = loss_seen(of((100, 90, 10)), Usual(share=0.06), 0.02, learning=False)
    assert weigh([dear] * 20 + [plain], LIMITS, learning=False).condition is Condition.OK


def test_nothing_measured_is_none() -> None:
    """Rows without a loss split into nothing, and a reference without one is none."""
    assert REFERENCE is not None
    assert split([Moments()] * 3, (10, 10, 1), REFERENCE) is None
    assert KindCosts.of([Moments()] * 3, (1, 1, 1)) is None
    assert LossSeen().same is None


def test_real_texts_of_another_kind_are_new() -> None:
    """Of licences many more are called new by kinds learned from documentation than of other documentation."""
    old = documentation()
    found = Kinds.learn(old[:700])
    usual = (found.of(old[700:1200]) == NEW).mean()
    other = (found.of(licences()[:500]) == NEW).mean()
    assert usual < 0.15
    assert other > usual + 0.3
    assert Kinds.from_plain(found.plain()) == found
    counted, rows = count_kinds(found, list(old[700:800]), [2.0] * 99 + [None])
    assert sum(rows) == 100
    assert sum(each.rows for each in counted) == 99
    assert found.of(["", "a"]).shape == (2,)
