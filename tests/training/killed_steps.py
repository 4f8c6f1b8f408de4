"""The steps of the loop, each in a process of its own that may be killed at a named point."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from multiprocessing.process import BaseProcess
from queue import Empty
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import Action
from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from monitors import triage
from tests.training.ready import Ready
from training import evaluate, promote, retrain, roll_back, roll_out, train_on_schedule
from training.by_hand import promote as promote_by_hand
from training.champions import drill

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


def _promote_by_hand(about: str, db: Engine, actor: str) -> str:
    model, _, version = about.partition(" ")
    return promote_by_hand.by_hand(model, int(version), db=db, actor=actor, reason="better by hand").reason


def _order(about: str, db: Engine, actor: str) -> str:
    outcome = train_on_schedule.order(about, why="its schedule says so", db=db, actor=actor)
    return f"{outcome.reason}: {outcome.ring}"


def _triage(about: str, db: Engine, actor: str) -> str:
    """Decide and ring for what was decided, as the DAG's tasks do; give the action and the reason."""
    key, _, at = about.partition(" ")
    decision = triage.decide(key, db=db, actor=actor, now=datetime.fromisoformat(at))
    for action in (Action.RETRAIN, Action.ROLL_BACK, Action.SCALE):
        triage.ring_for(decision, action, db=db)
    return f"{decision['action']}: {decision['reason']}"


_STEPS: dict[str, Callable[[str, Engine, str], str]] = {
    "triage": _triage,
    "retrain": lambda key, db, actor: retrain.retrain(key, db=db, actor=actor).reason,
    "retrain, ready": lambda key, db, actor: retrain.retrain(key, db=db, actor=actor, trainer=Ready()).reason,
    "evaluate": lambda key, db, actor: evaluate.evaluate(key, db=db, actor=actor).reason,
    "promote": lambda key, db, actor: promote.promote(key, db=db, actor=actor).reason,
    "promote by hand": _promote_by_hand,
    "roll_out": lambda model, db, actor: roll_out.roll_out(model, db=db, actor=actor).reason,
    "roll_back": lambda key, db, actor: roll_back.roll_back(key, db=db, actor=actor).reason,
    "by hand": lambda model, db, actor: roll_back.roll_back_by_hand(model, db=db, actor=actor, reason="by hand").reason,
    "order": _order,
    "drill": lambda model, db, actor: drill.drill(model, db=db, actor=actor).reason,
}
"""Steps by name: each takes a wake-up or a model, and says what it did."""


def _step(name: str, url: str, about: str, actor: str, environment: Mapping[str, str], said: Any) -> None:
    os.environ.update(environment)
    settings.cache_clear()
    try:
        said.put(_STEPS[name](about, engine_for(url), actor))
    except DriftloopError as err:
        said.put(f"{type(err).__name__}: {err}")


class Running:
    """A step that runs in its own process."""

    def __init__(self, name: str, url: str, about: str, *, actor: str, kill_at: str = "") -> None:
        environment = {key: value for key, value in os.environ.items() if key.startswith("DRIFTLOOP_")}
        self._said = _processes.Queue()
        arguments = (name, url, about, actor, {**environment, KILL_AT: kill_at}, self._said)
        self.process: BaseProcess = _processes.Process(target=_step, args=arguments, daemon=True)
        self.process.start()

    def ended(self) -> tuple[int | None, str]:
        """Wait for its end; give its exit code (negative: the signal) and what it said."""
        try:
            said = self._said.get(timeout=0.1) if not self.process.is_alive() else self._wait()
        except Empty:
            said = ""
        self.process.join(60)
        return self.process.exitcode, said

    def _wait(self) -> str:
        for _ in range(600):
            try:
                return str(self._said.get(timeout=0.2))
            except Empty:
                if not self.process.is_alive():
                    break
        return str(self._said.get(timeout=1))
