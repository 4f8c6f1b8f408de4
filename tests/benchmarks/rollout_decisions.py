"""Rollouts of simulated arms: how often an equal challenger is taken back, and how soon a worse one.

Users are simulated, each with a rate, a way to score, and a bad line of their own; what compares and decides is the
product's own code, which looks six times a window.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import nan
from statistics import median

import numpy as np
from numpy.typing import NDArray

from datasets_defs.spec.rollout import RolloutSpec
from datasets_defs.store.arm_log import ArmUnit
from monitors.incidents.arms import compare_arms
from monitors.incidents.rollout_decision import RolloutStep, decide_step
from tests.benchmarks.figures import Figure

LOOKS = 6
"""Looks in a window: one every ten minutes of an hour."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedArms:
    """Who asks, and how much worse the challenger is."""

    users: int = 2_000
    rate: float = 3.0
    """Requests of a user in a window, on average; users differ by a factor of 2.7."""
    more_errors: float = 0.0
    """Added to the 2 % of requests that fail."""
    lower_scores: float = 0.0
    """Taken from a mean score of 0.8; every fifth answer is scored."""
    slower: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulatedEnd:
    """How a rollout ended."""

    step: RolloutStep
    windows: float
    """Since its beginning."""
    could_tell: bool


def roll_out(arms: SimulatedArms, spec: RolloutSpec, seed: int) -> SimulatedEnd:
    """Roll a simulated challenger out until it is champion or taken back."""
    rng = np.random.default_rng(seed)
    place = rng.random(arms.users)  # as the hash of a user
    traits = _traits(arms, rng)
    took, could_tell = 0.0, True
    for share in spec.steps[:-1]:
        is_new, sums = place < share, np.zeros((8, arms.users))
        for look in range(1, 10_000):
            sums += _one_look(arms, traits, is_new, rng)
            took += 1 / LOOKS
            comparison = compare_arms(_units(sums, ~is_new), _units(sums, is_new), spec, steps=len(spec.steps) - 1)
            verdict = decide_step(comparison, spec, windows=look // LOOKS)
            if verdict.step is RolloutStep.ON:
                could_tell &= "could not tell" not in verdict.reason
                break
            if verdict.step is not RolloutStep.STAY:
                return SimulatedEnd(verdict.step, took, could_tell)
    return SimulatedEnd(RolloutStep.ON, took, could_tell)


def _traits(arms: SimulatedArms, rng: np.random.Generator) -> Floats:
    """Draw each user's rate, share of failures, mean score, and usual time."""
    return np.stack([
        arms.rate / LOOKS * rng.lognormal(-0.5, 1.0, arms.users),
        0.02 * rng.gamma(2.0, 0.5, arms.users),
        rng.normal(0.8, 0.1, arms.users),
        rng.normal(0.0, 0.3, arms.users),
    ])  # fmt: skip


def _one_look(arms: SimulatedArms, traits: Floats, is_new: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    rate, failing, score, slow = traits
    requests = rng.poisson(rate)
    errors = rng.binomial(requests, np.clip(failing + arms.more_errors * is_new, 0, 1))
    answered = requests - errors
    scored = rng.binomial(answered, 0.2)
    spread = np.sqrt(scored)
    scores = scored * (score - arms.lower_scores * is_new) + spread * rng.normal(0, 0.2, arms.users)
    times = answered * (slow + np.log1p(arms.slower) * is_new) + np.sqrt(answered) * rng.normal(0, 0.6, arms.users)
    failed = rng.binomial(answered, 0.03)
    return np.stack([requests, errors, answered, times, answered, failed, scored, scores])


def _units(sums: Floats, of: NDArray[np.bool_]) -> list[ArmUnit]:
    some = sums[:, of & (sums[0] > 0)].T.tolist()
    return [
        ArmUnit(requests=int(row[0]), errors=int(row[1]), timed=int(row[2]), log_seconds=row[3], checked=int(row[4]),
                failed=int(row[5]), scored=int(row[6]), score=row[7])
        for row in some
    ]  # fmt: skip


KINDS = {
    "equal": SimulatedArms(),
    "more_errors": SimulatedArms(more_errors=0.10),
    "lower_scores": SimulatedArms(lower_scores=0.10),
    "half_as_fast": SimulatedArms(slower=1.0),
}


def figures(count: int, kinds: Iterable[str] = tuple(KINDS)) -> Iterator[Figure]:
    """Measure each kind of simulated challenger in `count` rollouts of the usual steps."""
    spec = RolloutSpec()
    for kind in kinds:
        ends = [roll_out(KINDS[kind], spec, seed) for seed in range(count)]
        back = sorted(end.windows for end in ends if end.step is RolloutStep.BACK)
        name, share = f"decision.rollout.simulated_{kind}", len(back) / count
        if kind == "equal":
            yield Figure(name=f"{name}_taken_back", value=share, unit="share", gate=0.03, better="less")
            unsure = sum(not end.could_tell for end in ends) / count
            yield Figure(name=f"{name}_promoted_unsure", value=unsure, unit="share")
            continue
        yield Figure(name=f"{name}_taken_back", value=share, unit="share", gate=0.95)
        yield Figure(name=f"{name}_windows_median", value=median(back or [nan]), unit="windows")
        yield Figure(name=f"{name}_windows_most", value=max(back, default=nan), unit="windows")
