"""The way to servers, behind the gateway and elsewhere; the one file that imports aiohttp.

Why not httpx: at 64 requests at once one cost it 2.5 ms of CPU, and aiohttp 0.1 ms; each of ours makes one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from datasets_defs.spec.serving import ServingSpec

IDLE_SECONDS = 4.0
"""How long an unused connection is kept: uvicorn, and so vLLM, closes those after 5 s."""
MOST_ANSWER_BYTES = 64 * 1024 * 1024
"""Of an answer that is not streamed."""

Headers = Sequence[tuple[str, str]]


class AwayError(Exception):
    """A replica did not answer; asking another one does no harm."""


class SilentError(Exception):
    """A replica took the request and went silent for too long: another one would do the work twice."""


class BrokenError(Exception):
    """An answer broke off after it had begun."""


class Reply:
    """An answer whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = [(name, value) for name, value in response.headers.items()]
        self.streams = response.content_type == "text/event-stream"

    async def whole(self) -> bytes:
        """Read the body.

        Raises:
            BrokenError: it broke off, went silent, or is too long.
        """
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MOST_ANSWER_BYTES:
                raise BrokenError(f"the answer is longer than {MOST_ANSWER_BYTES} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body as it comes.

        Raises:
            BrokenError: it broke off, or went silent.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError as err:
            raise BrokenError("the server went silent in the middle of its answer") from err
        except (aiohttp.ClientError, OSError) as err:
            raise BrokenError(f"the answer broke off: {err or type(err).__name__}") from err


class HttpClient:
    """One pool of connections for all servers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pool, within the event loop that uses it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(
        self, method: str, url: str, headers: Headers, body: bytes | None, limits: ServingSpec
    ) -> AsyncIterator[Reply]:
        """Ask a replica; leaving before the end of its answer closes the connection, by which it knows.

        Raises:
            AwayError: there is no connection, or it was closed without an answer.
            SilentError: no answer began in time.
        """
        if self._session is None:
            raise AwayError("the gateway is starting")
        timeout = aiohttp.ClientTimeout(
            total=limits.total_seconds, sock_connect=limits.connect_seconds, sock_read=limits.silence_seconds
        )
        try:
            response = await self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, timeout=timeout, allow_redirects=False
            )
        except aiohttp.ConnectionTimeoutError as err:
            raise AwayError(f"no connection within {limits.connect_seconds:g} s") from err
        except TimeoutError as err:
            raise SilentError(f"no answer within {min(limits.silence_seconds, limits.total_seconds):g} s") from err
        except (aiohttp.ClientError, OSError) as err:
            raise AwayError(str(err) or type(err).__name__) from err
        whole = False
        try:
            yield Reply(response)
            whole = True
        finally:
            if whole:
                response.release()
            else:
                response.close()

    async def answers(self, url: str, seconds: float) -> bool:
        """Say whether a server answers at all, for /health."""
        if self._session is None:
            return False
        try:
            async with asyncio.timeout(seconds), self._session.get(URL(url, encoded=True), allow_redirects=False):
                return True
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False
