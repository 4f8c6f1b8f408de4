"""The steps that change a champion, each in a process of its own that may be killed at a named point."""

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from queue import Empty
from typing import Any

from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from training import promote, roll_back, roll_out, train_on_schedule
from training.by_hand import promote as promote_by_hand
from training.champions import drill

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])

_STEPS = {"promote": promote.promote, "roll_back": roll_back.roll_back, "roll_out": roll_out.roll_out}
"""Steps that take a wake-up or a model, and say what they did."""


def _step(name: str, url: str, about: str, actor: str, environment: Mapping[str, str], said: Any) -> None:
    os.environ.update(environment)
    settings.cache_clear()
    db = engine_for(url)
    try:
        match name:
            case "promote" | "roll_back" | "roll_out":
                said.put(_STEPS[name](about, db=db, actor=actor).reason)
            case "by hand":
                said.put(roll_back.roll_back_by_hand(about, db=db, actor=actor, reason="by hand").reason)
            case "promote by hand":
                model, _, version = about.partition(" ")
                found = promote_by_hand.by_hand(model, int(version), db=db, actor=actor, reason="better by hand")
                said.put(found.reason)
            case "order":
                outcome = train_on_schedule.order(about, why="its schedule says so", db=db, actor=actor)
                said.put(f"{outcome.reason}: {outcome.ring}")
            case "drill":
                said.put(drill.drill(about, db=db, actor=actor).reason)
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
