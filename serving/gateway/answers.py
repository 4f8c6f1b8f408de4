"""What a server answered, read for the log from its JSON or from a stream's events. Pure."""

import json
import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

MOST_CHARS = 1_000_000
"""Characters of one choice that are logged."""
MOST_CHOICES = 128


@dataclass(slots=True)
class LoggedChoice:
    """One choice, growing with a stream."""

    parts: list[str] = field(default_factory=list)
    size: int = 0
    finish_reason: str | None = None
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    """Calls of tools by index: `name` and `arguments`."""

    @property
    def text(self) -> str:
        """What it says; a call of a tool as `name(arguments)`, as conversations are written."""
        called = [f"{call['name']}({call['arguments']})" for _, call in sorted(self.calls.items())]
        content = "".join(self.parts)
        return "\n".join([content, *called]) if content else "\n".join(called)

    def add(self, choice: dict[str, Any]) -> bool:
        """Take a whole choice, or a part of a stream's; say whether it brought any text."""
        message = choice.get("message") or choice.get("delta")
        message = message if isinstance(message, dict) else {}
        brought = self._say(choice.get("text")) | self._say(message.get("content"))
        for call in _listed(message.get("tool_calls")):
            brought |= self._call(call)
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        return brought or bool(message.get("reasoning_content") or message.get("reasoning"))

    def _say(self, text: object) -> bool:
        if not isinstance(text, str) or not text:
            return False
        if self.size < MOST_CHARS:
            self.parts.append(text[: MOST_CHARS - self.size])
            self.size += len(text)
        return True

    def _call(self, call: object) -> bool:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            return False
        index = call.get("index")
        at = index if isinstance(index, int) else len(self.calls)
        if at not in self.calls and len(self.calls) >= MOST_CHOICES:
            return True
        known = self.calls.setdefault(at, {"name": "", "arguments": ""})
        for name in known:
            part = function.get(name)
            if isinstance(part, str) and len(known[name]) < MOST_CHARS:
                known[name] += part
        return True


@dataclass(slots=True)
class LoggedAnswer:
    """Everything of one answer that the log keeps."""

    choices: dict[int, LoggedChoice] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    fingerprint: str | None = None
    prompt_bits_per_byte: float | None = None

    def add(self, content: dict[str, Any]) -> bool:
        """Take a whole answer, or one event of a stream; say whether it brought any text."""
        brought = False
        for given in _listed(content.get("choices")):
            if isinstance(given, dict):
                index = given.get("index")
                at = index if isinstance(index, int) else 0
                if at in self.choices or len(self.choices) < MOST_CHOICES:
                    brought |= self.choices.setdefault(at, LoggedChoice()).add(given)
        usage = content.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"))
            self.completion_tokens = _count(usage.get("completion_tokens"))
        if isinstance(content.get("system_fingerprint"), str):
            self.fingerprint = content["system_fingerprint"]
        return brought

    def listed(self, indices: Container[int]) -> list[dict[str, Any]] | None:
        """List choices for the log, in order; None: the text of the only one says all."""
        chosen = [(index, choice) for index, choice in sorted(self.choices.items()) if index in indices]
        if len(chosen) < 2 and not any(choice.calls for _, choice in chosen):
            return None
        return [
            {
                "index": index,
                "text": "".join(choice.parts),
                "finish_reason": choice.finish_reason,
                "tool_calls": [call for _, call in sorted(choice.calls.items())],
            }
            for index, choice in chosen
        ]


def prompt_logprobs(content: dict[str, Any]) -> list[Any] | None:
    """Find vLLM's log-probabilities of the prompt: in a choice of a completion, at the top of a chat's answer."""
    logprobs = content.get("prompt_logprobs")
    choices = content.get("choices")
    if logprobs is None and isinstance(choices, list) and choices and isinstance(choices[0], dict):
        logprobs = choices[0].get("prompt_logprobs")
    return logprobs if isinstance(logprobs, list) else None


def bits_per_byte(logprobs: list[Any], prompt: str | None) -> float | None:
    """Give a prompt's loss: the bits of its tokens over its UTF-8 bytes; None: the server's list cannot be read.

    The first token has no log-probability and counts no bits; of a server that puts a start token before the prompt it
    is that one. With each token stands its natural logarithm; of several candidates the token of the prompt comes
    first. Without `prompt`, as for a conversation whose template the server fills in, its tokens' own texts are the
    bytes.
    """
    nats, size = 0.0, 0
    for candidates in logprobs[1:]:
        first = next(iter(candidates.values()), None) if isinstance(candidates, dict) else None
        value = first.get("logprob") if isinstance(first, dict) else None
        if not isinstance(first, dict) or not isinstance(value, int | float):
            return None
        nats -= value
        size += len(str(first.get("decoded_token") or "").encode("utf-8", "replace"))
    size = size if prompt is None else len(prompt.encode("utf-8", "replace"))
    loss = nats / math.log(2) / size if size and len(logprobs) > 1 else None
    return loss if loss is not None and math.isfinite(loss) else None


def without_logprobs(content: dict[str, Any]) -> bytes:
    """Give an answer as the server would have written it had nobody asked for the prompt's log-probabilities.

    The field itself stays, as null: vLLM writes it in every answer.
    """
    choices = [
        {**choice, "prompt_logprobs": None} if isinstance(choice, dict) and "prompt_logprobs" in choice else choice
        for choice in content["choices"]
    ]
    cleaned = {**content, "choices": choices}
    if "prompt_logprobs" in content:
        cleaned["prompt_logprobs"] = None
    return json.dumps(cleaned, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _listed(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None
