"""The language of a text, by py3langid."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

UNKNOWN = "und"
"""ISO 639's code for a language that is not determined."""
_CHARACTERS, _FEWEST_BYTES, _SURE = 200, 20, 0.5
_STRETCH = 2_000
"""Characters that are searched for words; the middle of a text first, then its beginning."""


def languages(texts: Sequence[str]) -> list[str]:
    """Name the language of each text by its ISO 639 code, judged by 200 characters of words from its middle.

    The middle, since a text may begin with a heading or a greeting that says nothing of the rest; its beginning where
    the middle holds figures instead of words. "und" stands for what is too short or too mixed to tell, "zxx" for what
    is no language. The first call in a process unpacks py3langid's model, which takes half a second.
    """
    return [_language(text) for text in texts]


def _language(text: str) -> str:
    middle = max(0, (len(text) - _STRETCH) // 2)
    for begin in dict.fromkeys((middle, 0)):
        content = _words(text[begin : begin + _STRETCH])
        if len(content) >= _FEWEST_BYTES:
            return _classified(content)
    return UNKNOWN


@lru_cache(maxsize=8192)
def _classified(content: bytes) -> str:
    """Prompts repeat, and a profile describes again what its windows have described; one costs a third of a ms."""
    return str(_identifier().classify(content)[0])


def _words(stretch: str) -> bytes:
    """Give the middle of what has letters, as UTF-8: a script of two or three bytes a letter says more with each."""
    words = " ".join(word for word in stretch.split() if any(map(str.isalpha, word)))
    begin = max(0, (len(words) - _CHARACTERS) // 2)
    return words[begin : begin + _CHARACTERS].encode("utf-8", "replace")


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE)
