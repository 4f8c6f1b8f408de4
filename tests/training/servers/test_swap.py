"""Every replica gets the version, one after the other; a wrong load is noticed, and what was there is put back."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from datasets_defs.core.faults import KILL_AT
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.servers.published import others
from training.servers.seam import LOADING, Version, Word
from training.servers.swap import bring, confirmed_by
from training.servers.vllm import Vllm

Versions = dict[int, Version]
Replica = Callable[..., SimulatedVllm]
SWAP = ("swap.paused", "swap.loading", "swap.loaded", "swap.labelled", "swap.resumed")
"""Where a run that brings a replica to another version may be killed."""


def brought(replicas: Sequence[SimulatedVllm], version: Version, root: Path) -> Word:
    """Bring replicas to a version, as the loop does."""
    servers = [Vllm(server.url, "writer", seconds=5) for server in replicas]
    words = bring(servers, version, others=others(root, version.label), tolerance=0.05)
    return confirmed_by(servers, words, version)


def test_each_replica_loads_the_version_once(versions: Versions, replica: Replica, root: Path):
    """Asked a second time, a replica that has the version only says so."""
    both = [replica(), replica()]
    for _ in range(2):
        assert brought(both, versions[2], root).reason == "2 of 2 replicas confirmed version 2"
    assert [server.reloads for server in both] == [[versions[2].label]] * 2
    assert [(server.label, server.paused) for server in both] == [(versions[2].label, False)] * 2


def test_a_200_that_changed_nothing_is_noticed(versions: Versions, replica: Replica, root: Path):
    """A replica that takes the order and keeps its weights fails the probe; the next one is never touched."""
    both = [replica(), replica()]
    brought(both, versions[1], root)
    both[0].keeps_weights = True
    word = brought(both, versions[2], root)
    assert not word.is_confirmed
    assert not word.may_change
    assert f"{versions[1].label} was put back" in word.reason
    assert "not asked" in word.reason
    assert (both[0].label, both[0].paused, both[1].reloads) == (versions[1].label, False, [versions[1].label])


def test_what_is_neither_version_answers_nobody(versions: Versions, replica: Replica, root: Path):
    """A replica whose weights are wrong, and which cannot be put back either, is held."""
    server = replica()
    brought([server], versions[2], root)
    server.keeps_weights = True
    server.refuses = [versions[2].label]
    word = brought([server], versions[3], root)
    assert "look at it now" in word.reason
    assert server.paused


def test_a_folder_that_the_server_cannot_read_changes_nothing(versions: Versions, replica: Replica, root: Path):
    """A server that was told of no version yet, and refuses, goes on with what it was started on."""
    server = replica()
    server.refuses = [versions[2].label]
    word = brought([server], versions[2], root)
    assert "holds no weights" in word.reason
    assert "it serves what it served before" in word.reason
    assert not server.paused


def test_a_replica_that_was_away_gets_the_version_when_it_is_back(versions: Versions, replica: Replica, root: Path):
    """It keeps the version from nobody, is not confirmed meanwhile, and has forgotten everything when it is back."""
    away, there = replica(), replica()
    port = away.server.server_port
    brought([away, there], versions[2], root)
    away.stop()
    word = brought([away, there], versions[3], root)
    assert (word.is_confirmed, word.may_change, there.label) == (False, True, versions[3].label)
    back = replica(port)
    assert brought([back, there], versions[3], root).is_confirmed
    assert (back.label, back.reloads) == (versions[3].label, [versions[3].label])


@pytest.mark.parametrize("label", ["the version's own", "another's"])
def test_a_label_is_not_believed_without_a_probe(versions: Versions, replica: Replica, root: Path, label: str):
    """A replica that says it has the version, and answers as another, loads it again."""
    server = replica()
    brought([server], versions[2], root)
    server.label = versions[3].label
    wanted = versions[3] if label == "the version's own" else versions[2]
    assert brought([server], wanted, root).is_confirmed
    assert server.reloads == [versions[2].label, wanted.label]


@pytest.mark.parametrize("point", SWAP)
def test_killed_anywhere_and_run_again(
    versions: Versions, replica: Replica, root: Path, point: str, monkeypatch: pytest.MonkeyPatch
):
    """SIGKILL at any step of a swap leaves what the next run brings to the champion, and answering."""
    both = [replica(), replica()]
    brought(both, versions[1], root)
    monkeypatch.setenv(KILL_AT, point)
    swapping = multiprocessing.get_context("fork").Process(target=brought, args=(both, versions[2], root))
    swapping.start()
    swapping.join(30)
    assert swapping.exitcode == -signal.SIGKILL
    monkeypatch.delenv(KILL_AT)
    assert both[0].label in (versions[1].label, LOADING + versions[2].label, versions[2].label)
    assert brought(both, versions[2], root).is_confirmed
    assert [(server.label, server.paused) for server in both] == [(versions[2].label, False)] * 2


def test_without_its_developer_routes_vllm_is_told_of(versions: Versions, replica: Replica, root: Path):
    """The reason says how to start it."""
    server = replica()
    server.answer = lambda *_: (404, {"detail": "Not Found"})  # type: ignore[method-assign]
    server.server.RequestHandlerClass = server._handler()
    word = brought([server], versions[2], root)
    assert "VLLM_SERVER_DEV_MODE=1" in word.reason
