"""Two real replicas of vLLM swap whole weights while clients stream: nobody fails, nobody gets a mixture.

Needs `DRIFTLOOP_VLLM_ENV`, the folder of an environment that `python -m ops.stack.vllm DIR` made.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from datasets_defs.store.versions import label_of
from tests.training.servers.real_vllm import Clients, Replica, streamed
from tests.waiting import wait_for
from training.servers.published import others, publish
from training.servers.seam import Version, Word
from training.servers.swap import bring, confirmed_by
from training.servers.vllm import Vllm

ENVIRONMENT = os.environ.get("DRIFTLOOP_VLLM_ENV")
PROMPTS = tuple(f"The loop asks server {number}" for number in range(8))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENVIRONMENT, reason="DRIFTLOOP_VLLM_ENV names no environment with vLLM"),
]


@pytest.fixture(scope="module")
def published(folders: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Version]:
    """The versions, each with an output layer of its own, as the CPU build needs them."""
    root = tmp_path_factory.mktemp("published")
    labels = {number: label_of("writer", number, str(number) * 64) for number in folders}
    return {n: publish(root, labels[n], n, lambda n=n: folders[n], untied=True) for n in folders}


@pytest.fixture(scope="module")
def urls(published: dict[int, Version], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two replicas, started on a copy of version 1."""
    home = tmp_path_factory.mktemp("vllm")
    shutil.copytree(published[1].folder, home / "start")
    with ExitStack() as stack:
        started = [Replica(Path(ENVIRONMENT or ""), home / "start", "writer", home=home) for _ in range(2)]
        for replica in started:
            stack.enter_context(replica)
        for replica in started:
            replica.wait()
        yield [replica.url for replica in started]


def brought(urls: list[str], versions: dict[int, Version], number: int) -> Word:
    servers, version = [Vllm(url, "writer", seconds=120) for url in urls], versions[number]
    words = bring(servers, version, others=others(version.folder.parent, version.label), tolerance=0.05)
    return confirmed_by(servers, words, version)


def test_swaps_under_streams(
    urls: list[str], published: dict[int, Version], record_property: Callable[[str, object], None]
):
    """0 of the answers fail and none is a mixture, over four swaps; how long going back took is recorded."""
    expected: dict[tuple[str, str], int] = {}
    for number in published:
        assert brought(urls, published, number).is_confirmed
        with httpx.Client(base_url=urls[0], timeout=120) as client:
            expected |= {(prompt, streamed(client, prompt, "writer")): number for prompt in PROMPTS}
    assert len(expected) == len(PROMPTS) * len(published), "greedy answers tell the versions apart"
    clients = Clients(urls, PROMPTS, "writer")
    try:
        for number in (1, 2, 3):
            assert brought(urls, published, number).is_confirmed
            seen = len(clients.answers)
            wait_for(lambda seen=seen: len(clients.answers) > seen + 16)
        began = time.monotonic()
        assert brought(urls, published, 1).is_confirmed
        seconds = time.monotonic() - began
    finally:
        clients.end()
    by_version = Counter(expected.get((prompt, text)) for _, prompt, text in clients.answers)
    record_property(
        "figures", f"answers by version {dict(by_version)}, failed {len(clients.failed)}, rollback {seconds:.1f} s"
    )
    assert clients.failed == []
    assert by_version[None] == 0


def test_tied_weights_are_refused_by_the_probe(urls: list[str], folders: dict[int, Path], tmp_path: Path):
    """The CPU build answers 200 and keeps its old output layer; the probe says so, and what was there is put back."""
    root = tmp_path / "untied"
    first = publish(root, label_of("writer", 1, "1" * 64), 1, lambda: folders[1], untied=True)
    tied = publish(root, label_of("writer", 2, "2" * 64), 2, lambda: folders[2])
    versions = {1: first, 2: tied}
    assert brought(urls, versions, 1).is_confirmed
    word = brought(urls, versions, 2)
    assert not word.is_confirmed
    assert "differ by" in word.reason
    assert f"{first.label} was put back" in word.reason
