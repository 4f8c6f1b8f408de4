"""What can be asked of a server that serves versions, whichever it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOADING = "loading:"
"""Stands before a version's label while its weights are being read: whoever dies then leaves it there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Fixed prompts, and what each of their tokens costs by the version's own files."""

    tokens: tuple[tuple[int, ...], ...]
    log_probabilities: tuple[tuple[float, ...], ...]
    """Natural logarithm of each token's probability after those before it; a prompt's first token has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version's files, where the servers can read them."""

    number: int
    label: str
    """What a replica says that has it loaded: model, version and the beginning of its manifest's hash."""
    folder: Path
    probe: Probe
    base: "Version | None" = None
    """The version whose weights it is an adapter for; None: it has weights of its own."""


@dataclass(frozen=True, slots=True)
class Word:
    """Whether a replica, or all, serve a version, and why that is believed or not."""

    is_confirmed: bool
    reason: str
    may_change: bool = False
    """Whether asking again may bring another answer: it was away, or is still at it."""
    is_at_it: bool = False
    """Whether it was ordered and is not there yet: the next one is not touched before it is."""


class VersionServer(Protocol):
    """One replica, or one service that speaks for several.

    Raises (every method):
        ContractError: it refuses, and will again.
        TransientError: it is away or slow.
    """

    where: str
    """Its address, for people."""
    is_later: bool
    """Whether `load` only orders: the version is there some time afterwards, or never."""

    def loaded(self) -> str | None:
        """Give the label of what it says it has loaded; None: it has been told of none since it started."""

    def why_not(self) -> str:
        """Say what kept `loaded` from naming a version, in the server's own words; empty: it has none."""

    def load(self, version: Version) -> None:
        """Load a version in the place of the present one. Done twice, it does the same."""

    def hold(self) -> None:
        """Answer nobody until the next load: what it has in memory is neither one version nor another."""

    def resume(self) -> None:
        """Answer again with what it has, after a load that failed."""

    def score(self, tokens: Sequence[Sequence[int]]) -> list[list[float]] | None:
        """Give the log-probability of each token after a prompt's first; None: it cannot."""
