"""A training by a team's own command: on this machine, or in the container beside this one."""

import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.trainers import CommandTrainer
from datasets_defs.store.work import work_folder
from training.data.snapshot import Snapshot
from training.fit.plan import Progress
from training.model.adapter_files import base_of
from training.model.language_model import LanguageModel
from training.own.beside import TALK, CommandBeside
from training.own.given import Given, given_for
from training.own.model import model_in
from training.own.run import Remembered, run
from training.trainers.attempt import Attempt, Made, watched

log = logging.getLogger(__name__)
_FROM = "from"


def by_command(attempt: Attempt, source: Path, snapshot: Snapshot) -> Made:
    """Let the team's own command train, and take the model that it leaves.

    Raises:
        ContractError: it ended in a way that trying again cannot help, or left no model that can be served.
        TransientError: it was killed, or asked to be run again.
    """
    trainer = trainer_of_its_own(attempt)
    given = prepared(attempt, source, snapshot)
    state = _run(attempt, trainer, given)
    with work_folder("own-trainer") as work:
        model = model_in(given.output, work, spec=attempt.spec, parent=given.champion)
        shutil.rmtree(attempt.made, ignore_errors=True)
        shutil.copytree(model, attempt.made)
    steps = max((curve[-1][0] for curve in state.curves.values() if curve), default=1)
    return Made(
        seconds=state.seconds,
        progress=Progress(step=steps, steps=steps, loss=_last(state.curves, "loss"), elapsed_seconds=state.seconds),
        params={"command": " ".join(trainer.run), "trainer.kind": "command"} | _image(trainer),
        metrics={"seconds": state.seconds},
        curves=state.curves,
    )


def prepared(attempt: Attempt, source: Path, snapshot: Snapshot) -> Given:
    """Put what the command is given where it finds it; what stands there whole stays."""
    folder = attempt.folder
    if not attempt.has_container:
        return given_for(attempt.spec, snapshot, _whole(source, folder), folder)
    origin = folder / _FROM
    if folder.exists() and (not origin.exists() or origin.read_text() != str(attempt.parent)):
        shutil.rmtree(folder)  # begun from another champion, or half laid out
    folder.mkdir(parents=True, exist_ok=True)
    origin.write_text(str(attempt.parent))
    return given_for(attempt.spec, snapshot, _linked(_whole(source, folder), folder / "champion"), folder)


def trainer_of_its_own(attempt: Attempt) -> CommandTrainer:
    """Give the section of the YAML on the command.

    Raises:
        ContractError: the YAML names another kind of trainer.
    """
    trainer = attempt.spec.trainer
    if not isinstance(trainer, CommandTrainer):
        raise ContractError(f"{attempt.spec.name}: trainer is {trainer.kind!r}, not command")
    return trainer


def _run(attempt: Attempt, trainer: CommandTrainer, given: Given) -> Remembered:
    tell, talk = watched(attempt), os.environ.get(TALK)
    if trainer.pod is not None and talk is None:
        raise ContractError(
            f"{attempt.spec.name}: `trainer.pod` trains in a pod, and this is none: the loop makes one for an incident "
            f"or on schedule; by hand, train with the command outside and `driftloop offer {attempt.spec.name} FOLDER`"
        )
    begin = None if trainer.pod is None or talk is None else lambda: CommandBeside(Path(talk), attempt.hold)
    return run(trainer, given, attempt.folder, name=attempt.key, hold=attempt.hold, tell=tell, begin=begin)


def _whole(source: Path, folder: Path) -> Path:
    """Give a folder with whole weights of a version, since programs of others know none that is an adapter."""
    if base_of(source) is None:
        return source
    whole = folder / "whole"
    LanguageModel.load(source, device="cpu").save(whole)
    return whole


def _linked(source: Path, target: Path) -> Path:
    """Give the version's files in the folder that the command's container sees, without copying them if that can be."""
    if target.exists():
        return target
    half = target.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half, copy_function=_link)
    half.rename(target)
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _image(trainer: CommandTrainer) -> dict[str, str]:
    return {} if trainer.pod is None else {"image": trainer.pod.image}


def _last(curves: Mapping[str, Sequence[tuple[int, float, float]]], name: str) -> float:
    return curves[name][-1][1] if curves.get(name) else math.nan
