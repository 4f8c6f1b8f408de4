"""`driftloop pipelines`: each pipeline of the list runs on the demo's stack, on real texts, and says what it made."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine
from ops.demo import spec
from ops.demo.pace import measured
from ops.demo.texts import MODEL
from ops.pipelines.dag_runs import DagRuns
from ops.pipelines.step import PipelineStep, Stage, Told
from ops.pipelines.steps import STEPS
from ops.stack import doctor
from ops.stack import up as stack
from ops.stack.first_champions import bootstrap_all
from ops.stack.wake import own_airflow


def run(only: str = "") -> int:
    """Show the pipelines whose name holds `only`; give 0 if each made what it is for, 1 if not."""
    console = Console()
    steps = [step for step in STEPS if only in step.name]
    if not steps:
        raise ContractError(f"no pipeline is called {only}; there are {', '.join(step.name for step in STEPS)}")
    doctor.require(progress=lambda line: console.print(f"  {line}", style="dim"))
    stage = _start(console, steps)
    failed = [step.name for step in steps if not _shown(console, step, stage)]
    if failed:
        console.print(f"\n[bold red]Not as wanted:[/] {', '.join(failed)}. Logs: {settings().home / 'logs'}")
        return 1
    console.print("\n[bold green]Every pipeline made what it is for.[/] The stack is left up; `make down` stops it.")
    return 0


def _start(console: Console, steps: Sequence[PipelineStep]) -> Stage:
    console.rule("Starting the local stack")
    sections = {name: section for step in steps for name, section in step.spec.items()}
    pace = measured()
    console.print(f"  {pace}", style="dim")
    chosen = {**pace.settings, **spec.models_of("full", "driftloop", sections, slowness=pace.slowness)}
    stack.up(lambda line: console.print(f"  {line}", style="dim"), chosen)
    if problems := bootstrap_all(console, only=MODEL):
        raise ContractError("; ".join(problems))
    return Stage(model=MODEL, db=engine(), airflow=DagRuns(own_airflow()))


def _shown(console: Console, step: PipelineStep, stage: Stage) -> bool:
    console.rule(step.name)
    console.print(f"  {step.about}", style="dim")
    began = time.monotonic()
    try:
        told = step.run(stage)
    except DriftloopError as err:
        console.print(f"  {err}", style="red", markup=False)
        return False
    _print(console, told, time.monotonic() - began)
    return True


def _print(console: Console, told: Told, seconds: float) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in {**told.figures, "seconds": f"{seconds:.0f}"}.items():
        table.add_row(name, str(value))
    console.print(table, markup=False)
    for sample in told.samples:
        console.print(f"  > {' '.join(sample.split())[:300]}", style="dim", markup=False)
