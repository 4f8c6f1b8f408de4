"""The page on the kinds of events in a model's history."""

from alerts.topics import SILENT
from datasets_defs.core.event_kinds import EventKind
from ops.reference.docstrings import members
from ops.reference.markdown import code, page, table

LEAD = (
    "`driftloop history MODEL` prints a model's events in order. Each event has a number, a kind, a reason, its "
    "evidence and who caused it; its hash covers the event before it. Nothing of the loop can change or remove an "
    "event."
)


def write() -> str:
    """Write the page."""
    texts = members(EventKind)
    rows = [
        (code(kind.value), texts[kind.name], "history only" if kind in SILENT else "history and a message")
        for kind in EventKind
    ]
    return page("Event kinds", LEAD, table(("kind", "meaning", "where people read it"), rows))
