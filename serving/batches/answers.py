"""How the rows of a shard ended, and what that says of the shard. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from datasets_defs.spec.batch import BatchPace
from serving.generation.replies import AGAIN, ReplyFault


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """How a row ended: with a completion, or with a fault that has a name."""

    row: int
    at: datetime
    completion: str | None = None
    finish_reason: str | None = None
    fault: str | None = None
    reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float = 0.0
    version: int | None = None
    prompt_bits_per_byte: float | None = None
    completion_bits_per_byte: float | None = None


AWAY = frozenset({ReplyFault.UNREACHABLE, ReplyFault.RATE_LIMITED, ReplyFault.TIMEOUT})
"""Faults that say nothing of the row."""


def why_again(answers: Sequence[BatchAnswer], pace: BatchPace) -> str | None:
    """Say why a shard is to be asked again, whole; None: it may be written.

    A row may fail by a fault of the server, since a row may be the reason. Many do not, nor do all for a server away.
    """
    passing = Counter(answer.fault for answer in answers if answer.fault in AGAIN)
    if not passing:
        return None
    answered = sum(answer.fault is None for answer in answers)
    words = ", ".join(f"{count} {fault}" for fault, count in passing.most_common())
    if not answered and set(passing) <= AWAY:
        return f"none of {len(answers)} rows was answered: {words}"
    allowed = max(1, math.floor(pace.most_failed * len(answers)))
    if passing.total() > allowed:
        return f"{passing.total()} of {len(answers)} rows failed by the server, over {allowed} (most_failed): {words}"
    return None


def figures_of(
    answers: Sequence[BatchAnswer], skipped: Mapping[str, int], *, began: datetime, ended: datetime
) -> dict[str, Any]:
    """Give a shard's figures; `skipped` counts the rows that were not asked by their fault."""
    faults = Counter(answer.fault for answer in answers if answer.fault is not None) + Counter(skipped)
    return {
        "rows": len(answers) + sum(skipped.values()),
        "answered": sum(answer.fault is None for answer in answers),
        "faults": dict(sorted(faults.items())),
        "versions": dict(
            sorted(Counter(str(answer.version) for answer in answers if answer.version is not None).items())
        ),
        "prompt_tokens": sum(answer.prompt_tokens or 0 for answer in answers),
        "completion_tokens": sum(answer.completion_tokens or 0 for answer in answers),
        "cost": sum(answer.cost for answer in answers),
        "began_at": began.isoformat(),
        "ended_at": ended.isoformat(),
    }


def totals(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the figures of shards, with what was answered in a second in which one at least was at work."""
    names = ("rows", "answered", "prompt_tokens", "completion_tokens", "cost")
    sums = {name: sum(shard.get(name, 0) for shard in shards) for name in names}
    counted = {
        name: dict(sorted(sum((Counter(shard.get(name, {})) for shard in shards), Counter()).items()))
        for name in ("faults", "versions")
    }
    times = [(datetime.fromisoformat(shard["began_at"]), datetime.fromisoformat(shard["ended_at"])) for shard in shards]
    seconds = at_work(times)
    rates = {
        "rows_per_second": round(sums["answered"] / seconds, 3) if seconds else None,
        "tokens_per_second": round(sums["completion_tokens"] / seconds, 3) if seconds else None,
    }
    return {**sums, **counted, "seconds": round(seconds, 3), **rates}


def at_work(times: Iterable[tuple[datetime, datetime]]) -> float:
    """Give the seconds in which one shard at least was at work: a pause between them counts for nothing."""
    seconds, until = 0.0, None
    for began, ended in sorted(times):
        start = began if until is None else max(began, until)
        if ended > start:
            seconds += (ended - start).total_seconds()
            until = ended
    return seconds


def summary_of(model: str, number: int, figures: Mapping[str, Any]) -> str:
    """Say in one sentence what a run came to."""
    faults = ", ".join(f"{count} {fault}" for fault, count in figures["faults"].items())
    speed = f"; {figures['rows_per_second']} rows and {figures['tokens_per_second']} tokens a second"
    versions = figures["versions"]
    mixed = f"; answered by versions {', '.join(versions)}" if len(versions) > 1 else ""
    return (
        f"{model}, batch {number}: {figures['answered']} of {figures['rows']} rows completed in "
        f"{figures['seconds']:.1f} s{speed if figures['rows_per_second'] is not None else ''}"
        f"{f'; not completed: {faults}' if faults else ''}{mixed}"
    )
