"""Why a library broke a training off: short of memory, an error of torch, or no number; told once, with what to set."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from datasets_defs.core.errors import ContractError, TransientError
from training.fit.plan import FitPlan

_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|bad_alloc", re.IGNORECASE)
_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_PASSING = re.compile(
    r"NCCL|connection|timed out|ECC error|driver shutting down|unspecified launch failure|fallen off the bus",
    re.IGNORECASE,
)
"""Words of troubles of networks and machines, which may be over at the next try."""
SMALLEST_SCALE = 1.0
"""Of float16's gradients: each overflow halves the scale, from 65,536 on, and skips the step."""


class OutOfMemoryError(ContractError):
    """The training does not fit the memory, and would not the next time either."""


@contextmanager
def told(plan: FitPlan) -> Iterator[None]:
    """Translate what libraries raise in a training; each kind has its own ending, at the first time.

    Raises:
        OutOfMemoryError: memory is short, of the GPU or of the machine.
        TransientError: a network or a machine failed; the next try goes on from the last checkpoint.
        ContractError: torch refuses, with its words; or the disk is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as err:
        raise OutOfMemoryError(no_memory("GPU memory", plan, first_line(err))) from err
    except MemoryError as err:
        raise OutOfMemoryError(no_memory("memory", plan, first_line(err))) from err
    except (RuntimeError, ValueError, LookupError, TypeError, OSError, SafetensorError) as err:
        raise _translated(err, plan) from err


def no_memory(what: str, plan: FitPlan, words: str) -> str:
    """Say that a training does not fit, and what to set, the cheapest first. Pure."""
    cures = [f"`retrain.forward_tokens` below {plan.forward_tokens} (smaller batches, whose gradients are added up)"]
    if plan.forward_tokens <= plan.row_tokens:
        cures = []
    if not plan.gradient_checkpointing:
        cures.append("`retrain.gradient_checkpointing: true` (a third slower)")
    cures.append(f"`retrain.row_tokens` below {plan.row_tokens} (shorter blocks)")
    if plan.method == "full":
        cures.append("`retrain.method: lora`")
    cures.append("a smaller model, or more memory")
    return f"the training ran out of {what} ({words}); set, the cheapest first: {', '.join(cures)}"


def no_number(loss: float, *, step: int, rate: float, exact: Callable[[], float] | None) -> str:
    """Say why a loss is no number; `exact` gives that of the same rows in float32, where it was computed in float16."""
    if exact is not None and math.isfinite(known := exact()):
        return (
            f"loss is {loss} at step {step} in float16, and {known:.3f} in float32: the model's numbers pass "
            "65,504, float16's largest; set `retrain.precision: bfloat16`, or float32 where the GPU has no bfloat16"
        )
    if step == 1:
        return (
            f"loss is {loss} at step 1, before anything was learned: the weights that it starts from hold no numbers, "
            "or give none for these texts; roll back to a version that answers, or offer one"
        )
    return f"loss is {loss} at step {step}: the learning rate {rate:g} is too high; lower `retrain.learning_rate`"


def no_gradient(step: int) -> str:
    """Say that float16 holds no gradient of this model, so that nothing is learned. Pure."""
    return (
        f"the gradients pass what float16 holds at each step up to step {step}, so that nothing is learned; set "
        "`retrain.precision: bfloat16`, or float32 where the GPU has no bfloat16"
    )


def first_line(err: BaseException) -> str:
    """Give the first line of an error's words, or its kind where it has none."""
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]


def _translated(err: Exception, plan: FitPlan) -> ContractError | TransientError:
    words = first_line(err)
    if _MEMORY.search(words):
        where = "GPU memory" if "CUDA" in words or "HIP" in words else "memory"
        return OutOfMemoryError(no_memory(where, plan, words))
    if _DISK.search(str(err)):
        return ContractError(f"the disk is full ({words}); free some, and let it be trained again")
    if isinstance(err, OSError) or _PASSING.search(words):
        return TransientError(f"the training was broken off ({type(err).__name__}: {words})")
    return ContractError(f"the training was broken off by {type(err).__name__}: {words}")
