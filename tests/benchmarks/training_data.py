"""How fast a corpus becomes training data on one core, and what memory that takes as the corpus grows."""

import json
import random
import re
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from datasets_defs.redaction.names import Names
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import DataSpec, SourceSpec
from datasets_defs.store.documents import Document
from ops.demo.texts import DOMAINS
from tests.benchmarks.figures import Figure, cpu_seconds, in_child, working_bytes
from training.data.freeze import freeze
from training.prepare.phrases import SIZE

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WITHOUT: dict[str, Any] = {"near_duplicates": None, "languages": None}
"""What the quick preparation leaves out."""
ALL: dict[str, Any] = {}
MOST_ALIKE = 100
"""Lines with a phrase in common, of some ninety thousand."""


def speed(megabytes: int, runs: int) -> Iterator[Figure]:
    """Prepare the same JSONL with and without the costly filters; each figure is a median over whole preparations."""
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as name:
        file = _corpus(Path(name), megabytes)
        size = file.stat().st_size / 1e6
        _prepared(_corpus(Path(name), 1), ALL)  # loads the language model and the patterns
        reports: list[dict[str, Any]] = []
        for what, data, gate in (("plain", WITHOUT, 20), ("full", ALL, 4)):
            seconds = [cpu_seconds(lambda data=data: reports.append(_prepared(file, data))) for _ in range(runs)]  # type: ignore[misc]
            yield Figure(name=f"training.data.{what}", value=size / median(seconds), unit="MB/s", gate=gate)
        corpus = reports[-1]["sources"]["corpus"]
        yield Figure(name="training.data.kept", value=corpus["kept"] / corpus["rows"], unit="share")
        overlap = max(report["overlap"] for report in reports)
        yield Figure(name="training.data.overlap", value=overlap, unit="rows", gate=0, better="same", exact=True)


def memory(small: int, large: int) -> Iterator[Figure]:
    """Freeze a small and a large corpus and read what is learned from, each in a process of its own; compare memory."""
    module = "tests.benchmarks.training_data"
    taken = {size: in_child(module, size) for size in (small, large)}
    for size, found in taken.items():
        yield Figure(name=f"training.data.memory_{size}_mb", value=found["bytes"] / 2**20, unit="MiB")
        yield Figure(name=f"training.data.full_{size}_mb", value=size / found["seconds"], unit="MB/s")
    grown = taken[large]["bytes"] / taken[small]["bytes"]
    yield Figure(name="training.data.memory_growth", value=grown, unit="ratio", gate=1.25, better="less")


def _prepared(corpus: Path, data: dict[str, Any], *, read: bool = False) -> dict[str, Any]:
    """Freeze a corpus, and maybe read it as a training does; give the report."""
    source = SourceSpec(name="corpus", url=str(corpus))
    spec = ModelSpec(
        name="m", base_model="x", training_text="builtin:python-docs", data=DataSpec(sources=(source,), **data)
    )
    log = [
        Document(request_id=f"r{number}", at=NOW + timedelta(seconds=number), prompt="Say: ", reference=_made(number))
        for number in range(200)
    ]
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as name:
        snapshot = freeze(log, [], uri=f"file://{name}/snapshot.parquet", spec=spec, names=Names(b"bench"))
        if read:
            deque(snapshot.mixture(spec.retrain)[0], maxlen=0)
        return snapshot.report or {}


def _corpus(folder: Path, megabytes: int) -> Path:
    """Make a corpus of so many megabytes: documents of 0.5 to 4 kB, of real lines in an order of their own."""
    file = folder / f"{megabytes}.jsonl"
    size, number = 0, 1_000
    with file.open("w", encoding="utf-8") as out:
        while size < megabytes * 1_000_000:
            line = json.dumps({"text": _made(number), "id": str(number)}, ensure_ascii=False) + "\n"
            out.write(line)
            size, number = size + len(line.encode()), number + 1
    return file


def _made(number: int) -> str:
    rng = random.Random(number)
    lines = _lines()
    wanted, text = rng.randrange(500, 4_000), f"{rng.getrandbits(64):x} {rng.getrandbits(64):x}"
    while len(text) < wanted:
        text += f"\n{rng.choice(lines)}"
    return text


@cache
def _lines() -> list[str]:
    """Give distinct lines of real text, without those that say what many others do: a phrase is an injection here."""
    every = [line for domain in DOMAINS.values() for text in domain() for line in text.splitlines() if len(line) > 30]
    lines = list(dict.fromkeys(every))
    said = [_phrases(line) for line in lines]
    counts = Counter(phrase for phrases in said for phrase in phrases)
    return [
        line for line, phrases in zip(lines, said, strict=True) if all(counts[each] <= MOST_ALIKE for each in phrases)
    ]


def _phrases(line: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", line.lower())
    return {tuple(words[at : at + SIZE]) for at in range(len(words) - SIZE + 1)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as _name:
        _prepared(_corpus(Path(_name), 1), ALL, read=True)
        _file = _corpus(Path(_name), int(sys.argv[1]))
        _seconds: list[float] = []
        _taken = working_bytes(lambda: _seconds.append(cpu_seconds(lambda: _prepared(_file, ALL, read=True))))
    sys.stdout.write(json.dumps({"bytes": _taken, "seconds": _seconds[0]}) + "\n")
