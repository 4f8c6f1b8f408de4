"""Times, figures and addresses in the page's words. Pure."""

from datetime import datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from datasets_defs.core.settings import Settings


def clock(at: datetime, now: datetime | None = None) -> str:
    """Give a time of day with its date, in UTC; without the date where it is today's."""
    return f"{at:%H:%M:%S}" if now is not None and at.date() == now.date() else f"{at:%b %d %H:%M}"


def age(length: timedelta) -> str:
    """Give a duration in its two largest units."""
    seconds = abs(int(length.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def number(value: float | None) -> str:
    """Give a score in four digits; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.4g}"


def links(model: str, version: int | None, known: Settings) -> list[tuple[str, str]]:
    """Give what else there is to look at: the served version in MLflow, the loop's metrics in Prometheus."""
    pages = []
    if version is not None:
        pages.append(
            (
                f"v{version} in MLflow",
                f"{known.mlflow_url.rstrip('/')}/#/models/{quote(model, safe='')}/versions/{version}",
            )
        )
    query = urlencode(
        {"g0.expr": f'driftloop_condition{{model="{model}"}} == 1', "g0.tab": "0", "g0.range_input": "3d"}
    )
    pages.append(("conditions in Prometheus", f"{without_user(known.prometheus_url)}/graph?{query}"))
    return pages


def without_user(url: str) -> str:
    """Give an address without the user and the password that may stand in it, nor a slash at its end."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], *parts[2:])).rstrip("/")
