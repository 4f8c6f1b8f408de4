"""What a text looks like after it went through the wrong function: one marker for each. Pure.

A marker says of a text whether it shows the damage, and whether an undamaged text of its kind could: what stands in no
text cannot be encoded. The share among those that could is compared with the reference's.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_plus

import numpy as np
from numpy.typing import NDArray

LONGEST = 600
"""Characters of a text that are looked at."""
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}|(?<=\w)\+(?=\w)")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9A-Fa-f]{1,6});")
_SPECIAL = re.compile(r"[\"'<>&]")
_ESCAPE = re.compile(r"\\(?:[ntr\"]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})")
_ESCAPABLE = re.compile(r"[\n\t\"]|[^\x00-\x7f]")
_LOST = re.compile(r"\ufffd|(?<![\w/])[^\W\d_]+\?[^\W\d_]+(?![\w/])|(?:^|\s)\?{3,}(?=\s|$)")
_READ_BYTEWISE = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e"
    "\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122\ufffd]+"
)
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_BASE64 = re.compile(r"(?:data:[\w/+.-]*;base64,)?[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX = re.compile(r"(?:0x)?(?:[0-9a-fA-F]{2}){8,}")
_PLACEHOLDER = re.compile(
    r"\W*(?:null|none|nil|nan|undefined|n/a|\[object object\]|<?(?:empty|missing)>?|\{\}|\[\]|-|string)\W*",
    re.IGNORECASE,
)
_MASK = re.compile(r"[\[<(]?(?:REDACTED|MASKED|REMOVED|ANONYMI[SZ]ED|PII|EMAIL|PERSON|NAME)[\])>]|\*{4,}|█{2,}|x{6,}")
_SPACED = re.compile(r"(?:\b\w\s){5,}")
_WORD = re.compile(r"[^\W\d_]+")
_LETTER = re.compile(r"[^\W\d_]")
LEAST_LETTERS = 4
JOINED_CHARACTERS = 20
MOST_READ_AS_CODE = 4_000


class Rise(NamedTuple):
    """How far a share must lie above the reference's."""

    of_possible: float
    """Rise of the share among the texts that could show it."""
    of_all: float
    """Share of all the window's texts that show it, at least."""


@dataclass(frozen=True, slots=True)
class Marker:
    """One kind of damage."""

    kind: str
    words: str
    """What is said of the texts: `… of the prompts WORDS`."""
    shows: Callable[[str], bool]
    least: Rise
    possible: Callable[[str], bool] = bool
    keep: re.Pattern[str] | None = None
    """What of an example is shown as it is."""
    whole: bool = False
    """Whether practically all texts must show it: a mixture of usual texts could have any smaller share."""


def is_percent_encoded(text: str) -> bool:
    """Say whether a text is URL-encoded: no white space, and some once it is decoded."""
    if any(map(str.isspace, text)) or "://" in text[:12]:
        return False
    marks = _PERCENT.findall(text)
    plain = unquote_plus(text)
    if not marks or plain == text:
        return False
    return len(plain.split()) >= 3 or (any(mark[0] == "%" for mark in marks) and bool(_WORD.search(plain)))


def is_mojibake(text: str) -> bool:
    """Say whether a text is UTF-8 that was read byte by byte as Latin 1 or Windows' code page.

    Most characters beyond ASCII then stand in pairs and triples that begin with what a leading byte becomes.
    """
    if text.isascii():
        return False
    beyond = sum(not char.isascii() for char in text)
    return sum(map(len, _READ_BYTEWISE.findall(text))) > 0.7 * beyond


def is_binary_text(text: str) -> bool:
    """Say whether a text is base64 or hexadecimal digits of a text."""
    compact = "".join(text.split())[:MOST_READ_AS_CODE]
    if _HEX.fullmatch(compact):
        return _reads(bytes.fromhex(compact.removeprefix("0x")))
    if not _BASE64.fullmatch(compact) or compact.islower() or len(compact) < len(text.strip()) - 2 * text.count("\n"):
        return False
    body = compact.rpartition(",")[2].rstrip("=").replace("-", "+").replace("_", "/")
    body = body[: len(body) // 4 * 4]
    try:
        return _reads(base64.b64decode(body, validate=True))
    except binascii.Error:
        return False


def _reads(raw: bytes) -> bool:
    plain = raw.decode("utf-8", "ignore")
    printable = sum(map(str.isprintable, plain)) + plain.count("\n") + plain.count("\t")
    return len(plain.encode()) >= len(raw) - 3 and printable >= 0.95 * len(plain) > 0


def is_quoted(text: str) -> bool:
    """Say whether a text stands in the quotation marks of a JSON or Python literal."""
    body = text.strip()
    return len(body) > 2 and (body[0] == body[-1] == '"' or (body[:2] in ("b'", 'b"') and body[-1] == body[1]))


def is_upper(text: str) -> bool:
    """Say whether most letters of a text that has cases are capitals."""
    upper = sum(map(str.isupper, text))
    return upper > 0.6 * len(_LETTER.findall(text)) > 0


def has_cases(text: str) -> bool:
    """Say whether a text has some letters with cases."""
    return len(_LETTER.findall(text)) >= LEAST_LETTERS and text.lower() != text.upper()


def is_lower(text: str) -> bool:
    """Say whether a text has no capital."""
    return not any(map(str.isupper, text))


def is_title(text: str) -> bool:
    """Say whether every word of a text begins with a capital, in three words or more."""
    words = _WORD.findall(text)
    return len(words) >= 3 and all((word[0].isupper() and not word[1:].isupper()) or len(word) == 1 for word in words)


def is_joined(text: str) -> bool:
    """Say whether the words of a text were joined: long, letters nearly all, of an alphabet with spaces, and none."""
    body = text.strip()
    letters = len(_LETTER.findall(body))
    return len(body) >= JOINED_CHARACTERS and letters > 0.8 * len(body) and not re.search(r"[\s\u2e80-\uffff]", body)


def is_doubled(text: str) -> bool:
    """Say whether a text says the same twice."""
    body = text.strip()
    half = len(body) // 2
    return len(body) >= 10 and body[:half].strip() == body[len(body) - half :].strip() and len(set(body)) > 4


MARKERS = (
    Marker("emptied", "are empty", lambda text: not text.strip(), Rise(0.2, 0.2), lambda _: True),
    Marker(
        "placeholder", "are a placeholder such as null or None", lambda text: bool(_PLACEHOLDER.fullmatch(text)),
        Rise(0.1, 0.1), keep=_PLACEHOLDER,
    ),
    Marker("percent-encoding", "are URL-encoded", is_percent_encoded, Rise(0.1, 0.1), keep=_PERCENT),
    Marker(
        "entity-encoding", "have HTML entities where others have the characters",
        lambda text: bool(_ENTITY.search(text)), Rise(0.4, 0.02),
        lambda text: bool(_SPECIAL.search(text)), keep=_ENTITY,
    ),
    Marker(
        "mojibake", "are UTF-8 that was read in another encoding", is_mojibake, Rise(0.3, 0.01),
        lambda text: not text.isascii(), keep=re.compile(r"[^\x00-\x7f]+"),
    ),
    Marker(
        "lost-characters", "have replacement characters or question marks inside words",
        lambda text: bool(_LOST.search(text)), Rise(0.4, 0.03),
        lambda text: not text.isascii(), keep=re.compile(r"[\ufffd?]+"),
    ),
    Marker("control-characters", "have control characters", lambda text: bool(_CONTROL.search(text)), Rise(0.1, 0.1)),
    Marker(
        "escaped", "have escapes such as \\n or \\u00e9 where others have the characters",
        lambda text: bool(_ESCAPE.search(text)), Rise(0.5, 0.02),
        lambda text: bool(_ESCAPABLE.search(text) or _ESCAPE.search(text)), keep=_ESCAPE,
    ),
    Marker(
        "escaped", "stand in the quotation marks of a literal", is_quoted, Rise(0.5, 0.5), keep=re.compile("^b?[\"']"),
    ),
    Marker("base64", "are base64 or hexadecimal digits of a text", is_binary_text, Rise(0.08, 0.08)),
    Marker("spaced", "have a space after each letter", lambda text: bool(_SPACED.search(text)), Rise(0.2, 0.2)),
    Marker("case", "are written in capitals", is_upper, Rise(0.3, 0.2), has_cases),
    Marker("case", "have no capital letter", is_lower, Rise(0.3, 0.2), has_cases, whole=True),
    Marker(
        "case", "begin every word with a capital", is_title, Rise(0.6, 0.4),
        lambda text: len(_WORD.findall(text)) >= 3 and has_cases(text),
    ),
    Marker("joined", "have lost the spaces between words", is_joined, Rise(0.3, 0.2)),
    Marker("doubled", "say the same twice", is_doubled, Rise(0.1, 0.1)),
    Marker(
        "masked", "have masks where others have words", lambda text: bool(_MASK.search(text)), Rise(0.15, 0.15),
        keep=_MASK,
    ),
)  # fmt: skip
"""In the order in which one that explains a text keeps it from the ones after it."""


class Marked(NamedTuple):
    """What a marker says of texts: booleans of length n each."""

    shows: NDArray[np.bool_]
    possible: NDArray[np.bool_]


def marked(marker: Marker, texts: Sequence[str]) -> Marked:
    """Look at each text; one that shows the damage could."""
    shows = np.fromiter((marker.shows(text) for text in texts), dtype=bool, count=len(texts))
    possible = np.fromiter((marker.possible(text) for text in texts), dtype=bool, count=len(texts))
    return Marked(shows, shows | possible)


def scrambled(texts: Sequence[str], usual: frozenset[str]) -> NDArray[np.bool_]:
    """Say of each text whether more of its words are usual ones when read backwards, or by ROT13."""
    return np.fromiter((_is_scrambled(text, usual) for text in texts), dtype=bool, count=len(texts))


def _is_scrambled(text: str, usual: frozenset[str]) -> bool:
    words = _WORD.findall(text.lower())
    straight = sum(word in usual for word in words)
    backwards = sum(word[::-1] in usual and len(word) > 1 and word != word[::-1] for word in words)
    rotated = sum(codecs.encode(word, "rot13") in usual for word in words) if text.isascii() else 0
    most: int = max(backwards, rotated)
    return most >= 2 and most > 2 * straight
