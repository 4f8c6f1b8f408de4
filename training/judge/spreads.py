"""How much documents' changes spread, as the model's earlier evaluations measured it."""

from math import sqrt
from typing import Any

from sqlalchemy import Engine

from datasets_defs.store.evaluations import newest_evaluations
from training.judge.paired import Spread

EARLIER = 5
"""Evaluations that are averaged."""
PLANNED = ("recent", "old", "golden")


def spreads_seen(db: Engine, model: str, *, besides: tuple[int, int] | None = None) -> dict[str, Spread]:
    """Read the spreads by slice that the model's newest evaluations found, but that of one incident and attempt.

    Variances are averaged over up to `EARLIER` evaluations, weighted by their documents: one alone is uncertain.
    """
    newest = newest_evaluations(db, model, limit=EARLIER + 1)
    earlier = [evaluation.scores for evaluation in newest if (evaluation.incident_id, evaluation.attempt) != besides]
    spreads = {}
    for name in PLANNED:
        scores = [by_slice[name] for by_slice in earlier[:EARLIER] if by_slice.get(name, {}).get("spread")]
        if scores:
            spreads[name] = pooled(scores)
    return spreads


def pooled(scores: list[dict[str, Any]]) -> Spread:
    """Average variances; a score that was stored before they were split counts as spread within clusters."""
    weight = sum(score["documents"] for score in scores)
    within = sum(score["documents"] * score.get("within", score["spread"]) ** 2 for score in scores)
    between = sum(score["documents"] * score.get("between", 0.0) ** 2 for score in scores)
    return Spread(within=sqrt(within / weight), between=sqrt(between / weight))
