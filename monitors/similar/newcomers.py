"""Says what new kinds of prompts are about, and whether something like them was asked before: once an incident."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import HarmKind, Incident
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.inference_log import first_day_kept
from datasets_defs.store.prompt_vectors import prompts_of_requests, vector_blocks
from datasets_defs.store.verdicts import recent_verdicts
from monitors.counts.kinds import NEW, Kinds, words_of
from monitors.profiles.profile import profile_of
from monitors.similar.nearest import nearest, numbers
from monitors.similar.spaces import PromptSpace, Unit

LEAST = 5
"""New prompts of which something is said; fewer may be any odd ones."""
EARLIER = 3
"""Earlier prompts that have to lie as near as the new ones' own, for the topic to count as asked before."""
_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier prompt that lies nearest to new ones."""

    at: datetime
    similarity: float
    kind: str
    """Of which kind of the reference it is, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomers:
    """What new kinds of prompts are about."""

    words: str
    new: int
    sampled: int
    own: float
    """How near the core of them lies to its middle at least: cosine."""
    earlier: tuple[Earlier, ...]
    """The nearest first."""

    @property
    def was_asked(self) -> bool:
        """Say whether some earlier prompts lie as near as the new ones' own core does."""
        return len(self.earlier) >= EARLIER and self.earlier[EARLIER - 1].similarity >= self.own

    @property
    def reason(self) -> str:
        """Say it in words."""
        start = (
            f"{self.new} of {self.sampled} sampled prompts are like no kind of the reference; most are about "
            f"“{self.words}”"
        )
        if not self.earlier:
            return f"{start}; no earlier prompt is indexed"
        first = self.earlier[0]
        when = f"the nearest earlier one, of {first.at:%Y-%m-%d %H:%M}Z, is of {first.kind}"
        if self.was_asked:
            return f"{start}; the like was asked before: {when}, and as near ({first.similarity:.2f}) as they are"
        return f"{start}; nothing as near was asked before: {when} ({first.similarity:.2f}; their own {self.own:.2f})"

    def plain(self) -> dict[str, Any]:
        """Give it as JSON can hold it; no text and no request is named."""
        nearest_ones = [
            {"at": prompt.at.isoformat(), "similarity": round(prompt.similarity, 4), "kind": prompt.kind}
            for prompt in self.earlier
        ]
        return {
            "words": self.words, "new": self.new, "sampled": self.sampled, "own": round(self.own, 4),
            "was_asked": self.was_asked, "earlier": nearest_ones,
        }  # fmt: skip


def core_of(vectors: Unit) -> tuple[Unit, np.ndarray[Any, np.dtype[np.bool_]], float]:
    """Give the middle of the nearer half of vectors, which that half is, and how near the farthest of it lies. Pure.

    A few odd prompts are always like none of the reference; the nearer half is the topic, if there is one.
    """
    inside = np.ones(len(vectors), dtype=bool)
    middle, near = vectors[0], np.ones(len(vectors), dtype=np.float32)
    for _ in range(_ROUNDS):
        mean = vectors[inside].mean(axis=0)
        middle = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
        near = vectors @ middle
        inside = near >= np.median(near)
    return middle, inside, float(near[inside].min())


def name_newcomers(db: Engine, spec: ModelSpec, *, window: Window, actor: str) -> Newcomers | None:
    """Append to an open incident, once, what the new kinds of prompts are about that harm; None where there is nothing.

    Raises:
        ContractError: the profile is damaged, or the embedding model is wrong.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    incident = ledger.open_of(spec.name)
    if incident is None:
        return None
    loss = recent_verdicts(db, spec.name, "loss", until=window.end, count=1)
    if not loss or loss[0].window != window or loss[0].evidence.get("harm") != HarmKind.NEW:
        return None
    champion = ledger.champion(spec.name)
    profile = profile_of(db, champion, at=window.start) if champion is not None else None
    if profile is None or profile.encoding.kinds is None or _is_told(ledger, incident):
        return None
    since = min(incident.degraded_since, window.start)
    named = newcomers(db, spec, profile.encoding.kinds, Window(since, window.end))
    if named is not None:
        _tell(ledger, incident, named, actor=actor)
        reached("similar.named")
    return named


def _tell(ledger: Ledger, incident: Incident, named: Newcomers, *, actor: str) -> None:
    """Append it to the incident as it is by now, unless somebody did, or the incident has ended meanwhile."""
    with ledger.transaction() as on:
        now = ledger.open_of(incident.model, connection=on, lock=True)
        if now is None or now.id != incident.id:
            return
        with ledger.locked(incident.model, on):
            if not _is_told(ledger, incident):
                ledger.note(
                    incident.model, EventKind.TOPIC_NAMED, named.reason, named.plain(), actor=actor, incident=now,
                    connection=on,
                )  # fmt: skip


def newcomers(db: Engine, spec: ModelSpec, kinds: Kinds, within: Window) -> Newcomers | None:
    """Say what the indexed prompts of some windows are about that are of no known kind; None for too few.

    Raises:
        ContractError: the embedding model is wrong.
        TransientError: PostgreSQL is away.
    """
    space = PromptSpace.of(spec)
    width = space.vectors(["a"]).shape[1]
    requests: list[tuple[str, datetime]] = []
    parts: list[Unit] = []
    for of_block, sent in vector_blocks(db, spec.name, space.name, within):
        requests += of_block
        parts.append(numbers(sent, width))
    logged = prompts_of_requests(db, spec.name, requests)
    if not logged:
        return None
    at = {request: number for number, request in enumerate(requests)}
    vectors = np.concatenate(parts)[[at[row.request_id, row.at] for row in logged]]
    texts = clean_texts([row.prompt for row in logged], spec.data.redact)
    groups = kinds.of(texts)
    new = np.flatnonzero(groups == NEW)
    if len(new) < LEAST:
        return None
    middle, inside, own = core_of(vectors[new])
    marked = np.zeros(len(texts), dtype=np.int64)
    marked[new[inside]] = 1
    before = Window(min(first_day_kept(within.end), within.start - within.length), within.start)
    neighbours = nearest(db, spec.name, space.name, middle, before, most=2 * EARLIER)
    return Newcomers(
        words=words_of(texts, marked, 1),
        new=len(new),
        sampled=len(texts),
        own=own,
        earlier=_with_kinds(
            db, spec, kinds, [((neighbour.request_id, neighbour.at), neighbour.similarity) for neighbour in neighbours]
        ),
    )


def _with_kinds(
    db: Engine, spec: ModelSpec, kinds: Kinds, likenesses: Sequence[tuple[tuple[str, datetime], float]]
) -> tuple[Earlier, ...]:
    """Say of which kind each found prompt is; those that the log lost meanwhile are left out."""
    similarity = dict(likenesses)
    logged = prompts_of_requests(db, spec.name, [*similarity])
    groups = kinds.of(clean_texts([row.prompt for row in logged], spec.data.redact)).tolist()
    return tuple(
        Earlier(at=row.at, similarity=similarity[row.request_id, row.at], kind=kinds.name(group))
        for row, group in zip(logged, groups, strict=True)
    )


def _is_told(ledger: Ledger, incident: Incident) -> bool:
    told = ledger.events_of(incident.model, EventKind.TOPIC_NAMED)
    return any(event.incident_id == incident.id for event in told)
