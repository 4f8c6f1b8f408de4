"""The sentences that stand below an enum's members or a class's fields, read from the source."""

import ast
import inspect
from itertools import pairwise
from pathlib import Path


def members(kind: type) -> dict[str, str]:
    """Give the docstring below each attribute of a class, by the attribute's name; those without one are left out."""
    source = Path(inspect.getfile(kind)).read_text(encoding="utf-8")
    (body,) = [
        node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    return {name: text for first, second in pairwise(body) if (name := _name(first)) and (text := _text(second))}


def _name(node: ast.stmt) -> str | None:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return None


def _text(node: ast.stmt) -> str | None:
    match node:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return inspect.cleandoc(text)
    return None
