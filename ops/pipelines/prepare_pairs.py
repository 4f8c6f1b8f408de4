"""Shows that images with captions, drawn for it and shipped by packages, become shards, and bad ones named rows."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.pair_sets import pair_sets_folder
from datasets_defs.store.takes import takes_of
from ops.pipelines.step import PipelineStep, Stage, Told

SET = "demo-pairs"
DRAWN = 120
_SHAPES = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "star": "*", "cross": "X"}
_COLOURS = ("red", "blue", "green", "orange", "purple", "black", "gold", "teal")
_GROUNDS = ("white", "lightgrey", "lavender", "beige", "honeydew")


def run(stage: Stage) -> Told:
    """Put pairs into a folder, run the DAG, and read what became of them.

    Raises:
        ContractError: nothing was kept.
    """
    from training.pairs.join import read_report
    from training.pairs.manifest import take_url

    source = settings().home / "tmp" / SET
    _fill(source)
    pair_sets_folder().mkdir(parents=True, exist_ok=True)
    waits = "settle_seconds: 0\ncaption_seconds: 0\n"
    (pair_sets_folder() / f"{SET}.yaml").write_text(
        f"name: {SET}\nsource: {source}\n{waits}batch_pairs: 50\nimages: {{size: 256}}\n"
    )
    tasks = stage.airflow.run("prepare_pairs", {}, seconds=300)
    takes = [take for take in takes_of(stage.db, SET) if take.kept]
    if not takes:
        raise ContractError(f"{SET}: no pair was kept; see the log of `join` in Airflow")
    report = read_report(takes[-1])
    lost = {reason: count for stage_lost in report["lost"].values() for reason, count in stage_lost.items()}
    figures = {"tasks": tasks, "pairs": report["pairs"], "kept": report["kept"], "lost": lost}
    return Told(figures={**figures, "look at": take_url(takes[-1], "contact-sheet.jpg")}, samples=[*_captions()][:2])


def _fill(source: Path) -> None:
    source.mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(_captions()):
        _draw(source / f"drawn-{number:03}.jpg", number)
        (source / f"drawn-{number:03}.txt").write_text(caption)
    _shipped(source)
    whole = (source / "drawn-000.jpg").read_bytes()
    bad = {"cut.jpg": whole[: len(whole) // 3], "copy.jpg": whole, "page.jpg": b"<html>404</html>", "none.png": b""}
    for name, content in bad.items():
        (source / name).write_bytes(content)
        (source / name).with_suffix(".txt").write_text(f"A pair that is bad on purpose, called {name}")


def _shipped(source: Path) -> None:
    """Copy the photograph that matplotlib brings."""
    import matplotlib as mpl

    for file in (Path(mpl.get_data_path()) / "sample_data").glob("*.jpg"):
        (source / file.name).write_bytes(file.read_bytes())
        (source / file.name).with_suffix(".txt").write_text("A portrait of a computer scientist in uniform")


def _captions() -> Iterator[str]:
    for number in range(DRAWN):
        first, second, ground = _scene(number)
        yield f"A {first[0]} {first[1]} and a {second[0]} {second[1]} on a {ground} ground, drawing number {number}"


def _scene(number: int) -> tuple[tuple[str, str], tuple[str, str], str]:
    rng = random.Random(number)  # noqa: S311 pictures, not secrets
    one, other = ((rng.choice(_COLOURS), rng.choice(list(_SHAPES))) for _ in range(2))
    return one, other, rng.choice(_GROUNDS)


def _draw(path: Path, number: int) -> None:
    from matplotlib.figure import Figure

    rng, (first, second, ground) = random.Random(-number), _scene(number)  # noqa: S311
    figure = Figure(figsize=(4, 4), facecolor=ground)
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for colour, shape in (first, second):
        place, size = (rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)), rng.uniform(3_000, 20_000)
        axes.scatter(*place, s=size, c=colour, marker=_SHAPES[shape])
    figure.savefig(path, dpi=100, facecolor=ground)


STEP = PipelineStep(
    name="prepare_pairs", about="Images with captions, made training data: shards, losses by name, pictures.", run=run
)
