"""The page on incidents: their states, the moves between these, causes and actions."""

from collections.abc import Mapping
from enum import StrEnum

from datasets_defs.core.conditions import Condition
from datasets_defs.core.incidents import TERMINAL, TRANSITIONS, Action, Cause, State
from ops.reference.docstrings import members
from ops.reference.markdown import code, page, table

LEAD = (
    "A model has at most one open incident. Each arrow is one compare-and-set in PostgreSQL and one event in the "
    "history. An incident is open in every state but "
    + " and ".join(code(state.value) for state in State if state in TERMINAL)
    + "."
)


def write() -> str:
    """Write the page."""
    arrows = [
        f"    {frm.value} --> {to.value}" for frm, targets in TRANSITIONS.items() for to in State if to in targets
    ]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])
    texts = members(State)
    rows = [(code(state.value), texts[state.name], _targets(state)) for state in State]
    return page(
        "Incidents: states and transitions",
        LEAD,
        f"## The diagram\n\n{diagram}",
        f"## States\n\n{table(('state', 'meaning', 'goes on to'), rows)}",
        f"## Causes\n\n{_members(Cause, members(Cause))}",
        f"## Actions\n\n{_members(Action, members(Action))}",
        "## Conditions of a signal\n\n" + _members(Condition, members(Condition)),
    )


def _targets(state: State) -> str:
    return ", ".join(code(to.value) for to in State if to in TRANSITIONS[state])


def _members(kind: type[StrEnum], texts: Mapping[str, str]) -> str:
    return table(("value", "meaning"), [(code(member.value), texts[member.name]) for member in kind])
