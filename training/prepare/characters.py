"""What stands in a document that nobody sees or should see: control and hidden characters, disguised words, scripts."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from confusable_homoglyphs import confusables

from datasets_defs.redaction.hints import SPACE, column, hinted
from datasets_defs.spec.training import DataSpec
from training.prepare.checks import Drop, Record, Redacted

MOST_MIXED = 3
"""Places where a Latin letter touches a Cyrillic one; a text with as many is taken for one that hides its words."""
MOST_LOST_SHARE = 0.02
"""Share of characters that an earlier reader could not decode (U+FFFD)."""
BLOB_CHARACTERS, BLOB_LINES = 400, 8
"""Of one run without a space, and lines of sixty and more of them: from there on it is data, not text."""


def _code_point(match: re.Match[str]) -> str:
    """Write a character as RE2 does."""
    return rf"\x{{{int(next(filter(None, match.groups())), 16):x}}}"


_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]"
_LOST = "\ufffd"
_INVISIBLE = (
    r"[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    r"\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_LATIN, _CYRILLIC = r"A-Za-z\u00c0-\u024f", r"\u0400-\u04ff"
_JOINER, _VARIANT = r"[\u200c\u200d]", r"[\ufe00-\ufe0f]"
_HIDDEN = (
    _INVISIBLE,
    rf"[{_LATIN}]{_JOINER}",  # between letters of scripts that join, and in emoji, they are written by right
    rf"{_JOINER}[{_LATIN}]",
    rf"[{_LATIN}]{_VARIANT}",
    rf"{_VARIANT}{_VARIANT}",
)
_SYMBOLS = "\u03b1\u03b3\u03b9\u03bd\u03c1\u03c3\u03c5\u03d2"
"""Greek letters that stand beside Latin ones by right, in formulas, though they look like some."""


def _look_alikes() -> str:
    """Give the letters of other scripts that Unicode (UTS #39) lists as confusable with a letter or digit of ASCII.

    Styled Latin letters, which NFKC makes plain ones, and those with a use of their own in formulas are left out.
    """
    letters = []
    for letter, twins in confusables.confusables_data.items():
        looks = any(len(twin["c"]) == 1 and twin["c"].isascii() and twin["c"].isalnum() for twin in twins)
        is_letter = len(letter) == 1 and unicodedata.category(letter) in ("Lu", "Ll", "Lo")
        if looks and is_letter and not letter.isascii() and letter not in _SYMBOLS:
            is_latin = "LATIN" in unicodedata.name(letter, "LATIN")
            letters += [letter] if not is_latin and unicodedata.normalize("NFKC", letter) == letter else []
    return "".join(sorted(letters))


_LOOKALIKE = _look_alikes()
_STYLED = r"[\uff21-\uff3a\uff41-\uff5a\u24b6-\u24e9\U0001d400-\U0001d7ff\U0001f130-\U0001f149]{3,}"
_MARKUP = (
    r"[<\uff1c]\s{0,20}/?\s{0,20}(?i:script)\b",
    r"(?i:&lt;|&#0*60;|&#x0*3c;)\s{0,20}/?\s{0,20}(?i:script)\b",
    r"(?i:<iframe\b[^<>]*\bsrc|<(?:object|embed)\b[^<>]*\b(?:data|src)\s*=)",
    r"(?i:<[a-z][^<>]*[\s/\"']on[a-z]{3,20}\s*=)",
    r"(?i:\bj[\t\r\n]*a[\t\r\n]*v[\t\r\n]*a[\t\r\n]*s[\t\r\n]*c[\t\r\n]*r[\t\r\n]*i[\t\r\n]*p[\t\r\n]*t:\s*(?:[\w$]+\s*[(=\[`]|[\w$]+\.\w|[(\[`]))",
    r"(?i:\bvbscript:\s*\w|\bdata:text/html\b)",
)
_BLOB = (
    rf"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{{{BLOB_CHARACTERS},}}"
    rf"|^(?:[A-Za-z0-9+/]{{60,100}}=*\r?\n){{{BLOB_LINES},}}[A-Za-z0-9+/]*=*"
)

_MARKUP_HINT = (
    rf"(?i:[<;\x{{ff1c}}]{SPACE}*/?{SPACE}*script|<iframe|<(?:object|embed){SPACE}[^<>]*=|(?:[/\"']|{SPACE})on[a-z]{{3,20}}{SPACE}*="
    r"|i[\t\r\n]*p[\t\r\n]*t:|data:text)"
)
_RUN_HINTS = (r"\n[A-Za-z0-9+/]{60}", r"[A-Za-z0-9+/=_-]{100}")
_HINT = rf"[\x00-\x08\x0e-\x1f\x7f]|{_MARKUP_HINT}"
_WIDE_HINT = "|".join(
    re.sub(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))", _code_point, pattern)
    for pattern in (
        _CONTROL,
        _LOST,
        *_HIDDEN,
        rf"[{_LATIN}][{_CYRILLIC}]",
        rf"[{_CYRILLIC}][{_LATIN}]",
        rf"[{_LOOKALIKE}][{_LATIN}]",
        _STYLED,
        r"\uff1c",
    )
)
_find_control, _find_markup = re.compile(_CONTROL), re.compile("|".join(_MARKUP))
_find_hidden = re.compile(
    rf"{_INVISIBLE}|(?<=[{_LATIN}]){_JOINER}+|{_JOINER}+(?=[{_LATIN}])|(?<=[{_LATIN}]){_VARIANT}+|{_VARIANT}{{2,}}"
)
_find_mixed = re.compile(rf"[{_LATIN}][{_CYRILLIC}]|[{_CYRILLIC}][{_LATIN}]")
_find_disguised = re.compile(
    rf"(?<![^\W\d_])[{_LATIN}{_LOOKALIKE}]*[{_LOOKALIKE}][{_LATIN}][{_LATIN}{_LOOKALIKE}]*(?![^\W\d_])"
)
_find_latin = re.compile(rf"[{_LATIN}]")
_find_styled, _find_blob = re.compile(_STYLED), re.compile(_BLOB, re.MULTILINE)


def doubtful(texts: Sequence[str]) -> set[int]:
    """Give the numbers of all texts that `check_characters` does not keep as they are, and of few others."""
    wide = [number for number, text in enumerate(texts) if not text.isascii()]
    every = column(texts)
    runs = (number for number in hinted(every, *_RUN_HINTS) if _find_blob.search(texts[number]))
    numbers = {*hinted(every, _HINT), *runs}
    return numbers | {wide[number] for number in hinted(column([texts[number] for number in wide]), _WIDE_HINT)}


def check_characters(record: Record, spec: DataSpec) -> Record | Redacted | Drop:
    """Drop what hides or acts: control characters, scripts, disguised words. Take out what nobody sees or reads."""
    clean, reasons = record, []
    for reason, cut in (("invisible characters", _seen), ("styled letters", _plain), ("encoded data", _without_blobs)):
        prompt, reference = cut(clean.prompt), cut(clean.reference)
        if prompt != clean.prompt or reference != clean.reference:
            clean = replace(clean, prompt=prompt, reference=reference)
            reasons.append(reason)
    if (why := _why_bad(record.text, clean.text, spec)) is not None:
        return Drop(why)
    if not clean.reference.strip():
        return Drop("invisible characters only")
    return Redacted(clean, tuple(reasons)) if reasons else record


def _why_bad(text: str, clean: str, spec: DataSpec) -> str | None:
    if _find_control.search(text):
        return "control characters"
    if not spec.markup and _find_markup.search(clean):
        return "script markup"
    if text.count(_LOST) > MOST_LOST_SHARE * len(text):
        return "characters that were lost in decoding"
    if clean.isascii():
        return None
    if len(_find_mixed.findall(clean)) >= MOST_MIXED:
        return "words that mix Latin and Cyrillic letters"
    if any(len(_find_latin.findall(word)) > 1 for word in _find_disguised.findall(clean)):
        return "a word with letters that only look Latin"
    return None


def _seen(text: str) -> str:
    return text if text.isascii() else _find_hidden.sub("", text)


def _plain(text: str) -> str:
    return text if text.isascii() else _find_styled.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def _without_blobs(text: str) -> str:
    return _find_blob.sub(_marked, text)


def _marked(match: re.Match[str]) -> str:
    """Mark a run that has digits and letters: a ruler has none, and a genome no digits."""
    run = match[0]
    return "<data>" if re.search(r"\d", run) and re.search(r"[A-Za-z]", run) else run
