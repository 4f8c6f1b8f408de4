"""The command that runs the gateway: gateway."""

from typing import Annotated

import typer

from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(app, gateway, Panel.SERVE, "driftloop gateway --port 8001", "driftloop gateway --host 0.0.0.0 --port 8001")


def gateway(
    port: Annotated[int, typer.Option(help="Where it listens.", min=1, max=65535)] = 8001,
    host: Annotated[
        str | None,
        typer.Option(help="Address. Left out: all of the machine's with keys, loopback without.", show_default=False),
    ] = None,
    drain_seconds: Annotated[
        int, typer.Option(help="How long requests in flight may go on when it is told to stop.", min=0)
    ] = 60,
) -> None:
    """Run the gateway: one OpenAI-compatible door before the servers of every model, whose traffic it logs."""
    from serving.gateway.run import run

    run(host=host, port=port, drain_seconds=drain_seconds)
