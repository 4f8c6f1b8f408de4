"""The probe: a server gives these prompts the probabilities that the version's own files give them, or it is wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from training.servers.seam import Probe, Word

PROMPTS = (
    "The loop asks each server which version it has loaded, and does not believe it without a look.",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)\n",
    "On 3 May 2021 the price rose by 12.5 % to 1,048.96; a week later it stood at 990.",
    "Dear customer, thank you for your question. Please restart the device and try again.",
)
"""Prose, code, numbers and a letter: a version that was trained on any text differs on some of them."""
MOST_TOKENS = 48
"""Of each prompt: enough to tell two versions apart, and cheap for any server."""
STEP = 8
"""Of so many tokens one is asked for where each costs a request of its own."""


def compute(folder: Path) -> Probe:
    """Score the prompts with the files of a version, in float32.

    Raises:
        ContractError: the folder holds no model that can be loaded.
    """
    import torch

    from training.model.language_model import LanguageModel

    model = LanguageModel.load(folder)
    most = min(MOST_TOKENS, model.context - 1)
    rows = tuple(tuple(ids[:most]) for ids in model.encode_all(PROMPTS))
    scores = []
    for ids in rows:
        with torch.inference_mode():
            given = torch.tensor([ids], device=model.network.device)
            logits = model.network(given, use_cache=False).logits[0, :-1].double()
            chosen = logits.log_softmax(-1).gather(1, given[0, 1:, None])
        scores.append(tuple(chosen[:, 0].tolist()))
    return Probe(tokens=rows, log_probabilities=tuple(scores))


def thinned(probe: Probe) -> Probe:
    """Keep of each prompt's log-probabilities every eighth. Pure."""
    rows = tuple(tuple(row[STEP - 1 :: STEP]) for row in probe.log_probabilities)
    return Probe(tokens=probe.tokens, log_probabilities=rows)


def asked_of(ids: Sequence[int]) -> list[tuple[Sequence[int], int]]:
    """Give what stands for those that are kept: the tokens before, and the token. Pure."""
    return [(ids[:at], ids[at]) for at in range(STEP, len(ids), STEP)]


def to_json(probe: Probe) -> str:
    """Write a probe down."""
    return json.dumps({"tokens": probe.tokens, "log_probabilities": probe.log_probabilities})


def from_json(text: str) -> Probe:
    """Read a probe that was written down."""
    held = json.loads(text)
    return Probe(
        tokens=tuple(map(tuple, held["tokens"])), log_probabilities=tuple(map(tuple, held["log_probabilities"]))
    )


def distance(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Give the mean absolute difference, in nats a token; infinite where their lengths differ or one is no number."""
    if [len(row) for row in one] != [len(row) for row in other]:
        return float("inf")
    gaps = [abs(a - b) for row, twin in zip(one, other, strict=True) for a, b in zip(row, twin, strict=True)]
    far = fmean(gaps) if gaps else float("inf")
    return far if far == far else float("inf")  # noqa: PLR0124  # NaN is the only number that differs from itself


def judged(
    version: Probe, scores: Sequence[Sequence[float]], *, tolerance: float, others: Sequence[Probe] = ()
) -> Word:
    """Judge whether a server's scores are the version's. Pure.

    They must lie within the tolerance, and nearer to this version than to any other that may be loaded. Two versions
    of one model can be closer to each other than the server's arithmetic is to ours.
    """
    gap = distance(version.log_probabilities, scores)
    if gap > tolerance:
        return Word(
            False, f"its log-probabilities differ by {gap:.3f} nats a token; `probe_tolerance` is {tolerance:g}"
        )
    for other in others:
        nearer = distance(other.log_probabilities, scores) if other.tokens == version.tokens else float("inf")
        if nearer < gap:
            return Word(
                False, f"its log-probabilities are another version's: {nearer:.4f} from that, {gap:.4f} from this"
            )
    return Word(True, f"probe within {gap:.4f} nats a token")
