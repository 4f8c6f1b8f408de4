"""The harness of the benchmarks: what it prints and how it ends. Speed is not tested here."""

import json
import math
from collections.abc import Iterator

import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks.figures import Figure, cpu_seconds, interleaved, traced_bytes, wall_seconds, working_bytes


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]]]:
    code = bench.main(arguments)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


SLOW = (
    "control.commands", "control.fleet", "control.gateway", "control.latency", "control.sensing", "control.year",
    "decision.broken", "decision.delay", "decision.gate", "decision.policy", "decision.rollout", "drift.log",
    "drift.hour", "drift.policy", "drift.topic", "drift.wide", "evaluation.documents", "texts.asked", "training.data",
    "training.pairs", "training.tokens", "trust.planted",
)  # fmt: skip


MEASURED = {
    "s", "ms", "CPU seconds", "times", "bytes", "MiB", "MB/s", "tokens/s", "documents/s of one core",
    "images/s of one core", "pairs/s of one core",
}  # fmt: skip
"""Units of what takes time or room: nothing that was done takes none."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(bench.GROUPS)]
)
def test_what_comes_out_is_right_at_any_size(name: str) -> None:
    """At a small size, too, a group measures something, and each gate holds that speaks of results and not of speed."""
    figures = list(bench.GROUPS[name].quick())
    assert [figure for figure in figures if figure.exact and not figure.holds] == []
    assert [figure for figure in figures if not math.isfinite(figure.value) or figure.value < 0] == []
    assert [figure for figure in figures if not figure.exact and figure.unit in MEASURED and figure.value == 0] == []
    assert {figure.name.rsplit(".", 1)[0] for figure in figures} == {name}


def test_exit_code_and_choice(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One figure that misses its gate makes the exit code 1, unless it was not asked for."""

    def figures() -> Iterator[Figure]:
        yield Figure(name="drift.some.good", value=2.0, unit="s", gate=3, better="less")
        yield Figure(name="drift.some.slow", value=4.0, unit="s", gate=3, better="less")

    monkeypatch.setattr(bench, "GROUPS", {"drift.some": bench.Group(figures, figures)})
    assert run(capsys, "--only", "drift") == (
        1,
        [
            {"name": "drift.some.good", "value": 2.0, "unit": "s", "gate": "<= 3", "holds": True},
            {"name": "drift.some.slow", "value": 4.0, "unit": "s", "gate": "<= 3", "holds": False},
        ],
    )
    code, lines = run(capsys, "--only", "drift.some.good")
    assert (code, [line["name"] for line in lines]) == (0, ["drift.some.good"])


def test_an_unknown_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no figure has is an error that lists the groups."""
    with pytest.raises(SystemExit) as ended:
        bench.main(["--only", "drif.t"])
    assert ended.value.code == 2
    assert "drift.hour" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "gate", "better", "holds"),
    [
        (60.0, 60, "more", True),
        (59.9, 60, "more", False),
        (0.002, 0.002, "less", True),
        (0.0021, 0.002, "less", False),
        (True, True, "same", True),
        (False, True, "same", False),
        (float("nan"), 60, "more", False),
        (float("inf"), 60, "more", False),
        (float("nan"), None, "more", True),
    ],
)
def test_gates(value: float, gate: float | None, better: str, *, holds: bool) -> None:
    """A gate is kept at its edge, and never by what is no number; the line stays JSON all the same."""
    figure = Figure(name="drift.a.b", value=value, unit="", gate=gate, better=better)  # type: ignore[arg-type]
    assert figure.holds is holds
    assert json.loads(figure.line())["holds"] is holds


@pytest.mark.slow
def test_clocks_take_turns() -> None:
    """Works are measured in turns, as often as asked."""
    said: list[str] = []
    found = interleaved({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, runs=3)
    assert said == ["a", "b"] * 3
    assert set(found) == {"a", "b"}
    assert min(cpu_seconds(lambda: None), wall_seconds(lambda: None)) >= 0


def test_memory_is_what_the_work_adds() -> None:
    """A block of 64 MiB that is written and let go of is seen by both ways to measure."""
    size = 64 * 2**20
    assert 0.9 * size < working_bytes(lambda: bytes(size).replace(b"\0", b"\1")) < 4 * size
    assert size <= traced_bytes(lambda: bytes(size)) < 1.1 * size
