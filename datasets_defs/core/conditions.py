"""Conditions of a reading, verdicts over a window, and outcomes of a step: values that carry their reason."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window


class Condition(StrEnum):
    """How a signal stands. NO_DATA and STALE are not health: nothing is started, resolved or undone on them."""

    OK = "OK"
    """Measured, and within its limits."""
    WARN = "WARN"
    """Measured, and between the warning limit and the limit."""
    BAD = "BAD"
    """Measured, and beyond its limit."""
    NO_DATA = "NO_DATA"
    """Too little or nothing to judge."""
    STALE = "STALE"
    """The newest sample is older than its source promises."""

    @property
    def is_known(self) -> bool:
        """Whether something was measured at all."""
        return self not in (Condition.NO_DATA, Condition.STALE)


class About(StrEnum):
    """What a signal speaks of, and so what a bad one calls for."""

    MODEL = "model"
    """The model's answers or its loss: a retrain may help, and a fresh promotion is taken back."""
    ANSWERS = "answers"
    """Whether requests are answered at all: a fresh promotion is taken back; else a person looks."""
    MACHINES = "machines"
    """Speed, heat, faults: a person looks; nothing is trained or taken back."""
    CAPACITY = "capacity"
    """How full the machines are: more of them help, and `scale_gpu` is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A monitor's judgement of one signal of one model over one window."""

    model: str
    signal: str
    """`data`, `drift`, `loss`, `drift_report`, `quality:NAME`, `label:NAME` or `gpu:NAME`."""
    window: Window
    condition: Condition
    reason: str
    """One sentence for people, with the measured figure and its limit."""
    method: str
    """What computed the score; scores of different methods are not comparable."""
    score: float | None = None
    limit: float | None = None
    champion_version: int | None = None
    """Version that served the window; a verdict on one champion says nothing of the next."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """JSON-ready details: per-column results, sample counts, artifact URLs.

    `lag_seconds`: how long before the window the rows lie that it speaks of. `waits`: what it needs is not due yet.
    `covers`: how many windows it speaks of, where those before had too few rows to be judged alone; 1 if not said.
    """

    @property
    def since(self) -> datetime:
        """Start of what it speaks of: the window's own, or earlier where labels had to be waited for."""
        return self.window.start - timedelta(seconds=self.evidence.get("lag_seconds", 0))

    @property
    def covers(self) -> Window:
        """All the windows that it speaks of as one, by the clock."""
        return Window(self.window.before(int(self.evidence.get("covers", 1)) - 1).start, self.window.end)

    @property
    def is_learning(self) -> bool:
        """Whether the profile does not know this hour of the week yet."""
        return "learning" in self.evidence

    @property
    def waits(self) -> bool:
        """Whether nothing is known only because it is not due yet, which is no blindness."""
        return self.condition is Condition.NO_DATA and bool(self.evidence.get("waits"))

    def as_of(self, now: datetime, *, patience: timedelta) -> "Verdict":
        """Give what the verdict is worth later: one on a window that ended over `patience` ago is STALE."""
        if now <= self.window.end + patience:
            return self
        reason = f"last judged {self.window.end:%Y-%m-%d %H:%M}Z as {self.condition}; nothing since"
        return replace(self, condition=Condition.STALE, reason=reason, score=None)


@dataclass(frozen=True, slots=True)
class RingKey:
    """Partition key of a wake-up: `model|incident|ring`, never used twice."""

    model: str
    incident_id: int
    ring: int

    def __str__(self) -> str:
        return f"{self.model}|{self.incident_id}|{self.ring}"

    @classmethod
    def parse(cls, text: str) -> "RingKey":
        """Read a partition key.

        Raises:
            ContractError: the text is not `model|incident|ring`.
        """
        match text.split("|"):
            case [model, incident, ring] if model and incident.isdigit() and ring.isdigit():
                return cls(model, int(incident), int(ring))
        raise ContractError(f"partition key {text!r}: expected 'model|incident|ring', e.g. 'docs-writer|17|2'")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step of the loop did, and whom to wake next (nobody when `ring` is None)."""

    reason: str
    ring: RingKey | None = None
    is_done: bool = False
    """Whether something was done at a person's word, though nobody is to be woken."""
