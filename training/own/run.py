"""Runs a team's own trainer and watches it: its words, its time, its disk, and whether anybody still wants it."""

import hashlib
import json
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.trainers import CommandTrainer
from datasets_defs.store.artifacts import write_bytes
from training.fit.plan import Progress
from training.own.child import ChildCommand
from training.own.ending import Beyond, Ended, meaning_of
from training.own.given import Given
from training.own.said import Said

log = logging.getLogger(__name__)
MOST_LOG_BYTES = 32 * 2**20
"""Of its words that the log keeps; progress is read on."""
MOST_LINE_BYTES = 16 * 2**10
HOLD_SECONDS, DISK_SECONDS, POLL_SECONDS = 2.0, 10.0, 0.25
LEAST_FREE_GIB = 0.5
_STATE = "own.json"


class Begun(Protocol):
    """A run of the command, wherever it runs."""

    @property
    def stream(self) -> int:
        """Its two outputs as one file descriptor."""
        ...

    def code(self) -> int | None:
        """Give its exit code, negative for a signal; None while it runs."""
        ...

    def end(self) -> int:
        """End it and all that it began, wait until it is gone, and give its exit code; one that ended is fine."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is remembered of a training between its runs."""

    seconds: float = 0.0
    """That it trained, over all runs."""
    deaths: int = 0
    """By a signal, in a row, since its checkpoints last changed."""
    checkpoints: str = ""
    """How the checkpoints looked at its last death."""
    is_done: bool = False
    curves: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Remembered":
        """Read a training's state; a fresh one where none stands."""
        path = folder / _STATE
        if not path.exists():
            return cls()
        state = json.loads(path.read_text())
        curves = {
            name: [(step, value, second) for step, value, second in curve] for name, curve in state["curves"].items()
        }
        return cls(**{**state, "curves": curves})

    def save(self, folder: Path) -> None:
        """Write the state whole or not at all."""
        write_bytes(str(folder / _STATE), json.dumps(asdict(self)).encode())


def run(
    trainer: CommandTrainer,
    given: Given,
    folder: Path,
    *,
    name: str,
    hold: Callable[[], None],
    tell: Callable[[Progress], None],
    begin: Callable[[], Begun] | None = None,
) -> Remembered:
    """Run the command to its end, unless it has ended well before; give what is known of it.

    `begin` begins it and returns once it runs; none: as a child of this process. `hold` is called every two seconds and
    may raise to end it. Killed with this process and run again, it finds its checkpoints where it left them, and the
    time that it took counts on.

    Raises:
        ContractError: it ended in a way that trying again cannot help.
        TransientError: it asked to be run again, or was killed.
    """
    state = Remembered.of(folder)
    if state.is_done:
        return state
    begun = begin() if begin is not None else ChildCommand(trainer, given, name=name)
    process = _Run(begun, trainer, given, folder, state=state)
    try:
        ended = process.watch(hold, tell)
    finally:
        begun.end()
    meaning = meaning_of(ended)
    state = replace(
        process.state(), deaths=ended.deaths, checkpoints=_look_of(given.checkpoints), is_done=meaning.is_done
    )
    state.save(folder)
    if meaning.is_done:
        return state
    error = TransientError if meaning.is_worth_another_try else ContractError
    raise error(f"the trainer of your own ({trainer.run[0]} …): {meaning.reason}")


class _Run:
    """What is watched of one run of the command."""

    def __init__(self, begun: Begun, trainer: CommandTrainer, given: Given, folder: Path, *, state: Remembered) -> None:
        self._begun, self._trainer, self._given, self._folder, self._before = begun, trainer, given, folder, state
        self._said, self._lines = Said(curves=dict(state.curves)), queue.Queue[bytes | None](maxsize=1000)
        self._logged, self._heard = 0, time.monotonic()
        self._began = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def seconds(self) -> float:
        """How long the training took, this run and those before."""
        return self._before.seconds + time.monotonic() - self._began

    def state(self) -> Remembered:
        """Give what is known of the training by now."""
        return replace(self._before, seconds=self.seconds, curves=self._said.curves)

    def watch(self, hold: Callable[[], None], tell: Callable[[Progress], None]) -> Ended:
        """Pass its words on until it ends, or goes beyond a limit."""
        held = looked = -DISK_SECONDS
        while True:
            is_over = self._pass_on(tell)
            if is_over and (code := self._begun.code()) is not None:
                return self._ended(code, None)
            now = time.monotonic()
            if now - held >= HOLD_SECONDS:
                hold()
                self.state().save(self._folder)
                held = now
            stop = self._beyond(with_disk=now - looked >= DISK_SECONDS)
            looked = now if now - looked >= DISK_SECONDS else looked
            if stop is not None:
                return self._ended(self._begun.end(), stop)

    def _ended(self, code: int, stop: Beyond | None) -> Ended:
        is_new = _look_of(self._given.checkpoints) != self._before.checkpoints
        died = code < 0 and stop is None
        deaths = (0 if is_new else self._before.deaths) + died
        return Ended(code=code, stopped=stop, limit=self._limit(stop), last=tuple(self._said.last), deaths=deaths)

    def _limit(self, stop: Beyond | None) -> float:
        limits = {
            Beyond.TIME: self._given.max_seconds,
            Beyond.SILENCE: self._trainer.silent_seconds or 0.0,
            Beyond.DISK: self._trainer.max_disk_gib,
            Beyond.FULL: LEAST_FREE_GIB,
        }
        return limits[stop] if stop is not None else 0.0

    def _beyond(self, *, with_disk: bool) -> Beyond | None:
        """Say which limit is passed, if one is."""
        if self.seconds > self._given.max_seconds:
            return Beyond.TIME
        if self._trainer.silent_seconds is not None and time.monotonic() - self._heard > self._trainer.silent_seconds:
            return Beyond.SILENCE
        if not with_disk:
            return None
        taken = _size_of(self._given.output) + _size_of(self._given.checkpoints)
        if taken > self._trainer.max_disk_gib * 2**30:
            return Beyond.DISK
        return Beyond.FULL if shutil.disk_usage(self._folder).free < LEAST_FREE_GIB * 2**30 else None

    def _pass_on(self, tell: Callable[[Progress], None]) -> bool:
        """Take the lines that wait, or one that comes within a moment; say whether it will write no more."""
        try:
            line = self._lines.get(timeout=POLL_SECONDS)
            while line is not None:
                self._take(line.decode("utf-8", "replace"), tell)
                line = self._lines.get_nowait()
        except queue.Empty:
            return False
        self._lines.put(None)  # it stays over, whoever asks
        return True

    def _take(self, line: str, tell: Callable[[Progress], None]) -> None:
        self._heard = time.monotonic()
        if (progress := self._said.take(line, self.seconds)) is not None:
            tell(progress)
            return
        self._logged += len(line)
        if line.strip() and self._logged <= MOST_LOG_BYTES:
            log.info("%s", line)

    def _read(self) -> None:
        for line in _lines_of(self._begun.stream):
            self._lines.put(line)
        self._lines.put(None)


def _lines_of(stream: int) -> Iterator[bytes]:
    """Give lines as they come; carriage returns of progress bars end one, too, and long ones are cut."""
    rest = b""
    while chunk := os.read(stream, 2**16):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        yield from (line[:MOST_LINE_BYTES] for line in lines)
        rest = rest[-MOST_LINE_BYTES:]
    if rest:
        yield rest


def _look_of(folder: Path) -> str:
    """Give a word that changes when a file below the folder does."""
    files = sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in _files(folder))
    return hashlib.sha256(repr(files).encode()).hexdigest() if files else ""


def _size_of(folder: Path) -> int:
    """Give the bytes of the files below a folder; what goes away meanwhile counts nothing."""
    total = 0
    for path in _files(folder):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path
