"""From an event of the history to a message for people: what happened, why, what is next, how to undo it. Pure.

Data is shown in Slack's `plain_text` elements, which know no mentions, links or markup; `mrkdwn` is escaped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alerts.topics import Severity, Topic, topic_of
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.events import Event

HEADER_LIMIT = 150
SECTION_LIMIT = 3000
FIELD_LIMIT = 200
"""Ours; Slack allows 2000, but a figure is short."""
FIELDS = 10
BLOCKS = 50
TEXT_LIMIT = 4000
"""Slack's recommended limit of a message's fallback text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What people read. `text` is plain (a sender escapes it); `blocks` is Slack's Block Kit, ready to send."""

    severity: Severity
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)


def message_for(event: Event, incident: Incident | None) -> Message | None:
    """Write the message about an event, or None when it needs none; `incident` is the event's, if it has one."""
    topic = topic_of(event, incident)
    if topic is None:
        return None
    words = _words(event, incident)
    title = topic.title.format_map(words)
    following = topic.next.format_map(words)
    commands = [command.format_map(words) for command in topic.commands if "{id}" not in command or event.incident_id]
    blocks = [
        {"type": "header", "text": plain_text(title, HEADER_LIMIT)},
        {"type": "section", "text": plain_text(f"Why: {event.reason}", SECTION_LIMIT)},
        *_figures(event.evidence),
        {"type": "section", "text": plain_text(f"Next: {following}", SECTION_LIMIT)},
        *_commands(commands),
        {"type": "context", "elements": [plain_text(_footer(event, topic), SECTION_LIMIT)]},
    ]
    text = f"{title}. {event.reason}"
    return Message(severity=topic.severity, text=cut(clean(text), TEXT_LIMIT), blocks=blocks[:BLOCKS])


def escape(text: str) -> str:
    """Escape what Slack's `mrkdwn` reads as mentions, links and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """Shorten a text to a limit in characters, with an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean(text: str) -> str:
    """Take out what cannot be seen: control characters, and marks that turn the direction of writing."""
    return "".join(char if char == "\n" or (char.isprintable() and char not in _TURNS) else " " for char in text)


def plain_text(text: str, limit: int) -> dict[str, Any]:
    """Give a Block Kit text that Slack shows as it is."""
    return {"type": "plain_text", "text": cut(clean(text), limit) or "-", "emoji": False}


_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _Words(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _words(event: Event, incident: Incident | None) -> Mapping[str, str]:
    evidence = event.evidence
    trained = evidence.get("challenger_version") or (incident and incident.challenger_version)
    known = {
        "model": event.model,
        "id": event.incident_id,
        "challenger": f"challenger version {trained}" if trained else "challenger",
        "version": evidence.get("to_version"),
        "former": evidence.get("from_version"),
        "signal": evidence.get("signal"),
        "what": evidence.get("what"),
        "answer": evidence.get("answer"),
        "share": f"{evidence['share']:.0%}" if isinstance(evidence.get("share"), int | float) else None,
    }
    return _Words({name: str(value) for name, value in known.items() if value is not None})


def _figures(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Show the evidence's plain values, two to a row; what is nested is for `driftloop incident show`."""
    shown = [(name, _figure(value)) for name, value in evidence.items() if isinstance(value, str | int | float)]
    if not shown:
        return []
    fields = [plain_text(f"{name.replace('_', ' ')}: {value}", FIELD_LIMIT) for name, value in shown[:FIELDS]]
    return [{"type": "section", "fields": fields}]


def _figure(value: str | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commands(commands: list[str]) -> list[dict[str, Any]]:
    if not commands:
        return []
    lines = "\n".join(f"`{escape(clean(command)).replace('`', '')}`" for command in commands)
    return [{"type": "section", "text": {"type": "mrkdwn", "text": cut(lines, SECTION_LIMIT), "verbatim": True}}]


def _footer(event: Event, topic: Topic) -> str:
    where = f"incident {event.incident_id}" if event.incident_id else event.model
    return f"{topic.severity} · {where} · event {event.seq} · {event.actor} · {event.at:%Y-%m-%d %H:%M:%S}Z"
