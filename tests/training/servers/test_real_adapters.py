"""Two real replicas of vLLM hold adapters beside one base while clients stream: nobody fails, nobody gets a mixture.

Needs `DRIFTLOOP_VLLM_ENV`, the folder of an environment that `python -m ops.stack.vllm DIR` made.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from datasets_defs.store.versions import label_of
from tests.training.servers.adapted import MODEL, OTHER, adapted, adapter_of_rank
from tests.training.servers.real_vllm import Clients, Replica, streamed
from tests.waiting import wait_for
from training.servers.adapters import VllmAdapters
from training.servers.beside import bring_beside, unload_others
from training.servers.published import others, publish
from training.servers.seam import Version, Word
from training.servers.swap import confirmed_by

ENVIRONMENT = os.environ.get("DRIFTLOOP_VLLM_ENV")
PROMPTS = tuple(f"The loop asks server {number}" for number in range(8))
MAX_RANK = 16

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # two replicas start in the first one's time
    pytest.mark.skipif(not ENVIRONMENT, reason="DRIFTLOOP_VLLM_ENV names no environment with vLLM"),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Version]:
    """The base, two adapters, and one of a rank beyond the servers', where replicas read them."""
    home, root = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("published")
    made = adapted(home)
    made[4] = adapter_of_rank(made[1], home / "v4", OTHER[2][:4], rank=2 * MAX_RANK)
    found = {}
    for number, folder in made.items():
        label = label_of(MODEL, number, str(number) * 64)
        found[number] = publish(root, label, number, lambda folder=folder: folder)
    return {number: replace(each, base=found[1] if number > 1 else None) for number, each in found.items()}


@pytest.fixture(scope="module")
def replicas(published: dict[int, Version], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Two replicas, started on the base's folder as the guide says."""
    home = tmp_path_factory.mktemp("vllm")
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                Replica(Path(ENVIRONMENT or ""), published[1].folder, MODEL, home=home, max_lora_rank=MAX_RANK)
            )
            for _ in range(2)
        ]
        for each in running:
            each.wait()
        yield running


def servers(replicas: list[Replica]) -> list[VllmAdapters]:
    return [VllmAdapters(each.url, MODEL, seconds=120) for each in replicas]


def brought(replicas: list[Replica], version: Version) -> Word:
    told, rest = servers(replicas), others(version.folder.parent, version.label)
    return confirmed_by(told, bring_beside(told, version, others=rest, tolerance=0.05), version)


def test_there_and_back_under_streams(
    replicas: list[Replica], published: dict[int, Version], record_property: Callable[[str, object], None]
):
    """0 answers fail and none is a mixture, as an adapter comes, takes the users over by name, goes back, and goes.

    The base answers nobody meanwhile: the CPU build computes its part of a batch that it shares with adapters wrongly,
    which the probe notices.
    """
    names = {number: published[number].label for number in (2, 3)}
    assert brought(replicas, published[2]).is_confirmed
    clients, took = Clients([each.url for each in replicas], PROMPTS, names[2]), 0.0
    try:
        for number in (3, 2):
            began = time.monotonic()
            word = brought(replicas, published[number])
            assert word.is_confirmed, word.reason
            took = time.monotonic() - began
            clients.name, seen = names[number], len(clients.answers)
            wait_for(lambda seen=seen: len(clients.answers) > seen + 2 * len(PROMPTS), seconds=120)
        gone = unload_others(servers(replicas), MODEL, {2})
    finally:
        clients.end()
    assert len(gone) == len(replicas)
    expected: dict[tuple[str, str], str] = {}
    for number, name in names.items():
        assert brought(replicas, published[number]).is_confirmed
        with httpx.Client(base_url=replicas[0].url, timeout=120) as client:
            expected |= {(prompt, streamed(client, prompt, name)): name for prompt in PROMPTS}
    assert len(expected) == len(PROMPTS) * len(names), "greedy answers tell the versions apart"
    right = Counter(expected.get((prompt, text)) == name for name, prompt, text in clients.answers)
    record_property(
        "figures",
        f"answers {right[True]}, of others {right[False]}, failed {len(clients.failed)}, rollback {took:.1f} s",
    )
    assert (clients.failed, right[False]) == ([], 0)
    assert {name for name, _, _ in clients.answers} == set(names.values())


def test_what_it_refuses(replicas: list[Replica], published: dict[int, Version]):
    """A rank beyond the server's names the option to set; a base that is not the adapter's names the folder."""
    word = brought(replicas, published[4])
    assert "start vLLM with --max-lora-rank 32" in word.reason
    other = replace(published[1], number=9, probe=published[3].probe)
    wrong = replace(published[2], label=label_of(MODEL, 8, "8" * 64), probe=published[3].probe, base=other)
    word = brought(replicas, wrong)
    assert "is an adapter for version 9; it was started on" in word.reason
    assert "vllm serve " in word.reason


def test_what_a_restart_forgot(replicas: list[Replica], published: dict[int, Version]):
    """A replica that was killed answers 404 for the adapter until it has it again; the base never answers for it."""
    assert brought(replicas, published[2]).is_confirmed
    replicas[1].restart()
    request = {"model": published[2].label, "prompt": PROMPTS[0], "max_tokens": 1}
    assert httpx.post(f"{replicas[1].url}/v1/completions", json=request, timeout=120).status_code == 404
    assert brought(replicas, published[2]).is_confirmed
    assert httpx.post(f"{replicas[1].url}/v1/completions", json=request, timeout=120).status_code == 200
