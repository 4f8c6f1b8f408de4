"""The `driftloop` command: the stack, and ways into everything else. Heavy imports wait until they are needed."""

import errno
import json
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import make_url

from datasets_defs.core.errors import DriftloopError
from ops.cli import check, data, drift, drill, evaluate, incidents, labels, models, train, trainer_node, verify
from ops.stack.components import PRIVACY
from ops.stack.first_champions import bootstrap_all

HUSHED = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""Keeps MLflow's own lines out of ours."""

app = typer.Typer(
    help="Keep a generative model good, unattended: watch, retrain, judge, promote, roll back, and remember why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
models.register(app)
incidents.register(app)
check.register(app)
data.register(app)
drift.register(app)
evaluate.register(app)
labels.register(app)
drill.register(app)
train.register(app)
trainer_node.register(app)
verify.register(app)


def _say(line: str) -> None:
    console.print(f"  {line}", style="dim", markup=False, highlight=False)


@app.command()
def up() -> None:
    """Start the local stack, and make the first champion of every model that has none."""
    from ops.stack import doctor
    from ops.stack import up as stack

    console.print("[bold]Starting the stack[/]")
    doctor.require(_say)
    info = stack.up(_say)
    problems = bootstrap_all(console)
    table = Table(show_header=False, box=None)
    for name in ("api-server", "mlflow", "prometheus", "serving"):
        table.add_row(name, info.urls[name])
    console.print("[bold green]The stack is up.[/]", table)
    console.print(f"Airflow: user {info.airflow_user}, password in {info.home}/credentials.json", highlight=False)
    for problem in problems:
        console.print(escape(problem), style="red", highlight=False)
    if problems:
        raise typer.Exit(1)


@app.command()
def down() -> None:
    """Stop the local stack; the data stay."""
    from ops.stack import up as stack

    stack.down(_say)
    console.print("The stack is down; its data stay.")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show components, models, incidents and unsent messages."""
    from ops.cli import status as report

    found = report.collect()
    if as_json:
        print(json.dumps(found, indent=1))  # noqa: T201 for a program, without rich's line breaks
    else:
        report.show(found, console)


@app.command()
def doctor() -> None:
    """Check whether this machine can run the stack, and say what to do where it cannot."""
    from datasets_defs.store.database import engine
    from ops.stack import doctor as checks

    styles = {checks.Grade.OK: "green", checks.Grade.WARN: "yellow", checks.Grade.BAD: "red"}
    grades = []
    for finding in (*checks.examine(), checks.history_guard(engine())):
        grades.append(finding.grade)
        console.print(f"[{styles[finding.grade]}]{finding.grade:8}[/] {escape(finding.sentence)}", highlight=False)
    if checks.Grade.BAD in grades:
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the loop's database schema to this release's, and give the loop's role what it needs.

    With DRIFTLOOP_OWNER_DATABASE_URL it is done as that role, the schema's owner, and the loop's role cannot rewrite
    the history.
    """
    from datasets_defs.core.settings import OwnerSettings, settings
    from datasets_defs.store.schema import migrate as bring

    loop = settings().database_url
    owner = OwnerSettings().owner_database_url
    bring(owner or loop, make_url(loop).username if owner else None)
    console.print("The schema is this release's.")


@app.command()
def demo(
    quiet_windows: Annotated[int, typer.Option(min=1, help="Windows of ordinary traffic before the shift.")] = 4,
    method: Annotated[str, typer.Option(help="How challengers are trained: full or lora.")] = "full",
) -> None:
    """Show the loop closing on real text: drift, incident, retraining, evaluation, promotion. Takes some minutes."""
    from ops.demo import run as show

    raise typer.Exit(show.run(quiet_windows, method))


@app.command()
def info() -> None:
    """Print the stack's addresses as JSON."""
    from ops.stack import up as stack

    found = asdict(stack.info())
    found.pop("airflow_password")
    print(json.dumps(found, default=str, indent=1))  # noqa: T201 for a program


def main() -> None:
    """Run the command line; what goes wrong on purpose is one red sentence."""
    for name, value in {**PRIVACY, **HUSHED}.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except DriftloopError as err:
        _fail(str(err))
    except ValidationError as err:  # a DRIFTLOOP_* variable that is no number, say
        found = "; ".join(f"DRIFTLOOP_{str(item['loc'][0]).upper()}: {item['msg']}" for item in err.errors())
        _fail(f"the settings are wrong: {found}")
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"the disk is full ({err}); free some space and give the same command again, or set DRIFTLOOP_HOME")
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped")


def _fail(sentence: str) -> None:
    Console(stderr=True).print(escape(sentence), style="red", highlight=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
