"""The page in Airflow: its place in the navigation, and Airflow's login in front of every route.

The only file of the page that imports Airflow. Every Airflow process loads plugins, also each task's: what is heavy is
imported at the first request, which only the api-server gets.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/driftloop"
HOOKS = "/driftloop-hooks"
"""Beside the page, since those who call have no login of Airflow's: they sign."""
RECONCILE = "reconcile"


class AtFirst:
    """An ASGI app that is made at its first request."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._app: Any = None
        self._make = make
        self._lock = threading.Lock()

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Answer a request."""
        await self._made()(scope, receive, send)

    def _made(self) -> Any:
        with self._lock:
            if self._app is None:
                self._app = self._make()
            return self._app


def _page() -> Any:
    from airflow.api_fastapi.core_api.security import get_user

    from datasets_defs.store.database import engine
    from ops.page.app import make_app

    lock, engines = threading.Lock(), list[Any]()

    def database() -> Any:
        with lock:
            if not engines:
                engines.append(engine())
            return engines[0]

    return make_app(get_user, database)


def _hooks() -> Any:
    from datasets_defs.core.settings import settings
    from ops.page.hooks import make_hooks

    return make_hooks(settings().mlflow_webhook_secret.get_secret_value(), wake)


def wake(delivery: str) -> str:
    """Have `reconcile` run, once for a delivery, unless a run waits already that will look; say which it was.

    Raises:
        TransientError: Airflow's database is away, or it does not know the DAG yet.
    """
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagNotFound, DagRunAlreadyExists
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import exists, select
    from sqlalchemy.exc import SQLAlchemyError

    from datasets_defs.core.errors import TransientError

    waits = exists().where(DagRun.dag_id == RECONCILE, DagRun.state == DagRunState.QUEUED)
    try:
        with create_session() as session:
            if session.scalar(select(waits)):
                return "a run of reconcile waits already"
            trigger_dag(
                RECONCILE, run_id=f"mlflow__{delivery}", triggered_by=DagRunTriggeredByType.REST_API,
                triggering_user_name="mlflow", note="MLflow's webhook: a version asks", session=session,
            )  # fmt: skip
    except DagRunAlreadyExists:
        return "reconcile has run for this delivery"
    except (DagNotFound, SQLAlchemyError) as err:
        raise TransientError(f"reconcile cannot be begun now: {type(err).__name__}") from err
    return "reconcile begins"


def _address() -> str:
    """Give the page's path; below Airflow's own, where that is not served at the root."""
    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/") + PREFIX


class DriftloopPlugin(AirflowPlugin):
    """Adds the page to Airflow's UI."""

    name = "driftloop"
    fastapi_apps = [  # noqa: RUF012 as Airflow reads it
        {"app": AtFirst(_page), "url_prefix": PREFIX, "name": "driftloop"},
        {"app": AtFirst(_hooks), "url_prefix": HOOKS, "name": "driftloop hooks"},
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "driftloop",
            "href": f"{_address()}/",
            "url_route": "driftloop",
            "destination": "nav",
            "nav_top_level": True,
            "icon": f"{_address()}/static/icon.svg",
            "icon_dark_mode": f"{_address()}/static/icon-dark.svg",
        }
    ]
