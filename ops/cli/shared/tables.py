"""All that the commands print: lines, tables, JSON, and the colour of a condition."""

import json
import sys
from collections.abc import Collection
from typing import Any

from rich import markup
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

escape = markup.escape
"""Makes text safe inside rich markup: its square brackets are printed as they are."""
console = Console()
errors = Console(stderr=True)
STYLES = {"OK": "green", "WARN": "yellow", "BAD": "red", "NO_DATA": "magenta", "STALE": "magenta"}
"""Colours of conditions."""
ELLIPSIS = "…"


def say(line: str, *, style: str | None = None) -> None:
    """Print one line of rich markup, which the terminal wraps and nothing else does."""
    console.print(line, style=style, highlight=False, soft_wrap=True)


def plainly(text: str, *, style: str | None = None) -> None:
    """Print text that may hold anything: square brackets in it are no markup."""
    say(escape(text), style=style)


def print_json(content: Any) -> None:
    """Print JSON for a program: without colours or rich's line breaks."""
    sys.stdout.write(json.dumps(content, indent=1, default=str) + "\n")


def table(*columns: str, right: Collection[str] = (), header: bool = True) -> Table:
    """Make a table without lines; columns named in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, show_header=header)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left")
    return made


def coloured(condition: str, text: str | None = None) -> str:
    """Write a condition, or another text about it, as markup in the condition's colour."""
    return f"[{STYLES.get(condition, 'magenta')}]{escape(condition if text is None else text)}[/]"


def counted(number: int, name: str) -> str:
    """Write a number of things: `1 incident`, `2 incidents`."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def shortened(text: str, width: int) -> str:
    """Cut a text after a whole word so that it fits `width` terminal cells; an ellipsis shows that it was cut."""
    words = text.split()
    if cell_len(" ".join(words)) <= width:
        return " ".join(words)
    kept = ""
    for word in words:
        longer = f"{kept} {word}".lstrip()
        if cell_len(longer) + 2 > width:
            break
        kept = longer
    return f"{kept} {ELLIPSIS}".lstrip()


def middle_cut(name: str, width: int) -> str:
    """Shorten a name to `width` characters by its middle, since names of a family differ at their ends."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}{ELLIPSIS}{name[head + 1 - width :]}"
