"""The page on messages and alerts: what people are told, by Slack and by Prometheus."""

from typing import Any

import yaml

from alerts import topics
from alerts.topics import Severity, Topic
from datasets_defs.core.settings import ROOT
from ops.reference.docstrings import members
from ops.reference.markdown import bullets, code, page, prose, table

LEAD = (
    "The loop turns events of the history into at most one message each, and `deliver_alerts` sends them to Slack. A "
    "message has a title, *Why* (the event's reason), its figures, *Next* and the commands below. Words in braces are "
    "filled in. Prometheus rules are the second path, and the only one when the loop is down."
)


def write() -> str:
    """Write the page."""
    severities = members(Severity)
    grades = bullets(f"{code(grade.value)}: {severities[grade.name]}" for grade in Severity)
    rows = [(code(name), topic.severity, topic.title, topic.next, _commands(topic)) for name, topic in listed().items()]
    messages = table(("message", "severity", "title", "Next", "commands"), rows)
    return page(
        "Messages and alerts",
        LEAD,
        f"## Severity\n\n{grades}",
        f"## Messages\n\nThe texts stand in `alerts/topics.py`.\n\n{messages}",
        "## Prometheus alerts\n\nThe rules stand in `alerts/rules/driftloop.yml`; each has its heading in the "
        f"[runbook](../how-to/runbook.md).\n\n{_alerts()}",
    )


def listed() -> dict[str, Topic]:
    """Give every message by its name in `alerts/topics.py`, in lower case."""
    return {name.lower(): value for name, value in vars(topics).items() if isinstance(value, Topic)}


def alerts() -> list[dict[str, Any]]:
    """Give every Prometheus rule."""
    content = yaml.safe_load((ROOT / "alerts" / "rules" / "driftloop.yml").read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def _commands(topic: Topic) -> str:
    return ", ".join(map(code, topic.commands))


def _alerts() -> str:
    rows = []
    for rule in alerts():
        anchor = f"[{rule['alert']}](../how-to/runbook.md#{rule['alert'].lower()})"
        text = rule["annotations"]["description"]
        rows.append((anchor, rule["labels"]["severity"], str(rule.get("for", "0m")), prose(text)))
    return table(("alert", "severity", "for", "text"), rows)
