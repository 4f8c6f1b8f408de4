"""Markdown as the reference pages need it: tables, code, and the head that says where a page comes from."""

from collections.abc import Iterable, Sequence

HEAD = "<!-- Written by `make reference` from the code. Change the code, not this page. -->"


def page(title: str, lead: str, *sections: str) -> str:
    """Put a page together: its title, one paragraph that says what it lists, and its sections."""
    return "\n\n".join([HEAD, f"# {title}", lead, *(section.strip() for section in sections)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, one line a row, so that a changed row is one changed line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def cell(text: str) -> str:
    """Make a text fit into a table's cell: no line breaks, and bars that end no cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Write a text as code, whatever backticks it holds."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if text else ""


def bullets(lines: Iterable[str]) -> str:
    """Write a list."""
    return "\n".join(f"- {line}" for line in lines)


def prose(text: str) -> str:
    """Write a docstring as paragraphs of one line each."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))
