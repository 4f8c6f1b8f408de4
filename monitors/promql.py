"""Which series a PromQL expression reads: enough of its grammar to find the vector selectors. Pure."""

import re

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


def selectors(expression: str) -> tuple[str, ...]:
    """Find the instant vector selectors of an expression (without ranges and offsets), each once, in order.

    What is not PromQL is not noticed here: the server says so when it is asked.
    """
    tokens = [
        (match.lastgroup or "", match.group()) for match in _TOKEN.finditer(expression) if match.lastgroup != "space"
    ]
    found: list[str] = []
    place = 0
    while place < len(tokens):
        kind, content = tokens[place]
        following = tokens[place + 1] if place + 1 < len(tokens) else ("", "")
        place += 1
        if kind == "name" and content.lower() in _LABEL_LISTS and following[1] == "(":
            while place < len(tokens) and tokens[place][1] != ")":
                place += 1
        elif kind == "name" and following[1].lower() in ("by", "without"):
            continue  # an aggregation whose labels come first
        elif kind == "name" and content.lower() not in _WORDS and following[1] != "(":
            labels = following[1] if following[0] == "matchers" else ""
            place += bool(labels)
            found.append(content + labels)
        elif kind == "name" and following[1] == "(" and tokens[place + 1 : place + 2] == [("other", ")")]:
            place += 2  # time(), start(), end(): nothing inside
        elif kind == "matchers":
            found.append(content)
    return tuple(dict.fromkeys(found))
