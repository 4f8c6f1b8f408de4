"""What a request asks, read from its JSON: for the way to the server, and for the log. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any

from datasets_defs.rows.chats import rendered, turns_of
from datasets_defs.rows.row import UnfitError
from serving.protocol import ApiError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MOST_MESSAGES = 1_000_000
"""Characters of a conversation's JSON that are logged beside the prompt; pictures make it longer."""
MOST_LEVELS = 50
"""Of lists and objects inside each other that are logged; PostgreSQL gives up on thousands."""
_FINITE = 1e300
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_MOST_ATTRIBUTES = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to complete something."""

    path: str
    body: dict[str, Any]
    raw: bytes

    @property
    def streams(self) -> bool:
        """Whether the answer is to come as server-sent events."""
        return self.body.get("stream") is True

    @property
    def counts(self) -> bool:
        """Whether the caller wants the count of a stream's tokens."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def prompts(self) -> list[str] | None:
        """Give the prompts as texts, a conversation as one; None: there is no text, but ids of tokens, say."""
        if self.path == CHAT:
            return [self._conversation()]
        match self.body.get("prompt"):
            case str(prompt):
                return [prompt]
            case [str(), *_] as prompts if all(isinstance(prompt, str) for prompt in prompts):
                return [str(prompt) for prompt in prompts]
            case _:
                return None

    def messages(self) -> list[Any] | None:
        """Give the conversation as it came; None: it is none, too long, or nested too deeply."""
        messages = self.body.get("messages")
        if not isinstance(messages, list) or len(self.raw) > MOST_MESSAGES or _deeper(messages, MOST_LEVELS):
            return None
        return messages

    def word(self, name: str) -> str | None:
        """Give a field that names somebody or something; None: it is no text."""
        word = self.body.get(name)
        return word[:256] if isinstance(word, str) and word else None

    def attributes(self) -> dict[str, Any]:
        """Give what of `metadata` the log keeps: the first sixteen plain values under plain names."""
        metadata = self.body.get("metadata")
        if not isinstance(metadata, dict):
            return {}
        plain = {
            name: value[:512] if isinstance(value, str) else value
            for name, value in metadata.items()
            if _ATTRIBUTE.fullmatch(name)
            and (isinstance(value, str | bool) or (isinstance(value, int | float) and abs(value) < _FINITE))
        }
        return dict(list(plain.items())[:_MOST_ATTRIBUTES])

    def _conversation(self) -> str:
        messages = self.body.get("messages")
        try:
            return rendered(turns_of(messages), asks=True)
        except UnfitError:
            return json.dumps(messages, ensure_ascii=False)


def read(path: str, raw: bytes) -> Asked:
    """Read a request's body.

    Raises:
        ApiError: it is no JSON object, or names no model.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise ApiError(400, "The body is not valid JSON.") from err
    if not isinstance(body, dict):
        raise ApiError(400, f"The body must be a JSON object, and is a {type(body).__name__}.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise ApiError(400, "you must provide a model parameter", param="model")
    return Asked(path, body, raw)


def for_server(asked: Asked, name: str, *, count_tokens: bool, prompt_loss: bool) -> bytes:
    """Give the body that goes to the server: the caller's bytes, but for the fields that the gateway sets.

    `name` is the model's at the server. With `count_tokens` a stream ends in its count, with `prompt_loss` vLLM adds
    each prompt token's log-probability.

    Raises:
        ApiError: the body cannot be written anew.
    """
    changes: dict[str, Any] = {}
    if name != asked.body["model"]:
        changes["model"] = name
    if count_tokens and asked.streams and not asked.counts:
        options = asked.body.get("stream_options")
        changes["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    if prompt_loss:
        changes["prompt_logprobs"] = 0
    try:
        return json.dumps({**asked.body, **changes}).encode() if changes else asked.raw
    except (ValueError, RecursionError) as err:
        raise ApiError(400, "The body is nested too deeply.") from err


def _deeper(value: object, levels: int) -> bool:
    """Say whether lists and objects stand inside each other more than so many levels deep."""
    inside: list[object] = [value]
    for _ in range(levels):
        inside = [
            part
            for one in inside
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, dict | list) for one in inside)
