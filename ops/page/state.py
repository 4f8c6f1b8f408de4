"""What the page shows of a model, as values: conditions, incident, outlook, pause. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.outlook import Outlook
from datasets_defs.ledger.pauses import Pause
from datasets_defs.ledger.retirements import Retirement
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.model import ModelSpec

WORST_FIRST = (Condition.BAD, Condition.STALE, Condition.NO_DATA, Condition.WARN, Condition.OK)
NOW_AND_THEN = frozenset({"drift_report", "embedding"})
"""Signals without a verdict on every window: an old one is no blindness, and they count for no condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model as of now."""

    name: str
    spec: ModelSpec | None
    problem: str
    """Why there is no spec; empty when there is one."""
    champion: Champion | None
    route: Route | None
    """How its users are divided between two versions; None: the champion answers all."""
    incident: Incident | None
    """The open one."""
    pause: Pause | None
    """Only while it lasts."""
    retired: Retirement | None
    verdicts: tuple[Verdict, ...]
    """The newest of each signal; one that is too old to count is STALE."""
    unjudged: tuple[str, ...]
    """Signals that the spec names and that never had a verdict."""
    outlook: Outlook

    @property
    def condition(self) -> Condition:
        """The worst of what is known; a model of which nothing is known is NO_DATA, never OK."""
        missing = [Condition.NO_DATA] if self.unjudged else []
        return worst([*missing, *(verdict.condition for verdict in self.counted)])

    @property
    def counted(self) -> list[Verdict]:
        """The verdicts that make the condition: not those that only wait for rows or labels."""
        return [verdict for verdict in self.verdicts if verdict.signal not in NOW_AND_THEN and not verdict.waits]

    def signals_in(self, condition: Condition) -> list[str]:
        """Name the signals in a condition."""
        names = [verdict.signal for verdict in self.counted if verdict.condition is condition]
        return names + (list(self.unjudged) if condition is Condition.NO_DATA else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedChange:
    """One change of champion, with what it rests on."""

    kind: str
    from_version: int | None
    to_version: int
    token: int
    incident_id: int | None
    at: datetime
    confirmed_at: datetime | None
    reason: str
    actor: str
    decision: str | None
    """The gate's; None: there was no evaluation."""
    gate_reason: str | None
    scores: dict[str, dict[str, float]]
    """`recent` and `old`: champion, challenger, low, high, documents."""
    rows_sha256: str | None
    """Of the frozen rows that both were scored on."""
    source: str | None
    """Where the version's reference rows come from, in words."""
    reference_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """A message that people have not got yet."""

    at: datetime
    severity: str
    text: str
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLink:
    """The latest drift report of a model."""

    window_end: datetime
    reason: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All models as of now."""

    now: datetime
    last_end: datetime
    """End of the newest window that should have been judged."""
    length: timedelta
    models: tuple[Model, ...]
    """The worst first."""
    cells: dict[str, dict[datetime, Condition | None]]
    """By model: the worst condition of each window; None: judged, and only waiting."""
    incidents: dict[str, list[Incident]]
    """By model: those that touch the shown windows."""
    changes: dict[str, list[ServedChange]]
    """By model: those in the shown windows."""
    unsent: int
    oldest_unsent: datetime | None
    heartbeats: dict[str, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One model with its past."""

    now: datetime
    last_end: datetime
    length: timedelta
    model: Model
    windows: dict[str, list[Verdict]]
    """By signal: the verdicts on the shown windows."""
    incidents: list[Incident]
    """The open one and the past ones, newest first."""
    changes: list[ServedChange]
    """Newest first."""
    events: list[Event]
    """The newest, oldest of them first."""
    broken: list[str]
    """A sentence for each break of their hash chain."""
    unsent: list[Unsent]
    report: ReportLink | None


def worst(conditions: list[Condition]) -> Condition:
    """Give the worst condition; of nothing it is NO_DATA."""
    return min(conditions, key=WORST_FIRST.index, default=Condition.NO_DATA)


def urgency(model: Model) -> tuple[int, int, str]:
    """Give the sort key by which whoever is on call reads: open incidents first, then by condition, then by name."""
    return (0 if model.incident is not None else 1, WORST_FIRST.index(model.condition), model.name)


def expected_signals(spec: ModelSpec | None) -> tuple[str, ...]:
    """Name the signals that are judged on every window; without a spec, those that every model has."""
    always = ("data", "drift", "loss")
    if spec is None:
        return always
    quality, gpu = ([signal.name for signal in signals] for signals in (spec.quality, spec.gpu))
    named = {"quality": quality, "label": [label.name for label in spec.labels], "gpu": gpu}
    return (*always, *(f"{kind}:{name}" for kind, names in named.items() for name in names))
