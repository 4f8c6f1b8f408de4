"""Takes: what is new is taken once, what was killed goes on, what changed is taken again, and all of it adds up."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.settings import ROOT
from datasets_defs.store.artifacts import read_rows, url_sha256
from datasets_defs.store.takes import takes_of
from tests.training.pairs.conftest import PairSet
from tests.training.pairs.made_images import saved, scene, sentence
from training.pairs.join import read_report
from training.pairs.manifest import take_url
from training.prepare_pairs import announce, open_takes, prepare_now

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

POINTS = ("pairs.listed", "pairs.opened", "pairs.pictures", "pairs.joined", "pairs.finished")


def prepare_in_a_process(database_url: str, kill_at: str = "") -> int:
    """Prepare the set in a process of its own, which may be killed at a point; give its exit code."""
    program = (
        "from datasets_defs.store.database import engine\n"
        "from training.prepare_pairs import prepare_now\n"
        "prepare_now('photos', db=engine())\n"
    )
    environment = {**os.environ, "DRIFTLOOP_DATABASE_URL": database_url, KILL_AT: kill_at}
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=False).returncode


def files_of(home: Path) -> dict[str, tuple[str, int]]:
    """Give each file below the artifacts with its hash and when it was written."""
    found = sorted(path for path in (home / "artifacts").rglob("*") if path.is_file())
    return {str(path.relative_to(home)): (url_sha256(str(path)), path.stat().st_mtime_ns) for path in found}


def members(url: str) -> dict[str, bytes]:
    """Read a shard."""
    with tarfile.open(url.removeprefix("file://")) as shard:
        return {member.name: shard.extractfile(member).read() for member in shard}  # type: ignore[union-attr]


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_and_run_again(photos: PairSet, engine: Engine, database_url: str, point: str):
    """One take, each pair once, no batch prepared twice, and the bytes of a run that nobody killed."""
    photos.describe(batch_pairs=3, shards={"pairs": 4})
    photos.fill(range(8), side=96)
    assert prepare_in_a_process(database_url, point) == -signal.SIGKILL
    before = files_of(photos.home)
    done = {name for name in before if name.endswith(".parquet") and ("/images/" in name or "/captions/" in name)}
    prepare_now("photos", db=engine)
    (take,) = takes_of(engine, "photos")
    assert (take.pairs, take.kept, take.batches) == (8, 8, 3)
    after = files_of(photos.home)
    assert {name: after[name] for name in done} == {name: before[name] for name in done}  # not written again
    report = read_report(take)
    assert [shard["pairs"] for shard in report["shards"]] == [4, 4]
    keys = Counter(name for shard in report["shards"] for name in members(shard["url"]))
    assert len(keys) == 24
    assert set(keys.values()) == {1}
    assert len([name for name in after if "/index-" in name]) == 1
    assert len([name for name in after if "/manifests/" in name]) == 1


def test_what_is_new_is_taken_once(photos: PairSet, engine: Engine):
    """A second look finds nothing; new files make a second take; a file that changed is new, and replaces its first."""
    photos.fill(range(3))
    prepare_now("photos", db=engine)
    assert prepare_now("photos", db=engine) == []
    photos.fill(range(3, 5))
    photos.put("00001.jpg", saved(scene(77)), sentence(77))
    (joined,) = prepare_now("photos", db=engine)
    assert joined.reason == "photos|2: 3 of 3 pairs prepared"
    rows = read_rows(str(takes_of(engine, "photos")[1].index))
    assert {row["key"]: row["replaces"] for row in rows} == {"00001.jpg": 1, "00003.jpg": None, "00004.jpg": None}


def test_what_was_kept_before_is_known(photos: PairSet, engine: Engine):
    """A near duplicate of an earlier take's image is lost, and the reason names that pair."""
    photos.fill(range(3))
    prepare_now("photos", db=engine)
    photos.put("again.webp", saved(scene(2), "WEBP"), sentence(500))
    (joined,) = prepare_now("photos", db=engine)
    assert joined.ring is None
    (lost,) = read_rows(take_url(takes_of(engine, "photos")[1], "lost.parquet"))
    assert (lost["reason"], lost["detail"]) == ("near duplicate of another image", "pair 2 of take 1")


def test_captions_that_many_share(photos: PairSet, engine: Engine):
    """A caption may come as often as the YAML says, or nearly the same one."""
    photos.describe(captions={"copies": 2})
    for number in range(5):
        photos.put(f"{number}.jpg", saved(scene(number)), f"A view of the old harbour at dusk{'!' * number}")
    prepare_now("photos", db=engine)
    assert read_report(takes_of(engine, "photos")[0])["lost"] == {"duplicate": {"caption of many": 3}}


def test_halves_wait_for_each_other(photos: PairSet, engine: Engine):
    """An image waits for its caption, and nothing is taken that may still be written to."""
    photos.describe(caption_seconds=3_600)
    photos.put("alone.jpg", saved(scene(1)))
    (photos.source / "words.txt").write_text(sentence(2))
    assert open_takes(["photos"], db=engine) == []
    (photos.source / "alone.txt").write_text(sentence(1))
    (joined,) = prepare_now("photos", db=engine)
    assert joined.reason == "photos|1: 1 of 1 pairs prepared"
    photos.describe(settle_seconds=600, caption_seconds=3_600)
    photos.fill(range(10, 11))
    assert prepare_now("photos", db=engine) == []


def test_a_take_is_gone_on_with_until_its_event_is_out(photos: PairSet, engine: Engine):
    """Prepared by hand, it is announced by the next run of the DAG, and only then done with."""
    photos.fill(range(2))
    prepare_now("photos", db=engine)
    (named,) = open_takes(["photos"], db=engine)
    assert announce(named, db=engine) == "photos|1 is done with"
    assert open_takes(["photos"], db=engine) == []


def test_a_take_is_prepared_by_the_yaml_that_opened_it(photos: PairSet, engine: Engine):
    """A YAML that changes between two tasks changes the next take, not half of this one."""
    photos.describe(images={"size": 64})
    photos.fill(range(2), side=128)
    open_takes(["photos"], db=engine)
    photos.describe(images={"size": 100})
    prepare_now("photos", db=engine)
    rows = read_rows(str(takes_of(engine, "photos")[0].index))
    assert {row["width"] for row in rows} == {64}


def test_webdataset_reads_its_shards(photos: PairSet, engine: Engine):
    """The webdataset library reads image, caption and facts of each pair."""
    photos.fill(range(5))
    prepare_now("photos", db=engine)
    (shard,) = read_report(takes_of(engine, "photos")[0])["shards"]
    program = (
        "import json, sys, webdataset\n"
        "samples = webdataset.WebDataset(sys.argv[1], shardshuffle=False).decode('pil')\n"
        "print(json.dumps([[s['__key__'], s['jpg'].size, s['txt'], s['json']['source']] for s in samples]))\n"
    )
    path = shard["url"].removeprefix("file://")
    said = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True).stdout
    samples = json.loads(said.splitlines()[-1])
    assert [sample[2] for sample in samples] == [sentence(number) for number in range(5)]
    assert [sample[1] for sample in samples] == [[256, 256]] * 5
    assert [sample[3] for sample in samples] == [f"{number:05}.jpg" for number in range(5)]
    assert url_sha256(shard["url"]) == shard["sha256"]


def test_parquet_holds_the_same(photos: PairSet, engine: Engine):
    """With `shards.format: parquet` each pair is a row with its picture, caption and token ids."""
    photos.describe(shards={"format": "parquet"}, captions={"max_tokens": 7})
    photos.fill(range(5))
    prepare_now("photos", db=engine)
    (shard,) = read_report(takes_of(engine, "photos")[0])["shards"]
    rows: list[dict[str, Any]] = pq.read_table(shard["url"].removeprefix("file://")).to_pylist()
    assert [row["caption"] for row in rows] == [sentence(number) for number in range(5)]
    assert bytes(rows[0]["tokens"]).decode() == sentence(0)[:7]
    assert Image.open(io.BytesIO(rows[0]["image"])).size == (256, 256)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: photos\n", "field source: Field required"),
        ("name: other\nsource: x\n", "name is 'other'; it must equal the file's name, 'photos'"),
        ("name: photos\nsource: x\nimages: {resize: stretch}\n", "field images.resize"),
        ("name: photos\nsource: x\nsauce: y\n", "field sauce"),
        ("- a\n", "expected a mapping of fields, found list"),
        ("name: photos\nsource: nowhere://x\n", "cannot be opened"),
        ("name: photos\nsource: /nowhere/at/all\n", "is not there; correct the path"),
        ("name: photos\nsource: .\nimages: {blocked: /nowhere}\n", "nothing is prepared past it"),
        ("name: photos\nsource: .\ncaptions: {tokenizer: /nowhere}\n", "no tokenizer.json that can be read"),
    ],
)
def test_a_wrong_yaml_is_said(photos: PairSet, engine: Engine, text: str, said: str):
    """Each mistake is one sentence that names the place."""
    photos.fill(range(1), side=64)
    path = photos.home / "models" / "pairs" / "photos.yaml"
    path.write_text(text.replace("source: .", f"source: {photos.source}\nsettle_seconds: 0"))
    with pytest.raises(ContractError) as raised:
        prepare_now("photos", db=engine)
    assert said in str(raised.value)
