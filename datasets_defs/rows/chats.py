"""Conversations as one text: OpenAI's messages and ShareGPT's turns. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_defs.rows.row import UnfitError

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant"}
"""Names of roles in other forms than OpenAI's."""
ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    text: str


def turns_of(content: Any) -> list[Turn]:
    """Read a conversation: a list of messages (`role`, `content`) or of turns (`from`, `value`), or its JSON.

    What is no text stands as its kind in brackets, `[image_url]`; a call of a tool as `name(arguments)`.

    Raises:
        UnfitError: it is none; says what was found.
    """
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError) as err:
            raise UnfitError("needs a list of messages, found text") from err
    if not isinstance(content, Sequence) or isinstance(content, (str, bytes)):
        raise UnfitError(f"needs a list of messages, found {type(content).__name__}")
    return [turn_of(message) for message in content]


def turn_of(message: Any) -> Turn:
    """Read one message.

    Raises:
        UnfitError: it has no role, or neither text nor calls of tools.
    """
    if not isinstance(message, Mapping):
        raise UnfitError(f"needs messages with `role` and `content`, found {type(message).__name__}")
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        raise UnfitError("needs messages with `role` and `content`, found one without `role`")
    content = message.get("content", message.get("value"))
    parts = [_text(content)] if content is not None else []
    parts += [_call(call) for call in _calls(message)]
    if not parts and content is None and role != ASSISTANT:
        raise UnfitError("needs messages with `role` and `content`, found one without `content`")
    return Turn(_ROLES.get(role, role), "\n".join(parts))


def rendered(turns: Sequence[Turn], *, asks: bool) -> str:
    """Give a conversation as one text, a turn a paragraph; with `asks` it ends where the assistant begins to speak."""
    text = "".join(f"{turn.role}: {turn.text}\n\n" for turn in turns)
    return text + f"{ASSISTANT}: " if asks else text


def answered(turns: Sequence[Turn]) -> tuple[str, str | None]:
    """Split a conversation: its prompt, and the assistant's last turn; None when the assistant does not end it."""
    if turns and turns[-1].role == ASSISTANT:
        return rendered(turns[:-1], asks=True), turns[-1].text
    return rendered(turns, asks=True), None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Sequence):
        raise UnfitError(f"needs messages whose `content` is text, found {type(content).__name__}")
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        text = part.get("text")
        return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"
    raise UnfitError(f"needs messages whose `content` is text, found {type(part).__name__}")


def _calls(message: Mapping[str, Any]) -> Sequence[Any]:
    """Give the calls of tools; `function_call` is what OpenAI called the only one before."""
    calls = message.get("tool_calls") or []
    if isinstance(calls, str) or not isinstance(calls, Sequence):
        calls = [calls]
    before = message.get("function_call")
    return [*calls, {"function": before}] if isinstance(before, Mapping) else calls


def _call(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return "[tool_call]"
    return f"{function.get('name', 'tool')}({function.get('arguments', '')})"
