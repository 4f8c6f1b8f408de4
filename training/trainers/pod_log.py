"""How far a pod's log was read: its lines carry the time at which each was written, by which each is told once."""

FIRST_LINES, MOST_LINES = 20, 1000
"""Lines that are asked for at first, and later on."""
OVERLAP_SECONDS = 5
"""How far a question reaches back before the last one: the cluster's clock is another."""


class LogReading:
    """What was read of one pod's log so far. Times are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._newest, self._read_at = "", 0.0

    def limits(self, now: float) -> dict[str, int]:
        """Give which part of the log is to be asked for, as the API's parameters."""
        if not self._newest:
            return {"tail_lines": FIRST_LINES}
        return {"tail_lines": MOST_LINES, "since_seconds": int(now - self._read_at) + OVERLAP_SECONDS}

    def new_lines(self, content: str, now: float) -> list[str]:
        """Take the lines out of the answer that are newer than those given before, without their times."""
        self._read_at = now
        stamped = [line.partition(" ") for line in content.splitlines()]
        fresh = [(at, words) for at, _, words in stamped if at > self._newest]
        if fresh:
            self._newest = fresh[-1][0]
        return [words for _, words in fresh]
