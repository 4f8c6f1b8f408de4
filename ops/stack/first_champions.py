"""The first champion of each model that has none."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import load_all, spec_of
from datasets_defs.spec.model import ModelSpec
from ops.stack.database import database


def bootstrap_all(where: Console, only: str | None = None) -> list[str]:
    """Make the first champions that are missing; give a sentence for each model that could not get one."""
    db = database()
    specs, problems = load_all()
    if only is not None:
        specs, problems = {only: spec_of(only)}, []
    waiting = [spec for name, spec in specs.items() if Ledger(db).champion(name) is None]
    for spec in waiting:
        try:
            where.print(f"{spec.name}: version {_first_champion(spec, db, where)} is the first champion")
        except DriftloopError as err:  # the other models go on
            problems.append(f"{spec.name}: no first champion: {err}")
    return problems


def _first_champion(spec: ModelSpec, db: Engine, where: Console) -> int:
    from training.by_hand.bootstrap import first_champion
    from training.registry.registry import Registry

    def warn(words: str) -> None:
        where.print(f"[yellow]Warning:[/] {escape(spec.name)}: {escape(words)}", highlight=False, soft_wrap=True)

    with progress_bar(where, f"{spec.name}: first champion") as tell:
        version: int = first_champion(
            spec, db=db, registry=Registry(settings().mlflow_url), progress=tell.stage, warn=warn
        )
        return version


class Bar:
    """A progress bar's hand: `stage` takes (words, share 0..1), `share` the share alone."""

    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._title = title
        self._task = bar.add_task(escape(title), total=1.0)

    def stage(self, words: str, share: float) -> None:
        """Show what is being done, and how far it is."""
        self._bar.update(self._task, description=escape(f"{self._title}: {words}"), completed=share)

    def share(self, share: float) -> None:
        """Show how far it is."""
        self._bar.update(self._task, completed=share)


@contextmanager
def progress_bar(where: Console, title: str) -> Iterator[Bar]:
    """Show a progress bar while something is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=where, transient=True) as bar:
        yield Bar(bar, title)
