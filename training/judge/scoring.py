"""Scores models on frozen rows: champion, challenger, a former champion, and the cases whose answer is known."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets_defs.spec.model import ModelSpec
from training.judge.frozen_rows import Rows, clusters, slices
from training.judge.gate import Archived, Protected
from training.judge.kinds import ModelKind, ModelKinds
from training.judge.metrics import Answer, Scores, compared
from training.judge.paired import Pair
from training.judge.passes import complete, damage, perplexity, release, score, score_backwards, tokens_of
from training.judge.sayings import SaidByBoth, WrittenByBoth
from training.judge.self_tests import SelfTests
from training.judge.spoken import Chances, Probes, chances, said_by, written_by
from training.model.language_model import LanguageModel
from training.model.sampling import Loss
from training.registry.manifest import MANIFEST

TESTED = 24
"""Old texts that the self-tests are made with."""
HUNDREDTHS = {
    "champion": 38,
    "champion again": 2,
    "champion writes": 8,
    "champion says": 2,
    "damaged copy": 2,
    "challenger": 31,
    "challenger writes": 5,
    "challenger says": 2,
    "prompts": 5,
    "former champion": 5,
}
"""What is measured, in turn, and about how many hundredths of the time each takes."""
Tick = Callable[[str, float], None]
"""Told what is being done and how far it is, 0..1, every few texts; may raise to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the models' files are."""

    champion: Path
    challenger: Path
    archived: tuple[int, Path] | None = None
    """A former champion, with its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was measured."""

    pairs: list[Pair]
    """One per frozen row."""
    prompts: list[Loss]
    """Of the challenger; empty unless asked for."""
    self_tests: SelfTests
    archived: Archived | None
    metrics: dict[str, Scores]
    documents_per_second: float
    kinds: ModelKinds | None = None
    """What both models are."""
    said: list[SaidByBoth] = field(default_factory=list)
    """How likely both are to say what fresh references repeat."""
    written: list[WrittenByBoth] = field(default_factory=list)
    """How often both write, on ordinary prompts, what nobody wrote before."""


def measure(
    spec: ModelSpec, rows: Rows, folders: Folders, *, overlap: int, prompts: bool, probes: Probes, tick: Tick
) -> Measured:
    """Score everything, one model in memory at a time."""
    work = _Work(
        spec=spec,
        texts=rows.texts,
        tested=_tested(rows),
        asked=_asked(rows, spec.evaluation.generate),
        prompts=[str(row["prompt"]) for row in rows.rows] if prompts else [],
        probes=probes,
        tick=tick,
    )
    champion = _champion(folders.champion, work)
    release()
    challenger = _challenger(folders.challenger, work)
    release()
    names = clusters(rows.rows)
    pairs = [
        Pair(a.bits, b.bits, a.bytes, name)
        for a, b, name in zip(champion.losses, challenger.losses, names, strict=True)
    ]
    first = [champion.losses[number] for number in work.tested]
    per_token = Scores(champion=champion.perplexity, challenger=challenger.perplexity)
    return Measured(
        pairs=pairs,
        prompts=challenger.prompts,
        self_tests=SelfTests(
            again=_pairs(first, champion.again),
            damaged=_pairs(first, champion.damaged),
            same_weights=weights_of(folders.champion) == weights_of(folders.challenger),
            overlap=overlap,
        ),
        archived=_archived(rows, folders, pairs, tick),
        metrics={"perplexity": per_token, **compared(champion.answers, challenger.answers, spec.evaluation)},
        documents_per_second=champion.documents_per_second,
        kinds=ModelKinds(champion=champion.kind, challenger=challenger.kind),
        said=said_by(probes, champion.chances, challenger.chances),
        written=written_by(probes, champion.chances, challenger.chances),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What each model is given."""

    spec: ModelSpec
    texts: Sequence[str]
    """Of all frozen rows."""
    tested: Sequence[int]
    """Places of the texts that the self-tests are made with."""
    asked: Sequence[Mapping[str, Any]]
    """Rows to be completed."""
    prompts: Sequence[str]
    """Prompts to be scored by themselves."""
    probes: Probes
    tick: Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChampionScores:
    """What the champion's passes gave."""

    losses: list[Loss]
    """Of all texts."""
    again: list[Loss]
    """Of the tested texts, a second time."""
    damaged: list[Loss]
    """Of the tested texts, by the damaged copy."""
    answers: list[Answer]
    chances: Chances
    perplexity: float
    documents_per_second: float
    kind: ModelKind


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChallengerScores:
    """What the challenger's passes gave."""

    losses: list[Loss]
    """Of all texts."""
    answers: list[Answer]
    chances: Chances
    prompts: list[Loss]
    perplexity: float
    kind: ModelKind


def _champion(folder: Path, work: _Work) -> _ChampionScores:
    """Score the champion, and then, on a few texts, itself once more and a damaged copy."""
    began = time.perf_counter()
    model = LanguageModel.load(folder)
    losses = score(model, work.texts, _stage(work.tick, "champion"))
    speed = len(work.texts) / max(time.perf_counter() - began, 1e-9)
    tokens = tokens_of(model, work.texts)
    tested, kind = [work.texts[number] for number in work.tested], ModelKind.of(model)
    again = score_backwards(model, tested, _stage(work.tick, "champion again"))
    answers = complete(model, work.asked, work.spec, _stage(work.tick, "champion writes"))
    spoken = chances(model, work.probes, _stage(work.tick, "champion says"))
    damage(model)
    return _ChampionScores(
        losses=losses,
        again=again,
        damaged=score_backwards(model, tested, _stage(work.tick, "damaged copy")),
        answers=answers,
        chances=spoken,
        perplexity=perplexity(losses, tokens),
        documents_per_second=speed,
        kind=kind,
    )


def _challenger(folder: Path, work: _Work) -> _ChallengerScores:
    """Score the challenger."""
    model = LanguageModel.load(folder)
    losses = score(model, work.texts, _stage(work.tick, "challenger"))
    return _ChallengerScores(
        losses=losses,
        answers=complete(model, work.asked, work.spec, _stage(work.tick, "challenger writes")),
        chances=chances(model, work.probes, _stage(work.tick, "challenger says")),
        prompts=score(model, work.prompts, _stage(work.tick, "prompts")),
        perplexity=perplexity(losses, tokens_of(model, work.texts)),
        kind=ModelKind.of(model),
    )


def protected(spec: ModelSpec, rows: Rows, pairs: Sequence[Pair]) -> list[Protected]:
    """Give the golden set and the slices with their limits."""
    gate, parts = spec.gate, []
    if golden := rows.numbers("golden"):
        parts.append(
            Protected(
                name="golden",
                pairs=[pairs[number] for number in golden],
                max_loss_share=gate.max_loss_share,
                min_documents=gate.min_documents,
            )
        )
    for slice_rows in slices(rows.rows, spec.evaluation.slices):
        limit = slice_rows.spec.max_loss_share
        parts.append(
            Protected(
                name=slice_rows.name,
                pairs=[pairs[number] for number in slice_rows.numbers],
                max_loss_share=gate.max_loss_share if limit is None else limit,
                min_documents=slice_rows.spec.min_documents,
                required=slice_rows.required,
            )
        )
    return parts


def weights_of(folder: Path) -> dict[str, str]:
    """Give the hashes of a registered model's weights, by file."""
    files = json.loads((folder / MANIFEST).read_text())["files"]
    return {name: str(file["sha256"]) for name, file in files.items() if name.endswith(".safetensors")}


def _archived(rows: Rows, folders: Folders, pairs: Sequence[Pair], tick: Tick) -> Archived | None:
    if folders.archived is None:
        return None
    version, folder = folders.archived
    numbers, texts = rows.numbers("recent"), rows.texts
    told = _stage(tick, "former champion", f"version {version}")
    losses = score(LanguageModel.load(folder), [texts[number] for number in numbers], told)
    return Archived(
        version=version,
        pairs=[
            Pair(pairs[number].challenger_bits, loss.bits, loss.bytes, pairs[number].cluster)
            for number, loss in zip(numbers, losses, strict=True)
        ],
    )


def _asked(rows: Rows, count: int) -> list[dict[str, Any]]:
    """Choose recent and golden rows to be completed, the same every time."""
    able = [row for row in rows.rows if row["slice"] != "old" and str(row["prompt"]).strip()]
    return sorted(able, key=lambda row: _hash(f"{row['prompt']}{row['reference']}"))[:count]


def _tested(rows: Rows) -> list[int]:
    """Choose the texts that the self-tests are made with, the same every time.

    They are what the champion knows: on text that it does not, noise can make it less surely wrong, and so cheaper.
    """
    known = rows.numbers("old") or rows.numbers("recent")
    return sorted(known, key=lambda number: _hash(rows.texts[number]))[:TESTED]


def _pairs(first: Sequence[Loss], second: Sequence[Loss]) -> list[Pair]:
    return [Pair(a.bits, b.bits, a.bytes) for a, b in zip(first, second, strict=True)]


def _stage(tick: Tick, stage: str, words: str = "") -> Callable[[float], None]:
    """Give the tick of one stage: it is told the stage's share, 0..1, and tells the share of the whole."""
    stages = list(HUNDREDTHS)
    begin = sum(HUNDREDTHS[earlier] for earlier in stages[: stages.index(stage)])
    return lambda share: tick(words or stage, (begin + share * HUNDREDTHS[stage]) / 100)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
