"""`python -m training.jobs.call TARGET ARGUMENTS`: a GPU job that is a Python function.

`TARGET` is `module:function` or `/path/file.py:function`, `ARGUMENTS` a JSON object. What the function returns is left
for the tasks that follow, by the first process where torchrun started several.
"""

import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError


def target_of(function: str | Callable[..., Any]) -> str:
    """Give the name by which another process finds a function.

    Raises:
        ContractError: it cannot be found by a name: a lambda, or a function inside another.
    """
    if isinstance(function, str):
        if not all(function.rpartition(":")[::2]):
            raise ContractError(f"function {function!r} is no `module:function` and no `/path/file.py:function`")
        return function
    name, file = getattr(function, "__qualname__", ""), inspect.getsourcefile(function)
    if not name or "<" in name or file is None:
        raise ContractError(
            f"another process cannot find {name or function!r}; write it at the top of its file, or name it as "
            "`module:function`"
        )
    return f"{Path(file).resolve()}:{name}"


def function_of(target: str) -> Callable[..., Any]:
    """Find a function by its name.

    Raises:
        ContractError: there is none.
    """
    where, _, name = target.rpartition(":")
    try:
        value: Any = _module(where)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, OSError) as err:
        raise ContractError(f"there is no function {target} here: {err}") from err
    if not callable(value):
        raise ContractError(f"{target} is a {type(value).__name__} and no function")
    function: Callable[..., Any] = value
    return function


def _module(where: str) -> Any:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(f"gpu_job_{Path(where).stem}", where)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str]) -> int:
    """Call the function and leave what it returns; what it raises ends the process as it would any program."""
    target, given = arguments
    sys.path.insert(0, str(Path.cwd()))
    result = function_of(target)(**json.loads(given))
    if os.environ.get("RANK", "0") == "0" and result is not None:
        Path(os.environ["DRIFTLOOP_RETURN"]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
