"""The one file that talks to Prometheus: instant queries, and how fresh their samples are."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from datasets_defs.errors import ContractError, TransientError
from monitors.promql import selectors

LOOK_BACK = timedelta(hours=6)
"""How far back a series that has ended is looked for: within, it is stale; beyond, it never was."""
_RANGES = ("5m:1s", f"{LOOK_BACK.total_seconds():.0f}s:15s")
"""Subqueries that look for a series that has ended: finely nearby, coarsely further back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series' value."""

    labels: dict[str, str]
    value: float
    at: datetime
    """When the query was evaluated; how old the scraped sample is, `freshness` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old the scraped samples behind a query are."""

    age: timedelta | None
    """Age of the newest sample of the query's oldest input; None when an input has no sample at all."""
    live: bool
    """Whether every input has a series that has not ended (its target is still scraped)."""


class PrometheusClient:
    """Asks one Prometheus server.

    Raises (every method):
        ContractError: the query or the credentials are wrong.
        TransientError: the server is away, slow, or failing.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: timedelta = timedelta(seconds=10),
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._options: dict[str, Any] = {
            "timeout": timeout.total_seconds(),
            "headers": dict(headers or {}),
            "auth": auth,
        }

    def query(self, promql: str, *, at: datetime) -> list[Sample]:
        """Evaluate an expression at one time; a scalar comes back as one sample without labels."""
        with httpx.Client(**self._options) as http:
            try:
                response = http.get(f"{self.url}/api/v1/query", params=_params(promql, at))
            except httpx.HTTPError as err:
                raise self._away(err) from err
        return self._read(promql, response)

    async def aquery(self, promql: str, *, at: datetime) -> list[Sample]:
        """Evaluate an expression at one time without holding the event loop."""
        async with httpx.AsyncClient(**self._options) as http:
            try:
                response = await http.get(f"{self.url}/api/v1/query", params=_params(promql, at))
            except httpx.HTTPError as err:
                raise self._away(err) from err
        return self._read(promql, response)

    def freshness(self, promql: str, *, at: datetime) -> Freshness:
        """Say how old the samples behind an expression are.

        `timestamp()` of a rate or a sum is the time of evaluation, so it is asked for each selector by itself; the
        newest series of each selector counts, and of the selectors the oldest.
        """
        inputs = []
        for questions in _questions(promql):
            answers: list[list[Sample]] = []
            while not any(answers) and len(answers) < len(questions):
                answers.append(self.query(questions[len(answers)], at=at))
            inputs.append(_freshness(answers, at))
        return _oldest(inputs)

    async def afreshness(self, promql: str, *, at: datetime) -> Freshness:
        """Say how old the samples behind an expression are, without holding the event loop."""
        inputs = []
        for questions in _questions(promql):
            answers: list[list[Sample]] = []
            while not any(answers) and len(answers) < len(questions):
                answers.append(await self.aquery(questions[len(answers)], at=at))
            inputs.append(_freshness(answers, at))
        return _oldest(inputs)

    def _read(self, promql: str, response: httpx.Response) -> list[Sample]:
        where = f"Prometheus at {self.url}"
        if response.status_code in (400, 422):
            raise ContractError(f"{where} refuses the query {promql!r}: {_said(response)}")
        if response.status_code in (401, 403):
            raise ContractError(f"{where} refuses these credentials (HTTP {response.status_code})")
        if response.status_code != httpx.codes.OK:
            raise TransientError(f"{where} answered HTTP {response.status_code}: {_said(response)}")
        try:
            data = response.json()["data"]
            return _samples(data["resultType"], data["result"], promql)
        except (ValueError, KeyError, TypeError, IndexError) as err:
            raise TransientError(f"{where} did not answer as Prometheus does: {response.text[:200]!r}") from err

    def _away(self, err: httpx.HTTPError) -> TransientError:
        return TransientError(f"Prometheus at {self.url} is not reachable ({type(err).__name__}: {err})")


def _params(promql: str, at: datetime) -> dict[str, str]:
    return {"query": promql, "time": f"{at.astimezone(UTC).timestamp():.3f}"}


def _samples(kind: str, result: Any, promql: str) -> list[Sample]:
    match kind:
        case "vector":
            pairs = [(item["metric"], item["value"]) for item in result]
        case "scalar":
            pairs = [({}, result)]
        case _:
            raise ContractError(f"the query {promql!r} gives a {kind}; an instant vector or a scalar is needed")
    return [
        Sample(labels=dict(labels), value=float(value), at=datetime.fromtimestamp(float(at), UTC))
        for labels, (at, value) in pairs
    ]


def _questions(promql: str) -> list[list[str]]:
    """Give, for each selector, what to ask until something answers: the present sample, then those of ended series."""
    return [
        [f"max(timestamp({each}))", *(f"max(max_over_time(timestamp({each})[{span}]))" for span in _RANGES)]
        for each in selectors(promql)
    ]


def _freshness(answers: list[list[Sample]], at: datetime) -> Freshness:
    if not answers[-1]:
        return Freshness(age=None, live=False)
    return Freshness(age=at - datetime.fromtimestamp(answers[-1][0].value, UTC), live=len(answers) == 1)


def _oldest(inputs: list[Freshness]) -> Freshness:
    if not inputs:  # an expression of constants
        return Freshness(age=timedelta(0), live=True)
    ages = [each.age for each in inputs if each.age is not None]
    return Freshness(
        age=max(ages) if len(ages) == len(inputs) else None,
        live=all(each.live for each in inputs),
    )


def _said(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
