"""How tests wait: for a condition, with a limit, through one helper; and that no clock decides whether they pass."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT

SOURCES = sorted((ROOT / "tests").rglob("*.py"))
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "time"}
SLEEPS = {
    "benchmarks/gateway.py:worker": "callers that do not all begin at one moment",
    "benchmarks/gateway_upstream.py:app": "a server that takes a known time for each word",
    "chaos/run.py:_tick": "the pace at which a stack under attack is looked at",
    "chaos/test_outages.py:test_five_minutes_without": "the outage itself is so long",
    "integration/test_wake_ups.py:test_two_minutes_without_the_api_server": "the outage itself is so long",
    "monitors/prometheus/test_airflow_glue.py:wait": "nothing may happen before the value crosses",
    "serving/generation/simulated_api.py:_one": "a server that takes a known time for each answer",
    "training/kubernetes_server.py:_serve": "a server that is slow on purpose",
    "training/limits/test_governor.py:_trainer": "a trainer at work, so that a second one would be seen beside it",
}
"""Functions that let time pass, with what that time is."""
TIMED: dict[str, str] = {}
"""Functions that compare a clock in an assertion, with why nothing else can tell."""


def name_of(call: ast.Call) -> tuple[str, str]:
    """Give what a call is a method of, and its name."""
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return owner, name
        case ast.Name(id=name):
            return "", name
    return "?", "?"


def functions(tree: ast.Module) -> Iterator[tuple[str, list[ast.AST]]]:
    """Give every function with the nodes that are its own, not those of a function inside it."""

    def own(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield child
                yield from own(child)

    yield "", list(own(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, list(own(node))


def sleeps(nodes: list[ast.AST]) -> bool:
    """Say whether time is let pass; `asyncio.sleep(0)` only lets others work."""
    return any(
        isinstance(node, ast.Call)
        and name_of(node)[1] == "sleep"
        and name_of(node)[0] in ("time", "asyncio", "")
        and ast.unparse(node.args[0]) != "0"
        for node in nodes
    )


def reads_clock(node: ast.AST) -> bool:
    calls = (part for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(owner in ("time", "") and name in CLOCKS for owner, name in map(name_of, calls))


def asserts_time(nodes: list[ast.AST]) -> bool:
    """Say whether an assertion compares a clock, or what was read from one."""
    read = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and reads_clock(node.value)
        for part in node.targets
        for target in ast.walk(part)
        if isinstance(target, ast.Name)
    }
    return any(
        isinstance(compared, ast.Compare)
        and (
            reads_clock(compared) or any(isinstance(part, ast.Name) and part.id in read for part in ast.walk(compared))
        )
        for node in nodes
        if isinstance(node, ast.Assert)
        for compared in ast.walk(node.test)
    )


def where(path: Path, says) -> set[str]:
    relative = path.relative_to(ROOT / "tests")
    return {f"{relative}:{name}" for name, nodes in functions(ast.parse(path.read_text())) if says(nodes)}


def test_no_test_waits_for_time():
    """Time passes by itself in the listed functions alone: all others wait for what they need, and no longer."""
    assert {place for path in SOURCES for place in where(path, sleeps)} == set(SLEEPS)


def test_no_clock_decides_whether_a_test_passes():
    """No assertion compares a clock: on a busy machine it would fail for no reason."""
    assert {place for path in SOURCES for place in where(path, asserts_time)} == set(TIMED)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("time.sleep(1)", (True, False)),
        ("await asyncio.sleep(0)", (False, False)),
        ("began = time.monotonic()\n    assert time.monotonic() - began < 3", (False, True)),
        ("seconds = perf_counter() - began\n    assert seconds < 3", (False, True)),
        ("began = time.monotonic()\n    assert answer == 3", (False, False)),
        ("def inner():\n        time.sleep(1)", (False, False)),
    ],
)
def test_the_search_finds_what_it_looks_for(body: str, found: tuple[bool, bool]):
    """A sleep and a timed assertion are seen, in whichever function they stand; a clock that is only read is none."""
    nodes = next(nodes for name, nodes in functions(ast.parse(f"async def f():\n    {body}")) if name == "f")
    assert (sleeps(nodes), asserts_time(nodes)) == found
