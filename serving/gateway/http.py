"""Requests and answers as ASGI passes them: bodies with a limit, headers both ways, errors in OpenAI's form."""

import json
from collections.abc import Iterable
from typing import Any

from starlette.types import Receive, Scope, Send

from serving.protocol import ApiError

MOST_BODY_BYTES = 32 * 1024 * 1024
"""Of a request; pictures travel inside it."""
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
"""Headers that are about one connection (RFC 9110, 7.6.1)."""
REQUEST_ID, VERSION = "x-request-id", "x-driftloop-version"
_SET_HERE = HOP_BY_HOP | {"host", "content-length", "accept-encoding", REQUEST_ID, VERSION, "expect"}
"""Of a request: what the gateway says itself. Answers come uncompressed, since the log reads them."""

RawHeaders = list[tuple[bytes, bytes]]


class GoneError(Exception):
    """The caller went away."""


async def body_of(scope: Scope, receive: Receive) -> bytes:
    """Read a request's body.

    Raises:
        ApiError: it is too long.
        GoneError: the caller went away meanwhile.
    """
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > MOST_BODY_BYTES:
        raise _too_long()
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY_BYTES:
            raise _too_long()
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def header(scope: Scope, name: bytes) -> str | None:
    """Give a request's header, the first of that name."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def headers_for_server(
    scope: Scope, request_id: str, *, api_key: str | None, keep_authorization: bool, version: int | None = None
) -> list[tuple[str, str]]:
    """Give the headers that go to the server: the caller's, but for those of one connection and those set here.

    `api_key` is the server's own key; without one the caller's header goes on if it is no key of the gateway's.
    `version` tells driftloop's own server which of two versions is to answer.
    """
    dropped = _SET_HERE if keep_authorization and api_key is None else _SET_HERE | {"authorization"}
    kept = [
        (name, value.decode("latin-1"))
        for raw, value in scope["headers"]
        if (name := raw.decode("latin-1").lower()) not in dropped
    ]
    own = [] if api_key is None else [("authorization", f"Bearer {api_key}")]
    own += [] if version is None else [(VERSION, str(version))]
    return [*kept, *own, ("accept-encoding", "identity"), (REQUEST_ID, request_id)]


def headers_for_caller(headers: Iterable[tuple[str, str]], request_id: str, version: int | None) -> RawHeaders:
    """Give the headers that go to the caller: the server's, and which version answered under which id."""
    dropped = HOP_BY_HOP | {"content-length", REQUEST_ID, VERSION, "date", "server"}
    kept = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers
        if name.lower() not in dropped
    ]
    return [*kept, *marks(request_id, version)]


def marks(request_id: str, version: int | None) -> RawHeaders:
    """Give the gateway's own headers."""
    headers = [(REQUEST_ID.encode(), request_id.encode())]
    return headers if version is None else [*headers, (VERSION.encode(), str(version).encode())]


async def send_error(send: Send, err: ApiError, own: RawHeaders) -> None:
    """Answer with an error in OpenAI's form."""
    headers = list(own)
    if err.retry_after is not None:
        headers.append((b"retry-after", str(err.retry_after).encode()))
    if err.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send_json(send, err.status, err.body, headers)


async def send_json(send: Send, status: int, value: Any, own: RawHeaders) -> None:
    """Answer with JSON."""
    body = json.dumps(value).encode()
    await send_whole(send, status, body, [*own, (b"content-type", b"application/json")])


async def send_whole(send: Send, status: int, body: bytes, headers: RawHeaders) -> None:
    """Answer with a body that is complete."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _too_long() -> ApiError:
    return ApiError(413, f"The body is longer than {MOST_BODY_BYTES} bytes.", code="request_too_large")
