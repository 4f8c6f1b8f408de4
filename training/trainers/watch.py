"""Watching a job: it is begun once, its claim is held, its words are passed on, its result is taken."""

import logging
import time
from collections import deque
from collections.abc import Callable

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Incident
from datasets_defs.core.settings import settings
from training.trainers.contract import Ending, Job, JobResult, Look, Trainer

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5
HOLD_SECONDS = 2.0
"""Time between two renewals of the claim."""
KILLED = (
    "the kernel killed it because this machine, or what limits the trainer there, ran out of memory; set "
    "`retrain.forward_tokens` lower, `retrain.gradient_checkpointing: true`, `retrain.row_tokens` lower, or "
    "`retrain.method: lora`, or give the trainer more memory"
)
"""What to do about a trainer that the kernel ended for memory; the same training would end the same."""
LAST_WORDS = 12
"""Lines of a trainer that died which its error repeats."""


def is_wanted(incident: Incident, job: Job) -> bool:
    """Say whether an incident still waits for what a job trains, whoever holds the claim. Pure."""
    return incident.awaits_training and incident.attempt == job.attempt


def watch(trainer: Trainer, job: Job, *, hold: Callable[[], None], incident: Callable[[], Incident]) -> JobResult:
    """Begin a job unless it is under way or done, and wait for its end; give what came of it.

    Whoever watches may die: the job goes on, and the next one finds it where it is. `hold` raises ContractError once
    this one must stop watching; the job is stopped, too, if its `incident` does not want it any more, and goes on if
    only another run watches it now.

    Raises:
        ContractError: the claim was lost, or the place that trains refuses the job.
        TransientError: the job died without a result, or its place cannot be asked.
    """
    if (known := JobResult.of(job)) is not None:
        return _noted(trainer, job, known)
    trainer.submit(job)
    reached("retrain.submitted")
    words: deque[str] = deque(maxlen=LAST_WORDS)
    told, held = "", -HOLD_SECONDS
    while True:
        if time.monotonic() - held >= HOLD_SECONDS:
            _hold_or_stop(trainer, job, hold, incident)
            held = time.monotonic()
        look = trainer.look(job)
        if look.reason != told:
            log.info("%s: %s", job.name, look.reason)
            told = look.reason
        for line in trainer.said(job):
            log.info("%s", line)
            words.append(line)
        if not look.active:
            result = _noted(trainer, job, _result(job, look, words))
            trainer.stop(job)  # takes away what is left of it, such as a pod that ended
            return result
        time.sleep(POLL_SECONDS)


def _hold_or_stop(trainer: Trainer, job: Job, hold: Callable[[], None], incident: Callable[[], Incident]) -> None:
    try:
        hold()
    except ContractError:
        if not is_wanted(incident(), job):
            log.info("%s is wanted no more and is stopped", job.name)
            trainer.stop(job)
        raise


def _noted(trainer: Trainer, job: Job, result: JobResult) -> JobResult:
    """Tag the version with what only the place that trained knows; done again by whoever takes the result next."""
    facts = trainer.facts(job) if result.version is not None else {}
    if facts and result.version is not None:
        from training.registry.registry import Registry  # MLflow takes seconds to import

        Registry(settings().mlflow_url).tag_made(job.model, result.version, facts)
    return result


def _result(job: Job, look: Look, words: deque[str]) -> JobResult:
    """Read what an ended job wrote last."""
    result = JobResult.of(job)
    if result is None and look.out_of_memory:
        result = JobResult(ending=Ending.OUT_OF_MEMORY, message=f"{look.reason}: {KILLED}")
        result.save(job)
    if result is None:
        last = "\n  ".join(words) or "none"
        raise TransientError(f"{job.name}: {look.reason}, and left no result. Its last words:\n  {last}")
    return result
