"""What a reply of an OpenAI-compatible API is: a text, or a fault with a name. Pure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

SHOWN = 200
"""Characters of a bad reply that are kept."""
LONGEST_TEXT = 1_000_000
"""Characters of a text that are kept."""


VERSION_HEADER = "x-driftloop-version"
"""By which our server and our gateway say which version answered."""


class ReplyFault(StrEnum):
    """What was wrong with a reply."""

    RATE_LIMITED = "rate_limited"
    """429: too many requests."""
    SERVER_ERROR = "server_error"
    """5xx, 408 or 425: the server could not."""
    TIMEOUT = "timeout"
    """No answer in time."""
    UNREACHABLE = "unreachable"
    """No connection, or it was closed or reset without an answer."""
    BROKEN_OFF = "broken_off"
    """The answer ended in its middle, or is too long."""
    NOT_JSON = "not_json"
    """The answer is no JSON: a page of HTML, say."""
    ERROR_INSIDE = "error_inside"
    """200, and the body is an error."""
    NO_CHOICES = "no_choices"
    """The answer has no choice."""
    NO_TEXT = "no_text"
    """The choice holds no text: null, empty, a call of a tool, or something else than text."""
    CONTENT_FILTER = "content_filter"
    """The API's filter withheld the text or refused the prompt."""
    MODEL_REFUSED = "model_refused"
    """The API marks the answer as the model's refusal."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The prompt has no room in the model's context."""
    REQUEST_REFUSED = "request_refused"
    """4xx: the API does not take the request."""
    UNAUTHORISED = "unauthorised"
    """401 or 403: the key is not taken; no further prompt is asked."""
    NO_SUCH_MODEL = "no_such_model"
    """404: there is no such model or route; no further prompt is asked."""
    OUT_OF_CREDIT = "out_of_credit"
    """402, or 429 for want of credit; no further prompt is asked."""
    REDIRECTED = "redirected"
    """3xx: the address is another one."""


AGAIN = frozenset({
    ReplyFault.RATE_LIMITED, ReplyFault.SERVER_ERROR, ReplyFault.TIMEOUT, ReplyFault.UNREACHABLE,
    ReplyFault.BROKEN_OFF, ReplyFault.NOT_JSON, ReplyFault.ERROR_INSIDE, ReplyFault.NO_CHOICES,
})  # fmt: skip
"""Faults that may pass: the prompt is asked again, in this run and in the next."""
STOPS = frozenset({ReplyFault.UNAUTHORISED, ReplyFault.NO_SUCH_MODEL, ReplyFault.OUT_OF_CREDIT})
"""Faults that every prompt would meet: nothing further is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiReply:
    """What one request brought."""

    text: str | None = None
    """None: there is none, and `fault` says why."""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    """None: the API does not say."""
    completion_tokens: int | None = None
    fault: ReplyFault | None = None
    detail: str = ""
    """The fault in words, with the beginning of what came."""
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    version: int | None = None
    """Version of ours that answered; None: the server does not say."""


def read_reply(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> ApiReply:
    """Read an answer; whatever came is a text or a named fault."""
    content, wrong = _json(body)
    error = _error_of(content)
    if status == 200:
        answer = _read_answer(content, error) if wrong is None else ApiReply(fault=ReplyFault.NOT_JSON, detail=wrong)
        return replace(answer, version=_version(headers))
    shown = error.get("message") or body[:SHOWN].decode("utf-8", "replace")
    detail = f"{status}: {str(shown)[:SHOWN]}"
    return ApiReply(fault=_fault_of(status, error), detail=detail, retry_after=retry_after(headers, now))


def _fault_of(status: int, error: Mapping[str, Any]) -> ReplyFault:
    code = f"{error.get('code') or ''} {error.get('type') or ''}".lower()
    by_code = {
        "content_filter": ReplyFault.CONTENT_FILTER, "content_policy": ReplyFault.CONTENT_FILTER,
        "context_length": ReplyFault.PROMPT_TOO_LONG, "insufficient_quota": ReplyFault.OUT_OF_CREDIT,
    }  # fmt: skip
    for part, fault in by_code.items():
        if part in code:
            return fault
    by_status = {
        401: ReplyFault.UNAUTHORISED, 402: ReplyFault.OUT_OF_CREDIT, 403: ReplyFault.UNAUTHORISED,
        404: ReplyFault.NO_SUCH_MODEL, 408: ReplyFault.SERVER_ERROR, 413: ReplyFault.PROMPT_TOO_LONG,
        425: ReplyFault.SERVER_ERROR, 429: ReplyFault.RATE_LIMITED,
    }  # fmt: skip
    if status in by_status:
        return by_status[status]
    if 300 <= status < 400:
        return ReplyFault.REDIRECTED
    return ReplyFault.REQUEST_REFUSED if 400 <= status < 500 else ReplyFault.SERVER_ERROR


def _read_answer(content: Any, error: Mapping[str, Any]) -> ApiReply:
    if error:
        fault = _fault_of(0, error)
        fault = ReplyFault.ERROR_INSIDE if fault is ReplyFault.SERVER_ERROR else fault
        return ApiReply(fault=fault, detail=f"200 with an error: {str(error.get('message') or error)[:SHOWN]}")
    choices = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return ApiReply(fault=ReplyFault.NO_CHOICES, detail=f"no choices in {json.dumps(content)[:SHOWN]}")
    usage = content.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    return replace(
        _read_choice(choices[0]), prompt_tokens=tokens["prompt_tokens"], completion_tokens=tokens["completion_tokens"]
    )


def _read_choice(choice: Mapping[str, Any]) -> ApiReply:
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) else ""
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    if finish == "content_filter":
        return ApiReply(fault=ReplyFault.CONTENT_FILTER, detail="the API's filter withheld the text")
    if isinstance(refusal := message.get("refusal"), str) and refusal.strip():
        return ApiReply(fault=ReplyFault.MODEL_REFUSED, detail=refusal[:SHOWN])
    text = message.get("content") if message else choice.get("text")
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if not isinstance(text, str) or not text.strip():
        called = " (it calls a tool)" if message.get("tool_calls") else ""
        return ApiReply(fault=ReplyFault.NO_TEXT, detail=f"no text in the choice, finish_reason {finish!r}{called}")
    clean = text.replace("\x00", "").encode("utf-8", "replace").decode()
    return ApiReply(text=clean[:LONGEST_TEXT], finish_reason=finish)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read how long a server asks to wait: seconds, or a date; what is neither is as good as none."""
    header = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except (TypeError, ValueError):
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _version(headers: Mapping[str, str]) -> int | None:
    header = next((value for name, value in headers.items() if name.lower() == VERSION_HEADER), "")
    return int(header) if header.isascii() and header.isdigit() and len(header) < 10 else None


def _json(body: bytes) -> tuple[Any, str | None]:
    try:
        return json.loads(body), None
    except (ValueError, RecursionError):
        return None, f"no JSON: {body[:SHOWN].decode('utf-8', 'replace')}"


def _error_of(content: Any) -> dict[str, Any]:
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str) and error:
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
