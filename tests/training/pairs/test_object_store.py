"""A set whose source and artifacts are an object store, through s3fs: an S3 that answers on a port (moto)."""

from collections.abc import Iterator

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.store.artifacts import exists
from datasets_defs.store.takes import takes_of
from ops.stack.ports import free_port
from tests.training.pairs.conftest import PairSet
from tests.training.pairs.made_images import saved, scene, sentence
from training.pairs.join import read_report
from training.prepare_pairs import prepare_now

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it


@pytest.fixture
def bucket(photos: PairSet, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """A bucket that holds the set's source and the loop's artifacts."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "DRIFTLOOP_ARTIFACT_ROOT": "s3://bucket/artifacts",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    fsspec.filesystem("s3").clear_instance_cache()
    store = fsspec.filesystem("s3")
    store.makedirs("bucket", exist_ok=True)  # moto keeps its buckets from test to test
    photos.describe(source="s3://bucket/in", batch_pairs=3)
    yield store
    store.clear_instance_cache()
    server.stop()


def test_from_an_object_store_to_an_object_store(bucket: fsspec.AbstractFileSystem, photos: PairSet, engine: Engine):
    """New keys alone are taken, whatever folder they lie in; a key that was written anew is new; shards go back."""
    for number in range(7):
        bucket.pipe_file(f"bucket/in/{number % 2}/{number}.jpg", saved(scene(number)))
        bucket.pipe_file(f"bucket/in/{number % 2}/{number}.txt", sentence(number).encode())
    bucket.pipe_file("bucket/in/broken.jpg", b"nothing")
    bucket.pipe_file("bucket/in/broken.txt", sentence(50).encode())
    (joined,) = prepare_now("photos", db=engine)
    assert joined.reason == "photos|1: 7 of 8 pairs prepared; lost: 1 not an image"
    assert prepare_now("photos", db=engine) == []
    bucket.pipe_file("bucket/in/1/3.jpg", saved(scene(60)))
    (joined,) = prepare_now("photos", db=engine)
    assert joined.reason == "photos|2: 1 of 1 pairs prepared"
    for take in takes_of(engine, "photos"):
        report = read_report(take)
        assert all(exists(shard["url"]) and shard["url"].startswith("s3://bucket/") for shard in report["shards"])
    assert not (photos.home / "artifacts").exists()


def test_a_bucket_that_is_not_there_is_named(bucket: fsspec.AbstractFileSystem, photos: PairSet, engine: Engine):
    """The sentence says what to correct, and nothing is written down."""
    from datasets_defs.core.errors import ContractError

    photos.describe(source="s3://no-such-bucket/in")
    with pytest.raises(ContractError, match="is not there; correct the path"):
        prepare_now("photos", db=engine)
    assert takes_of(engine, "photos") == []
