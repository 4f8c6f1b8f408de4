"""The gate: how often it errs, what it says beforehand, its own tests, and everything that it must not accept."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from datasets_defs.spec.gate import GateSpec
from training.judge.gate import Archived, GateEvidence, Protected, decide, plan_look
from training.judge.paired import Pair, Power, compare, documents_needed
from training.judge.self_tests import SelfTests

SPEC = GateSpec()
RECENT_SPREAD, OLD_SPREAD = 0.126, 0.05
"""Of the change among documents, as the demo's models show it: on the new kind of text, and on the old."""


def pairs(change: float, spread: float, count: int = 200, seed: int = 1, cluster_size: int = 1) -> list[Pair]:
    """Documents of very different lengths whose costs change by `change` on average, alike within clusters."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(6, 0.3, count)
    common = np.repeat(rng.normal(0, spread, -(-count // cluster_size)), cluster_size)[:count]
    return [
        Pair(float(cost), float(cost * (1 + change + noise)), int(cost / 3), str(number // cluster_size))
        for number, (cost, noise) in enumerate(zip(3 * size, common, strict=True))
    ]


def evidence(gain: float, *, old: float = 0.0, count: int = 200, seed: int = 1, **rest) -> GateEvidence:
    return GateEvidence(
        recent=pairs(-gain, RECENT_SPREAD, count, seed),
        old=pairs(old, OLD_SPREAD, 400, seed + 1_000_000),
        champion_version=1,
        **rest,
    )


def accepted(gain: float, *, times: int, spec: GateSpec = SPEC, **rest) -> float:
    return sum(decide(evidence(gain, seed=seed, **rest), spec).decision == "accept" for seed in range(times)) / times


@pytest.mark.parametrize("spec", [SPEC, GateSpec(min_gain_share=0.0)], ids=["the-default", "any-gain-counts"])
def test_false_promotions(spec: GateSpec):
    """Of 1,000 challengers that are no better than the champion, at most 3.5 % are promoted (2.5 % by design)."""
    assert accepted(0.0, times=1000, spec=spec) <= 0.035


@pytest.mark.parametrize(
    "sizes",
    [[100] + [1] * 100, [150] + [6] * 9, [22] * 9, [5] * 40],
    ids=["one-wrote-half", "one-wrote-most", "nine", "forty"],
)
def test_users_who_write_unequally_promote_nothing(sizes: list[int]):
    """Where one user wrote half of it all, or few did, no more than 3.5 % of 1,000 equals look better."""
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(len(sizes)), sizes)
    better = 0
    for _ in range(1000):
        change = rng.normal(0, 0.05, len(sizes))[who] + rng.normal(0, 0.05, len(who))
        costs = 3 * rng.lognormal(6, 0.3, len(who))
        found = [Pair(c, c * (1 + x), int(c / 3), str(w)) for c, x, w in zip(costs, change, who, strict=True)]
        better += compare(found, 0.975).high < 0
    assert better <= 35


def test_false_promotions_by_many_slices_and_clusters():
    """Ten protected slices and users with twenty documents each promote no more of them."""
    wrong = 0
    for seed in range(1000):
        slices = [
            Protected(name=f"s{i}", pairs=pairs(0, 0.02, 60, seed + i), max_loss_share=0.02, min_documents=30)
            for i in range(10)
        ]
        found = replace(evidence(0.0, seed=seed), recent=pairs(0.0, 0.05, 400, seed, 20), protected=slices)
        wrong += decide(found, GateSpec(min_gain_share=0.0)).decision == "accept"
    assert wrong <= 35


def test_better_ones_pass():
    """A challenger that is 5 % better on 200 documents is accepted 95 times of 100."""
    assert accepted(0.05, times=1000) >= 0.95


def test_damaged_ones_are_blocked():
    """A damaged challenger never passes: not when it is bad everywhere, and not when it only forgets."""
    assert accepted(-0.10, times=100) == 0
    assert accepted(0.20, times=100, old=0.10) == 0


@pytest.mark.parametrize(("gain", "count"), [(0.02, 200), (0.03, 200), (0.025, 400), (0.06, 60)])
def test_power_is_what_was_announced(gain: float, count: int):
    """How often a gain is seen in simulation is, within 3 points, what was said before any look."""
    said = Power(documents=count, clusters=count, spread=RECENT_SPREAD, confidence=SPEC.confidence)
    spec = GateSpec(worth_seeing=gain, power=0.5, min_documents=10)
    planned = plan_look([None] * count, spec, RECENT_SPREAD)
    seen = sum(
        -compare(pairs(-gain, RECENT_SPREAD, count, seed), spec.confidence).high >= spec.min_gain_share
        for seed in range(4000)
    )
    announced = said.chance(gain - spec.min_gain_share)
    # documents of different lengths weigh differently, which the spread that is measured counts in
    measured = np.mean([compare(pairs(-gain, RECENT_SPREAD, count, seed), 0.975).spread for seed in range(200)])
    honest = plan_look([None] * count, spec, float(measured))
    assert planned.chance == announced
    assert seen / 4000 == pytest.approx(honest.chance, abs=0.03)


def test_power_with_users_who_write_unequally():
    """It is what was announced where a few of forty users wrote most, too."""
    sizes = [40, 30, 20, 10, *[3] * 36]
    who = np.repeat(np.arange(len(sizes)), sizes)

    def sample(seed: int) -> list[Pair]:
        rng = np.random.default_rng(seed)
        change = rng.normal(-0.02, 0.02, len(sizes))[who] + rng.normal(0, 0.08, len(who))
        costs = 3 * rng.lognormal(6, 0.3, len(who))
        return [Pair(c, c * (1 + x), int(c / 3), str(w)) for c, x, w in zip(costs, change, who, strict=True)]

    looks = [compare(sample(seed), 0.975) for seed in range(2000)]
    spread = float(np.sqrt(np.mean([look.spread**2 for look in looks])))
    planned = plan_look([str(w) for w in who], GateSpec(min_gain_share=0, worth_seeing=0.02), spread)
    assert np.mean([look.high < 0 for look in looks]) == pytest.approx(planned.chance, abs=0.03)


def test_documents_needed_see_it():
    """So many documents see the difference with the power asked for; one fewer does not."""
    needed = documents_needed(0.02, spread=0.1, confidence=0.975, power=0.8)
    powers = [
        Power(documents=count, clusters=count, spread=0.1, confidence=0.975).chance(0.02)
        for count in (needed - 1, needed)
    ]
    assert powers[0] < 0.8 <= powers[1]
    with pytest.raises(ValueError, match="cannot be seen"):
        documents_needed(0.0, spread=0.1, confidence=0.975, power=0.8)
    assert Power(documents=9, clusters=1, spread=0.1, confidence=0.975).chance(0.5) == 0
    assert Power(documents=9, clusters=9, spread=0, confidence=0.975).chance(0.5) == 1


def test_too_few_to_see_it_is_said():
    """Fewer documents than see the gain that is worth seeing are inconclusive, with both figures in words."""
    spec = GateSpec(worth_seeing=0.02, expected_spread=0.12)
    found = decide(evidence(0.5, count=180), spec)
    assert found.decision == "inconclusive"
    assert found.reason == "505 documents can see a gain of 2.0%; have 180, which can see 3.0%"
    assert decide(evidence(0.5, count=180, known_spread=0.05), spec).decision == "accept"


def test_clusters_widen_the_bounds():
    """Documents of one user count as what they are: twenty alike say little more than one; one cluster says nothing."""
    alone = compare(pairs(0, 0.1, 400, 5), 0.975)
    alike = compare(pairs(0, 0.1, 400, 5, cluster_size=20), 0.975)
    assert (alone.clusters, alike.clusters) == (400, 20)
    assert 3 < (alike.high - alike.low) / (alone.high - alone.low) < 7
    assert compare(pairs(0, 0.1, 10, 5, cluster_size=10), 0.975).high == float("inf")


def test_clustered_bounds_hold():
    """The bound covers the true change in about 97.5 % of samples of 20 users with ten documents each."""
    covered = sum(compare(pairs(0, 0.1, 200, seed, cluster_size=10), 0.975).high >= 0 for seed in range(2000))
    assert 0.96 <= covered / 2000 <= 0.99


def protected(change: float, count: int = 100, *, required: bool = True) -> Protected:
    return Protected(
        name="slice:language=de",
        pairs=pairs(change, 0.02, count),
        max_loss_share=0.02,
        min_documents=30,
        required=required,
    )


@pytest.mark.parametrize(
    ("slice_", "decision", "said"),
    [
        pytest.param(protected(0.0), "accept", "slice:language=de at most 2.0% up", id="kept"),
        pytest.param(protected(0.1), "reject", "slice:language=de", id="hurt"),
        pytest.param(protected(0.02), "inconclusive", "both sides", id="uncertain"),
        pytest.param(protected(0.0, 12), "inconclusive", "12 slice:language=de documents; 30", id="few"),
        pytest.param(protected(0.5, 12, required=False), "accept", "12 documents, too few", id="few-not-named"),
    ],
)
def test_protected_slices(slice_: Protected, decision: str, said: str):
    """A slice that is surely hurt blocks; one that cannot be judged is inconclusive if it was named."""
    found = decide(evidence(0.2, protected=[slice_]), SPEC)
    assert found.decision == decision
    assert said in found.reason
    assert not found.escalate


def good_tests(**changes) -> SelfTests:
    same = [replace(pair, challenger_bits=pair.champion_bits) for pair in pairs(0, 0, 20)]
    base = SelfTests(again=same, damaged=pairs(2.0, 0.3, 20), same_weights=False, overlap=0)
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        pytest.param(good_tests(again=pairs(0.01, 0.0, 20)), "differs from itself by 1.00%", id="no-tie"),
        pytest.param(good_tests(damaged=pairs(0.0, 0.1, 20)), "damaged copy", id="damage-unseen"),
        pytest.param(good_tests(same_weights=True), "identical weights", id="same"),
        pytest.param(good_tests(overlap=3), "3 texts of the evaluation were trained on", id="overlap"),
        pytest.param(good_tests(again=[]), "no document", id="not-tested"),
        pytest.param(good_tests(again=[Pair(5.0, math.nan, 5)]), "differs from itself", id="tie-of-nan"),
        pytest.param(good_tests(damaged=[Pair(5.0, math.nan, 5)] * 24), "damaged copy", id="damage-of-nan"),
        pytest.param(good_tests(damaged=[Pair(5.0, math.inf, 5)] * 24), "damaged copy", id="damage-without-end"),
    ],
)
def test_an_evaluation_that_fails_its_own_tests(tests: SelfTests, said: str):
    """Is inconclusive however good the challenger looks, and calls a person."""
    found = decide(evidence(0.3, self_tests=tests), SPEC)
    assert (found.decision, found.escalate) == ("inconclusive", True)
    assert said in found.reason


def test_an_evaluation_that_passes_its_own_tests():
    """Changes nothing about the decision."""
    assert decide(evidence(0.3, self_tests=good_tests()), SPEC).decision == "accept"


def test_what_could_not_be_measured():
    """Is inconclusive, never a rejection: an error of the machinery, and losses that are no numbers."""
    found = decide(evidence(-0.5, problem="out of memory"), SPEC)
    assert (found.decision, found.escalate) == ("inconclusive", True)
    assert "out of memory" in found.reason
    broken = evidence(0.2)
    broken = replace(broken, old=[replace(broken.old[0], challenger_bits=float("nan")), *broken.old[1:]])
    assert "1 of 600 losses are no numbers" in decide(broken, SPEC).reason


def test_a_broken_rule_rejects():
    """A challenger that is better in bits and breaks a rule of the spec is rejected with both said."""
    found = decide(evidence(0.2, broken_rules=["bleu 3.1 is below 10"]), SPEC)
    assert found.decision == "reject"
    assert found.reason.startswith("bleu 3.1 is below 10; otherwise recent")


def test_a_better_former_champion_is_told_of():
    """The challenger is decided on as ever, and people hear that a former champion fits better."""
    found = decide(evidence(0.2, archived=Archived(version=3, pairs=pairs(-0.2, 0.05))), SPEC)
    assert found.decision == "accept"
    assert "version 3, a former champion, is surely better still" in found.reason
    assert "version 3" not in decide(evidence(0.2, archived=Archived(version=3, pairs=pairs(0.1, 0.05))), SPEC).reason
    assert {"recent", "old", "archived"} == set(found.scores)


def test_order_does_not_matter():
    """The same pairs in another order give the same bounds."""
    some = pairs(-0.1, 0.1, 100, 3, cluster_size=4)
    other = random.Random(0).sample(some, len(some))
    one, two = compare(some, 0.975), compare(other, 0.975)
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
