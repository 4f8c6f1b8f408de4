"""The `driftloop` command. Whatever takes long to import is imported by the command that needs it."""

import errno
import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from datasets_defs.core.errors import DriftloopError
from ops.cli.data import data, ingest, pairs, rescore
from ops.cli.decide import accept, answer, approval, champion, move, offer, pause, retire, scale
from ops.cli.serve import gateway, key
from ops.cli.shared import tables
from ops.cli.shared.frames import hide_pandas_from_pyarrow
from ops.cli.stack import init, local_stack, model_files, pipelines
from ops.cli.train import bootstrap, evaluate, rebase, train, trainer_node
from ops.cli.watch import backtest, calibrate, check, history, incident, plan, similar, status, verify

HUSHED = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""Keeps MLflow's own lines out of ours."""

WITHOUT_FRAMES = frozenset({"backtest", "check", "data", "similar"})
"""Commands that read Arrow tables, and no frames of pandas."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for module in (
    status, check, history, incident, similar, verify, calibrate, plan, backtest,
    accept, answer, approval, champion, move, offer, pause, retire, scale,
    bootstrap, train, evaluate, rebase, trainer_node,
    ingest, data, pairs, rescore,
    gateway, key,
    local_stack, init, model_files, pipelines,
):  # fmt: skip
    module.register(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        tables.plainly(f"driftloop {version('driftloop')}")
        raise typer.Exit


@app.callback()
def driftloop(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep a generative model good, unattended: watch, retrain, judge, promote, roll back, and remember why."""


def main() -> None:
    """Run the command line; a mistake ends it with one red sentence on stderr and exit code 1."""
    from ops.stack.privacy import PRIVACY

    for name, value in {**PRIVACY, **HUSHED}.items():
        os.environ.setdefault(name, value)
    if WITHOUT_FRAMES & set(sys.argv[1:2]):
        hide_pandas_from_pyarrow()
    try:
        app()
    except DriftloopError as err:
        _fail(str(err))
    except ValidationError as err:  # a DRIFTLOOP_* variable that is no number, say
        mistakes = "; ".join(f"DRIFTLOOP_{str(item['loc'][0]).upper()}: {item['msg']}" for item in err.errors())
        _fail(f"the settings are wrong: {mistakes}")
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"the disk is full ({err}); free some space and give the same command again, or set DRIFTLOOP_HOME")
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped")


def _fail(sentence: str) -> None:
    tables.errors.print(tables.escape(sentence), style="red", highlight=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
