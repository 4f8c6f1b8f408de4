"""What becomes of captions: decoded, cleaned, redacted, judged by length and language, and cut into tokens."""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import fsspec

from datasets_defs.core.errors import ContractError
from datasets_defs.core.languages import languages
from datasets_defs.redaction.redact import Finder, redact
from datasets_defs.spec.pairs import CaptionsSpec
from training.pairs.content import Lost
from training.pairs.hashes import caption_hash

_TAG = re.compile(r"<[a-zA-Z/!][^<>]{0,500}>")
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_URL = re.compile(r"(?:https?://|www\.)\S+")
_FILE_NAME = re.compile(r"^(?:IMG|DSC|DSCN|DCIM|PXL|MVIMG|P|image|photo|screenshot)?[\s_-]?\d{2,}[\w() -]*(?:\.\w{3,4})?$|^\S+\.(?:jpe?g|png|gif|webp|tiff?)$", re.IGNORECASE)  # fmt: skip # noqa: E501
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
"""Letters of scripts that put no space between words."""
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(slots=True)
class Caption:
    """A caption that was prepared."""

    text: str
    words: int
    tokens: list[int]
    language: str = ""
    hash: int = 0
    notes: list[str] = field(default_factory=list)


def raw_caption(content: bytes, spec: CaptionsSpec) -> str | Lost:
    """Read what a caption's file says."""
    if not content.strip():
        return Lost("empty caption", "its file holds nothing")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return Lost("caption is no text", f"not {encoding.removesuffix('-sig').upper()}")
    return text if spec.source == "txt" else _of_json(text, spec.field)


def _of_json(text: str, name: str) -> str | Lost:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as err:
        return Lost("caption's JSON is broken", str(err)[:200])
    caption = content.get(name) if isinstance(content, dict) else None
    if isinstance(caption, str):
        return caption
    kind = f"{name!r} is {type(caption).__name__}" if isinstance(content, dict) else f"it is {type(content).__name__}"
    return Lost("caption's JSON has no caption", f"{kind}; `captions.field` names a field that holds text")


def prepare_captions(texts: Sequence[str], spec: CaptionsSpec, finders: Sequence[Finder]) -> list[Caption | Lost]:
    """Prepare captions together: looking for what is redacted costs least for many at once."""
    made = [_cleaned(text, spec) for text in texts]
    left = [at for at, caption in enumerate(made) if isinstance(caption, Caption)]
    changed = redact([(_text(made[at]),) for at in left], finders)
    for number, ((text,), reasons) in changed.items():
        made[left[number]] = _redacted(made[left[number]], text, reasons, spec)
    if spec.languages is not None:
        _judge_languages(made, spec)
    return [_finished(caption, spec) if isinstance(caption, Caption) else caption for caption in made]


def _cleaned(raw: str, spec: CaptionsSpec) -> Caption | Lost:
    whole = raw.encode("utf-8", "replace").decode()
    if len(whole) > spec.max_characters:
        return Lost("caption too long", f"{len(whole):,} characters")
    text = _TAG.sub(" ", html.unescape(whole))
    text = _HIDDEN.sub("", unicodedata.normalize("NFC", _URL.sub(" ", text)))
    text = " ".join(text.split())
    notes = ["cleaned"] if text != " ".join(raw.split()) else []
    if not text:
        return Lost("empty caption", "nothing is left without markup, addresses and hidden characters")
    if text.count("\ufffd") > 0.02 * len(text):
        return Lost("caption is no text", "characters were lost in decoding")
    if _FILE_NAME.match(text):
        return Lost("caption is a file name", text[:100])
    words = len(_WORD.findall(_UNSPACED.sub(" ", text))) + len(_UNSPACED.findall(text)) // 2
    if words < spec.min_words:
        return Lost("caption too short", f"{words} words")
    if (phrase := _phrase(spec.blocked, text)) is not None:
        return Lost("blocked phrase", phrase)
    return Caption(text=text, words=words, tokens=[], notes=notes)


def _phrase(phrases: tuple[str, ...], text: str) -> str | None:
    return next((phrase for phrase in phrases if re.search(rf"(?i)(?<!\w){re.escape(phrase)}(?!\w)", text)), None)


def _text(made: Caption | Lost) -> str:
    return made.text if isinstance(made, Caption) else ""


def _redacted(made: Caption | Lost, text: str, reasons: list[str], spec: CaptionsSpec) -> Caption | Lost:
    if isinstance(made, Lost):
        return made
    if spec.personal == "drop":
        return Lost("personal data in its caption", ", ".join(reasons))
    made.text = text
    made.notes += [f"without {reason}" for reason in reasons]
    return made


def _judge_languages(made: list[Caption | Lost], spec: CaptionsSpec) -> None:
    left = [at for at, caption in enumerate(made) if isinstance(caption, Caption)]
    for at, language in zip(left, languages([_text(made[at]) for at in left]), strict=True):
        caption = made[at]
        if isinstance(caption, Caption):
            caption.language = language
        if spec.languages and language not in spec.languages:
            made[at] = Lost("another language", language)


def _finished(made: Caption, spec: CaptionsSpec) -> Caption:
    made.tokens = tokenizer(spec.tokenizer)(made.text)[: spec.max_tokens]
    made.hash = caption_hash([word.lower() for word in _WORD.findall(made.text)])
    return made


@cache
def tokenizer(name: str) -> Callable[[str], list[int]]:
    """Give what cuts a text into token ids.

    Raises:
        ContractError: the file is not there, or no tokenizer.
    """
    if name == "bytes":
        return lambda text: list(text.encode())
    from tokenizers import Tokenizer

    try:
        with fsspec.open(name, "rt", encoding="utf-8") as file:
            whole: Any = Tokenizer.from_str(file.read())
    except Exception as err:  # tokenizers raises Exception itself
        raise ContractError(f"captions.tokenizer: {name} is no tokenizer.json that can be read: {err}") from err
    return lambda text: list(whole.encode(text).ids)
