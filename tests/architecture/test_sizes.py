"""How long files and functions may be."""

import ast
from pathlib import Path

from datasets_defs.core.settings import ROOT

PACKAGES = ("datasets_defs", "monitors", "training", "alerts", "serving", "ops", "dags")
SOURCES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts
)
MOST_LINES, MOST_OF_A_FUNCTION = 300, 40
DATA = {"alerts/panels.py", "alerts/topics.py", "datasets_defs/store/tables.py", "datasets_defs/spec/presets.py"}
"""Files that are tables of data: as long as what they list."""


def too_long(path: Path) -> dict[str, int]:
    """Give the functions of a file that are over the limit, with their lines."""
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    sizes = {f"{path.relative_to(ROOT)}:{each.name}": (each.end_lineno or 0) - each.lineno + 1 for each in functions}
    return {name: lines for name, lines in sizes.items() if lines > MOST_OF_A_FUNCTION}


def test_no_file_is_longer_than_a_reader_can_hold():
    """A file that is no table of data has at most 300 lines."""
    sizes = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in SOURCES}
    longer = {name: lines for name, lines in sizes.items() if lines > MOST_LINES and name not in DATA}
    assert longer == {}


def test_no_function_is_longer_than_a_screen():
    """A function has at most 40 lines, signature and docstring counted in."""
    assert {name: lines for path in SOURCES for name, lines in too_long(path).items()} == {}
