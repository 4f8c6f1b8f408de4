"""What became of the documents of each source, and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DUPLICATE, NEAR_DUPLICATE = "duplicate", "near duplicate"
OVER_QUOTA = "over the source's quota"
OVERLAP = "overlaps with a text that models are judged by"
HELD_OUT_USER = "its user is held out"
BENIGN = {DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA, OVERLAP, HELD_OUT_USER}
"""Reasons that say nothing against a source."""


@dataclass(slots=True)
class SourceReport:
    """One source."""

    rows: int = 0
    """Rows read."""
    kept: int = 0
    bytes: int = 0
    """UTF-8 bytes of the kept texts."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Documents left out, by reason."""
    redacted: Counter[str] = field(default_factory=Counter)
    """Documents that something was taken out of, by what."""
    languages: Counter[str] = field(default_factory=Counter)
    """Of the kept documents."""
    broken: str | None = None
    """Why nothing, or not everything, of the source is used."""

    @property
    def invalid(self) -> int:
        """Documents that should not have come at all."""
        return sum(count for reason, count in self.dropped.items() if reason not in BENIGN)

    def plain(self) -> dict[str, Any]:
        """Give the source's part of the report as JSON has it."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "bytes": self.bytes,
            "dropped": dict(self.dropped.most_common()),
            "redacted": dict(self.redacted.most_common()),
            "languages": dict(self.languages.most_common()),
            "broken": self.broken,
        }

    def why_broken(self, most: float) -> str | None:
        """Say that more than this share is invalid, and what is wrong with it."""
        if not self.rows or self.invalid <= most * self.rows:
            return None
        problems = ", ".join(
            f"{count} with {reason}" for reason, count in self.dropped.most_common() if reason not in BENIGN
        )
        return f"{self.invalid} of {self.rows} documents are invalid ({problems}); at most {most:.0%} may be"


@dataclass(slots=True)
class Report:
    """One preparation."""

    sources: dict[str, SourceReport] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)
    """Rows of the snapshot."""
    split: str = ""
    """How the held-out documents were chosen."""
    contributors: dict[str, dict[str, int]] = field(default_factory=dict)
    """Fresh rows by contributor, of those to train on and of those that judge."""
    floods: str = ""
    """Texts that came again and again; one copy of each is kept."""
    phrases: list[dict[str, Any]] = field(default_factory=list)
    """Phrases that are strangely frequent: those of the kind `injected` were dropped with their documents."""
    older: SourceReport = field(default_factory=SourceReport)
    """Rows that the parent was trained on: what today's policy leaves out of them is not replayed."""
    overlap: int | None = None
    """Training texts that overlap with judging ones, as counted in the finished snapshot; None before."""
    snapshot_sha256: str | None = None

    def of(self, source: str) -> SourceReport:
        """Give a source's part."""
        return self.sources.setdefault(source, SourceReport())

    def plain(self) -> dict[str, Any]:
        """Give the report as JSON has it."""
        return {
            "sources": {name: source.plain() for name, source in self.sources.items()},
            "older": self.older.plain(),
            "parts": dict(sorted(self.parts.items())),
            "split": self.split,
            "contributors": self.contributors,
            "floods": self.floods,
            "phrases": self.phrases,
            "overlap": self.overlap,
            "snapshot_sha256": self.snapshot_sha256,
        }


def sentence(report: Mapping[str, Any] | None) -> str:
    """Say in one line what was kept and why not more, from a report's JSON."""
    if report is None:
        return "frozen without a report"
    sources: Mapping[str, Any] = report["sources"]
    rows, kept = (sum(source[name] for source in sources.values()) for name in ("rows", "kept"))
    reasons: Counter[str] = Counter()
    for source in sources.values():
        reasons.update(source["dropped"])
    parts = [f"{kept} of {rows} documents kept"]
    parts += [f"{count} {reason}" for reason, count in reasons.most_common(6)]
    parts += [f"{name}: {source['broken']}" for name, source in sources.items() if source["broken"]]
    older = report.get("older", {}).get("dropped", {})
    parts += [f"{count} older rows are not replayed under today's policy: {reason}" for reason, count in older.items()]
    return "; ".join(parts)
