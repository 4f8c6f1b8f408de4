"""Commands about the files that describe models: check-models, schema."""

from typing import TYPE_CHECKING

import typer

from ops.cli.shared import tables
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets_defs.spec.model import ModelSpec


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(app, check_models, Panel.STACK, "driftloop check-models", name="check-models")
    add(app, schema, Panel.STACK, "driftloop schema > models/schema.json")


def check_models() -> None:
    """Check every models/*.yaml and models/pairs/*.yaml. Each mistake is named with file, field and what to do.

    Exit code 1: a file is wrong, or there is none.
    """
    from datasets_defs.core.errors import ContractError
    from datasets_defs.core.settings import settings
    from datasets_defs.spec.files import load_all

    specs, problems = load_all()
    others = _other_bases(specs)
    for name in specs:
        tables.say(f"[green]ok[/] {tables.escape(name)}")
        if name in others:
            tables.plainly(f"  {name}: {others[name]}", style="yellow")
        if specs[name].trust.anonymous:
            tables.plainly(
                f"  {name}: anybody who reaches its server teaches it (`trust.anonymous: true`)", style="red"
            )
    for problem in [*problems, *(wrong := _wrong_pair_sets())]:
        tables.plainly(problem, style="red")
    if not specs and not problems:
        raise ContractError(
            f"{settings().models_dir} holds no *.yaml; describe a model there first: driftloop init NAME"
        )
    if problems or wrong:
        raise typer.Exit(1)


def _other_bases(specs: "Mapping[str, ModelSpec]") -> dict[str, str]:
    """Say of each file that names another base than its champion's; nothing while the ledger cannot be read."""
    from datasets_defs.core.errors import DriftloopError
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.spec.changes import other_base
    from datasets_defs.store.versions import bases
    from ops.stack.database import database

    try:
        db = database()
        champions, known = Ledger(db).champions(), bases(db)
    except DriftloopError:  # files are checked where no loop runs, too
        return {}
    remarks = {name: other_base(specs[name], champions[name].version, known) for name in specs if name in champions}
    return {name: remark for name, remark in remarks.items() if remark is not None}


def _wrong_pair_sets() -> list[str]:
    """Check the sets of pairs; give a sentence for each that is wrong."""
    from datasets_defs.core.errors import ContractError
    from datasets_defs.spec.pair_sets import pair_set, pair_set_names

    wrong = []
    for name in pair_set_names():
        try:
            pair_set(name)
        except ContractError as err:
            wrong.append(str(err))
        else:
            tables.say(f"[green]ok[/] pairs/{tables.escape(name)}")
    return wrong


def schema() -> None:
    """Print the JSON Schema of models/*.yaml, by which editors complete and check a model's file."""
    from datasets_defs.spec.json_schema import json_schema

    tables.print_json(json_schema())
