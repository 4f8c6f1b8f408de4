"""Commands about the local stack: up, down, doctor, migrate, demo, info."""

from dataclasses import asdict
from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(app, up, Panel.STACK, "driftloop up")
    add(app, down, Panel.STACK, "driftloop down")
    add(app, info, Panel.STACK, "driftloop info")
    add(app, doctor, Panel.STACK, "driftloop doctor")
    owner = "DRIFTLOOP_OWNER_DATABASE_URL=postgresql://owner:…@host/driftloop driftloop migrate"
    add(app, migrate, Panel.STACK, "driftloop migrate", owner)
    add(app, demo, Panel.STACK, "driftloop demo", "driftloop demo --method lora")


def up() -> None:
    """Start the local stack, and make the first champion of every model that has none."""
    from ops.stack import doctor as checks
    from ops.stack import up as stack
    from ops.stack.first_champions import bootstrap_all

    tables.say("[bold]Starting the stack[/]")
    checks.require(_progress)
    running = stack.up(_progress)
    problems = bootstrap_all(tables.console)
    addresses = tables.table("", "", header=False)
    for name in ("api-server", "mlflow", "prometheus", "serving", "gateway"):
        addresses.add_row(name, running.urls[name])
    tables.console.print("[bold green]The stack is up.[/]", addresses)
    tables.plainly(f"Airflow: user {running.airflow_user}, password in {running.home}/credentials.json")
    for problem in problems:
        tables.plainly(problem, style="red")
    if problems:
        raise typer.Exit(1)


def down() -> None:
    """Stop the local stack. Its data stay."""
    from ops.stack import up as stack

    stack.down(_progress)
    tables.say("The stack is down. Its data stay.")


def doctor() -> None:
    """Check whether this machine can run the stack, and print what to do about each problem.

    Exit code 1: the stack cannot run here.
    """
    from datasets_defs.core.settings import settings
    from datasets_defs.store.database import engine
    from ops.stack import doctor as checks

    conditions = {checks.Grade.OK: "OK", checks.Grade.WARN: "WARN", checks.Grade.BAD: "BAD"}
    grades = []
    asked = (checks.history_guard(engine()), checks.prometheus_server(settings().home.resolve()))
    for finding in (*checks.examine(), *asked):
        grades.append(finding.grade)
        grade = tables.coloured(conditions[finding.grade], f"{finding.grade:8}")
        tables.say(f"{grade} {tables.escape(finding.sentence)}")
    if checks.Grade.BAD in grades:
        raise typer.Exit(1)


def migrate() -> None:
    """Bring the loop's database schema to this release, and grant the loop's role what it needs.

    With DRIFTLOOP_OWNER_DATABASE_URL the migration runs as that role, the owner of the schema. The loop's own role then
    cannot rewrite the history.
    """
    from sqlalchemy import make_url

    from datasets_defs.core.settings import OwnerSettings, settings
    from datasets_defs.store.schema import migrate as bring

    loop = settings().database_url
    owner = OwnerSettings().owner_database_url
    bring(owner or loop, make_url(loop).username if owner else None)
    tables.say("The schema is that of this release.")


def demo(
    quiet_windows: Annotated[int, typer.Option(min=1, help="Windows of ordinary traffic before the shift.")] = 4,
    method: Annotated[str, typer.Option(help="How challengers are trained: full or lora.")] = "full",
    trainer: Annotated[
        str, typer.Option(help="Who trains them: driftloop, or trl (a script that knows nothing of driftloop).")
    ] = "driftloop",
) -> None:
    """Show the loop closing on real text: drift, incident, retraining, evaluation, promotion. Takes some minutes."""
    from ops.demo import run as show

    raise typer.Exit(show.run(quiet_windows, method, trainer))


def info() -> None:
    """Print the addresses of the local stack as JSON."""
    from ops.stack import up as stack

    facts = asdict(stack.info())
    facts.pop("airflow_password")
    tables.print_json(facts)


def _progress(line: str) -> None:
    tables.console.print(f"  {line}", style="dim", markup=False, highlight=False)
