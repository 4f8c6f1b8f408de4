"""Trials of a search: each a training of its own on the attempt's rows, its model kept until the best one has won."""

import json
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.spec.schedule import SearchSpec
from datasets_defs.store.artifacts import delete_older, fetch_file, file_sha256, write_file
from training.data.snapshot import Snapshot, stored
from training.fit.plan import Progress
from training.fit.threads import use_threads
from training.model.language_model import LanguageModel
from training.registry.fetch import fetch
from training.registry.manifest import MANIFEST, make_manifest, verify_manifest
from training.registry.trial_runs import TrialRuns
from training.search.proposals import OF_LORA, Settings, settings_of, spec_with, words
from training.search.tried import Tried, all_tried, choose, model_url, save_tried, tried_of
from training.trainers.attempt import Attempt, Made
from training.trainers.locks import BusyError, only_trainer
from training.trainers.making import by_ours, frozen_for

log = logging.getLogger(__name__)
AT_ONCE = 64
"""Validation texts that are scored together."""


def part_of(trial: int | None) -> str:
    """Name the part of an attempt that a trial is, for its locks; the challenger's own training has the model's."""
    return "" if trial is None else f"trial-{trial}"


def run_trial(attempt: Attempt, number: int) -> str:
    """Try a setting unless that was done; say what came of it. The caller holds the trial's locks.

    Killed anywhere and run again, it goes on from its last checkpoint with the settings and the rows that it had.

    Raises:
        ContractError: the rows are broken, or somebody ended the attempt.
        TransientError: PostgreSQL or the registry is away.
    """
    tried = tried_of(attempt.spec.name, attempt.name, number) or _try(attempt, number)
    _show(attempt, tried)
    outcome = f"{tried.bits:.4f} bits per byte of the validation texts" if tried.bits is not None else tried.problem
    return f"setting {number}, {words(tried.settings)}: {outcome}"


def made_by_search(attempt: Attempt, _: Path, __: Snapshot) -> Made:
    """Give the model of the best setting, after those that nobody has tried yet were tried here, one after another."""
    search = _search_of(attempt)
    for number in range(search.count):
        if tried_of(attempt.spec.name, attempt.name, number) is None:
            with _when_free(attempt, number):
                run_trial(attempt, number)
    tried = all_tried(attempt.spec.name, attempt.name, search.count)
    choice = choose(tried)
    log.info("%s: %s", attempt.name, choice.reason)
    _bring(attempt, choice.best)
    best, seconds = choice.best, sum(trial.seconds for trial in tried)
    own = {f"lora.{name}" if name in OF_LORA else name: value for name, value in best.settings.items()}
    return Made(
        seconds=seconds,
        progress=Progress(step=best.steps, steps=best.steps, loss=math.nan, elapsed_seconds=seconds),
        params={**best.params, **own, "search.tried": len(tried), "search.best": best.number},
        metrics={"seconds": seconds, "search.validation_bits_per_byte": best.bits or math.nan},
        curves=best.curves,
    )


def forget_trials(attempt: Attempt) -> None:
    """Delete the models of trials once the challenger is registered; what came of each stays."""
    search = attempt.spec.search
    later = datetime.now(UTC) + timedelta(minutes=1)
    for number in range(search.count if search is not None and attempt.make is not None else 0):
        delete_older(model_url(attempt.spec.name, attempt.name, number), later)


def _try(attempt: Attempt, number: int) -> Tried:
    spec, search = attempt.spec, _search_of(attempt)
    snapshot = _frozen(attempt)
    source = fetch(attempt.ledger.engine, attempt.registry, spec.name, attempt.parent)
    before = all_tried(spec.name, attempt.name, search.count)
    settings = settings_of(search, spec.name, attempt.name, number, seed=spec.retrain.seed, before=before)
    own = replace(attempt, trial=number, make=None)
    try:
        own = replace(own, spec=spec_with(spec, settings))
        made = by_ours(own, source, snapshot)
    except ContractError as err:
        attempt.hold()  # raises where the attempt is not wanted any more: that is no fault of the settings
        tried = Tried(number=number, settings=settings, bits=None, problem=str(err))
    else:
        tried = _measured(own, settings, made, snapshot, bases=source.parent)
    attempt.hold()
    save_tried(tried, spec.name, attempt.name)
    shutil.rmtree(own.folder, ignore_errors=True)
    return tried


def _measured(attempt: Attempt, settings: Settings, made: Made, snapshot: Snapshot, *, bases: Path) -> Tried:
    """Score the finished model on the validation texts, and keep it where the challenger is made."""
    number, name = attempt.trial or 0, attempt.spec.name
    use_threads()
    model = LanguageModel.load(attempt.made, bases=bases)
    texts = [text for text in snapshot.validation if text.strip()]
    losses = [loss for at in range(0, len(texts), AT_ONCE) for loss in model.losses(texts[at : at + AT_ONCE])]
    if not losses:
        raise ContractError(
            f"{name}: no text is left to validate by; raise `data.validation_share`, or wait for more rows"
        )
    bits = sum(loss.bits for loss in losses) / max(1, sum(loss.bytes for loss in losses))
    if not math.isfinite(bits):
        return Tried(number=number, settings=settings, bits=None, seconds=made.seconds, problem="the training diverged")
    files = make_manifest(attempt.made)["files"]
    for file in (*files, MANIFEST):
        write_file(f"{model_url(name, attempt.name, number)}/{file}", attempt.made / file)
    return Tried(
        number=number, settings=settings, bits=bits, seconds=made.seconds, params=dict(made.params),
        manifest_sha256=file_sha256(attempt.made / MANIFEST), curves=dict(made.curves), steps=made.progress.steps,
    )  # fmt: skip


def _bring(attempt: Attempt, best: Tried) -> None:
    """Put the winner's files where the challenger is registered from."""
    url = model_url(attempt.spec.name, attempt.name, best.number)
    shutil.rmtree(attempt.made, ignore_errors=True)
    fetch_file(f"{url}/{MANIFEST}", attempt.made / MANIFEST)
    for file in json.loads((attempt.made / MANIFEST).read_text())["files"]:
        fetch_file(f"{url}/{file}", attempt.made / file)
    if problems := verify_manifest(attempt.made, best.manifest_sha256):
        raise ContractError(f"the model of setting {best.number} is damaged: {'; '.join(problems)}")


def _show(attempt: Attempt, tried: Tried) -> None:
    """Show the trial in MLflow, nested in the attempt's run; nothing is decided there, and MLflow may be away."""
    runs, name = TrialRuns(attempt.registry.url), attempt.spec.name
    metrics = {"validation_bits_per_byte": tried.bits or math.nan, "seconds": tried.seconds}
    params = {**tried.settings, **({"problem": tried.problem} if tried.problem else {})}
    try:
        runs.log_trial(name, attempt.key, tried.number, params=params, metrics=metrics, curves=tried.curves)
    except DriftloopError as err:
        log.warning("setting %d is tried, and MLflow does not show it: %s", tried.number, err)


def _search_of(attempt: Attempt) -> SearchSpec:
    if attempt.spec.search is None:
        raise ContractError(f"{attempt.spec.name}: its YAML has no `search` any more; put it back, or end the incident")
    return attempt.spec.search


def _frozen(attempt: Attempt) -> Snapshot:
    """Give the rows of all the attempt's trials; whoever comes first freezes them, under the model's own lock."""
    while True:
        if (present := stored(attempt.snapshot_uri)) is not None:
            return present
        attempt.hold()
        try:
            with only_trainer(attempt.ledger.engine, attempt.spec.name):
                return frozen_for(attempt)
        except BusyError as err:
            log.info("%s", err)


@contextmanager
def _when_free(attempt: Attempt, number: int) -> Iterator[None]:
    """Hold a trial's locks, once a process that may still be at work on it has ended."""
    while True:
        attempt.hold()
        try:
            with only_trainer(attempt.ledger.engine, attempt.spec.name, part=part_of(number)):
                yield
                return
        except BusyError as err:
            log.info("%s", err)
