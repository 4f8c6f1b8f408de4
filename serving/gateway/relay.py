"""The way of a request: admitted, sent to a replica, its answer passed on as it comes, its row handed to the log."""

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from datasets_defs.store.client_keys import Scope as KeyScope
from serving.gateway.asked import read
from serving.gateway.events import Events, only_usage
from serving.gateway.exchange import CANCELLED, Exchange
from serving.gateway.http import (
    VERSION,
    GoneError,
    body_of,
    header,
    headers_for_caller,
    headers_for_server,
    marks,
    send_error,
    send_whole,
)
from serving.protocol import ApiError
from serving.wire.http_client import BrokenError, Reply

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

ASK = frozenset({KeyScope.ASK})


class Relay:
    """An ASGI application for the routes that go to a model's server."""

    def __init__(self, gateway: "Gateway", *, logged: bool) -> None:
        self._gateway, self._logged = gateway, logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; when its caller goes away, the server hears of it."""
        began, request_id, exchange = time.perf_counter(), uuid.uuid4().hex, None
        try:
            exchange = await self._admit(scope, receive, request_id, began)
            await self._with_caller(scope, receive, send, exchange)
        except GoneError:
            if exchange is not None:
                exchange.outcome = CANCELLED
        except ApiError as err:
            if exchange is not None:
                exchange.outcome = err.outcome
            await send_error(send, err, marks(request_id, exchange.version if exchange else None))
        finally:
            if exchange is not None:
                self._gateway.ended(exchange)

    async def _admit(self, scope: Scope, receive: Receive, request_id: str, began: float) -> Exchange:
        """Find out who asks which model what.

        Raises:
            ApiError: this caller may not ask that, or nobody can.
            GoneError: the caller went away.
        """
        gateway = self._gateway
        key = gateway.doorkeeper.admit(header(scope, b"authorization"), ASK, time.monotonic())
        asked = read(scope["path"], await body_of(scope, receive))
        model = asked.body["model"]
        gateway.doorkeeper.require_model(key, model)
        upstream = gateway.upstream(model)
        arm = gateway.arm_for(asked, request_id)
        return Exchange(
            asked=asked,
            upstream=upstream,
            request_id=request_id,
            began=began,
            client=key.name if key else None,
            version=arm.version if arm is not None else gateway.directory.version(model),
            arm=arm,
            counted=self._logged,
            logged=self._logged and not upstream.logs_itself,
        )

    async def _with_caller(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        """Answer while the caller is there.

        Raises:
            GoneError: the caller went away.
        """
        me, gone = asyncio.current_task(), asyncio.ensure_future(_gone(receive))

        def leave(watch: asyncio.Future[None]) -> None:
            if me is not None and not watch.cancelled() and exchange.outcome is None:
                me.cancel()

        gone.add_done_callback(leave)
        try:
            await self._answer(scope, send, exchange)
        except asyncio.CancelledError:
            if not gone.done():
                raise  # the gateway itself is being stopped
            raise GoneError from None
        finally:
            gone.cancel()

    async def _answer(self, scope: Scope, send: Send, exchange: Exchange) -> None:
        upstream = exchange.upstream
        body = self._gateway.body_for(exchange)
        headers = headers_for_server(
            scope,
            exchange.request_id,
            api_key=upstream.api_key,
            keep_authorization=not self._gateway.doorkeeper.guards,
            version=exchange.version if exchange.arm is not None and upstream.logs_itself else None,
        )
        path = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        async with upstream.ask("POST", path, headers, body, arm=exchange.arm) as reply:
            exchange.status = reply.status
            exchange.answered_by(next((value for name, value in reply.headers if name.lower() == VERSION), None))
            if reply.streams:
                await self._stream(send, reply, exchange)
            else:
                await self._whole(send, reply, exchange)

    async def _whole(self, send: Send, reply: Reply, exchange: Exchange) -> None:
        """Pass a complete answer on; what breaks off before is an error the caller can read."""
        try:
            body = await reply.whole()
        except BrokenError as err:
            raise ApiError(502, f"{exchange.model}: {err}.", type_="server_error", code="upstream_error") from err
        body = exchange.read_whole(body)
        exchange.finished()
        headers = headers_for_caller(reply.headers, exchange.request_id, exchange.version)
        await send_whole(send, reply.status, body, headers)

    async def _stream(self, send: Send, reply: Reply, exchange: Exchange) -> None:
        """Pass events on as they come, but for a count that only the log asked for."""
        headers = headers_for_caller(reply.headers, exchange.request_id, exchange.version)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        events = Events()
        try:
            async for chunk in reply.chunks():
                whole = events.feed(chunk)
                shown = [event for event in whole if not (exchange.hides_count and only_usage(event))]
                if shown:
                    await send({"type": "http.response.body", "body": b"".join(shown), "more_body": True})
                exchange.read_events(whole)
        except BrokenError as err:
            exchange.outcome = "error"
            broken = ApiError(502, f"{exchange.model}: {err}.", type_="server_error", code="upstream_error")
            await send({"type": "http.response.body", "body": exchange.error_event(broken), "more_body": False})
            return
        exchange.finished()
        await send({"type": "http.response.body", "body": events.rest(), "more_body": False})


async def _gone(receive: Receive) -> None:
    """Wait until the caller goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
