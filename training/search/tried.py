"""What came of each trial, as files beside the attempt's other ones, and which trial won."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import artifact_url, exists, read_bytes, write_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A trial that has ended."""

    number: int
    settings: Mapping[str, float]
    bits: float | None
    """Bits per byte of the validation texts by the finished model; None: it could not be trained."""
    seconds: float = 0.0
    """Training time."""
    problem: str = ""
    """Why it could not be trained."""
    manifest_sha256: str = ""
    """Of the model that it made."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """For the registry, should it win."""
    curves: Mapping[str, Sequence[tuple[int, float, float]]] = field(default_factory=dict)
    """The same."""
    steps: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The trial whose model becomes the challenger."""

    best: Tried
    reason: str


def choose(tried: Sequence[Tried]) -> Winner:
    """Choose the trial that cost least on the validation texts; of equal ones the first. Pure.

    Raises:
        ContractError: none could be trained.
    """
    able = [trial for trial in tried if trial.bits is not None]
    if not able:
        problems = "; ".join(f"{trial.number}: {trial.problem}" for trial in tried)
        raise ContractError(f"search: none of {len(tried)} settings could be trained ({problems})")
    best = min(able, key=lambda trial: (trial.bits, trial.number))
    among = f"{len(able)} of {len(tried)} settings" if len(able) < len(tried) else f"{len(able)} settings"
    spread = max(trial.bits for trial in able if trial.bits is not None)
    what = ", ".join(f"{name} {value:g}" for name, value in best.settings.items())
    return Winner(
        best=best,
        reason=f"{what}: {best.bits:.4f} bits per byte of the validation texts, best of {among} (worst {spread:.4f})",
    )


def trial_url(model: str, attempt: str, number: int, what: str) -> str:
    """Give the address of a trial's file."""
    return artifact_url("training", model, f"{attempt}-trial-{number}.{what}.json")


def model_url(model: str, attempt: str, number: int) -> str:
    """Give the folder of the model that a trial made."""
    return artifact_url("training", model, f"{attempt}-trial-{number}", "model")


def save_tried(tried: Tried, model: str, attempt: str) -> None:
    """Write down what came of a trial; the first word stands."""
    write_bytes(trial_url(model, attempt, tried.number, "tried"), json.dumps(asdict(tried)).encode(), once=True)


def tried_of(model: str, attempt: str, number: int) -> Tried | None:
    """Read what came of a trial; None while it has not ended.

    Raises:
        ContractError: its file is damaged.
    """
    url = trial_url(model, attempt, number, "tried")
    if not exists(url):
        return None
    try:
        return Tried(**json.loads(read_bytes(url)))
    except (ValueError, TypeError) as err:
        raise ContractError(f"{url} is damaged ({err}); remove it, and the setting is tried again") from err


def all_tried(model: str, attempt: str, count: int) -> list[Tried]:
    """Read the trials that have ended, in their order."""
    trials = (tried_of(model, attempt, number) for number in range(count))
    return [trial for trial in trials if trial is not None]
