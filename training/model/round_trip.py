"""Whether a tokenizer is the one that a model was trained with: its numbers fit, and texts come back as they were."""

from collections.abc import Sequence
from typing import Any

from datasets_defs.core.errors import ContractError

PROBES = (
    'The quick brown fox jumps over the lazy dog; 0123456789, (a + b) * c = "d"?',
    "def f(x):\n    return [y for y in x if y is not None]  # five words of comment\n",
)
"""Texts that every tokenizer has to give back whole: bits per byte count what it loses as if it had been predicted."""
HARD_PROBES = (
    *PROBES,
    "don't WON'T we'll 1234567 3.14159 2026-11-28T00:00:00Z",
    "cafe\u0301 na\u00efve \uff21\uff22 \u5b57\u7b26 \u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600",
    "  leading, trailing\t\ttabs \n\n\nand lines  ",
)
"""Texts that tokenizers of different classes cut differently: contractions, digits, composed letters, white space."""


def require_fitting_tokens(tokenizer: Any, rows: int, name: str) -> None:
    """Hold the tokenizer's highest number against the rows of the embeddings.

    Raises:
        ContractError: a text could have a number that has no row.
    """
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= rows:
        raise ContractError(
            f"model {name}: its tokenizer gives numbers up to {highest}, and its embeddings have {rows} rows; resize "
            "them (`resize_token_embeddings`), or save the tokenizer that the model was trained with"
        )


def require_whole_texts(tokenizer: Any, name: str) -> None:
    """Read texts and write them again.

    Raises:
        ContractError: something of them was lost.
    """
    for text in PROBES:
        back = tokenizer.decode(_numbers(tokenizer, text), clean_up_tokenization_spaces=False)
        if back.strip() != text.strip():
            raise ContractError(
                f"model {name}: its tokenizer gives {text.strip()[:40]!r} back as {back.strip()[:40]!r}; one that "
                "loses text makes a model look better than it is. Save the tokenizer that the model was trained with"
            )


def require_same_tokens(tokenizer: Any, plain: Any, name: str) -> None:
    """Hold a tokenizer of the class that its configuration names against one that is its tokenizer.json and no more.

    Raises:
        ContractError: the class puts something of its own in the place of what the file says.
    """
    for text in HARD_PROBES:
        by_class, by_file = _numbers(tokenizer, text), _numbers(plain, text)
        if by_class != by_file:
            raise ContractError(
                f"model {name}: its `tokenizer_class` {type(tokenizer).__name__} reads {text.strip()[:24]!r} as "
                f"{_some(by_class)}, and its tokenizer.json says {_some(by_file)}; servers differ in which they take. "
                "Set `tokenizer_class` to PreTrainedTokenizerFast in tokenizer_config.json if the model was trained "
                "with the file's tokens, else save the tokenizer again"
            )


def _numbers(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (" …" if len(numbers) > 5 else "")
