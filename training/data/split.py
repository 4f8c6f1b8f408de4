"""Which rows are trained on, which validate, and which judge."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from training.prepare.checks import Record

MOST_SHARE, FEWEST_SHARE = 1.5, 0.8
"""How many times the wanted documents whole users may bring to the held-out side."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Fresh documents, held out and to train on."""

    holdout: list[Record]
    train: list[Record]
    how: str
    apart: frozenset[str] = frozenset()
    """Users who are held out, where users are kept on one side."""


def split(records: Sequence[Record], spec: ModelSpec, *, of: int) -> Sides:
    """Hold out the newest of some distinct documents, by whole users where the log knows them. Pure.

    Held out is the spec's share, or what the gate needs if that is more, at most half. Of users, those who came last
    are held out first, so that what is held out is new and nobody stands on both sides; documents without a user stand
    for themselves. Where users are too few for that the newest documents are held out, whoever's they are.

    Raises:
        ContractError: nothing would be left to train on.
    """
    newest = sorted(records, key=lambda record: (-_at(record), stable_hash(record.text)))
    held = math.ceil(max(spec.retrain.holdout_share * len(newest), min(spec.gate.min_documents, len(newest) / 2)))
    if held >= len(newest):
        raise ContractError(
            f"{of} fresh documents leave {len(newest)} new distinct texts, of which {held} are held out; "
            "nothing is left to train on"
        )
    by_time = Sides(newest[:held], newest[held:], "the newest documents are held out")
    users = {name for record in newest if (name := _person(record, spec)) is not None}
    if spec.data.split == "time" or not users:
        return by_time
    chosen = _last_users(newest, held, spec)
    holdout = [record for record in newest if _group(record, spec) in chosen]
    if len(holdout) < FEWEST_SHARE * held:
        how = f"{by_time.how}: with {len(users)} users nobody can be kept on one side"
        return Sides(by_time.holdout, by_time.train, how)
    train = [record for record in newest if _group(record, spec) not in chosen]
    how = f"users who came last are held out with all they wrote; {len(users)} users are known"
    return Sides(
        holdout, train, how, frozenset(document.user_id for document in holdout if document.user_id is not None)
    )


def _last_users(newest: Sequence[Record], held: int, spec: ModelSpec) -> set[str]:
    groups: dict[str, list[Record]] = {}
    for record in newest:
        groups.setdefault(_group(record, spec), []).append(record)
    most = max(held, min(MOST_SHARE * held, len(newest) / 2))
    chosen: set[str] = set()
    count = 0
    for name, group in sorted(
        groups.items(), key=lambda item: (-min(map(_at, item[1])), stable_hash(item[1][-1].text))
    ):
        if count >= held:
            break
        if count + len(group) <= most:
            chosen.add(name)
            count += len(group)
    return chosen


def _group(record: Record, spec: ModelSpec) -> str:
    name = _person(record, spec)
    return f"request {record.request_id}" if name is None else f"user {name}"


def _person(record: Record, spec: ModelSpec) -> str | None:
    """Name whose a document is: its contributor, if from outside, who may give users any names; else its user."""
    outside = record.contributor is not None and not spec.trust.is_trusted(record.contributor)
    return record.contributor if outside else record.user_id


def _at(record: Record) -> float:
    return record.at.timestamp() if record.at is not None else 0.0


def stable_hash(text: str) -> str:
    """Give a hash that is the same in every process and release, to order and draw by."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
