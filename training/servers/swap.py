"""Bringing every replica to one version, one after the other; whatever goes wrong, what was there is put back."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from datasets_defs.core.errors import ContractError, DriftloopError, TransientError
from training.servers.probe import distance, judged
from training.servers.seam import Probe, Version, VersionServer, Word

SAME = 0.01
"""Nats a token within which a server's scores before and after a failed load are those of one network."""


def bring(
    servers: Sequence[VersionServer],
    version: Version,
    *,
    others: Sequence[Version] = (),
    tolerance: float,
    renew: Callable[[], None] = lambda: None,
) -> dict[str, Word]:
    """Let each replica load the version unless it has; give each one's word, up to the first that refused.

    Killed anywhere and run again, it goes on. The next replica is touched once this one has confirmed. A replica that
    is away does not keep the version from the others; until it is back, not all have confirmed.
    """
    one = partial(_bring_one, version=version, others=others, tolerance=tolerance)
    return each_in_turn(servers, one, renew)


class _Named(Protocol):
    where: str


_Server = TypeVar("_Server", bound=_Named)


def each_in_turn(
    servers: Sequence[_Server], one: Callable[[_Server], Word], renew: Callable[[], None]
) -> dict[str, Word]:
    """Ask replicas one after the other, up to the first that refused; give each one's word."""
    words: dict[str, Word] = {}
    for server in servers:
        renew()
        try:
            words[server.where] = one(server)
        except TransientError as err:
            words[server.where] = Word(False, str(err), may_change=True)
        except ContractError as err:
            words[server.where] = Word(False, str(err))
        word = words[server.where]
        if word.is_at_it or not (word.is_confirmed or word.may_change):
            break
    return words


def confirmed_by(servers: Sequence[_Named], words: dict[str, Word], version: Version) -> Word:
    """Say whether every replica has confirmed the version. Pure."""
    silent = [f"{at}: {word.reason}" for at, word in words.items() if not word.is_confirmed]
    silent += [f"{server.where}: not asked" for server in servers if server.where not in words]
    if silent:
        may_change = all(word.is_confirmed or word.may_change for word in words.values())
        reason = f"version {version.number} is not confirmed by every replica: " + "; ".join(silent)
        return Word(False, reason, may_change=may_change)
    return Word(True, f"{len(servers)} of {len(servers)} replicas confirmed version {version.number}")


def _bring_one(server: VersionServer, version: Version, others: Sequence[Version], tolerance: float) -> Word:
    had = server.loaded()
    if had == version.label and (word := _asked_back(server, version, others, tolerance)).is_confirmed:
        return word
    if server.is_later:
        return _ordered(server, version, others, tolerance)
    before = server.score(version.probe.tokens) if had is None else None
    try:
        server.load(version)
        word = _asked_back(server, version, others, tolerance)
    except ContractError as err:
        word = Word(False, str(err))
    if word.is_confirmed:
        return word
    back = next((other for other in others if other.label == had), None)
    return Word(False, f"{word.reason}; {_put_back(server, back, before, version.probe, others, tolerance)}")


def _ordered(server: VersionServer, version: Version, others: Sequence[Version], tolerance: float) -> Word:
    """Order a version of a server that loads it later; what it had is ordered again by whoever decides to go back.

    Raises:
        ContractError: it refuses the order, or could not carry it out.
    """
    server.load(version)
    word = _asked_back(server, version, others, tolerance)
    return word if word.is_confirmed else Word(False, f"ordered; {word.reason}", may_change=True, is_at_it=True)


def _asked_back(server: VersionServer, version: Version, others: Sequence[Version], tolerance: float) -> Word:
    """Ask a replica for its label and its scores of the probe."""
    label = server.loaded()
    if label != version.label:
        why = f" ({words})" if (words := server.why_not()) else ""
        return Word(False, f"it says that it has {label or 'no version'} loaded, not {version.label}{why}")
    scores = server.score(version.probe.tokens)
    if scores is None:
        return Word(True, "by its own word; it gives no log-probabilities to probe")
    return judged(version.probe, scores, tolerance=tolerance, others=[other.probe for other in others])


def _put_back(
    server: VersionServer,
    back: Version | None,
    before: Sequence[Sequence[float]] | None,
    probe: Probe,
    others: Sequence[Version],
    tolerance: float,
) -> str:
    """Load again what the replica had; without a file of that, let it go on only if nothing was changed."""
    try:
        if back is not None:
            server.load(back)
            rest = [other for other in others if other.label != back.label]
            word = _asked_back(server, back, rest, tolerance)
            if word.is_confirmed:
                return f"{back.label} was put back"
        elif before is not None and _goes_on(server, before, probe):
            return "it serves what it served before"
        server.hold()
    except DriftloopError as err:
        return f"and what it had could not be put back ({err}): look at it now"
    return "what it had could not be put back, so it answers nobody: restart it"


def _goes_on(server: VersionServer, before: Sequence[Sequence[float]], probe: Probe) -> bool:
    server.resume()
    now = server.score(probe.tokens)
    return now is not None and distance(before, now) <= SAME
