"""When a training has learned what it can: a pure rule on the losses of texts that it does not train on."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Whether to stop, with its reason."""

    now: bool
    best: int
    """Place of the lowest loss; the first of equal ones."""
    reason: str


def stop_early(losses: Sequence[float], patience: int) -> Stop:
    """Judge the validation losses so far: stop once the last `patience` of them did not undercut the best before.

    Raises:
        ValueError: there are no losses.
    """
    best = min(range(len(losses)), key=lambda place: losses[place])
    since = len(losses) - 1 - best
    if since >= patience:
        return Stop(
            now=True,
            best=best,
            reason=f"validation loss {losses[best]:.4f} was not undercut at {since} looks; now {losses[-1]:.4f}",
        )
    return Stop(now=False, best=best, reason=f"validation loss {losses[-1]:.4f}, best {losses[best]:.4f}")
