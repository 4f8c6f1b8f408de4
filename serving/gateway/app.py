"""The gateway's HTTP side: which route goes to the models' servers, and which the gateway answers itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from datasets_defs.core.errors import TransientError
from datasets_defs.store.client_keys import Scope
from serving.gateway import feedback
from serving.gateway.asked import CHAT, COMPLETIONS
from serving.gateway.gateway import Gateway
from serving.gateway.http import body_of
from serving.gateway.relay import Relay
from serving.protocol import ApiError, not_ready

PASSED_ON = (
    "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/rerank", "/v1/score", "/v1/classify", "/v1/pooling",
    "/v1/moderations", "/tokenize", "/detokenize",
)  # fmt: skip
"""Routes that name a model in their JSON and go to its server unread and unlogged. All others stay closed: servers have
routes that load weights and run code."""
SEES = frozenset({Scope.READ})
LISTS = frozenset({Scope.READ, Scope.ASK})

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(gateway: Gateway) -> Starlette:
    """Make the application around a gateway; the gateway lives as long as the application does."""

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.close()

    logged, passed = Relay(gateway, logged=True), Relay(gateway, logged=False)
    return Starlette(
        routes=[
            Route(CHAT, logged, methods=["POST"], name="Answer a conversation, and write it to the inference log."),
            Route(COMPLETIONS, logged, methods=["POST"], name="Complete prompts, and write them to the inference log."),
            *(Route(path, passed, methods=["POST"], name="Pass on to the model's server.") for path in PASSED_ON),
            *_own_routes(gateway),
        ],
        exception_handlers={ApiError: _api_error, TransientError: _away, HTTPException: _other, Exception: _failed},
        lifespan=life,
    )


def _own_routes(gateway: Gateway) -> list[Route]:
    return [
        Route("/v1/feedback", _feedback(gateway), methods=["POST"],
              name="Keep what a person wrote or thought about a request of any model."),
        Route("/v1/models", _models(gateway), methods=["GET"], name="List the models behind the gateway."),
        Route("/v1/models/{name}", _model(gateway), methods=["GET"], name="Show one model."),
        Route("/health", _health(gateway), methods=["GET"],
              name="Say how replicas, log, keys and database stand: 503 when a model has no replica left."),
        Route("/metrics", _metrics(gateway), methods=["GET"], name="Give the metrics of this process to Prometheus."),
    ]  # fmt: skip


def _feedback(gateway: Gateway) -> Endpoint:
    async def answer(request: Request) -> Response:
        key = feedback.admit(gateway, request.headers.get("authorization"))
        posted = feedback.read(await body_of(request.scope, request.receive))
        await asyncio.to_thread(feedback.keep, gateway, key, posted)
        return JSONResponse(
            {"object": "feedback", "model": posted.model, "request_id": posted.request_id, "stored": True}
        )

    return answer


def _models(gateway: Gateway) -> Endpoint:
    async def answer(request: Request) -> Response:
        key = gateway.doorkeeper.admit(request.headers.get("authorization"), LISTS, time.monotonic())
        names = [name for name in gateway.open_models() if key is None or key.models is None or name in key.models]
        return JSONResponse({"object": "list", "data": [_described(name) for name in names]})

    return answer


def _model(gateway: Gateway) -> Endpoint:
    async def answer(request: Request) -> Response:
        key = gateway.doorkeeper.admit(request.headers.get("authorization"), LISTS, time.monotonic())
        name = request.path_params["name"]
        gateway.doorkeeper.require_model(key, name)
        gateway.upstream(name)
        return JSONResponse(_described(name))

    return answer


def _health(gateway: Gateway) -> Endpoint:
    async def answer(request: Request) -> Response:
        well, details = gateway.health()
        try:
            gateway.doorkeeper.admit(request.headers.get("authorization"), SEES, time.monotonic())
        except ApiError:
            details = {"status": details["status"] if well else "not well; a key with the scope read sees more"}
        return JSONResponse(details, 200 if well else 503)

    return answer


def _metrics(gateway: Gateway) -> Endpoint:
    async def answer(request: Request) -> Response:
        gateway.doorkeeper.admit(request.headers.get("authorization"), SEES, time.monotonic())
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(gateway.metrics.registry), media_type=content_type)

    return answer


async def _api_error(_: Request, err: Exception) -> Response:
    assert isinstance(err, ApiError)  # noqa: S101  # as it is registered
    headers = {"Retry-After": str(err.retry_after)} if err.retry_after is not None else None
    return JSONResponse(err.body, err.status, headers)


async def _away(request: Request, err: Exception) -> Response:
    return await _api_error(request, not_ready(str(err)))


async def _other(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)  # noqa: S101  # as it is registered
    message = f"{request.method} {request.url.path}: {err.detail}"
    return await _api_error(request, ApiError(err.status_code, message))


async def _failed(request: Request, _: Exception) -> Response:
    message = "The gateway failed to answer; its log says why."
    return await _api_error(request, ApiError(500, message, type_="server_error", code="internal_error"))


def _described(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "driftloop"}
