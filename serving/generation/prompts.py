"""What is asked: prompts rendered from topics, the key of each, and the request that carries it. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from datasets_defs.core.errors import ContractError
from datasets_defs.core.plain import plain
from datasets_defs.spec.batch import BatchSpec
from datasets_defs.spec.generation import GenerateSpec

LONGEST_PROMPT = 200_000
"""Characters of a prompt; a longer one is a topic's mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """What decides an answer beside the prompt."""

    model: str
    """The monitored model's name."""
    asked_model: str
    """The model's name at the API."""
    version: int | None
    """The version that serves; None: not ours, or none."""
    endpoint: str
    """`chat` or `completions`."""
    again: str
    """What makes a prompt new though it was answered: a version, a day, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedText:
    """A prompt to be asked."""

    key: str
    """Hash of all that decides what is asked: the same key is asked once."""
    topic: dict[str, Any]
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedTopics:
    """The prompts of a run, and what became of topics that gave none."""

    texts: list[PlannedText]
    unusable: dict[str, int]
    """Why topics gave no prompt, each with how many."""
    repeated: int
    """Topics that gave a prompt which another one gave before."""


def render_topics(topics: Iterable[Mapping[str, Any] | str], spec: GenerateSpec, asker: Asker) -> RenderedTopics:
    """Render the prompt of each topic; a sentence instead of a topic is a row that could not be read.

    Raises:
        ContractError: the template is none.
    """
    template = template_of(spec.template, place="generate.template")
    texts: dict[str, PlannedText] = {}
    unusable: dict[str, int] = {}
    repeated = 0
    for topic in topics:
        prompt, wrong = (None, topic) if isinstance(topic, str) else rendered(template, topic)
        if prompt is None:
            unusable[wrong] = unusable.get(wrong, 0) + 1
            continue
        key = key_of_text(prompt, spec, asker)
        repeated += key in texts
        texts.setdefault(key, PlannedText(key=key, topic=plain(dict(topic)), prompt=prompt))  # type: ignore[arg-type]
    return RenderedTopics(texts=list(texts.values()), unusable=unusable, repeated=repeated)


def template_of(text: str, *, place: str) -> Template:
    """Read a template; `place` is where it stands in the YAML.

    Raises:
        ContractError: it is none.
    """
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
    try:
        return environment.from_string(text)
    except TemplateError as err:
        raise ContractError(f"{place} is no Jinja template: {err}") from err


def rendered(template: Template, row: Mapping[str, Any]) -> tuple[str | None, str]:
    """Give the prompt of a row, or why there is none."""
    try:
        prompt = str(template.render(**row)).strip()
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as err:
        return None, f"the template failed: {str(err)[:200]}"
    if not prompt:
        return None, "the template gave an empty prompt"
    if len(prompt) > LONGEST_PROMPT:
        return None, f"the prompt has over {LONGEST_PROMPT} characters"
    return prompt.replace("\x00", ""), ""


def key_of_text(prompt: str, spec: GenerateSpec, asker: Asker) -> str:
    """Give the key of a prompt: 32 hexadecimal digits of a hash of all that decides what is asked."""
    asked_model = "" if spec.again == "never" else asker.asked_model
    parts = [
        asker.model, asked_model, asker.endpoint, asker.again, spec.system, prompt, spec.max_tokens,
        spec.temperature,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()[:32]


def request_of(
    prompt: str, spec: GenerateSpec | BatchSpec, *, asked_model: str, endpoint: str, marks: Mapping[str, Any]
) -> dict[str, Any]:
    """Give the body of the request for a prompt, with the fields by which our own server knows what it is for."""
    marked = {"model": asked_model, "max_tokens": spec.max_tokens, "temperature": spec.temperature, **marks}
    if endpoint == "completions":
        return {**marked, "prompt": f"{spec.system}\n\n{prompt}" if spec.system else prompt}
    return {**marked, "messages": messages_of(spec.system, prompt)}


def messages_of(system: str, prompt: str) -> list[dict[str, str]]:
    """Give a conversation of one question."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": prompt}]


def batch_size(prompts: int, wanted: int, most_batches: int = 500) -> int:
    """Give how many prompts a task asks: as many as wanted, or more where there would be too many tasks."""
    return max(wanted, -(-prompts // most_batches))


PURPOSE = "generate_texts"
"""User and `purpose` of our own requests in the inference log."""
MARKS = {"user": PURPOSE, "metadata": {"purpose": PURPOSE}}
"""Of requests to our own server: its log learns that no user asked."""
