"""The command by which another machine takes part in a model's trainings."""

import time
from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model
from ops.cli.shared.panels import Panel, add

PAUSE_SECONDS = 5.0
"""Time between one training and the look for the next."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, trainer_node, Panel.TRAIN, "driftloop trainer-node docs-writer --rank 1", name="trainer-node")


def trainer_node(
    model: Model,
    rank: Annotated[int, typer.Option(help="Which machine of `trainer: {nodes: N}` this is, from 1 to N - 1.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="End after one training.")] = False,
) -> None:
    """Train along as another machine of a model's group (`trainer: {kind: torchrun, nodes: N}`), until stopped.

    It meets the trainer of Airflow's machine at `trainer.rendezvous`, and needs the same settings: the registry
    (DRIFTLOOP_MLFLOW_URL), the artifacts (DRIFTLOOP_ARTIFACT_ROOT) and the model's YAML.
    """
    from datasets_defs.spec.files import spec_of
    from training.trainers.launcher import join

    while True:
        code = join(spec_of(model), rank)
        tables.say("a training ended well" if code == 0 else f"torchrun ended with exit code {code}")
        if once:
            raise typer.Exit(code)
        time.sleep(PAUSE_SECONDS)
