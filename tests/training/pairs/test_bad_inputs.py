"""Bad inputs end as named rows: none crashes anything, and none is lost in silence."""

import os
from collections import Counter
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.spec.pairs import ImagesSpec
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.takes import takes_of
from tests.training.pairs.bad_pairs import bad_pairs
from tests.training.pairs.conftest import PairSet
from tests.training.pairs.made_images import saved, scene, sentence
from training.pairs.apart import Decoder
from training.pairs.codec import Picture
from training.pairs.join import read_report
from training.pairs.manifest import take_url
from training.prepare_pairs import prepare_now

STRICT = {
    "images": {"max_bytes": 2_000_000},
    "captions": {"languages": ["en", "und"], "blocked": ["forbidden phrase"]},
}


def test_forty_bad_inputs_end_as_named_rows(photos: PairSet, engine: Engine):
    """Each bad pair is lost for the reason it has, the good ones among them are kept, and the sums agree."""
    photos.describe(**STRICT)
    bad = bad_pairs()
    for name, content, caption, _ in bad:
        photos.put(name, content, caption)
    (photos.source / "lonely.txt").write_text(sentence(900))
    photos.fill(range(1_000, 1_005))
    photos.put("copy.jpg", (photos.source / "01000.jpg").read_bytes(), sentence(901))
    photos.put("near.png", saved(scene(1_001), "PNG"), sentence(902))
    expected = {name: reason for name, _, _, reason in bad}
    expected |= {"lonely.txt": "no image", "near.png": "near duplicate of another image"}
    expected |= {"copy.jpg": "same file as another"}
    (joined,) = prepare_now("photos", db=engine)
    (take,) = takes_of(engine, "photos")
    lost = {row["key"]: row["reason"] for row in read_rows(take_url(take, "lost.parquet"))}
    copies = {"01000.jpg", "copy.jpg"}  # which of two same files comes first is the order of their names
    assert {name: reason for name, reason in lost.items() if name not in copies} == {
        name: reason for name, reason in expected.items() if name not in copies
    }
    assert [lost[name] for name in copies if name in lost] == ["same file as another"]
    assert len(bad) >= 30
    report = read_report(take)
    assert (report["pairs"], report["kept"]) == (len(bad) + 8, 5)
    counted = Counter(lost.values())
    assert Counter({reason: count for stage in report["lost"].values() for reason, count in stage.items()}) == counted
    assert joined.reason.startswith(f"photos|1: 5 of {len(bad) + 8} pairs prepared; lost: ")


def test_a_decoder_that_dies_costs_one_image(monkeypatch, tmp_path: Path):
    """A decoder killed by an image, as by a crash in C, loses that image alone; the next one is prepared."""
    with Decoder(ImagesSpec()) as decoder:
        assert isinstance(decoder.prepare(saved(scene(1))), Picture)
        os.kill(decoder._child.pid, 9)
        assert decoder.prepare(saved(scene(2))).reason == "kills its decoder"
        assert isinstance(decoder.prepare(saved(scene(3))), Picture)


def test_a_decoder_that_hangs_is_ended(monkeypatch):
    """An image that takes longer than the YAML's seconds is lost, and the next one is prepared."""
    with Decoder(ImagesSpec(max_seconds=2)) as decoder:
        assert isinstance(decoder.prepare(saved(scene(1))), Picture)
        os.kill(decoder._child.pid, 19)  # stopped: it answers nothing
        assert decoder.prepare(saved(scene(2))).reason == "takes too long"
        assert isinstance(decoder.prepare(saved(scene(3))), Picture)
