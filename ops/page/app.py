"""The page as a FastAPI app: every answer asks for the logged-in user first, and no answer runs a script of ours.

What the data say (reasons, names, messages) is text: escaped on rendering, and under a policy by which nothing of it
could run. Evidently's report, which is a program, stands in a frame of its own without origin, network or cookies.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from sqlalchemy import Engine
from starlette.exceptions import HTTPException as StarletteHTTPException

from datasets_defs.core.conditions import Condition
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.store.artifacts import artifact_url, read_bytes
from ops.page import reading, words
from ops.page.reading import SHOWN_WINDOWS
from ops.page.state import WORST_FIRST, Detail, Overview
from ops.page.strip import GLYPHS, WORDS, Axis, tone

HERE = Path(__file__).parent
REFRESH_SECONDS = 60
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
"""Of our own pages: a style sheet, images, frames and one form from here, and nothing else; no script at all."""
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of the report: it may run what it brought along, without an origin, and reach nothing."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {"page.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml", "icon-dark.svg": "image/svg+xml"}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
templates.filters.update(age=words.age, clock=words.clock, number=words.number, quote=lambda name: quote(name, safe=""))
templates.globals.update(Condition=Condition, WORST_FIRST=WORST_FIRST, GLYPHS=GLYPHS, WORDS=WORDS, tone=tone)


def utc_now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


def make_app(
    user: Callable[..., Any], database: Callable[[], Engine], clock: Callable[[], datetime] = utc_now
) -> FastAPI:
    """Make the app; `user` is the dependency that refuses whoever is not logged in, `database` gives the engine.

    `clock` gives the time that a page is of.
    """
    app = FastAPI(
        title="driftloop", dependencies=[Depends(user)], docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.middleware("http")(_with_headers)
    _handle_errors(app)

    _show_models(app, database, clock)
    _give_files(app)

    @app.api_route("/{_:path}", methods=METHODS)
    def nothing() -> Response:
        """Answer whatever else is asked, after the user was asked for."""
        raise HTTPException(404, "there is no such page")

    return app


def _show_models(app: FastAPI, database: Callable[[], Engine], clock: Callable[[], datetime]) -> None:
    """Add the pages that read the loop's database."""

    @app.get("/", response_class=HTMLResponse)
    def overview(request: Request) -> Response:
        """Show all models."""
        state = reading.read_overview(database(), now=clock())
        return _page(request, "overview.html", headers={"Refresh": str(REFRESH_SECONDS)}, **_overview(state))

    @app.get("/models/{name}", response_class=HTMLResponse)
    def model(request: Request, name: str) -> Response:
        """Show one model."""
        detail = reading.read_model(database(), name, now=clock())
        if detail is None:
            raise HTTPException(404, f"no model is called {name!r}")
        return _page(request, "model.html", **_detail(detail))

    @app.get("/models/{name}/similar", response_class=HTMLResponse)
    def similar(request: Request, name: str, text: str = "") -> Response:
        """Show what users of a model asked that is like a text."""
        asked = text[: reading.LONGEST_TEXT]
        answer = reading.read_similar(database(), name, asked, now=clock())
        title = f"Similar prompts · {name}"
        return _page(request, "similar.html", title=title, model=name, text=asked, answer=answer, now=clock())

    @app.get("/models/{name}/report", response_class=HTMLResponse)
    def report(name: str) -> Response:
        """Give the model's latest drift report, as it was written."""
        latest = reading.read_report(database(), name)
        if latest is None:
            raise HTTPException(404, f"there is no drift report of {name!r}")
        if not latest.url.startswith(artifact_url("reports", "")) or ".." in latest.url:
            raise HTTPException(404, "the report's address is none of ours")
        return HTMLResponse(read_bytes(latest.url), headers={"Content-Security-Policy": REPORT_POLICY})


def _give_files(app: FastAPI) -> None:
    """Add the files that the pages are shown with."""

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        """Give a style sheet or an icon."""
        if name not in FILES:
            raise HTTPException(404, "no such file")
        return Response((HERE / "static" / name).read_bytes(), media_type=FILES[name])


async def _with_headers(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await go_on(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _handle_errors(app: FastAPI) -> None:
    titles = {401: "Not logged in", 403: "Not allowed", 404: "Not found"}

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, err: StarletteHTTPException) -> Response:
        text = "Log in to Airflow, then open this page again." if err.status_code == 401 else str(err.detail)
        return _message(request, err.status_code, titles.get(err.status_code, "Refused"), text)

    @app.exception_handler(TransientError)
    def away(request: Request, err: TransientError) -> Response:
        return _message(request, 503, "The loop's database cannot be read", f"{err}", hint=True)

    @app.exception_handler(ContractError)
    def wrong(request: Request, err: ContractError) -> Response:
        return _message(request, 404, "Not to be had", str(err))

    @app.exception_handler(ValidationError)
    def misconfigured(request: Request, err: ValidationError) -> Response:
        mistakes = "; ".join(f"DRIFTLOOP_{str(item['loc'][0]).upper()}: {item['msg']}" for item in err.errors())
        return _message(request, 503, "The settings are wrong", mistakes)


def _message(request: Request, status: int, title: str, text: str, *, hint: bool = False) -> Response:
    headers = {"Refresh": "15"} if status == 503 else {}
    return _page(
        request, "message.html", status=status, headers=headers, title=title, text=text, hint=hint,
        now=utc_now(),
    )  # fmt: skip


def _page(
    request: Request, name: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> Response:
    base = request.scope.get("root_path", "").rstrip("/")
    framed = request.headers.get("sec-fetch-dest") == "iframe"
    content = templates.get_template(name).render(base=base, framed=framed, **context)
    return HTMLResponse(content, status_code=status, headers=dict(headers or {}))


def _overview(overview: Overview) -> dict[str, Any]:
    axis = Axis(overview.last_end, overview.length, SHOWN_WINDOWS)
    strips = {
        model.name: {
            "cells": axis.worst(overview.cells.get(model.name, {})),
            "spans": axis.spans(overview.incidents.get(model.name, []), overview.now),
            "marks": axis.marks(overview.changes.get(model.name, [])),
        }
        for model in overview.models
    }
    counts = {condition: sum(model.condition is condition for model in overview.models) for condition in WORST_FIRST}
    return {
        "title": "Models",
        "overview": overview,
        "now": overview.now,
        "strips": strips,
        "ticks": axis.ticks(),
        "counts": counts,
    }


def _detail(detail: Detail) -> dict[str, Any]:
    axis, name = Axis(detail.last_end, detail.length, SHOWN_WINDOWS), detail.model.name
    judged = {verdict.signal: verdict for verdict in detail.model.verdicts}
    signals = [*judged, *detail.model.unjudged]
    signals += sorted(set(detail.windows) - set(signals))
    return {
        "title": name,
        "detail": detail,
        "model": detail.model,
        "now": detail.now,
        "rows": [
            {"signal": signal, "verdict": judged.get(signal), "cells": axis.verdicts(detail.windows.get(signal, []))}
            for signal in signals
        ],
        "ticks": axis.ticks(),
        "spans": axis.spans(detail.incidents, detail.now),
        "marks": axis.marks(detail.changes),
        "links": words.links(name, detail.model.champion.version if detail.model.champion else None, settings()),
    }
