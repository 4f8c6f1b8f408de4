"""How old the scraped samples behind a query are: what to ask, and what the answers say. Pure.

`timestamp()` of a rate or a sum is the time of evaluation, so the selectors of a query are asked for by themselves, all
of them in one question. Those without a present sample are asked for again further back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from monitors.prometheus.answers import Sample
from monitors.prometheus.promql import AnyOf, Input, inputs, selectors

LOOK_BACK = timedelta(hours=6)
"""How far back a series that has ended is looked for: within, it is stale; beyond, it never was."""
PRESENT = "timestamp({selector})"
"""The first question: what has a sample now."""
PAST = tuple(
    f"max_over_time(timestamp({{selector}})[{span}])" for span in ("5m:1s", f"{LOOK_BACK.total_seconds():.0f}s:15s")
)
"""Subqueries that look for a series that has ended: finely nearby, coarsely further back."""
QUESTIONS = (PRESENT, *PAST)
_NUMBER = "selector_number"
"""Label by which an answer is known to be about a selector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old the scraped samples behind a query are."""

    age: timedelta | None
    """Age of the newest sample of the query's oldest input; None when an input has no sample at all."""
    live: bool
    """Whether every input has a series that has not ended (its target is still scraped).

    The sides of an `or` stand in for each other: those that are live count, and one that never was is no lack.
    """


NEVER = Freshness(age=None, live=False)


class Search:
    """Looks for the newest samples of a query's selectors, question by question."""

    def __init__(self, promql: str, at: datetime) -> None:
        self._needed = inputs(promql)
        self._selectors = selectors(promql)
        self._at = at
        self._known: dict[str, Freshness] = {}
        self._asked = 0

    def question(self) -> str | None:
        """Give the next question; None when all is known that can be."""
        if self._asked == len(QUESTIONS):
            return None
        parts = [
            f'label_replace(max({QUESTIONS[self._asked].replace("{selector}", selector)}), "{_NUMBER}", "{number}", '
            '"", "")'
            for number, selector in enumerate(self._selectors)
            if selector not in self._known
        ]
        return " or ".join(parts) or None

    def answer(self, samples: Sequence[Sample]) -> None:
        """Take the answer to the question."""
        for sample in samples:
            age = self._at - datetime.fromtimestamp(sample.value, UTC)
            self._known[self._selectors[int(sample.labels[_NUMBER])]] = Freshness(age=age, live=self._asked == 0)
        self._asked += 1

    @property
    def result(self) -> Freshness:
        """What the answers say of the query."""
        return _combined(self._needed, self._known)


def _combined(needed: Input, known: Mapping[str, Freshness]) -> Freshness:
    if isinstance(needed, str):
        return known.get(needed, NEVER)
    if isinstance(needed, AnyOf):
        return _of_choices([_combined(choice, known) for choice in needed.choices])
    return _oldest([_combined(part, known) for part in needed.parts])


def _of_choices(choices: Sequence[Freshness]) -> Freshness:
    """Give the oldest of the live ones, for any of them may hold the value; of ended ones the last to end."""
    live = [choice for choice in choices if choice.live]
    if live:
        return _oldest(live)
    ages = [choice.age for choice in choices if choice.age is not None]
    return Freshness(age=min(ages, default=None), live=False)


def _oldest(needed: Sequence[Freshness]) -> Freshness:
    if not needed:  # an expression of constants
        return Freshness(age=timedelta(0), live=True)
    ages = [freshness.age for freshness in needed if freshness.age is not None]
    return Freshness(
        age=max(ages) if len(ages) == len(needed) else None,
        live=all(freshness.live for freshness in needed),
    )
