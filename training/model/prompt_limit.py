"""What holds of a tokenizer: how long a text can be that fits a context, and that no call changes it."""

import math
from typing import Any

from datasets_defs.core.errors import ContractError


def longest_token(tokenizer: Any) -> float:
    """Give the bytes of the vocabulary's longest token; infinite where an unknown word of any length is one token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    keeps_bytes = tokenizer.unk_token is None or getattr(getattr(backend, "model", None), "byte_fallback", False)
    return max((len(token.encode()) for token in tokenizer.get_vocab()), default=1) if keeps_bytes else math.inf


def require_short(prompt: str, most_bytes: float, context: int) -> None:
    """Refuse a prompt that cannot fit the context by its bytes alone, before it is cut into tokens.

    Raises:
        ContractError: it is too long.
    """
    if (size := len(prompt.encode("utf-8", "replace"))) > most_bytes:
        raise ContractError(
            f"prompt of {size} bytes; the model's context of {context} tokens holds at most {most_bytes:.0f} bytes"
        )


def still(tokenizer: Any, name: str) -> Any:
    """Give a tokenizer that no call changes: it neither cuts, fills nor reads control tokens.

    Raises:
        ContractError: it has no token that a text begins with.
    """
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ContractError(
            f"model {name}: its tokenizer has neither BOS nor EOS, so first tokens cannot be scored; name them in "
            "tokenizer_config.json"
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # set once: changing it per call is not safe between threads
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
    return tokenizer
