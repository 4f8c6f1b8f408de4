"""A shard answered on this machine: the champion's files in a process of their own, which may die without harm."""

import json
import math
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.spec.batch import BatchSpec
from datasets_defs.store.gpu_leases import lease
from serving.batches.answers import BatchAnswer
from serving.batches.rows import BatchRow
from serving.generation.replies import ReplyFault

STARTING_SECONDS = 300.0
"""How long loading the files may take."""
MOST_DEATHS = 3
"""Processes of one shard that may die: with more, the machine is the reason and not a row."""
PROCESS_DIED = "process_died"
"""Fault of a row at which the process that completes it died."""


def answer_here(
    rows: Sequence[BatchRow], batch: BatchSpec, folder: Path, version: int, *, db: Engine
) -> list[BatchAnswer]:
    """Complete rows with a version's files, one after the other.

    Raises:
        ContractError: the files cannot be loaded.
        TransientError: no GPU is free, or the process dies again and again.
    """
    with (
        _gpu(db, f"batch_inference of {folder.name}") as (environment, files),
        Completing(folder, environment, files) as it,
    ):
        return [answered(row, it.ask(row.prompt or "", batch), version) for row in rows]


def answered(row: BatchRow, answer: Mapping[str, Any], version: int) -> BatchAnswer:
    """Give what a row becomes by what the process said of it."""
    now = datetime.now(UTC)
    if "fault" in answer:
        return BatchAnswer(row=row.row, at=now, fault=answer["fault"], reason=answer["reason"])
    if "refused" in answer:
        return BatchAnswer(row=row.row, at=now, fault=ReplyFault.PROMPT_TOO_LONG, reason=answer["refused"])
    if not answer["text"].strip():
        return BatchAnswer(row=row.row, at=now, fault=ReplyFault.NO_TEXT, reason="the model ended without a word")
    return BatchAnswer(
        row=row.row, at=now, completion=answer["text"], finish_reason=answer["finish_reason"],
        prompt_tokens=answer["prompt_tokens"], completion_tokens=answer["completion_tokens"], version=version,
        prompt_bits_per_byte=_finite(answer["prompt_bits_per_byte"]),
        completion_bits_per_byte=_finite(answer["completion_bits_per_byte"]),
    )  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(slots=True)
class Completing:
    """A process that completes prompts with a version's files; after one that died another is started."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[int] = ()
    """Locks of GPUs that the process inherits."""
    _child: subprocess.Popen[str] | None = None
    _deaths: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, prompt: str, batch: BatchSpec) -> dict[str, Any]:
        """Complete one prompt, or say by what fault there is no completion."""
        child = self._child or self._start()
        prompt = f"{batch.system}\n\n{prompt}" if batch.system else prompt
        asked = {"prompt": prompt, "max_tokens": batch.max_tokens, "temperature": batch.temperature}
        try:
            child.stdin.write(json.dumps(asked) + "\n")  # type: ignore[union-attr]  # it is a pipe
            child.stdin.flush()  # type: ignore[union-attr]
            return self._line(child, batch.api.seconds)
        except TimeoutError:
            self._end()
            return {
                "fault": ReplyFault.TIMEOUT,
                "reason": f"not completed within {batch.api.seconds:g} s (api.seconds)",
            }
        except (EOFError, OSError):
            return self._died(child)

    def _died(self, child: subprocess.Popen[str]) -> dict[str, Any]:
        code, self._deaths = child.wait(10), self._deaths + 1
        self._end()
        if self._deaths > MOST_DEATHS:
            raise TransientError(f"the process that completes died {self._deaths} times, last with {code}; the memory?")
        return {"fault": PROCESS_DIED, "reason": f"its process ended with {code}; another was started for the next row"}

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._child = child = subprocess.Popen(
            [sys.executable, "-P", "-m", "serving.batches.process", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            pass_fds=tuple(self.files),
            env={**os.environ, "PYTHONPATH": path, **self.environment},
        )
        try:
            self._line(child, STARTING_SECONDS)
        except (EOFError, OSError, TimeoutError) as err:
            self._end()
            raise ContractError(
                f"{self.folder} cannot be loaded by a process of its own; the task's log has its last words"
            ) from err
        return child

    def _line(self, child: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as waiting:
            waiting.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            if not waiting.select(seconds):
                raise TimeoutError
        line = child.stdout.readline()  # type: ignore[union-attr]
        if not line.endswith("\n"):
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


@contextmanager
def _gpu(db: Engine, holder: str) -> Iterator[tuple[Mapping[str, str], Sequence[int]]]:
    """Lease a GPU where this machine lists some; give what shows it to the process, and the locks it inherits."""
    if not settings().devices:
        yield {}, ()
        return
    on = db.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with lease(on, 1, holder=holder) as granted:
            if granted is None:
                raise TransientError("no GPU of this machine is free now; the shard waits for its next try")
            yield granted.environment, granted.files
    finally:
        on.invalidate()
        on.close()
