"""Doing it: kills and stops processes of a stack, and lets go of those that were stopped."""

import contextlib
import os
import signal
import time

import psutil

from datasets_defs.core.errors import TransientError
from ops.stack.layout import Layout
from ops.stack.supervision import Supervisor
from tests.chaos.plan import TRAINER, Action, Kind
from tests.stack import Stack


class Attacker:
    """Carries out attacks on one stack, and counts its crashes."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.supervisor = Supervisor(Layout(stack.home))
        self.crashes = 0
        self.trainers_hit = 0
        self._waiting: list[Action] = []
        self._stopped: list[tuple[float, str, list[psutil.Process]]] = []

    def pid(self, component: str) -> int | None:
        """Give the process of a component; None while it does not run."""
        try:
            return self.supervisor.pids().get(component)
        except TransientError:
            return None

    def attack(self, action: Action) -> str:
        """Do it now; an attack on a trainer waits until there is one. Gives what was done."""
        if action.victim == TRAINER:
            self._waiting.append(action)
            return f"{action}, as soon as there is one"
        try:
            pid = self.supervisor.pids().get(action.victim)
        except TransientError as err:
            return f"{action}: {err}"
        return self._hit(action, pid) if pid else f"{action}: it does not run"

    def look(self) -> list[str]:
        """Hit the trainer that was waited for, and let go of who was stopped long enough; give what was done."""
        said = []
        if self._waiting and (pid := self.stack.trainer()) is not None:
            self.trainers_hit += 1
            said.append(self._hit(self._waiting.pop(0), pid))
        now = time.monotonic()
        for until, name, processes in [each for each in self._stopped if each[0] <= now]:
            self._stopped.remove((until, name, processes))
            self._continue(processes)
            said.append(f"SIGCONT {name}")
        return said

    def release(self) -> None:
        """Let go of everybody, and wait for no trainer any more."""
        self._waiting.clear()
        for _, _, processes in self._stopped:
            self._continue(processes)
        self._stopped.clear()

    def _hit(self, action: Action, pid: int) -> str:
        self.crashes += 1
        try:
            if action.kind is Kind.STOP:
                main = psutil.Process(pid)
                family = [main, *main.children(recursive=True)]
                for process in family:
                    process.suspend()
                self._stopped.append((time.monotonic() + action.seconds, action.victim, family))
            else:
                os.kill(pid, signal.SIGQUIT if action.kind is Kind.CRASH else signal.SIGKILL)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return f"{action}: it had just gone"
        return f"{action} (process {pid})"

    @staticmethod
    def _continue(processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
