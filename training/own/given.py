"""What a team's own trainer is given: rows as Parquet and as JSON lines, folders, a seed; the judge's rows never."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_defs.spec.model import ModelSpec
from training.data.snapshot import MAX_REPLAY_SHARE, Snapshot, text_of

FRESH, REPLAY, VALIDATION = ("train", "corpus"), ("replay",), ("validation",)
"""Parts of a snapshot that are learned from, and that say when to stop; `holdout` judges and is never given."""
_TOGETHER = 1_000
_SCHEMA = pa.schema([(name, pa.string()) for name in ("part", "request_id", "prompt", "reference")])
_MARK = "complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What one training is given."""

    data: Path
    """Folder with `train` and, where the YAML asks for validation rows, `validation`.

    Each as `.parquet` (part, request_id, prompt, reference), `.jsonl` (prompt, completion), `.chat.jsonl` (messages).
    """
    champion: Path
    """Folder of the version that it starts from."""
    output: Path
    """Where the model, or a LoRA adapter of the champion, is to be saved; empty at first."""
    checkpoints: Path
    """Folder that survives its death: what stands there when it begins is its own."""
    seed: int
    gpus: int
    max_seconds: float
    """It is ended after so many seconds, over all its runs."""

    @property
    def places(self) -> dict[str, object]:
        """Give everything by the name that the YAML's `run` knows it by."""
        return {
            "data": self.data,
            "champion": self.champion,
            "output": self.output,
            "checkpoints": self.checkpoints,
            "seed": self.seed,
            "gpus": self.gpus,
            "max_seconds": f"{self.max_seconds:g}",
        }

    @property
    def variables(self) -> dict[str, str]:
        """Give the same as variables of the environment, for scripts that take no arguments."""
        told = {f"DRIFTLOOP_{name.upper()}": str(value) for name, value in self.places.items()}
        return told | {"PYTHONUNBUFFERED": "1"}


def given_for(spec: ModelSpec, snapshot: Snapshot, champion: Path, folder: Path) -> Given:
    """Write what a training is given below its folder; rows that stand there whole stay."""
    given = Given(
        data=folder / "data",
        champion=champion,
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        seed=spec.retrain.seed,
        gpus=spec.gpus,
        max_seconds=spec.retrain.max_seconds,
    )
    for path in (given.data, given.output, given.checkpoints):
        path.mkdir(parents=True, exist_ok=True)
    if not (given.data / _MARK).exists():
        _write(given.data, "train", _to_learn(snapshot, spec.retrain.replay_share))
        _write(given.data, "validation", snapshot.rows(*VALIDATION))
        (given.data / _MARK).touch()
    return given


def _to_learn(snapshot: Snapshot, replay_share: float) -> Iterator[dict[str, Any]]:
    """Give the rows to learn from, each once: fresh ones, then as many older ones as make the share of the bytes.

    The loop's own trainer repeats fresh rows and needs more older ones. How often this one repeats them is its affair.
    """
    share = min(replay_share, MAX_REPLAY_SHARE)
    learned = 0
    for row in snapshot.rows(*FRESH):
        learned += len(text_of(row).encode())
        yield row
    wanted = learned * share / (1 - share)
    for row in snapshot.rows(*REPLAY):
        if wanted <= 0:
            return
        wanted -= len(text_of(row).encode())
        yield row


def _write(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows in the three forms; no file without a row."""
    batches = _batches(iter(rows))
    first = next(batches, None)
    if first is None:
        return
    with (
        pq.ParquetWriter(folder / f"{name}.parquet", _SCHEMA, compression="zstd") as table,
        (folder / f"{name}.jsonl").open("w", encoding="utf-8") as lines,
        (folder / f"{name}.chat.jsonl").open("w", encoding="utf-8") as chats,
    ):
        while first:
            rows_of = [{name: row[name] for name in _SCHEMA.names} for row in first]
            table.write_table(pa.Table.from_pylist(rows_of, _SCHEMA))
            for row in first:
                _write_row(row, lines, chats)
            first = next(batches, None)


def _write_row(row: dict[str, Any], lines: IO[str], chats: IO[str]) -> None:
    prompt, answer = row["prompt"] or "", row["reference"] or ""
    turns = [{"role": "user", "content": prompt}] if prompt else []
    turns.append({"role": "assistant", "content": answer})
    lines.write(json.dumps({"prompt": prompt, "completion": answer}, ensure_ascii=False) + "\n")
    chats.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while some := list(islice(rows, _TOGETHER)):
        yield some
