"""The HTTP side: OpenAI-compatible completions, feedback, health and metrics."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.streams import stream_of
from serving.engine import ServedCompletion
from serving.protocol import ApiError, CompletionRequest, FeedbackRequest, from_validation, not_ready
from serving.service import Service, refuse_impossible

_GATEWAYS_ID = re.compile(r"[0-9a-f]{32}")


def create_app(service: Service) -> FastAPI:
    """Make the application around a service; the service lives as long as the application does."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="driftloop serving", docs_url=None, redoc_url=None, lifespan=life)
    app.state.service = service
    _add_errors(app, service)
    _add_completions(app, service)
    _add_models(app, service)
    _add_operations(app, service)
    return app


def _add_completions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/completions")
    async def complete(
        request: CompletionRequest,
        response: Response,
        x_request_id: Annotated[str | None, Header(include_in_schema=False)] = None,
        x_driftloop_version: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> dict[str, Any]:
        """Complete one prompt with the champion, and write the request to the inference log."""
        began, outcome = time.perf_counter(), "error"
        try:
            served = service.model(request.model)
            refuse_impossible(served.spec, request)
            answer = await asyncio.wrap_future(served.submit(request, _version_of(x_driftloop_version)))
            response.headers["x-driftloop-version"] = str(answer.version)
            request_id = _id_of(x_request_id)
            service.record(request, request_id, answer, time.perf_counter() - began)
            outcome = "ok"
        except ContractError as err:  # the model's own limits, e.g. a prompt beyond its context
            outcome = "rejected"
            raise ApiError(400, str(err), param="prompt", code="context_length_exceeded") from err
        except ApiError as err:
            outcome = err.outcome
            raise
        finally:
            service.metrics.ended(stream_of(request.model, request.metadata), outcome)
        return _completion(request, request_id, answer)

    @app.post("/v1/feedback")
    def feedback(request: FeedbackRequest) -> dict[str, Any]:
        """Keep what a person wrote or thought about a request, before or after its row is in the log."""
        kept = service.add_feedback(request.model, request.request_id, request.reference, request.score)
        return {"object": "feedback", "model": request.model, "request_id": request.request_id, "stored": kept}


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        """List the models that are served."""
        return {"object": "list", "data": [_model(name) for name in sorted(service.models)]}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        """Show one model."""
        service.model(name)
        return _model(name)


def _add_operations(app: FastAPI, service: Service) -> None:
    # Coroutines, since they wait for nothing: feedback that hangs with the database must not hold up these two.
    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Say which versions are loaded, and what is wrong: 200 when every model answers, 503 otherwise."""
        ready, details = service.health()
        return JSONResponse(details, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Give the metrics of this process to Prometheus."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(service.metrics.registry), media_type=content_type)


def _add_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(ApiError)
    def api_error(_: Request, err: ApiError) -> JSONResponse:
        headers = {"Retry-After": str(err.retry_after)} if err.retry_after is not None else None
        return JSONResponse(err.body, err.status, headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, err: RequestValidationError) -> JSONResponse:
        if request.url.path == "/v1/completions" and isinstance(err.body, dict):
            service.metrics.ended(str(err.body.get("model")), "rejected")
        return api_error(request, from_validation([dict(item) for item in err.errors()]))

    @app.exception_handler(TransientError)
    def away(request: Request, err: TransientError) -> JSONResponse:
        return api_error(request, not_ready(str(err)))

    @app.exception_handler(HTTPException)
    def other(request: Request, err: HTTPException) -> JSONResponse:
        return api_error(request, ApiError(err.status_code, f"{request.method} {request.url.path}: {err.detail}"))

    @app.exception_handler(Exception)
    def failed(request: Request, _: Exception) -> JSONResponse:
        message = "The server failed to answer; its log says why."
        return api_error(request, ApiError(500, message, type_="server_error", code="internal_error"))


def _id_of(given: str | None) -> str:
    """Take the id that the gateway gave the request, under which its caller knows it; else make one."""
    return given if given is not None and _GATEWAYS_ID.fullmatch(given) else f"cmpl-{uuid.uuid4()}"


def _version_of(given: str | None) -> int | None:
    """Read which version the gateway sends the request to; None: whichever is champion."""
    return int(given) if given is not None and given.isascii() and given.isdigit() and len(given) < 10 else None


def _completion(request: CompletionRequest, request_id: str, answer: ServedCompletion) -> dict[str, Any]:
    completion = answer.completion
    choice = {"index": 0, "text": completion.text, "finish_reason": completion.finish_reason, "logprobs": None}
    usage = {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }
    return {
        "id": request_id if request_id.startswith("cmpl-") else f"cmpl-{request_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": f"{request.model}-v{answer.version}",
        "choices": [choice],
        "usage": usage,
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "driftloop"}
