"""What the demo has seen so far."""

from dataclasses import dataclass, field
from datetime import datetime

from datasets_defs.core.incidents import Incident
from ops.demo.pace import Tempo


@dataclass(slots=True)
class Story:
    """What happened, for the closing table."""

    quiet_domain: str
    new_domain: str
    pace: Tempo
    """The clock that it is told by."""
    quiet_windows: int = 0
    shifted_at: datetime | None = None
    incident: Incident | None = None
    windows_to_detection: int = 0
    from_version: int = 0
    to_version: int = 0
    seconds_to_serving: float = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    windows_after: int = 0
