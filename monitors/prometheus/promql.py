"""Which series a PromQL expression reads, and how it needs them: from the tree of Prometheus's own grammar. Pure."""

import json
from dataclasses import dataclass

import promql_parser as promql

from datasets_defs.core.errors import ContractError


@dataclass(frozen=True, slots=True)
class AllOf:
    """What is needed together."""

    parts: tuple["Input", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The sides of an `or`: any of them will do."""

    choices: tuple["Input", ...]


Input = str | AllOf | AnyOf
"""A selector, or several that belong together."""


_OPERATORS = (
    (promql.MatchOp.Equal, "="),
    (promql.MatchOp.NotEqual, "!="),
    (promql.MatchOp.Re, "=~"),
    (promql.MatchOp.NotRe, "!~"),
)


def selectors(expression: str) -> tuple[str, ...]:
    """Find the instant vector selectors of an expression (without ranges and offsets), each once, in order.

    Raises:
        ContractError: the expression cannot be parsed.
    """
    return tuple(dict.fromkeys(_leaves(inputs(expression))))


def inputs(expression: str) -> AllOf:
    """Find the selectors of an expression and how they are needed: together, or one side of an `or` for the other.

    A side of constants (`or vector(0)`) is no choice: it stands for a missing value and says nothing of freshness.

    Raises:
        ContractError: the expression cannot be parsed.
    """
    try:
        tree = promql.parse(expression)
    except ValueError as err:
        raise ContractError(
            f"the query {expression!r} cannot be parsed as PromQL: {err}; where the server knows newer syntax, "
            "or MetricsQL, put it into a recording rule and ask for that"
        ) from err
    return AllOf(_needed(tree))


def _leaves(node: Input) -> list[str]:
    if isinstance(node, str):
        return [node]
    return [leaf for part in (node.parts if isinstance(node, AllOf) else node.choices) for leaf in _leaves(part)]


def _needed(node: promql.Expr) -> tuple[Input, ...]:
    """Give what a node needs, in the order in which it stands."""
    match node:
        case promql.VectorSelector():
            return (_selector(node),)
        case promql.MatrixSelector():
            return (_selector(node.vector_selector),)
        case promql.BinaryExpr() if str(node.op) == "or":
            sides = [AllOf(needed) for side in _sides(node) if (needed := _needed(side))]
            return (AnyOf(tuple(sides)),) if len(sides) > 1 else tuple(part for side in sides for part in side.parts)
        case promql.BinaryExpr() if str(node.op) == "unless":
            return _needed(node.lhs)  # what is taken away is no lack where it is not there
    return tuple(part for child in _children(node) for part in _needed(child))


def _sides(node: promql.Expr) -> list[promql.Expr]:
    """Give the sides of a row of `or`."""
    if isinstance(node, promql.BinaryExpr) and str(node.op) == "or":
        return [*_sides(node.lhs), *_sides(node.rhs)]
    return [node]


def _children(node: promql.Expr) -> list[promql.Expr]:
    match node:
        case promql.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql.Call():
            return list(node.args)
        case promql.AggregateExpr():
            return [child for child in (node.param, node.expr) if child is not None]
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return [node.expr]
    return []  # numbers and texts


def _selector(node: promql.VectorSelector) -> str:
    """Write a selector without its offset and `@`: its name and its matchers."""
    sides = [node.matchers.matchers, *node.matchers.or_matchers]
    matchers = " or ".join(",".join(_matcher(matcher) for matcher in side) for side in sides if side)
    return f"{node.name or ''}{{{matchers}}}" if matchers or not node.name else str(node.name)


def _matcher(matcher: promql.Matcher) -> str:
    operator = next(sign for op, sign in _OPERATORS if op == matcher.op)
    name = matcher.name if matcher.name.replace(":", "_").isidentifier() and matcher.name.isascii() else None
    return f"{name or json.dumps(matcher.name)}{operator}{json.dumps(matcher.value, ensure_ascii=False)}"
