"""Bringing versions beside each other: every replica holds the base and adapters, and says and shows that it does."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.faults import reached
from training.servers.probe import judged, thinned
from training.servers.seam import Version, Word
from training.servers.swap import each_in_turn


class AdapterServer(Protocol):
    """One replica that answers for several versions at once.

    Raises (every method):
        ContractError: it refuses, and will again.
        TransientError: it is away or slow.
    """

    where: str
    """Its address, for people."""
    base_name: str
    """The name of what it was started on."""

    def names(self) -> Mapping[str, str]:
        """Give the names that it answers to, and the folder of each."""

    def load(self, version: Version) -> None:
        """Load a version beside the others, under its label."""

    def unload(self, label: str) -> None:
        """Let go of a version. Done twice, it does nothing more."""

    def score(self, name: str, tokens: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """Give the log-probabilities of the tokens of a thinned probe, under a name."""


def bring_beside(
    servers: Sequence[AdapterServer],
    version: Version,
    *,
    others: Sequence[Version] = (),
    tolerance: float,
    renew: Callable[[], None] = lambda: None,
) -> dict[str, Word]:
    """Let each replica load the version beside what it has, unless it has; give each one's word.

    Nobody asks for the new name yet, so a wrong load is unloaded again and changes nothing. Killed anywhere and run
    again, it goes on. A version that has weights of its own must be what the replica was started on.
    """
    one = partial(_bring_one, version=version, others=others, tolerance=tolerance)
    return each_in_turn(servers, one, renew)


def _bring_one(server: AdapterServer, version: Version, others: Sequence[Version], tolerance: float) -> Word:
    names = server.names()
    if version.base is None:
        return _is_base(server, names, version, others, tolerance)
    if version.label in names:
        word = _probed(server, version.label, version, others, tolerance)
        return word if word.is_confirmed else _dropped(server, version, word)
    word = _loaded(server, version, others, tolerance)
    if word.is_confirmed:
        return word
    rest = [other for other in others if other.label != version.base.label]
    base = _is_base(server, names, version.base, rest, tolerance)
    if base.is_confirmed:
        return word
    return Word(False, f"version {version.number} is an adapter for version {version.base.number}; {base.reason}")


def _loaded(server: AdapterServer, version: Version, others: Sequence[Version], tolerance: float) -> Word:
    """Load a version that a replica lacks, and ask it back: what base and adapter give together speaks for both."""
    reached("adapters.loading")
    try:
        server.load(version)
    except ContractError as err:
        return Word(False, str(err))
    reached("adapters.loaded")
    if version.label not in server.names():
        return Word(False, f"it took the order and does not name {version.label} among its models")
    word = _probed(server, version.label, version, others, tolerance)
    return word if word.is_confirmed else _dropped(server, version, word)


def _is_base(
    server: AdapterServer, names: Mapping[str, str], base: Version, others: Sequence[Version], tolerance: float
) -> Word:
    """Ask whether a replica was started on a version."""
    start = f"start it with `vllm serve {base.folder} --served-model-name {server.base_name}`"
    if server.base_name not in names:
        return Word(False, f"it has no model of the name {server.base_name} (`serving.served_name`); {start}")
    word = _probed(server, server.base_name, base, others, tolerance)
    if word.is_confirmed:
        return word
    was = names[server.base_name] or "another model"
    return Word(False, f"it was started on {was}, which is not version {base.number}: {word.reason}; {start}")


def _probed(server: AdapterServer, name: str, version: Version, others: Sequence[Version], tolerance: float) -> Word:
    scores = server.score(name, version.probe.tokens)
    rest = [thinned(other.probe) for other in others]
    return judged(thinned(version.probe), scores, tolerance=tolerance, others=rest)


def _dropped(server: AdapterServer, version: Version, word: Word) -> Word:
    """Unload what is not what its name says."""
    server.unload(version.label)
    return Word(False, f"{word.reason}; {version.label} was unloaded again, and what served before goes on")


def unload_others(servers: Sequence[AdapterServer], model: str, keep: Collection[int]) -> list[str]:
    """Unload the adapters of a model's versions but some; give what was done. One that is away is asked another time.

    Names that are not of the form that labels have are other people's, and stay.
    """
    ours, done = re.compile(rf"{re.escape(model)}-v(\d+)-[0-9a-f]{{12}}"), []
    for server in servers:
        try:
            for name in server.names():
                match = ours.fullmatch(name)
                if match is not None and name != server.base_name and int(match[1]) not in keep:
                    server.unload(name)
                    reached("adapters.unloaded")
                    done.append(f"{name} is unloaded from {server.where}")
        except DriftloopError as err:
            done.append(f"{server.where} keeps old adapters: {err}")
    return done
