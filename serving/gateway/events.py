"""Server-sent events, as bytes: cut into events, and read. Pure.

The form is WHATWG's: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
import re
from typing import Any

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
LONGEST = 16 * 1024 * 1024
"""Bytes of one event; what is longer is passed on as it comes, unread."""


class Events:
    """Cuts a stream of bytes into whole events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what came; give the events that it completes."""
        data = self._rest + chunk if self._rest else chunk
        events, start = [], 0
        for end in _END.finditer(data):
            events.append(data[start : end.end()])
            start = end.end()
        self._rest = data[start:]
        if len(self._rest) > LONGEST:
            events.append(self.rest())
        return events

    def rest(self) -> bytes:
        """Give what no blank line ended."""
        rest, self._rest = self._rest, b""
        return rest


def payload(event: bytes) -> dict[str, Any] | None:
    """Read the JSON object of an event; None: it holds none, as `[DONE]`, a comment or a ping."""
    if event.startswith(b"data:") and event.count(b"\n") == 2 and b"\r" not in event:
        data = event[5:]
    else:
        data = b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def only_usage(event: bytes) -> bool:
    """Say whether an event is the count of tokens that `stream_options` adds, and nothing else."""
    if b'"usage"' not in event:
        return False
    read = payload(event)
    return read is not None and read.get("choices") == [] and read.get("usage") is not None
