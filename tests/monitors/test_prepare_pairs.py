"""Takes of pairs held against the takes before them: real images, decoded and prepared as the pipeline does it."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance, ImageFilter
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import write_rows
from datasets_defs.store.takes import finish_take, open_take, takes_of
from monitors.prepare_pairs import compare_take
from tests.training.pairs.conftest import PairSet, photos  # noqa: F401  # a fixture
from tests.training.pairs.made_images import saved, scene, sentence
from training.prepare_pairs import prepare_now

EACH = 60


def compared(engine: Engine, number: int) -> dict[str, Any]:
    """Compare a take, and read what is kept beside its report."""
    said = compare_take({"pairs_set": "photos", "number": number}, db=engine)
    take = takes_of(engine, "photos")[number - 1]
    found = json.loads(Path(f"{str(take.index).rpartition('/')[0]}/drift.json".removeprefix("file://")).read_text())
    assert said == f"photos|{number}: {found['reason']}"
    return found


def dull(seed: int) -> bytes:
    """Give a dark and blurred picture, as a camera out of order would."""
    picture: Image.Image = scene(seed, 128)
    return saved(ImageEnhance.Brightness(picture.filter(ImageFilter.GaussianBlur(6))).enhance(0.35), quality=90)


def taken(engine: Engine, home: Path, number: int, *, brightness: float, words: str) -> str:
    """Write down a take as its join does: 100 pairs of known figures in its index; then compare it."""
    rng = random.Random(number)
    pairs = [
        {"caption": f"{words}{sentence(1_000 * number + at)}", "format": "JPEG", "width": 512, "height": 384,
         "source_width": 800, "source_height": 600, "brightness": rng.gauss(brightness, 0.05),
         "contrast": rng.gauss(0.2, 0.02), "sharpness": rng.gauss(0.1, 0.01)}
        for at in range(100, 200)
    ]  # fmt: skip
    index = f"file://{home}/artifacts/pairs/photos/take-{number:05d}/index.parquet"
    sha256 = write_rows(index, pairs)
    values = {"pairs_set": "photos", "pairs": 100, "batches": 1, "manifest": "-", "manifest_sha256": "-"}
    finish_take(engine, open_take(engine, values, []), kept=100, index=index, index_sha256=sha256)
    return str(compared(engine, number)["condition"])


def test_figures_of_images_and_captions_are_watched(engine: Engine, home: Path):
    """Takes alike are OK; a darker one and one with other captions are BAD, and the columns say which."""
    conditions = [taken(engine, home, number, brightness=0.5, words="") for number in (1, 2, 3)]
    assert conditions == ["NO_DATA", "OK", "OK"]
    assert taken(engine, home, 4, brightness=0.3, words="") == "BAD"
    found = compared(engine, 4)["columns"]
    assert [name for name, column in found.items() if column["drifted"]] == ["image brightness"]
    assert found["image brightness"]["current_mean"] == pytest.approx(0.3, abs=0.02)
    assert taken(engine, home, 5, brightness=0.5, words="INVOICE: amounts due, as agreed. ") == "BAD"
    drifted = [name for name, column in compared(engine, 5)["columns"].items() if column["drifted"]]
    assert any(name.startswith("caption") for name in drifted)
    assert compared(engine, 2)["condition"] == "OK"  # what came later changes no word


@pytest.mark.slow
def test_a_take_is_compared_with_those_before_it(photos: PairSet, engine: Engine):  # noqa: F811
    """Pictures of the same kind are fine; dark, blurred ones are drift of the images, other words of the captions."""
    for start in (100, 200, 300):
        photos.fill(range(start, start + EACH), side=128)
        prepare_now("photos", db=engine)
    for seed in range(500, 500 + EACH):
        photos.put(f"dull-{seed}.jpg", dull(seed), sentence(seed))
    prepare_now("photos", db=engine)
    for seed in range(700, 700 + EACH):
        caption = f"Invoice {seed}: the undersigned licensee shall indemnify the licensor, whatever clause {seed} says."
        photos.put(f"other-{seed}.jpg", saved(scene(seed, 128), quality=90), caption)
    prepare_now("photos", db=engine)
    assert compared(engine, 1)["condition"] == "NO_DATA"
    alike = compared(engine, 3)
    assert (alike["condition"], alike["reference_takes"]) == ("OK", [1, 2]), alike["reason"]
    blurred = compared(engine, 4)
    assert blurred["condition"] == "BAD"
    drifted = {name for name, column in blurred["columns"].items() if column["drifted"]}
    assert {"image brightness", "image sharpness"} <= drifted
    assert not any(name.startswith("caption") for name in drifted)
    assert blurred["reference_takes"] == [1, 2, 3]
    worded = compared(engine, 5)
    assert worded["condition"] == "BAD"
    assert any(column["drifted"] for name, column in worded["columns"].items() if name.startswith("caption"))
    assert not worded["columns"]["image brightness"]["drifted"]


def test_what_cannot_be_compared_is_said(photos: PairSet, engine: Engine):  # noqa: F811
    """A take of which nothing is kept, and one that is not there."""
    photos.put("bad.jpg", b"no image", sentence(1))
    prepare_now("photos", db=engine)
    assert "nothing was kept" in compare_take({"pairs_set": "photos", "number": 1}, db=engine)
    with pytest.raises(ContractError, match="take 7 of photos is not in the table"):
        compare_take({"pairs_set": "photos", "number": 7}, db=engine)
