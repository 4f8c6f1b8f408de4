"""Airflow's own REST API, for what a task cannot do through its own channel: pools, forms, and rings from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from datasets_defs.core.errors import TransientError

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowApi:
    """Where the api-server is, and as whom to speak to it."""

    url: str
    login: str | None
    """None: the password is a token already."""
    password: str = field(repr=False)

    @contextmanager
    def session(self) -> Iterator[httpx.Client]:
        """Give a client that is logged in.

        Raises:
            httpx.HTTPError: Airflow is away, or does not let this user in.
        """
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            client.headers["Authorization"] = f"Bearer {self._token(client)}"
            yield client

    def make_pool(self, name: str, slots: int, description: str) -> None:
        """Make a pool unless it is there: Airflow schedules nothing in one that is not.

        Raises:
            TransientError: Airflow is away, or does not let this user make pools.
        """
        pool = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        try:
            with self.session() as client:
                answer = client.post("/api/v2/pools", json=pool)
                if answer.status_code != httpx.codes.CONFLICT:
                    answer.raise_for_status()
        except httpx.HTTPError as err:
            raise TransientError(f"the pool {name} cannot be made in Airflow at {self.url}: {err}") from err

    def _token(self, client: httpx.Client) -> str:
        if self.login is None:
            return self.password
        answer = client.post("/auth/token", json={"username": self.login, "password": self.password})
        return str(answer.raise_for_status().json()["access_token"])
