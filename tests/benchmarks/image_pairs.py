"""How fast images are prepared on one core, and what memory a take needs as it grows."""

import io
import json
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import Engine

from datasets_defs.spec.pairs import ImagesSpec
from tests.benchmarks.figures import Figure, cpu_seconds, in_child, working_bytes
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import Loop
from training.pairs.codec import Picture, prepare
from training.prepare_pairs import prepare_now

WORDS = ("boat", "river", "stone", "market", "lamp", "garden", "tower", "bridge", "window", "street", "child", "horse")
FOLDER = 1_000
"""Pairs of one folder of the source."""


def speed(images: int, runs: int) -> Iterator[Figure]:
    """Prepare JPEGs of 1024 by 1024 pixels to 512, one after the other on one core; the median of whole passes."""
    files = [photo(number, 1_024) for number in range(images)]
    spec = ImagesSpec(size=512)
    made: list[Any] = []
    prepare(files[0], spec)  # loads the decoders
    ours, bare = [], []
    for _ in range(runs):
        ours.append(cpu_seconds(lambda: made.extend(prepare(file, spec) for file in files)))
        bare.append(cpu_seconds(lambda: [_bare(file) for file in files]))
    yield Figure(name="training.pairs.images", value=images / median(ours), unit="images/s of one core", gate=150)
    yield Figure(name="training.pairs.bare_codec", value=images / median(bare), unit="images/s of one core")
    yield Figure(name="training.pairs.beside_codec", value=median(ours) / median(bare), unit="times")
    yield Figure(name="training.pairs.source_kb", value=sum(map(len, files)) / images / 1e3, unit="kB")
    right = sum(isinstance(each, Picture) and (each.width, each.height) == (512, 512) for each in made)
    yield Figure(name="training.pairs.right", value=right / len(made), unit="share", gate=1, better="same", exact=True)


def _bare(file: bytes) -> int:
    """Decode at half the size and encode, and nothing else: what libjpeg itself takes."""
    with Image.open(io.BytesIO(file)) as image:
        image.draft("RGB", (512, 512))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
    return out.tell()


def memory(small: int, large: int) -> Iterator[Figure]:
    """Prepare a small and a large take, each in a process of its own; compare what they need."""
    taken = {pairs: in_child("tests.benchmarks.image_pairs", pairs, seconds=7_200) for pairs in (small, large)}
    for pairs, found in taken.items():
        yield Figure(name=f"training.pairs.memory_{pairs}_mb", value=found["bytes"] / 2**20, unit="MiB")
        yield Figure(name=f"training.pairs.decoder_{pairs}_mb", value=found["decoder"] / 2**20, unit="MiB")
        yield Figure(name=f"training.pairs.whole_{pairs}", value=pairs / found["seconds"], unit="pairs/s of one core")
        yield Figure(
            name=f"training.pairs.kept_{pairs}",
            value=found["kept"],
            unit="pairs",
            gate=pairs,
            better="same",
            exact=True,
        )
    grown = taken[large]["bytes"] / taken[small]["bytes"]
    yield Figure(name="training.pairs.memory_growth", value=grown, unit="ratio", gate=1.5, better="less")


def photo(number: int, side: int, quality: int = 85) -> bytes:
    """Make a JPEG like a photograph: its detail falls with frequency as that of photographs does, and it has grain."""
    rng = np.random.default_rng(number)
    picture = np.zeros((side, side, 3), dtype=np.float32)
    cells = 4
    while cells <= side // 2:
        grid = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layer = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
        picture += (np.asarray(layer, dtype=np.float32) - 128) * (2.2 / cells**0.5)
        cells *= 4
    picture += 128 + rng.normal(0, 2, (side, side, 1)).astype(np.float32)
    out = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _fill(source: Path, pairs: int) -> None:
    for number in range(pairs):
        folder = source / f"{number // FOLDER:05}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(photo(number, 192))
        rng = np.random.default_rng(number)
        words = " ".join(rng.choice(WORDS, 9))
        (folder / f"{number}.txt").write_text(f"A photograph of {words} {number}")


def _whole(loop: Loop, pairs: int) -> dict[str, Any]:
    source, name = loop.home / "incoming", "photos"
    source.mkdir()
    _fill(source, pairs)
    (loop.home / "models" / "pairs").mkdir()
    yaml = f"name: {name}\nsource: {source}\nsettle_seconds: 0\nimages: {{size: 128}}\nbatch_pairs: 500\n"
    (loop.home / "models" / "pairs" / f"{name}.yaml").write_text(yaml)
    made: list[Any] = []
    began = _seconds()
    taken = working_bytes(lambda: made.extend(prepare_now(name, db=loop.db)))
    return {"bytes": taken, "decoder": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            "seconds": _seconds() - began, "kept": _kept(loop.db, name)}  # fmt: skip


def _kept(db: Engine, name: str) -> int:
    from datasets_defs.store.takes import takes_of

    return sum(take.kept or 0 for take in takes_of(db, name))


def _seconds() -> float:
    used: Sequence[Any] = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return float(sum(each.ru_utime + each.ru_stime for each in used))


if __name__ == "__main__":
    with fresh_loop() as _loop:
        _found = _whole(_loop, int(sys.argv[1]))
    sys.stdout.write(json.dumps(_found) + "\n")
