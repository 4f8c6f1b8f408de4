"""Scores models on frozen rows: champion, challenger, a former champion, and the cases whose answer is known."""

import gc
import hashlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datasets_defs.spec.model import ModelSpec
from training.judge.frozen_rows import Rows, clusters, slices
from training.judge.gate import Archived, Protected
from training.judge.metrics import Answer, Scores, compared
from training.judge.paired import Pair
from training.judge.self_tests import SelfTests
from training.model.language_model import LanguageModel
from training.model.sampling import Loss
from training.registry.manifest import MANIFEST

SCORED_AT_ONCE = 64
"""Texts between two ticks."""
TESTED = 24
"""Old texts that the self-tests are made with."""
NOISE = 4.0
"""Of the damaged copy, in standard deviations of each matrix."""
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


def measure(spec: ModelSpec, rows: Rows, folders: Folders, *, overlap: int, prompts: bool, tick: Tick) -> Measured:
    """Score everything, one model in memory at a time."""
    texts = rows.texts
    # what the champion knows: on text that it does not, noise can make it less surely wrong, and so cheaper
    known = rows.numbers("old") or rows.numbers("recent")
    sample = sorted(known, key=lambda each: _hash(texts[each]))[:TESTED]
    tested = [texts[number] for number in sample][::-1]
    asked = _asked(rows, spec.evaluation.generate)
    began = time.perf_counter()
    model = LanguageModel.load(folders.champion)
    old = score(model, texts, _part(tick, "champion", 0.0, 0.4))
    speed = len(texts) / max(time.perf_counter() - began, 1e-9)
    tokens = _tokens(model, texts)
    again = score(model, tested, tick=_part(tick, "champion again", 0.4, 0.42))[::-1]
    old_answers = complete(model, asked, spec, _part(tick, "champion writes", 0.42, 0.5))
    damage(model)
    damaged = score(model, tested, tick=_part(tick, "damaged copy", 0.5, 0.52))[::-1]
    del model
    _release()
    model = LanguageModel.load(folders.challenger)
    new = score(model, texts, _part(tick, "challenger", 0.52, 0.85))
    new_answers = complete(model, asked, spec, _part(tick, "challenger writes", 0.85, 0.9))
    heads = [str(row["prompt"]) for row in rows.rows] if prompts else []
    losses = score(model, heads, _part(tick, "prompts", 0.9, 0.95))
    perplexity = Scores(champion=_perplexity(old, tokens), challenger=_perplexity(new, _tokens(model, texts)))
    del model
    _release()
    names = clusters(rows.rows)
    pairs = [Pair(a.bits, b.bits, a.bytes, name) for a, b, name in zip(old, new, names, strict=True)]
    first = [old[number] for number in sample]
    scores = {"perplexity": perplexity, **compared(old_answers, new_answers, spec.evaluation)}
    return Measured(
        pairs=pairs,
        prompts=losses,
        self_tests=SelfTests(
            again=[Pair(a.bits, b.bits, a.bytes) for a, b in zip(first, again, strict=True)],
            damaged=[Pair(a.bits, b.bits, a.bytes) for a, b in zip(first, damaged, strict=True)],
            same_weights=weights_of(folders.champion) == weights_of(folders.challenger),
            overlap=overlap,
        ),
        archived=_archived(rows, folders, pairs, tick),
        metrics=scores,
        documents_per_second=speed,
    )


def protected(spec: ModelSpec, rows: Rows, pairs: Sequence[Pair]) -> list[Protected]:
    """Give the golden set and the slices with their limits."""
    gate, found = spec.gate, []
    if golden := rows.numbers("golden"):
        found.append(
            Protected(
                name="golden",
                pairs=[pairs[number] for number in golden],
                max_loss_share=gate.max_loss_share,
                min_documents=gate.min_documents,
            )
        )
    for each in slices(rows.rows, spec.evaluation.slices):
        limit = each.spec.max_loss_share
        found.append(
            Protected(
                name=each.name,
                pairs=[pairs[number] for number in each.numbers],
                max_loss_share=gate.max_loss_share if limit is None else limit,
                min_documents=each.spec.min_documents,
                required=each.required,
            )
        )
    return found


def score(model: LanguageModel, texts: Sequence[str], tick: Callable[[float], None] = lambda _: None) -> list[Loss]:
    """Give what each text costs, in the order given; texts of like length are scored together."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    losses: dict[int, Loss] = {}
    for at in range(0, len(order), SCORED_AT_ONCE):
        numbers = order[at : at + SCORED_AT_ONCE]
        losses |= dict(zip(numbers, model.losses([texts[number] for number in numbers]), strict=True))
        tick(len(losses) / len(texts))
    return [losses[number] for number in range(len(texts))]


def complete(
    model: LanguageModel, asked: Sequence[Mapping[str, Any]], spec: ModelSpec, tick: Callable[[float], None]
) -> list[Answer]:
    """Let a model continue prompts by the likeliest tokens; where a prompt fills the context, the answer is empty."""
    answers = []
    for row in asked:
        prompt = str(row["prompt"])
        room = model.context - 1 - len(model.encode(prompt))
        began = time.perf_counter()
        made = model.complete(prompt, max_tokens=min(room, spec.evaluation.max_new_tokens)) if room > 0 else None
        answers.append(
            Answer(
                prompt=prompt,
                reference=str(row["reference"]),
                completion=made.text if made else "",
                tokens=made.completion_tokens if made else 0,
                seconds=time.perf_counter() - began,
            )
        )
        tick(len(answers) / len(asked))
    return answers


def damage(model: LanguageModel) -> None:
    """Add noise to a model's matrices in place, the same every time."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.network.parameters():
            if weights.dim() > 1:
                noise = torch.randn(weights.shape, generator=source) * NOISE
                weights.add_(noise.to(weights) * weights.std())


def weights_of(folder: Path) -> dict[str, str]:
    """Give the hashes of a registered model's weights, by file."""
    files = json.loads((folder / MANIFEST).read_text())["files"]
    return {name: str(each["sha256"]) for name, each in files.items() if name.endswith(".safetensors")}


def closest(recent: Sequence[str], profiles: Mapping[int, Sequence[str]]) -> int | None:
    """Give the version whose texts are most like the recent ones: least Jensen-Shannon divergence of their words."""
    wanted = _shares(recent)
    distances = {version: _divergence(wanted, _shares(texts)) for version, texts in profiles.items() if texts}
    return min(distances, key=lambda version: (distances[version], -version), default=None)


def _tokens(model: LanguageModel, texts: Sequence[str]) -> int:
    return sum(len(model.encode(text)) for text in texts)


def _perplexity(losses: Sequence[Loss], tokens: int) -> float:
    """Give the perplexity per token of all rows: for people, and comparable with one tokenizer only."""
    return float(2 ** min(1000.0, sum(loss.bits for loss in losses) / max(1, tokens)))


def _archived(rows: Rows, folders: Folders, pairs: Sequence[Pair], tick: Tick) -> Archived | None:
    if folders.archived is None:
        return None
    version, folder = folders.archived
    numbers, texts = rows.numbers("recent"), rows.texts
    losses = score(
        LanguageModel.load(folder), [texts[number] for number in numbers], _part(tick, f"version {version}", 0.95, 1)
    )
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


def _part(tick: Tick, words: str, begin: float, end: float) -> Callable[[float], None]:
    return lambda share: tick(words, begin + share * (end - begin))


def _shares(texts: Sequence[str]) -> dict[str, float]:
    counts = Counter(word for text in texts for word in re.findall(r"\w+", text.lower()))
    total = counts.total() or 1
    return {word: count / total for word, count in counts.items()}


def _divergence(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    total = 0.0
    for word in one.keys() | two.keys():
        a, b = one.get(word, 0.0), two.get(word, 0.0)
        total += sum(share * math.log2(2 * share / (a + b)) for share in (a, b) if share)
    return total / 2


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
