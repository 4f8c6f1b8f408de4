"""The project's own imports as a graph: lazy, type-only and those inside functions, too."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, set[str]]


def graph_of(root: Path, packages: tuple[str, ...]) -> Graph:
    """Read which module imports which, by dotted names, from the sources."""
    names = {_dotted(path, root): path for package in packages for path in (root / package).rglob("*.py")}
    return {name: {found for found in _imports(path, names) if found != name} for name, path in names.items()}


def between_folders(graph: Graph) -> Graph:
    """Give the graph of the folders: each module stands for the package that it lies in."""
    folders: dict[str, set[str]] = {}
    for module, targets in graph.items():
        home = module.rpartition(".")[0]
        folders.setdefault(home, set()).update(
            {target.rpartition(".")[0] for target in targets if target.rpartition(".")[0] != home}
        )
    return folders


def circles(graph: Graph) -> list[list[str]]:  # noqa: C901  Tarjan's algorithm in its usual form
    """Give every group of modules that import each other in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in graph.get(module, ()):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            group = []
            while not group or group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def _dotted(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, names: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in names:
                    yield whole
                elif node.module in names:
                    yield node.module
