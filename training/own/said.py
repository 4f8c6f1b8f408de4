"""What a team's own trainer says on its output: lines for the log, and JSON lines with progress and metrics. Pure."""

import math
from collections import deque
from dataclasses import dataclass, field

from training.fit.plan import Progress
from training.own.numbers import numbers_in

MOST_NAMES, MOST_POINTS = 50, 1_000
"""Metrics that are kept of one training, and points of each; of a longer curve every second point, and so on."""
LAST_LINES = 30
_COUNTED = ("step", "steps")


@dataclass(slots=True)
class Said:
    """What was said so far."""

    steps: int = 0
    """Planned, as far as it says; 0: it never said."""
    progress: Progress | None = None
    curves: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    """(step, value, second) by name."""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    """The newest lines that are no JSON."""
    every: dict[str, int] = field(default_factory=dict)
    """One in so many points of a name is kept."""
    seen: dict[str, int] = field(default_factory=dict)

    def take(self, line: str, second: float) -> Progress | None:
        """Take a line of output, said `second` seconds after the beginning; give the progress that it reports."""
        numbers = numbers_in(line)
        if numbers is None:
            if line.strip():
                self.last.append(line.rstrip())
            return None
        step = max(0, int(numbers.get("step", self.progress.step if self.progress else 0)))
        self.steps = max(int(numbers.get("steps", self.steps)), step, 1)
        for name, value in numbers.items():
            if name not in _COUNTED:
                self._keep(name, step, value, second)
        self.progress = Progress(
            step=step,
            steps=self.steps,
            loss=numbers.get("loss", self.progress.loss if self.progress else math.nan),
            elapsed_seconds=second,
            tokens_per_second=numbers.get("tokens_per_second", 0.0),
            validation=numbers.get("validation_bits_per_byte"),
        )
        return self.progress

    def _keep(self, name: str, step: int, value: float, second: float) -> None:
        if name not in self.curves and len(self.curves) >= MOST_NAMES:
            return
        curve = self.curves.setdefault(name, [])
        every, seen = self.every.setdefault(name, 1), self.seen.get(name, 0)
        self.seen[name] = seen + 1
        if seen % every:
            return
        curve.append((step, value, second))
        if len(curve) > MOST_POINTS:
            self.curves[name], self.every[name] = curve[::2], every * 2
