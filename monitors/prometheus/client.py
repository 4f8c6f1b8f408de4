"""The one file that talks to Prometheus: instant queries, and how fresh their samples are."""

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx

from datasets_defs.core.errors import ContractError, TransientError
from monitors.prometheus.promql import AnyOf, Input, inputs, selectors

LOOK_BACK = timedelta(hours=6)
"""How far back a series that has ended is looked for: within, it is stale; beyond, it never was."""
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between two tries of one query."""
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
    """Whether every input has a series that has not ended (its target is still scraped).

    The sides of an `or` stand in for each other: those that are live count, and one that never was is no lack.
    """


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
        patience: timedelta = timedelta(),
    ) -> None:
        """Make a client. `patience` is how long, in all, its queries may be asked again while the server is away."""
        self.url = url.rstrip("/")
        self._patience = patience.total_seconds()
        self._options: dict[str, Any] = {
            "timeout": timeout.total_seconds(),
            "headers": dict(headers or {}),
            "auth": auth,
            "verify": _tls(),
        }

    def query(self, promql: str, *, at: datetime) -> list[Sample]:
        """Evaluate an expression at one time; a scalar comes back as one sample without labels.

        A server that is away for seconds is asked again, as long as the client's patience lasts.
        """
        for wait in _WAITS:
            try:
                return self._query(promql, at)
            except TransientError:
                if self._patience < wait:
                    raise
                self._patience -= wait
                time.sleep(wait)
        return self._query(promql, at)

    def _query(self, promql: str, at: datetime) -> list[Sample]:
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

        `timestamp()` of a rate or a sum is the time of evaluation, so it is asked for each selector by itself. The
        newest series of each selector counts. Of the selectors the oldest counts, but of an `or` only the sides that
        live.
        """
        known = {}
        for selector in selectors(promql):
            answers: list[list[Sample]] = []
            questions = _questions(selector)
            while not any(answers) and len(answers) < len(questions):
                answers.append(self.query(questions[len(answers)], at=at))
            known[selector] = _freshness(answers, at)
        return _combined(inputs(promql), known)

    async def afreshness(self, promql: str, *, at: datetime) -> Freshness:
        """Say how old the samples behind an expression are, without holding the event loop."""
        known = {}
        for selector in selectors(promql):
            answers: list[list[Sample]] = []
            questions = _questions(selector)
            while not any(answers) and len(answers) < len(questions):
                answers.append(await self.aquery(questions[len(answers)], at=at))
            known[selector] = _freshness(answers, at)
        return _combined(inputs(promql), known)

    def _read(self, promql: str, response: httpx.Response) -> list[Sample]:
        where = f"Prometheus at {self.url}"
        if response.status_code in (400, 422):
            raise ContractError(f"{where} refuses the query {promql!r}: {_said(response)}")
        if response.status_code in (401, 403):
            raise ContractError(
                f"{where} refuses these credentials (HTTP {response.status_code}: {_said(response)}); "
                "mend the Connection's login, password or headers"
            )
        if response.status_code != httpx.codes.OK:
            raise TransientError(f"{where} answered HTTP {response.status_code}: {_said(response)}")
        try:
            answer = response.json()
            data = answer["data"]
            samples = _samples(data["resultType"], data["result"], promql)
            partial = [str(words) for words in answer.get("warnings") or [] if not str(words).startswith("PromQL")]
        except (ValueError, KeyError, TypeError, IndexError) as err:
            raise TransientError(f"{where} did not answer as Prometheus does: {response.text[:200]!r}") from err
        if partial:  # a store behind it is away, say: what came is not all there is
            raise TransientError(f"{where} answered in part only: {'; '.join(partial)[:300]}")
        return samples

    def _away(self, err: httpx.HTTPError) -> TransientError:
        return TransientError(f"Prometheus at {self.url} is not reachable ({type(err).__name__}: {err})")


@cache
def _tls() -> ssl.SSLContext:
    """Read the trusted certificates once: a client that does it for each query takes longer for that than to ask."""
    return httpx.create_ssl_context()


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


def _questions(selector: str) -> list[str]:
    """Give what to ask until something answers: the present sample, then those of series that have ended."""
    return [f"max(timestamp({selector}))", *(f"max(max_over_time(timestamp({selector})[{span}]))" for span in _RANGES)]


def _freshness(answers: list[list[Sample]], at: datetime) -> Freshness:
    if not answers[-1]:
        return Freshness(age=None, live=False)
    return Freshness(age=at - datetime.fromtimestamp(answers[-1][0].value, UTC), live=len(answers) == 1)


def _combined(needed: Input, known: Mapping[str, Freshness]) -> Freshness:
    if isinstance(needed, str):
        return known[needed]
    if isinstance(needed, AnyOf):
        return _of_choices([_combined(each, known) for each in needed.choices])
    return _oldest([_combined(each, known) for each in needed.parts])


def _of_choices(choices: Sequence[Freshness]) -> Freshness:
    """Give the oldest of the live ones, for any of them may hold the value; of ended ones the last to end."""
    live = [each for each in choices if each.live]
    if live:
        return _oldest(live)
    ages = [each.age for each in choices if each.age is not None]
    return Freshness(age=min(ages, default=None), live=False)


def _oldest(needed: Sequence[Freshness]) -> Freshness:
    if not needed:  # an expression of constants
        return Freshness(age=timedelta(0), live=True)
    ages = [each.age for each in needed if each.age is not None]
    return Freshness(
        age=max(ages) if len(ages) == len(needed) else None,
        live=all(each.live for each in needed),
    )


def _said(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
