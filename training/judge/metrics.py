"""What completions are worth beside their bits: overlap with what people wrote, and checks of what is written. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from statistics import fmean
from typing import Any

import numpy as np

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.gate import EvaluationSpec

GROUP = "driftloop.metrics"
"""Entry points: `name = "package.module:function"`, a function of prompts, references and completions."""
RESAMPLES = 1000
NGRAM = 4
Metric = Callable[[Sequence[str], Sequence[str], Sequence[str]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A completed prompt."""

    prompt: str
    reference: str
    """What a person wrote."""
    completion: str
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One metric of both models, on the same prompts."""

    champion: float
    challenger: float
    low: float | None = None
    """95 % interval of the challenger's value, by resampling documents; None where it is no mean over documents."""
    high: float | None = None
    p_value: float | None = None
    """Of the difference: paired bootstrap (Koehn, "Statistical significance tests for machine translation", 2004)."""


def compared(champion: Sequence[Answer], challenger: Sequence[Answer], spec: EvaluationSpec) -> dict[str, Scores]:
    """Give every metric of both.

    Raises:
        ContractError: a metric of the user's own is not installed, or fails.
    """
    if not champion:
        return {}
    scores = _overlap(champion, challenger)
    checks = [_checks(answers, spec) for answers in (champion, challenger)]
    for name in checks[0]:
        low, high = _interval(checks[1][name])
        scores[name] = Scores(champion=fmean(checks[0][name]), challenger=fmean(checks[1][name]), low=low, high=high)
    speeds = [_speeds(answers) for answers in (champion, challenger)]
    scores |= {name: Scores(champion=speeds[0][name], challenger=speeds[1][name]) for name in speeds[0]}
    for name in spec.metrics:
        metric = own_metric(name)
        values = [_own(name, metric, answers) for answers in (champion, challenger)]
        scores[name] = Scores(champion=values[0], challenger=values[1])
    return scores


def own_metric(name: str) -> Metric:
    """Load a metric of the user's own.

    Raises:
        ContractError: no installed package offers it.
    """
    offered = metadata.entry_points(group=GROUP)
    if name not in offered.names:
        known = ", ".join(sorted(offered.names)) or "none is"
        raise ContractError(f"metric {name!r} is not installed as an entry point of {GROUP}; installed: {known}")
    loaded: Metric = offered[name].load()
    return loaded


def repetition(text: str) -> float:
    """Give the share of a text's word 4-grams that stand in it before, 0..1."""
    words = text.split()
    grams = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _overlap(champion: Sequence[Answer], challenger: Sequence[Answer]) -> dict[str, Scores]:
    """BLEU and chrF of the whole corpus, through sacrebleu, with its paired bootstrap."""
    import os

    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    os.environ.setdefault("SACREBLEU_SEED", "12345")  # the same rows give the same interval
    systems: list[tuple[str, Sequence[str]]] = [
        ("champion", [answer.completion for answer in champion]),
        ("challenger", [a.completion for a in challenger]),
    ]
    references = [[answer.reference for answer in champion]]
    scorers = {"bleu": BLEU(effective_order=False), "chrf": CHRF()}
    tested: Any = PairedTest(systems, scorers, references, test_type="bs", n_samples=RESAMPLES)()
    results = tested[1]
    scores = {}
    for name, (old, new) in ((key, values) for key, values in zip(scorers, list(results.values())[1:], strict=True)):
        scores[name] = Scores(
            champion=float(old.score),
            challenger=float(new.score),
            low=float(new.mean - new.ci),
            high=float(new.mean + new.ci),
            p_value=float(new.p_value),
        )
    return scores


def _checks(answers: Sequence[Answer], spec: EvaluationSpec) -> dict[str, list[float]]:
    """Give per document what is judged of its completion."""
    texts = [answer.completion.strip() for answer in answers]
    lower = [_folded(text) for text in texts]
    blocked = [_folded(phrase) for phrase in spec.blocked_phrases]
    refusals = tuple(map(_folded, spec.refusals))
    return {
        "exact_match": [float(text == answer.reference.strip()) for text, answer in zip(texts, answers, strict=True)],
        "repetition_share": [repetition(text) for text in texts],
        "length_ratio": [
            len(t) / max(1, len(answer.reference.strip())) for t, answer in zip(texts, answers, strict=True)
        ],
        "empty_share": [float(not text) for text in texts],
        "refusal_share": [float(text.startswith(refusals)) for text in lower],
        "blocked_share": [float(any(phrase in text for phrase in blocked)) for text in lower],
    }


def _folded(text: str) -> str:
    return text.lower().replace("\u2019", "'")


def _speeds(answers: Sequence[Answer]) -> dict[str, float]:
    seconds = [answer.seconds for answer in answers]
    return {
        "latency_p50_seconds": float(np.quantile(seconds, 0.5)),
        "latency_p95_seconds": float(np.quantile(seconds, 0.95)),
        "tokens_per_second": sum(answer.tokens for answer in answers) / max(sum(seconds), 1e-9),
    }


def _interval(values: Sequence[float]) -> tuple[float, float]:
    drawn = np.random.default_rng(0).choice(np.asarray(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _own(name: str, metric: Metric, answers: Sequence[Answer]) -> float:
    prompts, references = [answer.prompt for answer in answers], [answer.reference for answer in answers]
    try:
        return float(metric(prompts, references, [answer.completion for answer in answers]))
    except Exception as err:  # the user's own code may raise anything
        raise ContractError(f"metric {name!r} failed: {type(err).__name__}: {err}") from err
