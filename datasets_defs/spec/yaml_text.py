"""YAML that people write, read so that nothing is lost without a word and nothing runs, multiplies or recurses."""

from pathlib import Path
from typing import Any

import yaml

from datasets_defs.core.errors import ContractError

MOST_BYTES = 2**20
"""Bytes of a model's YAML; the longest that people write are some kilobytes."""
MOST_VALUES = 20_000
"""Values that it may hold once its aliases are written out; those of a long file are some hundreds."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a field that is given twice."""

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
        raise ContractError(f"{path}: not readable as YAML: {err.problem or err.context}{where}") from err
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
