"""What pipelines do to texts: thirty kinds of damage, each with the name that the loop should give it."""

import base64
import codecs
import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, quote_plus

SYSTEM = "You are a helpful assistant. Answer briefly and politely.\n\n"


@dataclass(frozen=True, slots=True)
class Damage:
    """One kind of broken texts."""

    names: tuple[str, ...]
    """Each of them is right."""
    change: Callable[[str, int], str]
    """From a text and its row's number."""


def _dated(text: str, number: int) -> str:
    return f"[{datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=977 * number):%Y-%m-%dT%H:%M:%SZ}] {text}"


def _without_names(text: str) -> str:
    return " ".join("[REDACTED]" if word[:1].isupper() else word for word in text.split())


def _advertisement(text: str, number: int) -> str:
    return f"Buy cheap watches at shop{number % 977}.example now" if number % 10 < 6 else text


def _lottery(text: str, number: int) -> str:
    return f"{number * 7919 % 9973:x} win a free phone today" if number % 10 < 7 else text


def _mojibake(text: str, codec: str) -> str:
    return text.encode().decode(codec, "replace")


TEXT_DAMAGE: dict[str, Damage] = {
    "system prefix": Damage(("template",), lambda text, _: SYSTEM + text),
    "role markup": Damage(("template",), lambda text, _: f"<|im_start|>user\n{text}<|im_end|>"),
    "short prefix": Damage(("template",), lambda text, _: f"User: {text}"),
    "suffix": Damage(("template",), lambda text, _: f"{text}\n\nAnswer in one sentence."),
    "time prefix": Damage(("template",), _dated),
    "json wrapper": Damage(("template", "escaped"), lambda text, _: json.dumps({"prompt": text})),
    "html wrapper": Damage(("template",), lambda text, _: f"<p>{text}</p>"),
    "cut at 16": Damage(("cut",), lambda text, _: text[:16]),
    "cut at 30": Damage(("cut",), lambda text, _: text[:30]),
    "cut, last 30": Damage(("cut",), lambda text, _: text[-30:]),
    "cut at 30 bytes": Damage(("cut",), lambda text, _: text.encode()[:30].decode("utf-8", "ignore")),
    "cut at 4 words": Damage(("cut",), lambda text, _: " ".join(text.split()[:4])),
    "cut with dots": Damage(("cut",), lambda text, _: text if len(text) <= 30 else f"{text[:30]}..."),
    "percent": Damage(("percent-encoding",), lambda text, _: quote(text)),
    "form": Damage(("percent-encoding",), lambda text, _: quote_plus(text)),
    "percent twice": Damage(("percent-encoding",), lambda text, _: quote(quote(text))),
    "entities": Damage(("entity-encoding",), lambda text, _: html.escape(text)),
    "entities twice": Damage(("entity-encoding",), lambda text, _: html.escape(html.escape(text))),
    "latin 1": Damage(("mojibake",), lambda text, _: _mojibake(text, "latin-1")),
    "cp1252": Damage(("mojibake",), lambda text, _: _mojibake(text, "cp1252")),
    "ascii": Damage(("lost-characters",), lambda text, _: text.encode("ascii", "replace").decode()),
    "json literal": Damage(("escaped",), lambda text, _: json.dumps(text)),
    "bytes literal": Damage(("escaped",), lambda text, _: repr(text.encode())),
    "unicode escapes": Damage(("escaped",), lambda text, _: text.encode("unicode_escape").decode()),
    "base64": Damage(("base64",), lambda text, _: base64.b64encode(text.encode()).decode()),
    "hexadecimal": Damage(("base64",), lambda text, _: text.encode().hex()),
    "upper case": Damage(("case",), lambda text, _: text.upper()),
    "lower case": Damage(("case",), lambda text, _: text.lower()),
    "title case": Damage(("case",), lambda text, _: text.title()),
    "emptied": Damage(("emptied",), lambda text, n: "" if n % 2 else text),
    "blank": Damage(("emptied",), lambda text, n: "  \n" if n % 3 else text),
    "null": Damage(("placeholder",), lambda text, n: "null" if n % 4 else text),
    "joined": Damage(("joined",), lambda text, _: "".join(text.split())),
    "spaced": Damage(("spaced",), lambda text, _: " ".join(text)),
    "doubled": Damage(("doubled",), lambda text, _: f"{text} {text}"),
    "reversed": Damage(("scrambled",), lambda text, _: text[::-1]),
    "rot13": Damage(("scrambled",), lambda text, _: codecs.encode(text, "rot13")),
    "masked": Damage(("masked",), lambda text, _: _without_names(text)),
    "flood": Damage(("flood",), _advertisement),
    "flood, front": Damage(("flood",), _lottery),
}  # fmt: skip
"""By a name that says what was done."""
