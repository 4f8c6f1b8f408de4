"""Finds the earlier prompts that lie nearest to a text: exactly, by pgvector where PostgreSQL has it, else by numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.prompt_vectors import (
    Neighbour,
    count_indexed,
    has_pgvector,
    nearest_by_pgvector,
    prompts_of_requests,
    vector_blocks,
)
from monitors.similar.spaces import PromptSpace, Unit

CANDIDATES = 20
"""Requests that are looked at for each text that is wanted, since one text is asked many times."""
_HEAD, _CELL = 20, 8
"""Bytes of an array of one dimension as PostgreSQL sends it: its head, then four of length and four of value each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPrompt:
    """A text that users asked, as near as its nearest request."""

    prompt: str
    """Redacted, as it is for training."""
    similarity: float
    request_id: str
    """Of its newest request among those found."""
    at: datetime
    version: int | None
    times: int
    """Requests with this text among those found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """What lies near a text, the nearest first."""

    prompts: tuple[SimilarPrompt, ...]
    searched: int
    """Prompts that were compared."""
    elsewhere: int
    """Prompts that were indexed by other means and cannot be compared."""
    means: str
    """By what they were compared, in words."""

    def summary(self, model: str) -> str:
        """Say in words what was compared, and what to do where that was nothing."""
        if not self.searched and not self.elsewhere:
            return f"no prompt of {model} is indexed; watch_drift indexes each window that it has judged"
        sentence = f"the nearest of {self.searched:,} indexed prompts, by {self.means}"
        if not self.prompts:
            sentence = f"the log holds none of the nearest of {self.searched:,} indexed prompts any more"
        if self.elsewhere:
            sentence += f"; {self.elsewhere:,} were indexed by other means and are not compared"
        return sentence


def similar_to(db: Engine, spec: ModelSpec, text: str, within: Window, *, count: int) -> Similar:
    """Give the texts of users that lie nearest to a text; it is redacted as they are.

    What the log does not hold any more is left out.

    Raises:
        ContractError: the text is blank, or the embedding model is wrong.
        TransientError: PostgreSQL is away.
    """
    if not text.strip():
        raise ContractError('the text is blank; give a prompt, or a part of one, such as "refund for an order"')
    space, indexed = PromptSpace.of(spec), count_indexed(db, spec.name, within)
    asked = space.vectors(clean_texts([text], spec.data.redact))[0]
    neighbours = nearest(db, spec.name, space.name, asked, within, most=CANDIDATES * count)
    return Similar(
        prompts=tuple(_as_texts(db, spec, neighbours)[:count]),
        searched=indexed.pop(space.name, 0),
        elsewhere=sum(indexed.values()),
        means=space.means,
    )


def nearest(db: Engine, model: str, space: str, asked: Unit, within: Window, *, most: int) -> list[Neighbour]:
    """Give the requests whose prompts lie nearest, newer ones first among equals.

    Raises:
        ContractError: a stored vector has another length.
        TransientError: PostgreSQL is away.
    """
    if has_pgvector(db):
        return nearest_by_pgvector(db, model, space, asked.tolist(), within, most=most)
    return nearest_by_numpy(db, model, space, asked, within, most=most)


def nearest_by_numpy(db: Engine, model: str, space: str, asked: Unit, within: Window, *, most: int) -> list[Neighbour]:
    """Compare with every vector here, some thousands in memory at a time."""
    best: list[Neighbour] = []
    for requests, sent in vector_blocks(db, model, space, within):
        scores = numbers(sent, len(asked)) @ asked
        neighbours = [
            Neighbour(request_id=requests[at][0], at=requests[at][1], similarity=float(scores[at]))
            for at in _highest(scores, most)
        ]
        best = sorted([*best, *neighbours], key=_order)[:most]
    return best


def _order(neighbour: Neighbour) -> tuple[float, float, str]:
    return -neighbour.similarity, -neighbour.at.timestamp(), neighbour.request_id


def numbers(sent: Sequence[bytes], width: int) -> Unit:
    """Read arrays of `real` as PostgreSQL sends them.

    Raises:
        ContractError: one has another length.
    """
    size = _HEAD + _CELL * width
    if wrong := [len(vector) for vector in sent if len(vector) != size]:
        raise ContractError(f"a vector of {(wrong[0] - _HEAD) // _CELL} numbers stands in a space of {width}")
    cells = np.frombuffer(b"".join(sent), dtype=np.uint8).reshape(len(sent), size)[:, _HEAD:]
    values = np.ascontiguousarray(cells.reshape(len(sent), width, _CELL)[:, :, 4:])
    made: Unit = values.view(">f4").reshape(len(sent), width).astype(np.float32)
    return made


def _highest(scores: Unit, most: int) -> list[int]:
    """Give the places of the highest scores, all of those that are as high as the last."""
    if len(scores) <= most:
        return [*range(len(scores))]
    least = np.partition(scores, len(scores) - most)[len(scores) - most]
    return [int(at) for at in np.flatnonzero(scores >= least)]


def _as_texts(db: Engine, spec: ModelSpec, neighbours: Sequence[Neighbour]) -> list[SimilarPrompt]:
    """Read what the found requests asked, and put those that asked the same together."""
    similarity = {(neighbour.request_id, neighbour.at): neighbour.similarity for neighbour in neighbours}
    logged = prompts_of_requests(db, spec.name, [*similarity])
    by_text: dict[str, list[int]] = {}
    for number, text in enumerate(clean_texts([row.prompt for row in logged], spec.data.redact)):
        by_text.setdefault(text, []).append(number)
    texts = []
    for text, those in by_text.items():
        newest = max((logged[number] for number in those), key=lambda logged_row: logged_row.at)
        nearness = max(similarity[logged[number].request_id, logged[number].at] for number in those)
        texts.append(
            SimilarPrompt(
                prompt=text, similarity=nearness, request_id=newest.request_id, at=newest.at, version=newest.version,
                times=len(those),
            )
        )  # fmt: skip
    return sorted(texts, key=lambda prompt: (-prompt.similarity, -prompt.at.timestamp()))
