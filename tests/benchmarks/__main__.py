"""`python -m tests.benchmarks [--only PREFIX] [--quick]`: a line of JSON per figure; exit code 1 when a gate is missed.

Peers are measured in the same run, in turns with ours, and medians are given. `--only drift`, `--only drift.hour` …
chooses by the beginning of the name. `--quick` takes small sizes: to see that everything runs, not how fast.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from tests.benchmarks import (
    broken_data,
    commands,
    decision,
    fleet,
    gate_decisions,
    gateway,
    image_pairs,
    latency,
    log_windows,
    planted_words,
    policy,
    prompt_index,
    rollout_decisions,
    scoring,
    sketches,
    storage,
    texts,
    topic,
    training_data,
    training_tokens,
    windows,
    year,
)
from tests.benchmarks.figures import Figure


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together, at full size and at a small one."""

    full: Callable[[], Iterable[Figure]]
    quick: Callable[[], Iterable[Figure]]


GROUPS = {
    "training.data": Group(
        lambda: chain(training_data.speed(50, 3), training_data.memory(10, 1_000)),
        lambda: chain(training_data.speed(2, 1), training_data.memory(1, 2)),
    ),
    "training.pairs": Group(
        lambda: chain(image_pairs.speed(100, 7), image_pairs.memory(1_000, 10_000)),
        lambda: chain(image_pairs.speed(3, 1), image_pairs.memory(5, 10)),
    ),
    "training.tokens": Group(lambda: training_tokens.tokens(600, 5), lambda: training_tokens.tokens(16, 1)),
    "evaluation.documents": Group(lambda: scoring.documents(400, 5), lambda: scoring.documents(40, 1)),
    "decision.policy": Group(lambda: decision.false_actions(8, 4_560), lambda: decision.false_actions(1, 1_200)),
    "decision.delay": Group(lambda: decision.delays(15), lambda: decision.delays(1)),
    "decision.broken": Group(
        lambda: broken_data.figures(1), lambda: broken_data.figures(1, names=("cut at 30", "one tenant", "tier gone"))
    ),
    "decision.gate": Group(lambda: gate_decisions.figures(1_000, 100), lambda: gate_decisions.figures(10, 1, (80,))),
    "decision.rollout": Group(
        lambda: rollout_decisions.figures(100), lambda: rollout_decisions.figures(1, ("equal", "more_errors"))
    ),
    "control.commands": Group(lambda: commands.answers(24, 7), lambda: commands.answers(2, 1)),
    "control.sensing": Group(lambda: fleet.direct((1, 10, 100, 1_000)), lambda: fleet.direct((1, 3), 100)),
    "control.fleet": Group(lambda: fleet.through_airflow(100), lambda: fleet.through_airflow(3, 100)),
    "control.year": Group(lambda: year.traces(100, 365), lambda: year.traces(3, 21)),
    "control.gateway": Group(lambda: gateway.figures(512, 3, peer=True), lambda: gateway.figures(64, 1, peer=False)),
    "control.latency": Group(lambda: latency.added(15), lambda: latency.added(1)),
    "texts.asked": Group(lambda: texts.figures(10_000), lambda: texts.figures(200)),
    "trust.planted": Group(
        planted_words.figures, lambda: planted_words.figures(("3 sentences at 20%",), honest_samples=1)
    ),
    "drift.wide": Group(lambda: windows.wide(1_000_000, 50, 5), lambda: windows.wide(2_000, 5, 1)),
    "drift.hour": Group(lambda: windows.hour(20_000, 1_000, 20, 9), lambda: windows.hour(2_000, 500, 5, 1)),
    "drift.sketch": Group(lambda: sketches.errors(10_000, 50, 5), lambda: sketches.errors(10_000, 5, 1)),
    "drift.index": Group(
        lambda: chain(
            prompt_index.windows(2_000, 9, gate=0.05),
            prompt_index.windows(100_000, 5, gate=0.05),
            prompt_index.questions(90, 5),
        ),
        lambda: chain(prompt_index.windows(2_000, 1, gate=1), prompt_index.questions(2, 1)),
    ),
    "drift.log": Group(lambda: log_windows.judgements(1_000_000, 3), lambda: log_windows.judgements(2_000, 1)),
    "drift.storage": Group(lambda: storage.month(1_000, 20, 30), lambda: storage.month(20, 2, 5, 2)),
    "drift.topic": Group(
        lambda: topic.delays(100, 60, 3), lambda: topic.delays(200, 24, 1, kinds=("delay_first_profile",))
    ),
    "drift.policy": Group(
        lambda: chain(policy.false_alarms(40, 4), policy.delays(21)), lambda: policy.false_alarms(0.02, 1)
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="PREFIX", help="figures whose names begin so, e.g. drift.hour")
    parser.add_argument("--quick", action="store_true", help="small sizes; the gates are not meant for them")
    wanted = parser.parse_args(arguments)
    chosen = [group for name, group in GROUPS.items() if name.startswith(wanted.only) or wanted.only.startswith(name)]
    if not chosen:
        parser.error(f"no figure begins with {wanted.only!r}; there are {', '.join(GROUPS)}")
    figures = []
    for group in chosen:
        for figure in (group.quick if wanted.quick else group.full)():
            if figure.name.startswith(wanted.only):
                figures.append(figure)
                sys.stdout.write(figure.line() + "\n")
                sys.stdout.flush()
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
