"""The frozen rows of one training attempt: fresh documents split in two, and older ones against forgetting."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_defs.artifacts import exists, read_bytes, read_rows, write_rows
from datasets_defs.errors import ContractError
from datasets_defs.inference_log import Document
from datasets_defs.models import ModelSpec, RetrainSpec

MAX_BYTES = 256 * 1024
"""A longer document is taken for a mistake."""
MAX_REJECTED_SHARE = 0.2
"""Share of invalid documents above which the data counts as broken."""
MAX_REPLAY_SHARE = 0.9


class DataBreakError(ContractError):
    """The fresh documents are broken: nothing may be trained on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Frozen rows, as stored."""

    uri: str
    """Parquet with columns `part` (train, replay, holdout), `request_id`, `prompt`, `reference`."""
    sha256: str
    rows: list[dict[str, Any]]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each part has."""
        return dict(Counter(str(row["part"]) for row in self.rows))

    def mixture(self, spec: RetrainSpec) -> tuple[list[str], float]:
        """Give the texts to train on and the epochs over them: each fresh one as often as the spec's epochs say.

        Replayed texts stand beside several copies of the fresh ones, so that the share holds while few of them come
        twice: the more different old texts are seen, the less is forgotten.
        """
        fresh = [text_of(row) for row in self.rows if row["part"] == "train"]
        replay = [text_of(row) for row in self.rows if row["part"] == "replay"]
        share = min(spec.replay_share, MAX_REPLAY_SHARE)
        if not replay or not share:
            return fresh, spec.epochs
        size, old = sum(map(len, fresh)), sum(map(len, replay))
        copies = max(1, round(old * (1 - share) / (share * size)))
        return fresh * copies + replay, spec.epochs / copies

    @property
    def holdout(self) -> list[dict[str, Any]]:
        """The fresh rows kept for the evaluation."""
        return [row for row in self.rows if row["part"] == "holdout"]


def text_of(row: dict[str, Any]) -> str:
    """Give a row's prompt and reference as one text."""
    return str(row["prompt"]) + str(row["reference"])


def stored(uri: str) -> Snapshot | None:
    """Read a snapshot that was frozen earlier; None when there is none."""
    if not exists(uri):
        return None
    sha256 = hashlib.sha256(read_bytes(uri)).hexdigest()
    return Snapshot(uri=uri, sha256=sha256, rows=read_rows(uri, sha256))


def freeze(
    documents: Sequence[Document],
    replay: Iterable[dict[str, Any]],
    *,
    uri: str,
    spec: ModelSpec,
    keep_out: Collection[str] = (),
) -> Snapshot:
    """Assemble the rows of an attempt and store them; the same input gives the same hash.

    A snapshot that stands there already is given as it is: a training that resumes goes on with its own rows.

    Raises:
        DataBreakError: too many of the documents are invalid.
        ContractError: nothing is left to train on.
    """
    if (present := stored(uri)) is not None:
        return present
    rows = assemble(documents, replay, spec=spec, keep_out=keep_out)
    return Snapshot(uri=uri, sha256=write_rows(uri, rows), rows=rows)


def assemble(
    documents: Sequence[Document], replay: Iterable[dict[str, Any]], *, spec: ModelSpec, keep_out: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Give the rows of an attempt. Pure: arrival order does not matter, and no text stands on two sides.

    Every text is taken once, as of when it first came, and those in `keep_out` (the rows that judge the champion) not
    at all. The newest are held out: they look most like what a challenger would serve, and not like the hour in which
    the shift began. Held out is the spec's share of them, or what the gate needs if that is more, at most half.
    Replayed rows are drawn for the spec's share of all the bytes that its epochs go through, as far as there are
    enough.
    """
    fresh = _valid(documents)
    forbidden = set(keep_out)
    unique = {each.text: each for each in sorted(fresh, key=lambda each: (each.at, each.request_id), reverse=True)}
    texts = sorted(unique.keys() - forbidden, key=lambda text: (-unique[text].at.timestamp(), _hash(text)))
    wanted = max(spec.retrain.holdout_share * len(texts), min(spec.gate.min_documents, len(texts) / 2))
    held = math.ceil(wanted)
    if held >= len(texts):
        raise ContractError(
            f"{len(documents)} fresh documents leave {len(texts)} new distinct texts, of which {held} are held out; "
            "nothing is left to train on"
        )
    parts = ["holdout"] * held + ["train"] * (len(texts) - held)
    rows = [_row(part, unique[text]) for part, text in zip(parts, texts, strict=True)]
    size = sum(len(text.encode()) for text in texts[held:])
    share = min(spec.retrain.replay_share, MAX_REPLAY_SHARE)
    passes = max(1.0, spec.retrain.epochs)
    return rows + _draw(replay, passes * size * share / (1 - share), forbidden | set(texts), spec.retrain.seed)


def _valid(documents: Sequence[Document]) -> list[Document]:
    problems: Counter[str] = Counter()
    good = []
    for document in documents:
        if not document.prompt.strip():
            problems["empty prompt"] += 1
        elif not document.reference.strip():
            problems["empty reference"] += 1
        elif len(document.text.encode()) > MAX_BYTES:
            problems[f"longer than {MAX_BYTES} bytes"] += 1
        else:
            good.append(document)
    rejected = problems.total()
    if documents and rejected / len(documents) > MAX_REJECTED_SHARE:
        found = ", ".join(f"{count} with {problem}" for problem, count in problems.most_common())
        raise DataBreakError(
            f"{rejected} of {len(documents)} fresh documents are invalid ({found}); "
            f"at most {MAX_REJECTED_SHARE:.0%} may be: the feed of references is broken"
        )
    return good


def _draw(replay: Iterable[dict[str, Any]], size: float, known: set[str], seed: int) -> list[dict[str, Any]]:
    candidates = {text_of(row): row for row in replay if row["part"] != "holdout"}
    drawn: list[dict[str, Any]] = []
    for text in sorted(candidates.keys() - known, key=lambda text: _hash(f"{seed}/{text}")):
        if size <= 0:
            break
        drawn.append(
            {**{name: candidates[text][name] for name in ("request_id", "prompt", "reference")}, "part": "replay"}
        )
        size -= len(text.encode())
    return [{"part": row.pop("part"), **row} for row in drawn]


def _row(part: str, document: Document) -> dict[str, Any]:
    return {
        "part": part,
        "request_id": document.request_id,
        "prompt": document.prompt,
        "reference": document.reference,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
