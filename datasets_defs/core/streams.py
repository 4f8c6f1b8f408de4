"""Streams of the inference log: a model's live traffic stands under its name, its batches beside it. Pure."""

from collections.abc import Mapping
from typing import Any

BATCH_PURPOSE = "batch_inference"
"""What a request of a batch says in `metadata.purpose`."""
_BATCH = "@batch"


def batch_stream(model: str) -> str:
    """Name the stream of a model's batches: no model can be called so."""
    return model + _BATCH


def stream_of(model: str, attributes: Mapping[str, Any] | None) -> str:
    """Name the stream that a request belongs to, by what it says of itself."""
    return batch_stream(model) if (attributes or {}).get("purpose") == BATCH_PURPOSE else model


def model_of(stream: str) -> str:
    """Name the model that a stream is of."""
    return stream.removesuffix(_BATCH)
