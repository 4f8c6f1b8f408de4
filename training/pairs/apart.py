"""Decoders in a process of their own: one that crashes, hangs or eats memory costs an image, never the batch."""

import os
import pickle
import resource
import selectors
import struct
import subprocess
import sys
from typing import IO, Any, Self

from datasets_defs.core.settings import ROOT
from datasets_defs.spec.pairs import ImagesSpec
from training.pairs.codec import Picture, prepare
from training.pairs.content import Lost

_LENGTH = struct.Struct("<Q")
_STARTING_SECONDS = 60
_SPARE_BYTES = 2 * 2**30


class Decoder:
    """Prepares images in a child process, which is started anew after one that killed it."""

    def __init__(self, spec: ImagesSpec) -> None:
        self._spec = spec
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def prepare(self, content: bytes) -> Picture | Lost:
        """Prepare one image, or say why it is lost."""
        child, begins = self._child, False
        if child is None:
            child, begins = self._start(), True
        try:
            _write(child.stdin, content)
            return self._answer(child, self._spec.max_seconds + (_STARTING_SECONDS if begins else 0))
        except TimeoutError:
            self._end()
            return Lost("takes too long", f"not decoded within {self._spec.max_seconds:g} s; its decoder was ended")
        except (EOFError, OSError):
            child.wait(10)
            code = child.returncode
            self._end()
            return Lost("kills its decoder", f"the decoder ended with {code}; another was started for the next image")

    def _start(self) -> subprocess.Popen[bytes]:
        limit = _SPARE_BYTES + 16 * self._spec.max_pixels
        command = [sys.executable, "-m", "training.pairs.apart", str(limit)]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        _write(self._child.stdin, pickle.dumps(self._spec))
        return self._child

    def _answer(self, child: subprocess.Popen[bytes], seconds: float) -> Picture | Lost:
        with selectors.DefaultSelector() as waiting:
            waiting.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]  # it is a pipe
            if not waiting.select(seconds):
                raise TimeoutError
        answer: Picture | Lost = pickle.loads(_read(child.stdout))  # noqa: S301 our own child's words
        return answer

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


def _write(pipe: IO[bytes] | None, content: bytes) -> None:
    if pipe is not None:
        pipe.write(_LENGTH.pack(len(content)))
        pipe.write(content)
        pipe.flush()


def _read(pipe: Any) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    content: bytes = pipe.read(length)
    if len(content) < length:
        raise EOFError
    return content


def main() -> None:
    """Prepare the images that come in on stdin, one after the other, until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spec = pickle.loads(_read(sys.stdin.buffer))  # noqa: S301 our own parent's words
    while True:
        try:
            content = _read(sys.stdin.buffer)
        except EOFError:
            return
        _write(answers, pickle.dumps(prepare(content, spec), protocol=pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
