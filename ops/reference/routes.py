"""The page on HTTP: the routes of the reference server, of the gateway, and of the page in Airflow."""

import json
from collections.abc import Iterator
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import Route

from ops.page.app import make_app
from ops.page.hooks import make_hooks
from ops.page.plugin import HOOKS, PREFIX
from ops.reference.markdown import code, page, table
from ops.reference.model_yaml import form, limits
from serving.app import create_app
from serving.gateway.app import create_app as create_gateway
from serving.gateway.gateway import Gateway
from serving.protocol import (
    ApiError,
    CompletionRequest,
    FeedbackRequest,
    busy,
    from_validation,
    not_ready,
    unknown_model,
)
from serving.service import Service

LEAD = (
    "The reference server speaks a subset of OpenAI's completions API. A field that would change the answer and is not "
    "served is refused, not ignored. Errors have OpenAI's form: `error` with `message`, `type`, `param` and `code`."
)

GATEWAY_LEAD = (
    "`driftloop gateway`. Bodies and answers pass unchanged; what each route takes is said by the model's own server. "
    "Every answer of a model has the headers `x-request-id` and, where the ledger names a champion, "
    "`x-driftloop-version`. With keys each route needs one: `Authorization: Bearer dl-…`."
)

HOOKS_LEAD = (
    "Served by Airflow's API server, without its login: MLflow signs with `DRIFTLOOP_MLFLOW_WEBHOOK_SECRET`. 202: "
    "`reconcile` looks; 200: there is nothing to do, and why; 401: not signed with the secret, or too old; 413: too "
    "long; 503: no secret is set, or Airflow's database is away."
)


def write() -> str:
    """Write the page."""
    serving = create_app(cast(Service, None))  # the routes are asked for, and none is called
    listing = table(("method", "path", "meaning"), [(verb, code(path), text) for verb, path, text in routes(serving)])
    inside = make_app(lambda: None, cast(Any, None))
    shown = [(verb, code(f"{PREFIX}{path}"), text) for verb, path, text in routes(inside) if "{_" not in path]
    hooks = [(verb, code(f"{HOOKS}{path}"), text) for verb, path, text in routes(make_hooks("", str))]
    return page(
        "HTTP routes",
        LEAD,
        f"## The reference server\n\n{listing}",
        f"### Body of `POST /v1/completions`\n\n{_fields(CompletionRequest)}",
        f"### Body of `POST /v1/feedback`\n\n{_fields(FeedbackRequest)}",
        f"### Errors\n\n{_errors()}",
        f"## The gateway\n\n{GATEWAY_LEAD}\n\n{_gateway()}",
        "## The page in Airflow\n\nServed by Airflow's API server, behind its login.\n\n"
        + table(("method", "path", "meaning"), shown),
        f"## MLflow's webhook\n\n{HOOKS_LEAD}\n\n" + table(("method", "path", "meaning"), hooks),
    )


def routes(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Give (method, path, sentence) of each route."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            for verb in sorted(route.methods):
                yield verb, route.path, (route.description or "").split("\n\n")[0]


def _gateway() -> str:
    app = create_gateway(cast(Gateway, None))  # the routes are asked for, and none is called
    rows = [
        (verb, code(route.path), route.name)
        for route in app.routes
        if isinstance(route, Route)
        for verb in sorted(route.methods or ())
        if verb != "HEAD"
    ]
    return table(("method", "path", "meaning"), rows)


def _fields(kind: type[BaseModel]) -> str:
    schema = kind.model_json_schema()
    required = schema.get("required", ())
    rows = [
        (
            code(name),
            form(facts),
            "required" if name in required else code(json.dumps(facts.get("default"))),
            limits(facts),
            facts.get("description", ""),
        )
        for name, facts in schema["properties"].items()
    ]
    return table(("field", "form", "default", "limits", "meaning"), rows)


def _errors() -> str:
    unreadable = from_validation([{"type": "json_invalid", "loc": ("body",), "msg": ""}])
    known: dict[str, ApiError] = {
        "The body is no JSON, or a field is missing, unknown or not supported.": unreadable,
        "The model is not served here.": unknown_model("NAME", ["OTHER"]),
        "The model's queue is full. `Retry-After` says when to ask again.": busy("NAME", 64),
        "No champion is loaded yet, or PostgreSQL is away.": not_ready("…"),
    }
    rows = [(str(err.status), code(err.type), code(err.code or ""), text) for text, err in known.items()]
    rows.append(("500", code("server_error"), code("internal_error"), "The server failed; its log says why."))
    return table(("status", "type", "code", "when"), rows)
