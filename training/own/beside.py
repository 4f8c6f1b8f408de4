"""A team's own command in the container beside this one: begun, heard and ended by files that both containers share.

Its image knows nothing of driftloop. A few lines of `/bin/sh`, which the pod's description brings along, wait for the
word to begin and write the command's lines into one pipe. They end it when the end of the other pipe is closed, which
the kernel does with this process's last breath.
"""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TALK = "DRIFTLOOP_BESIDE"
"""Variable of the environment that names the folder which the two containers talk by."""
FETCH, DELIVER = "fetch", "deliver"
"""What driftloop's containers do: before the team's, and beside it."""
FOLDERS = ("data", "champion", "output", "checkpoints")
"""What the team's container sees of the attempt's folder."""
LINES, LEASH, GO, OVER, CODE = "lines", "leash", "go", "over", "code"
HOLD_SECONDS = 2.0
END_SECONDS = 30.0
"""How long a command may take to be gone once it was ended."""
MOST_SIGNALS = 128 + 64
KILLED = -9
"""As `subprocess` says it of a command whose container was killed before it could say how it ended."""
WRAPPER = """\
talk=$1; shift
trap 'exit 143' TERM INT
until [ -e "$talk/go" ]; do [ -e "$talk/over" ] && exit 0; sleep 1; done
exec >"$talk/lines" 2>&1 </dev/null
echo "the command begins"
"$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
(read -r _ <"$talk/leash"; kill -KILL 0) >/dev/null 2>&1 &
leash=$!
while :; do wait "$child"; code=$?; kill -0 "$child" 2>/dev/null || break; done
echo "$code" >"$talk/code.new" && mv "$talk/code.new" "$talk/code"
kill "$leash" 2>/dev/null
exit "$code"
"""
"""What `/bin/sh` of the team's image runs: the folder to talk by, then the command. POSIX, without a program but `sh`,
`sleep` and `mv`."""


def lay_out(talk: Path) -> None:
    """Make the pipes, before either container begins."""
    talk.mkdir(parents=True, exist_ok=True)
    for name in (LINES, LEASH):
        with suppress(FileExistsError):
            os.mkfifo(talk / name, 0o660)


class CommandBeside:
    """A run of the command in the container beside this one; made once it runs."""

    def __init__(self, talk: Path, hold: Callable[[], None]) -> None:
        self._talk = talk
        self._leash = os.open(talk / LEASH, os.O_RDWR)  # opened for both, so that it need not wait for the other end
        self.stream = os.open(talk / LINES, os.O_RDONLY | os.O_NONBLOCK)
        (talk / GO).touch()
        _await_words(self.stream, hold)
        os.set_blocking(self.stream, True)

    def code(self) -> int | None:
        """Give its exit code, negative for a signal; None while somebody of it may still write."""
        return self._said() if _is_closed(self.stream) else None

    def end(self) -> int:
        """Let go of the leash, so that the command is killed, and wait until nobody of it can write any more."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        give_up = time.monotonic() + END_SECONDS
        while (code := self.code()) is None and time.monotonic() < give_up:
            time.sleep(0.1)
        return KILLED if code is None else code

    def _said(self) -> int:
        try:
            code = int((self._talk / CODE).read_text())
        except (OSError, ValueError):
            return KILLED
        return 128 - code if 128 < code <= MOST_SIGNALS else code  # a shell says 128 + N of what signal N ended


def release(talk: Path) -> None:
    """Let the container beside this one end, where the command never began."""
    (talk / OVER).touch()


def _await_words(stream: int, hold: Callable[[], None]) -> None:
    """Wait for the first line; whoever watches the pod sees to a container that never comes."""
    waiting = select.poll()
    waiting.register(stream, select.POLLIN | select.POLLHUP)
    held = -HOLD_SECONDS
    while not waiting.poll(250):
        if time.monotonic() - held >= HOLD_SECONDS:
            hold()
            held = time.monotonic()


def _is_closed(stream: int) -> bool:
    """Say whether no process holds the other end any more."""
    asked = select.poll()
    asked.register(stream, select.POLLIN)
    return any(event & select.POLLHUP for _, event in asked.poll(0))
