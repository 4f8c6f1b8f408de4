"""What a DAG's file says, read from its source: when it runs, which Assets it waits for, and which tasks ring which."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets_defs.core.incidents import Wake
from datasets_defs.core.settings import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """One task of a DAG."""

    name: str
    rings: tuple[str, ...]
    """Names of Assets."""
    calls: str
    """The step that it runs, as `module.function`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DagFacts:
    """One DAG."""

    name: str
    text: str
    """What its page says, without the title."""
    schedule: str
    """By the clock, in words; empty for one that Assets wake."""
    waits_for: tuple[str, ...]
    """Names of Assets."""
    tasks: tuple[TaskFacts, ...]


def asset_names() -> dict[str, str]:
    """Give the name of each Asset by its constant in `datasets_defs/assets.py`."""
    tree = ast.parse((ROOT / "datasets_defs" / "assets.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: str(ast.literal_eval(node.value.args[0]))
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "_asset"
    }


def read_dags() -> list[DagFacts]:
    """Read every file of `dags/`, in the order of their names."""
    assets = asset_names()
    return [_read(path, assets) for path in sorted((ROOT / "dags").glob("*.py"))]


def _read(path: Path, assets: dict[str, str]) -> DagFacts:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (function,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == path.stem]
    schedule = next(
        _argument(decorator, "schedule") for decorator in function.decorator_list if isinstance(decorator, ast.Call)
    )
    waits_for = tuple(_assets(schedule, assets))
    text = (ast.get_docstring(tree) or "").partition("\n")[2].strip()
    return DagFacts(
        name=path.stem,
        text=" ".join(text.split()),
        schedule="" if waits_for else _clock(ast.unparse(schedule) if schedule else ""),
        waits_for=waits_for,
        tasks=tuple(_tasks(tree, function, assets)),
    )


def _tasks(tree: ast.Module, function: ast.FunctionDef, assets: dict[str, str]) -> Iterator[TaskFacts]:
    for node in (*tree.body, *function.body):
        if isinstance(node, ast.FunctionDef) and any(
            "task" in ast.unparse(decorator) for decorator in node.decorator_list
        ):
            yield TaskFacts(
                name=node.name, rings=tuple(_rings(node, assets)), calls=", ".join(dict.fromkeys(_calls(node)))
            )
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and (outlets := _argument(call, "outlets")) and _is_operator(call):
            yield TaskFacts(name=_task_id(call), rings=tuple(_assets(outlets, assets)), calls="")


def _rings(node: ast.FunctionDef, assets: dict[str, str]) -> Iterator[str]:
    for decorator in node.decorator_list:
        outlets = _argument(decorator, "outlets") if isinstance(decorator, ast.Call) else None
        if outlets is not None and "ASSET_OF" in ast.unparse(outlets):
            yield from (wake.value for wake in Wake)
        elif outlets is not None:
            yield from _assets(outlets, assets)


def _calls(node: ast.FunctionDef) -> Iterator[str]:
    for inner in ast.walk(node):
        if (
            isinstance(inner, ast.ImportFrom)
            and inner.module
            and not inner.module.startswith(("airflow", "datasets_defs"))
        ):
            yield from (f"{inner.module}.{alias.name}" for alias in inner.names if not alias.name[0].isupper())


def _argument(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _assets(expression: ast.expr | None, assets: dict[str, str]) -> Iterator[str]:
    if expression is not None:
        names = [node.id for node in ast.walk(expression) if isinstance(node, ast.Name)]
        yield from (assets[name] for name in names if name in assets)


def _is_operator(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id.endswith("Operator")


def _task_id(call: ast.Call) -> str:
    name = _argument(call, "task_id")
    return str(ast.literal_eval(name)) if name is not None else ""


def _clock(expression: str) -> str:
    """Say when a DAG runs, from its `schedule`."""
    if expression == "SENSOR_SCHEDULE":
        return "once per window (`DRIFTLOOP_SENSOR_INTERVAL_SECONDS`), `DRIFTLOOP_SENSOR_GRACE_SECONDS` after its end"
    if expression == "schedule.timetable":
        return "as `schedule` in a model's YAML says, as a DAG of its own for each such model, and when a person asks"
    inside = expression.removeprefix("every(").removesuffix(")")
    if inside.startswith("settings()."):
        return f"every `DRIFTLOOP_{inside.removeprefix('settings().').upper()}`"
    seconds = int(ast.literal_eval(inside))
    return f"every {seconds // 3600} hours" if seconds >= 3600 else f"every {seconds // 60} minutes"
