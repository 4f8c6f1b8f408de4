"""One name, one meaning: event kinds come from their enum."""

import ast
from collections.abc import Iterator

import pytest

from alerts.topics import CHOOSERS, SILENT
from datasets_defs.core.event_kinds import EventKind, Trouble
from datasets_defs.core.settings import ROOT

PACKAGES = ("datasets_defs", "monitors", "training", "alerts", "serving", "ops", "dags")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
KINDS = {kind.value for kind in EventKind}


def literals(node: ast.AST) -> set[str]:
    """Give the event kinds that are written as strings in an expression."""
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value in KINDS}


def literal_kinds(tree: ast.AST) -> Iterator[str]:
    """Find kinds that are compared with, listed for, or appended to a history as strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if any(
                isinstance(part, ast.Attribute) and part.attr == "kind" for side in parts for part in ast.walk(side)
            ):
                yield from literals(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "note" and len(node.args) > 1:
                yield from literals(node.args[1])
            elif node.func.attr in ("newest_of", "events_of") or (
                node.func.attr == "in_" and getattr(node.func.value, "attr", "") == "kind"
            ):
                yield from literals(node)


@pytest.mark.parametrize(
    "line",
    [
        'event.kind == "moved"',
        'event.kind in ("moved", "claimed")',
        '[event.kind for event in events[:1]] != ["opened"]',
        'table.kind.in_(["moved"])',
        'ledger.newest_of(model, "blind", "sighted")',
        'ledger.note(model, "note", reason, {}, actor=actor)',
        'ledger.note(model, "moved" if changed else kind, reason, {}, actor=actor)',
    ],
)
def test_a_literal_kind_is_found(line: str):
    """The search sees a kind in a comparison, in a query and in an append."""
    assert list(literal_kinds(ast.parse(line)))


def test_no_event_kind_is_a_literal():
    """Code names an event's kind by the enum, so that a kind that nobody writes cannot be asked for."""
    named = {str(path.relative_to(ROOT)): list(literal_kinds(ast.parse(path.read_text()))) for path in SOURCES}
    assert {path: kinds for path, kinds in named.items() if kinds} == {}


def test_alerts_know_each_kind_of_event():
    """Each kind of event either has a message or is listed as read in the history only; none is both."""
    assert set(CHOOSERS) | SILENT == set(EventKind)
    assert not set(CHOOSERS) & SILENT


def test_what_can_be_in_trouble_has_both_its_kinds():
    """Each trouble begins and ends with a kind of event of its own."""
    assert {kind for trouble in Trouble for kind in (trouble.begins, trouble.ends)} == {
        kind for kind in EventKind if kind.endswith(("_trouble", "_mended"))
    }


def test_no_two_classes_share_a_name():
    """A class's name stands for one thing in all packages, so that a search for it leads to one place."""
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
