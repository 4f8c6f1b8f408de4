"""Which series a PromQL expression reads: enough of its grammar to find the vector selectors. Pure."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|\#[^\n]*)
    | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    | (?P<number>0[xX][0-9a-fA-F]+|\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*|\d*\.?\d+(?:[eE][+-]?\d+)?)
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<matchers>\{(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|[^{}"'`])*\})
    | (?P<range>\[[^\]]*\])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = _LABEL_LISTS | {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"}


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


def selectors(expression: str) -> tuple[str, ...]:
    """Find the instant vector selectors of an expression (without ranges and offsets), each once, in order."""
    return tuple(dict.fromkeys(_leaves(inputs(expression))))


def inputs(expression: str) -> AllOf:
    """Find the selectors of an expression and how they are needed: together, or one side of an `or` for the other.

    A side of constants (`or vector(0)`) is no choice: it stands for a missing value and says nothing of freshness.
    What is not PromQL is not noticed here: the server says so when it is asked.
    """
    tokens = [
        (match.lastgroup or "", match.group()) for match in _TOKEN.finditer(expression) if match.lastgroup != "space"
    ]
    return _Reader(tokens).group()


def _leaves(node: Input) -> list[str]:
    if isinstance(node, str):
        return [node]
    return [leaf for each in (node.parts if isinstance(node, AllOf) else node.choices) for leaf in _leaves(each)]


class _Reader:
    """Walks the tokens of one expression; a call of `group` reads to the end of the present parenthesis."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0

    def group(self) -> AllOf:
        """Read the arguments of a parenthesis; `or` binds weakest of all operators, so it splits an argument."""
        arguments: list[Input] = []
        choices: list[AllOf] = []
        parts: list[Input] = []
        while (token := self._next()) not in (("", ""), ("other", ")")):
            if token[0] == "name" and token[1].lower() == "or":
                choices, parts = [*choices, AllOf(tuple(parts))], []
            elif token == ("other", ","):
                arguments, choices, parts = [*arguments, *_argument(choices, parts)], [], []
            elif token == ("other", "("):
                parts.extend(self.group().parts)
            elif (found := self._selector(*token)) is not None:
                parts.append(found)
        return AllOf((*arguments, *_argument(choices, parts)))

    def _selector(self, kind: str, content: str) -> str | None:
        if kind == "matchers":
            return content
        if kind != "name":
            return None
        following, word = self._peek(), content.lower()
        if word in _LABEL_LISTS and following[1] == "(":
            while self._next() not in (("", ""), ("other", ")")):
                pass
            return None
        if following[1] == "(" or word in _WORDS or following[1].lower() in ("by", "without"):
            return None  # a function, an operator, or an aggregation whose labels come first
        return content + (self._next()[1] if following[0] == "matchers" else "")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._place += 1
        return token


def _argument(choices: list[AllOf], parts: list[Input]) -> tuple[Input, ...]:
    """Give what one argument needs; sides without a selector are left out."""
    sides: list[Input] = [side for side in (*choices, AllOf(tuple(parts))) if side.parts]
    if len(sides) > 1:
        return (AnyOf(tuple(sides)),)
    return tuple(part for side in sides if isinstance(side, AllOf) for part in side.parts)
