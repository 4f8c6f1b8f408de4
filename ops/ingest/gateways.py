"""Rows as gateways and tracing tools write them, in our own form: LiteLLM, OpenAI and Langfuse. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from datasets_defs.rows.chats import answered, rendered, turn_of, turns_of
from datasets_defs.rows.times import moment
from datasets_defs.rows.values import given, is_missing

_Columns = dict[str, Any]


def own_form(row: _Columns, model: str) -> _Columns:
    """Give a row in our own form, whichever tool wrote it; one of no known form is given as it is.

    Raises:
        ValueError: the tool did not keep what makes it a request; says what is missing, and how to have it kept.
    """
    if {"call_type", "startTime"} <= row.keys():
        return _litellm(row, model)
    if row.get("object") == "chat.completion" and "choices" in row:
        return _openai(row, model)
    if {"startTime", "type"} <= row.keys() and row.keys() & {"traceId", "trace_id"}:
        return _langfuse(row)
    if "messages" in row and "prompt" not in row:
        return _conversation(row)
    return row


def _litellm(row: _Columns, model: str) -> _Columns:
    """LiteLLM's spend log: a model is named with its provider, or by its group; a user is the end user."""
    names = [str(row[name]) for name in ("model_group", "model") if row.get(name)]
    short = [name.rpartition("/")[2] for name in names]
    columns: _Columns = {
        "request_id": row.get("request_id"),
        "at": row["startTime"],
        "model": model if model in (*names, *short) else next(iter(names), None),
        "user_id": row.get("end_user") or None,
        "session_id": row.get("session_id") or None,
        "prompt_tokens": row.get("prompt_tokens"),
        "completion_tokens": row.get("completion_tokens"),
        "latency_seconds": _seconds_between(row["startTime"], row.get("endTime")),
        **_scalars(row, ("call_type", "spend", "cache_hit", "status", "team_id", "custom_llm_provider")),
    }
    messages = _json(row.get("messages"))
    if not messages:
        raise ValueError("the row holds no messages: set `store_prompts_in_spend_logs: true` in LiteLLM")
    columns["prompt"] = rendered(_turns(messages, "messages"), asks=True)
    columns["completion"] = _answer(_json(row.get("response")))
    return given(columns)


def _openai(row: _Columns, model: str) -> _Columns:
    """OpenAI's stored completions; the provider's name of the model is an attribute: it is none of driftloop's."""
    messages = _json(row.get("messages"))
    if not messages:
        raise ValueError("the row holds no messages: list them with the stored completion")
    usage = _mapping(row.get("usage"))
    return given(
        {
            "request_id": row.get("id"),
            "at": row.get("created"),
            "model": model,
            "prompt": rendered(_turns(messages, "messages"), asks=True),
            "completion": _answer(row),
            "user_id": row.get("user") or row.get("input_user") or None,
            "prompt_tokens": usage.get("prompt_tokens"),
            "completion_tokens": usage.get("completion_tokens"),
            "served_model": row.get("model"),
            **_scalars(row, ("temperature", "top_p", "service_tier")),
            **(_mapping(row.get("metadata")) or {"metadata": row.get("metadata") or None}),
        }
    )


def _langfuse(row: _Columns) -> _Columns:
    """Langfuse's observations; only generations are requests."""
    if row["type"] != "GENERATION":
        raise ValueError(f"a Langfuse observation of type {str(row['type'])[:40]} is no request; only GENERATION is")
    asked, reply = _json(row.get("input")), _json(row.get("output"))
    if is_missing(asked):
        raise ValueError("the row holds no input")
    return given(
        {
            "request_id": row.get("id"),
            "at": row["startTime"],
            "model": row.get("model"),
            "prompt": _asked(asked),
            "completion": reply if isinstance(reply, str) or reply is None else _message(reply),
            "user_id": row.get("userId") or row.get("user_id"),
            "session_id": row.get("sessionId") or row.get("session_id"),
            "latency_seconds": _seconds_between(row["startTime"], row.get("endTime")),
            **_scalars(row, ("name", "environment", "version", "release", "level")),
        }
    )


def _conversation(row: _Columns) -> _Columns:
    """Our own form with messages in place of a prompt: the assistant's last turn is the completion."""
    prompt, completion = answered(_turns(_json(row["messages"]), "messages"))
    rest = {name: value for name, value in row.items() if name != "messages"}
    return given({"completion": completion, **rest, "prompt": prompt})


def _asked(asked: Any) -> str:
    if isinstance(asked, str):
        return asked
    return rendered(_turns(asked.get("messages") if isinstance(asked, Mapping) else asked, "input"), asks=True)


def _answer(response: Any) -> str | None:
    """Give the text of a response's first choice; None when it was not kept."""
    choices = response.get("choices") if isinstance(response, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, Mapping):
        return None
    message = first.get("message")
    return _message(message) if isinstance(message, Mapping) else first.get("text")


def _message(message: Any) -> str | None:
    if isinstance(message, list):
        message = message[-1] if message else None
    if not isinstance(message, Mapping):
        return None
    try:
        return turn_of({"role": "assistant", **message}).text or None
    except ValueError:
        return None


def _turns(messages: Any, column: str) -> list[Any]:
    try:
        return list(turns_of(messages))
    except ValueError as err:
        raise ValueError(f"column {column!r} {err}") from err


def _mapping(value: Any) -> Mapping[str, Any]:
    """Give an object, or its JSON; nothing where a tool wrote something else in its place."""
    content = _json(value)
    return content if isinstance(content, Mapping) else {}


def _json(value: Any) -> Any:
    """Give what a cell of JSON text says; other text, and what is no text, as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[", '"')):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _seconds_between(start: Any, end: Any) -> float | None:
    if is_missing(end):
        return None
    try:
        seconds = (moment(end) - moment(start)).total_seconds()
    except (ValueError, TypeError):  # no times, or one with a zone and one without
        return None
    return seconds if seconds >= 0 else None


def _scalars(row: _Columns, names: tuple[str, ...]) -> _Columns:
    """Give those columns that hold a single value; keys, addresses and counters of the tool are left out."""
    return {name: row[name] for name in names if isinstance(row.get(name), (str, int, float, bool))}
