"""The command that makes or renews a champion's profile: `driftloop calibrate`."""

from datetime import UTC, datetime

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, calibrate, Panel.WATCH, "driftloop calibrate docs-writer")


def calibrate(model: Model, as_json: AsJson = False) -> None:
    """Make or renew the profile that windows are compared with; print which shifts it will show, and how often it errs.

    A profile is renewed when enough good windows are there; without them the present one is shown.
    """
    from datasets_defs.core.plain import plain
    from datasets_defs.spec.files import spec_of
    from ops.cli.watch.calibration import as_plain, calibrated, tell
    from ops.stack.database import database

    calibration = calibrated(database(), spec_of(model), now=datetime.now(UTC))
    if as_json:
        tables.print_json(plain(as_plain(calibration)))
    else:
        tell(calibration)
