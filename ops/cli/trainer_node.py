"""The command by which another machine takes part in a model's trainings."""

import time
from typing import Annotated

import typer
from rich.console import Console

from datasets_defs.spec.files import spec_of
from ops.cli.models import Model

PAUSE_SECONDS = 5.0
"""Time between one training and the look for the next."""
console = Console()


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("trainer-node")(trainer_node)


def trainer_node(
    model: Model,
    rank: Annotated[int, typer.Option(help="Which machine of `trainer: {nodes: N}` this is, from 1 to N - 1.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="End after one training.")] = False,
) -> None:
    """Train along as another machine of a model's group (`trainer: {kind: torchrun, nodes: N}`), until stopped.

    It meets the trainer of Airflow's machine at `trainer.rendezvous`, and needs the same settings: the registry
    (DRIFTLOOP_MLFLOW_URL), the artifacts (DRIFTLOOP_ARTIFACT_ROOT) and the model's YAML.
    """
    from training.trainers.launcher import join

    while True:
        code = join(spec_of(model), rank)
        console.print("a training ended well" if code == 0 else f"torchrun ended with exit code {code}")
        if once:
            raise typer.Exit(code)
        time.sleep(PAUSE_SECONDS)
