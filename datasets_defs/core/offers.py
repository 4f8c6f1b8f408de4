"""What is offered to a model: a version that somebody else made, or had made."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A version that a person wants to be champion."""

    version: int
    who: str
    reason: str
    force: bool
    """Whether it goes ahead though the gate says no."""
    not_before: datetime | None
    """What the incident waited for before, and waits for again if the version is not taken."""
    rows_uri: str | None = None
    """Rows that were frozen to judge it; None: it has held-out rows of its own."""
    rows_sha256: str | None = None
    unexcluded: str | None = None
    """What nobody can exclude about those rows: a person then decides on the gate's yes."""

    @classmethod
    def of(cls, evidence: Mapping[str, Any]) -> "Offer":
        """Read an offer from an incident's evidence."""
        later = evidence["not_before"]
        return cls(
            version=evidence["version"],
            who=evidence["by"],
            reason=evidence["reason"],
            force=evidence["force"],
            not_before=datetime.fromisoformat(later) if later else None,
            rows_uri=evidence.get("rows_uri"),
            rows_sha256=evidence.get("rows_sha256"),
            unexcluded=evidence.get("unexcluded"),
        )
