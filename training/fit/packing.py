"""Documents packed into rows of tokens, several in a row, so that next to nothing is computed on padding."""

import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from datasets_defs.core.errors import ContractError
from training.model.language_model import LanguageModel

IGNORED = -100
"""Target of a place that nothing is learned at."""
ENCODED_AT_ONCE = 1000
"""Documents given to the tokenizer together."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Packed documents, row by row; each tensor is rows by length."""

    inputs: torch.Tensor
    targets: torch.Tensor
    """The token that follows each input in its own document; `IGNORED` where a row is filled up."""
    positions: torch.Tensor
    """Place of each input in its own document: counting begins anew with each, which parts their attention."""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def length(self) -> int:
        """Places in a row."""
        return self.inputs.shape[1]

    @property
    def filled_share(self) -> float:
        """Share of the places that something is learned at, 0..1."""
        return float((self.targets != IGNORED).float().mean())

    def take(self, chosen: Sequence[int]) -> "PackedRows":
        """Give some of the rows, as far as the fullest of them is filled, as indices of int64."""
        targets = self.targets[chosen].long()
        used = int((targets != IGNORED).any(0).nonzero().max()) + 1
        return PackedRows(
            self.inputs[chosen, :used].long(), targets[:, :used].contiguous(), self.positions[chosen, :used].long()
        )


def pack(
    model: LanguageModel, documents: Iterable[str], *, length: int, seed: int = 0, together: bool = True
) -> PackedRows:
    """Pack documents into rows of `length` tokens, in an order that depends on the seed alone.

    Each document stands between the start and the end token. One that is longer is cut into consecutive pieces as the
    scoring cuts it, so that a model is trained as it is judged. Without `together`, each piece has a row of its own:
    for models that cannot part documents in one row.

    Raises:
        ContractError: the documents hold no text.
    """
    # as arrays: a list of Python's numbers takes nine times the memory
    pieces = [
        torch.tensor(piece, dtype=torch.int32)
        for ids in _encoded(model, documents)
        for piece in _cut(model, ids, length)
    ]
    if not pieces:
        raise ContractError("the training documents hold no text; nothing can be learned from them")
    random.Random(f"{seed}/pack").shuffle(pieces)
    bins = best_fit([len(piece) - 1 for piece in pieces], length) if together else [[i] for i in range(len(pieces))]
    inputs = torch.full((len(bins), length), model.end, dtype=torch.int32)
    targets = torch.full((len(bins), length), IGNORED, dtype=torch.int32)
    positions = torch.zeros((len(bins), length), dtype=torch.int32)
    for row, members in enumerate(bins):
        at = 0
        for piece in (pieces[member] for member in members):
            end = at + len(piece) - 1
            inputs[row, at:end], targets[row, at:end] = piece[:-1], piece[1:]
            positions[row, at:end] = torch.arange(end - at, dtype=torch.int32)
            at = end
    return PackedRows(inputs, targets, positions)


def best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items into bins, each into the fullest one that still holds it; give the items' places bin by bin. Pure."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # free places and number of each bin that is not full, in order
    for item, size in enumerate(sizes):
        index = bisect_left(room, (size, -1))
        if index < len(room):
            free, number = room.pop(index)
        else:
            free, number = capacity, len(bins)
            bins.append([])
        bins[number].append(item)
        if free > size:
            insort(room, (free - size, number))
    return bins


def parts_documents(model: LanguageModel) -> bool:
    """Say whether the network keeps documents of one row apart: what stands before must not change what follows."""
    other, one = [model.start, *range(1, 6)], [model.start, *range(6, 12)]
    device = model.network.device
    was_training = model.network.training
    model.network.eval()
    try:
        with torch.inference_mode():
            alone = model.network(torch.tensor([one], device=device), use_cache=False).logits[0]
            row = torch.tensor([[*other, *one]], device=device)
            places = torch.tensor([[*range(len(other)), *range(len(one))]], device=device)
            packed = model.network(row, position_ids=places, use_cache=False).logits[0, len(other) :]
    except (TypeError, ValueError):  # it takes no positions
        return False
    finally:
        model.network.train(was_training)
    return bool(torch.allclose(alone, packed, rtol=1e-3, atol=1e-3))


def _encoded(model: LanguageModel, documents: Iterable[str]) -> Iterable[list[int]]:
    waiting: list[str] = []
    for text in documents:
        if text.strip():
            waiting.append(text)
        if len(waiting) == ENCODED_AT_ONCE:
            yield from model.encode_all(waiting)
            waiting = []
    if waiting:
        yield from model.encode_all(waiting)


def _cut(model: LanguageModel, ids: list[int], length: int) -> Iterable[list[int]]:
    for at in range(0, len(ids), length - 1):
        last = at + length - 1 >= len(ids)
        yield [model.start, *ids[at : at + length - 1], *([model.end] if last else [])]
