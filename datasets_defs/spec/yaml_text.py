"""YAML that people write, read so that nothing is lost without a word and nothing runs, multiplies or recurses."""

import re
from pathlib import Path
from typing import Any

import yaml

from datasets_defs.core.errors import ContractError

MOST_BYTES = 2**20
"""Bytes of a model's YAML; the longest that people write are some kilobytes."""
_CURES = (
    ("'\\t'", "; indent with spaces"),
    ("another document", "; a file describes one model: put what follows `---` into a file of its own"),
    (
        "mapping values are not allowed",
        "; a text that holds `: ` needs quotes, and fields of one section the same indent",
    ),
    ("that cannot start any token", "; put the text in quotes"),
    ("undefined alias", "; a text that begins with `*` needs quotes"),
)
"""What to do, by words of PyYAML's."""
MOST_VALUES = 20_000
"""Values that it may hold once its aliases are written out; those of a long file are some hundreds."""


_TRUTH = "tag:yaml.org,2002:bool"
_OLD_NUMBER = re.compile(r"[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-9_.]+)+)")
"""`0100` is 64 in YAML 1.1, and `1:30` is 90; neither is what stands there."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a field that is given twice, and numbers that are read as others.

    `yes`, `no`, `on` and `off` stay words, as in YAML 1.2: Norway is `NO`. Where truth is needed they are still read.
    """

    def construct_scalar(self, node: Any) -> Any:
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and _OLD_NUMBER.fullmatch(node.value):
            read = "octal" if ":" not in node.value else "to base 60"
            where = _place(node.start_mark)
            raise _Refused(
                f"`{node.value}` in {where} would be read as another number ({read}); write it plainly, or in quotes",
                node.start_mark,
            )
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 as PyYAML has it
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in first:
                where = f"{_place(first[key.value].start_mark)} and {_place(key.start_mark)}"
                problem = f"`{key.value}` stands twice, in {where}; the first would be lost: join them"
                raise _Refused(problem, key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                first[key.value] = key
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != _TRUTH]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_TRUTH, re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def read_yaml(text: str, path: Path) -> Any:
    """Read YAML of plain values.

    Raises:
        ContractError: it is too long, nested too deep, no YAML, has a tag that would run code, aliases that multiply
            or hold themselves, or a field that is given twice; names the place.
    """
    if len(text) > MOST_BYTES:
        raise ContractError(f"{path}: {len(text)} characters of YAML; a model's file may have {MOST_BYTES}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _require_few(node)
        return loader.construct_document(node)
    except _Refused as err:
        raise ContractError(f"{path}: {err.problem}") from err
    except yaml.MarkedYAMLError as err:
        where = f" in {_place(err.problem_mark)}" if err.problem_mark is not None else ""
        problem = str(err.problem or err.context)
        cure = next((cure for words, cure in _CURES if words in problem), "")
        raise ContractError(f"{path}: not readable as YAML: {problem}{where}{cure}") from err
    except yaml.YAMLError as err:
        raise ContractError(f"{path}: not readable as YAML: {str(err).splitlines()[0]}") from err
    except (RecursionError, ValueError) as err:  # nested without end; or a number or date that is none
        reason = "nested too deep" if isinstance(err, RecursionError) else str(err)
        raise ContractError(f"{path}: not readable as YAML: {reason}") from err


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}"


def _require_few(root: yaml.Node) -> None:
    """Count the values with every alias written out: nine lines of aliases can stand for a billion."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) in above:
            raise _Refused(f"an alias in {_place(node.start_mark)} holds itself; write it out", node.start_mark)
        if id(node) not in sizes:
            above.add(id(node))
            inner = [child for part in node.value for child in (part if isinstance(part, tuple) else (part,))]
            sizes[id(node)] = 1 + sum(map(size, inner))
            above.discard(id(node))
        return sizes[id(node)]

    if (values := size(root)) > MOST_VALUES:
        problem = f"{values} values with its aliases written out; a model's file may have {MOST_VALUES}"
        raise _Refused(problem, root.start_mark)
