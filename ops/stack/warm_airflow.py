"""`python -m ops.stack.warm_airflow scheduler …`: a part of Airflow, with what its processes import already imported.

LocalExecutor forks its workers from the scheduler and each task from a worker; the processor of DAG files forks for
each file. No such process has to import what its parent holds: that saves up to twelve seconds of a core, and memory is
shared. An Airflow of your own does without.
"""

import ast
import hashlib
import importlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets_defs.core.settings import ROOT, settings

DAGS = ROOT / "dags"
LIBRARIES = ("evidently", "mlflow", "pandas", "pyarrow.parquet", "scipy.stats", "transformers")
"""What steps import only when they need it. Importing torch starts no thread: those it computes with begin later."""
PARTS = {"scheduler": LIBRARIES, "dag-processor": ()}
"""The parts of Airflow that fork, and what each imports beside the modules of the DAG files."""


def modules(folder: Path = DAGS, *, of_tasks: bool) -> list[str]:
    """List the modules that a folder's DAG files import, in order; `of_tasks`: those that only tasks import, too."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py")))
    return sorted({name for tree in trees for name in _imported(ast.walk(tree) if of_tasks else tree.body)})


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def warm(names: Iterable[str]) -> list[str]:
    """Import what can be imported and give its names: the rest is for the tasks to fail with, each with its reason."""
    done = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as err:
            logging.getLogger(__name__).warning("not imported beforehand: %s", err)
        else:
            done.append(name)
    return done


def fingerprint() -> str:
    """Give a hash of our sources: a part that holds them is started again where they are others."""
    digest = hashlib.sha256()
    for package in ("alerts", "datasets_defs", "monitors", "ops", "serving", "training"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Become the part of Airflow that the first argument names; the other arguments are its own."""
    part = sys.argv[1]
    warm([*PARTS[part], *modules(of_tasks=part == "scheduler")])
    os.register_at_fork(after_in_child=settings.cache_clear)  # each task reads them anew
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()
