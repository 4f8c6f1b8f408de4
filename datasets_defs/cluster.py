"""Kubernetes clusters that Airflow's Connections name: their clients, and what their API servers' refusals mean."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from datasets_defs.core.errors import ContractError, TransientError

TIMEOUT = (3, 10)
"""Seconds to connect to the API server, and to wait for its answer; the client tries four times."""
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT = 401, 403, 404, 409
FINAL = frozenset({400, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, 405, 415, 422})
"""Answers that stay the same until a person does something."""


def connect(connection: str) -> ApiClient:
    """Give the client of the cluster that an Airflow Connection names.

    Raises:
        ContractError: there is no such Connection, or it leads nowhere.
    """
    try:
        return KubernetesHook(conn_id=connection).get_conn()
    except (AirflowException, ConfigException) as err:
        raise ContractError(
            f"Connection {connection!r} leads to no Kubernetes cluster ({err}); make one of type Kubernetes"
        ) from err


def words_of(err: ApiException) -> str:
    """Give the API server's own words for a refusal, or HTTP's where its answer holds none."""
    try:
        return str(json.loads(err.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(err.reason)


@contextmanager
def changing(what: str, doing: str, advice: Mapping[int, str], otherwise: str) -> Iterator[None]:
    """Translate what the API server says to somebody who reads or changes an object; advice goes by HTTP's status.

    Raises:
        TransientError: it is away or busy, or somebody else changed the same thing.
        ContractError: it refuses for good.
    """
    try:
        yield
    except ApiException as err:
        words = f"{what}: {doing}: answered {err.status}, {words_of(err)}"
        if err.status == CONFLICT:
            raise TransientError(f"{words}: somebody else changed it at that moment") from err
        if err.status in FINAL:
            raise ContractError(f"{words}; {advice.get(err.status, otherwise)}") from err
        raise TransientError(words) from err
    except HTTPError as err:
        raise TransientError(f"{what}: {doing}: does not answer ({type(err).__name__})") from err
