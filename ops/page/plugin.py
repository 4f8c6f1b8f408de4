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


class Page:
    """The page as an ASGI app that is made at its first request."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Answer a request."""
        await self._made()(scope, receive, send)

    def _made(self) -> Any:
        with self._lock:
            if self._app is None:
                from airflow.api_fastapi.core_api.security import get_user

                from datasets_defs.store.database import engine
                from ops.page.app import make_app

                engines: list[Any] = []

                def database() -> Any:
                    with self._lock:
                        if not engines:
                            engines.append(engine())
                        return engines[0]

                self._app = make_app(get_user, database)
            return self._app


def _address() -> str:
    """Give the page's path; below Airflow's own, where that is not served at the root."""
    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/") + PREFIX


class DriftloopPlugin(AirflowPlugin):
    """Adds the page to Airflow's UI."""

    name = "driftloop"
    fastapi_apps = [{"app": Page(), "url_prefix": PREFIX, "name": "driftloop"}]  # noqa: RUF012 as Airflow reads it
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
