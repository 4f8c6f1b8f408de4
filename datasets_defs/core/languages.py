"""The language of a text, by py3langid."""

from collections.abc import Sequence
from functools import cache
from typing import Any

UNKNOWN = "und"
"""ISO 639's code for a language that is not determined."""
_CHARACTERS, _FEWEST_BYTES, _SURE = 200, 20, 0.5


def languages(texts: Sequence[str]) -> list[str]:
    """Name the language of each text by its ISO 639 code, judged by 200 characters of its middle.

    The middle, since a text may begin with a heading or a greeting that says nothing of the rest. "und" stands for
    what is too short or too mixed to tell, "zxx" for what is no language. The first call in a process unpacks the
    model that py3langid brings along, which takes half a second.
    """
    return [_language(text) for text in texts]


def _language(text: str) -> str:
    begin = max(0, (len(text) - _CHARACTERS) // 2)
    content = text[begin : begin + _CHARACTERS].encode("utf-8", "replace")  # scripts of 2 or 3 bytes a letter say more
    return UNKNOWN if len(content) < _FEWEST_BYTES else str(_identifier().classify(content)[0])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE)
