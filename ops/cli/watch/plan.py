"""The command that says what an edited YAML changes: `driftloop plan`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from datasets_defs.spec.changes import FieldChange
    from datasets_defs.spec.model import ModelSpec


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, plan, Panel.WATCH, "driftloop plan docs-writer", "driftloop plan docs-writer --json")


def plan(model: Model, as_json: AsJson = False) -> None:
    """Show what an edit of the model's YAML changes, and from when; nothing is done.

    The file is held against what the loop read last, which is at most ten minutes old: `reconcile` reads it.
    """
    from datasets_defs.spec.files import spec_of
    from datasets_defs.store.specs import seen_spec
    from ops.stack.database import database
    from training.champions.described import read, since

    spec, before = spec_of(model), seen_spec(database(), model)
    edits = since(before, read(spec))
    if as_json:
        tables.print_json(
            {"model": model, "read_before": before is not None, "fields": [_plain(edit) for edit in edits]}
        )
        return
    if (other := _other_base(spec)) is not None:
        tables.plainly(other)
    if before is None:
        tables.plainly(f"The loop has not read models/{model}.yaml yet; all of it counts from its first reading on.")
        return
    if not edits:
        tables.plainly(f"models/{model}.yaml says what the loop read last: nothing changes.")
        return
    for effect in dict.fromkeys(edit.rule.effect for edit in edits):
        tables.plainly(effect.value)
        for edit in edits:
            if edit.rule.effect is effect:
                tables.plainly(f"  {edit}".replace(f", {effect.value}", "", 1))


def _other_base(spec: "ModelSpec") -> str | None:
    """Say that the champion descends from another base than the file names, if that is known."""
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.spec.changes import other_base
    from datasets_defs.store.versions import bases
    from ops.stack.database import database

    db = database()
    champion = Ledger(db).champion(spec.name)
    return None if champion is None else other_base(spec, champion.version, bases(db))


def _plain(edit: "FieldChange") -> dict[str, object]:
    rule = asdict(edit.rule)
    return {"field": edit.field, "before": edit.before, "after": edit.after, **rule}
