"""The one file that talks to Prometheus: instant queries, and how fresh their samples are."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from datasets_defs.core.errors import TransientError
from monitors.prometheus.access import Access
from monitors.prometheus.answers import Sample, read
from monitors.prometheus.freshness import Freshness, Search

__all__ = ["Freshness", "PrometheusClient", "Sample"]

_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between two tries of one query."""
MAX_ADDRESS = 6000
"""Bytes of a question in an address; nginx and others refuse addresses over 8 KiB."""


class PrometheusClient:
    """Asks one Prometheus server.

    Raises (every method):
        ContractError: the query, the credentials or a certificate's file are wrong.
        TransientError: the server is away, slow, or failing.
    """

    def __init__(self, url: str, access: Access | None = None, *, patience: timedelta = timedelta()) -> None:
        """Make a client. `patience` is how long, in all, its queries may be asked again while the server is away.

        A user and a password in the address are its credentials, and are in no message.
        """
        given, access = httpx.URL(url), access or Access()
        self.url = str(given.copy_with(username=None, password=None)).rstrip("/")
        self._patience = patience.total_seconds()
        user = (given.username, given.password) if given.username else None
        self._options: dict[str, Any] = {
            "timeout": access.timeout.total_seconds(),
            "headers": dict(access.headers),
            "auth": access.auth or user,
            "verify": access.tls(),
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
                response = http.send(self._request(http, promql, at))
            except httpx.HTTPError as err:
                raise self._away(err) from err
        return read(self._name, promql, response)

    async def aquery(self, promql: str, *, at: datetime) -> list[Sample]:
        """Evaluate an expression at one time without holding the event loop."""
        async with httpx.AsyncClient(**self._options) as http:
            try:
                response = await http.send(self._request(http, promql, at))
            except httpx.HTTPError as err:
                raise self._away(err) from err
        return read(self._name, promql, response)

    def freshness(self, promql: str, *, at: datetime) -> Freshness:
        """Say how old the samples behind an expression are.

        The newest series of each selector counts. Of the selectors the oldest counts, but of an `or` only the sides
        that live.
        """
        search = Search(promql, at)
        while (question := search.question()) is not None:
            search.answer(self.query(question, at=at))
        return search.result

    async def afreshness(self, promql: str, *, at: datetime) -> Freshness:
        """Say how old the samples behind an expression are, without holding the event loop."""
        search = Search(promql, at)
        while (question := search.question()) is not None:
            search.answer(await self.aquery(question, at=at))
        return search.result

    @property
    def _name(self) -> str:
        return f"Prometheus at {self.url}"

    def _request(self, http: httpx.Client | httpx.AsyncClient, promql: str, at: datetime) -> httpx.Request:
        """Ask by GET, which read-only users may everywhere; what is too long for an address by POST."""
        url = f"{self.url}/api/v1/query"
        asked = {"query": promql, "time": f"{at.astimezone(UTC).timestamp():.3f}"}
        if len(urlencode(asked)) > MAX_ADDRESS:
            return http.build_request("POST", url, data=asked)
        return http.build_request("GET", url, params=asked)

    def _away(self, err: httpx.HTTPError) -> TransientError:
        return TransientError(f"{self._name} is not reachable ({type(err).__name__}: {err})")
