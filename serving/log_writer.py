"""Writes the inference log behind the requests' backs: bounded, batched, patient with a database that is away."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import psycopg
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from datasets_defs.core.errors import TransientError
from datasets_defs.store.inference_log import Inference

log = logging.getLogger(__name__)

_REFUSED = (
    DataError, IntegrityError, psycopg.DataError, psycopg.IntegrityError, ValueError, TypeError, RecursionError,
)  # fmt: skip
"""The database is there and does not want this row, or the row cannot be written down at all."""
_AWAY = (TransientError, SQLAlchemyError, psycopg.Error)
"""Anything else it can say: the rows are kept and written later."""

_TELL_EVERY = 1000
"""Rows lost between two lines about it."""


class LogWriter:
    """A queue and the thread that empties it; `put` never waits and never fails.

    What does not fit is dropped, newest first, and counted: rows that wait were measured before the trouble began.
    What it does not do: survive a kill -9; rows that were still waiting are lost then.
    """

    def __init__(
        self,
        append: Callable[[Sequence[Inference]], int],
        *,
        wrote: Callable[[Inference], None],
        dropped: Callable[[Inference], None],
        capacity: int = 10_000,
        capacity_chars: int = 64_000_000,
        batch: int = 500,
        interval: float = 0.5,
        max_wait: float = 10.0,
    ) -> None:
        """`capacity` is in rows and `capacity_chars` in characters of text; `interval` and `max_wait` are in seconds.

        The first lies between batches, the second is the longest time between tries.
        """
        self._append, self._wrote, self._dropped = append, wrote, dropped
        self._capacity, self._batch, self._interval, self._max_wait = capacity, batch, interval, max_wait
        self._capacity_chars, self._chars = capacity_chars, 0
        self._rows: deque[Inference] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self.problem: str | None = None
        """Why rows are not being written now, for /healthz."""
        self.lost = 0
        """Rows that were dropped since the start."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def put(self, row: Inference) -> None:
        """Take a row, or drop it when the queue is full."""
        with self._changed:
            chars = _chars(row)
            fits = len(self._rows) < self._capacity and (not self._rows or self._chars + chars <= self._capacity_chars)
            if fits:
                self._rows.append(row)
                self._chars += chars
                if len(self._rows) == self._batch:  # once, so that an outage is not retried at every request
                    self._changed.notify()
        if not fits:
            self._lose(row)

    @property
    def waiting(self) -> int:
        """How many rows are not written yet."""
        return len(self._rows)

    def close(self, limit: float = 5.0) -> None:
        """Write what waits, for at most `limit` seconds; count as dropped what is left."""
        with self._changed:
            self._deadline = time.monotonic() + limit
            self._changed.notify()
        self._thread.join(limit + 5)
        left = len(self._rows)
        for row in list(self._rows):
            self.lost += 1
            self._dropped(row)
        if left:
            log.error("%d rows of the inference log were lost at shutdown: %s", left, self.problem or "out of time")

    def _run(self) -> None:
        wait = self._interval
        while True:
            with self._changed:
                if self._deadline is None:
                    self._changed.wait(wait)
                rows = [self._rows[i] for i in range(min(self._batch, len(self._rows)))]
                closing = self._deadline
            written = self._write(rows)
            if closing is not None and (not self._rows or time.monotonic() > closing):
                return
            if written:
                more = len(self._rows) >= self._batch
                wait = 0.0 if more else self._interval
            else:
                wait = min(max(wait, self._interval) * 2, self._max_wait)
                if closing is not None:
                    time.sleep(0.1)

    def _write(self, rows: list[Inference]) -> bool:
        """Write rows from the head of the queue and take them out; they stay when the database is away."""
        if not rows:
            return True
        try:
            self._append(rows)
        except _REFUSED as err:
            return self._refused(rows, (str(err) or type(err).__name__).splitlines()[0])
        except _AWAY as err:
            self.problem = str(err).splitlines()[0]
            log.warning("%d rows of the inference log wait: %s", len(self._rows), self.problem)
            return False
        self.problem = None
        self._take(len(rows))
        for row in rows:
            self._wrote(row)
        return True

    def _refused(self, rows: list[Inference], why: str) -> bool:
        if len(rows) > 1:  # one bad row must not take the others with it
            return all(self._write([row]) for row in rows)
        log.error("the inference log refused request %s: %s", rows[0].request_id, why)
        self._take(1)
        self._lose(rows[0])
        return True

    def _lose(self, row: Inference) -> None:
        self.lost += 1
        if self.lost % _TELL_EVERY == 1:
            log.error("the inference log has lost %d rows since the start; %s", self.lost, self.problem or "see above")
        self._dropped(row)

    def _take(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._chars -= _chars(self._rows.popleft())


def _chars(row: Inference) -> int:
    """Count the characters of a row's texts; a conversation counts twice, as prompt and as messages."""
    return len(row.prompt) * (1 if row.messages is None else 2) + len(row.completion or "")
