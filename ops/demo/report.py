"""The demo's closing table."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.verdicts import recent_verdicts
from ops.demo.texts import MODEL

if TYPE_CHECKING:
    from ops.demo.story import Story
    from ops.stack.up import StackInfo

NEW_TEXT_FALLS = 0.20
"""Least fall of bits per byte on the new text."""
OLD_TEXT_RISES = 0.02
"""Most rise of bits per byte on the old text."""


def closing(console: Console, db: Engine, story: "Story", info: "StackInfo", seconds: float) -> None:
    """Print what happened and where to look."""
    console.rule("What happened")
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("Ordinary windows without a false alarm", str(story.quiet_windows))
    table.add_row("Windows from the shift to the incident", str(story.windows_to_detection))
    table.add_row("Seconds from the incident to serving", f"{story.seconds_to_serving:.0f}")
    table.add_row("Champion", f"version {story.from_version} → {story.to_version}")
    for part, name in (("recent", f"Bits per byte on new text ({story.new_domain})"), ("old", "… on old text")):
        before, after = _both(story, part)
        table.add_row(name, f"{before:.3f} → {after:.3f} ({after / before - 1:+.1%})")
    problems = Ledger(db).verify(MODEL)
    table.add_row("History", "; ".join(problems) or f"hash chain whole: `driftloop history {MODEL}`")
    table.add_row("The whole demo took", f"{seconds:.0f} s")
    console.print(table)
    console.rule("Where to look")
    places = {
        **info.urls,
        "Airflow login": f"{info.airflow_user}, password in {info.home / 'credentials.json'}",
        "last drift report": last_report(db) or "none",
    }
    for name, place in places.items():
        console.print(f"  {name:<18} {place}", soft_wrap=True, highlight=False)


def last_report(db: Engine) -> str | None:
    """Give the address of the newest drift report, if there is one."""
    for verdict in recent_verdicts(db, MODEL, "drift_report", until=datetime.now(UTC), count=20):
        if url := verdict.evidence.get("report_html"):
            return str(url)
    return None


def require_improvement(story: "Story") -> None:
    """Check that the new champion is better on new text and no worse on old.

    Raises:
        ContractError: it is not; says by how much.
    """
    before, after = _both(story, "recent")
    if after > before * (1 - NEW_TEXT_FALLS):
        raise ContractError(f"bits per byte on new text fell from {before:.3f} to {after:.3f} only")
    before, after = _both(story, "old")
    if after > before * (1 + OLD_TEXT_RISES):
        raise ContractError(f"bits per byte on old text rose from {before:.3f} to {after:.3f}")


def _both(story: "Story", part: str) -> tuple[float, float]:
    scores = story.scores[part]
    return scores["champion"], scores["challenger"]
