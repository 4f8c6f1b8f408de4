"""The command that shows what became of image-text pairs, and prepares what is new at once."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from datasets_defs.store.takes import Take


def _sets(incomplete: str) -> list[str]:
    """Complete the name of a set."""
    from datasets_defs.spec.pair_sets import pair_set_names

    return [name for name in pair_set_names() if name.startswith(incomplete)]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, pairs, Panel.DATA, "driftloop pairs photos", "driftloop pairs photos --prepare")


def pairs(
    name: Annotated[
        str, typer.Argument(help="Name of a set, as in models/pairs/NAME.yaml.", autocompletion=_sets, metavar="SET")
    ],
    prepare: Annotated[
        bool, typer.Option("--prepare", help="First prepare in this process what is new; the DAG announces it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the takes of a set of image-text pairs: what was kept, what was lost and why, and where it lies.

    Exit code 1: the set's YAML or its source is wrong.
    """
    from datasets_defs.spec.pair_sets import pair_set
    from datasets_defs.store.takes import takes_of
    from ops.stack.database import database

    db = database()
    if prepare:
        from training.prepare_pairs import prepare_now

        for made in prepare_now(name, db=db):
            tables.errors.print(tables.escape(made.reason), highlight=False, soft_wrap=True)
    pair_set(name)
    takes = takes_of(db, name)
    if as_json:
        tables.print_json([_plain(take) for take in takes])
    elif takes:
        _show(takes)
    else:
        tables.plainly(
            f"nothing was taken from the source of {name} yet; `driftloop pairs {name} --prepare` does it now"
        )


def _report(take: "Take") -> Mapping[str, Any]:
    from training.pairs.join import read_report

    return read_report(take) if take.finished_at is not None else {}


def _plain(take: "Take") -> dict[str, Any]:
    columns = ("number", "pairs", "kept", "opened_at", "finished_at", "announced_at", "index", "manifest")
    return {**{name: getattr(take, name) for name in columns}, "report": _report(take)}


def _show(takes: "list[Take]") -> None:
    from training.pairs.manifest import take_url

    table = tables.table("take", "opened", "pairs", "kept", "lost", right=("take", "pairs", "kept"))
    for take in takes:
        stages = _report(take).get("lost", {})
        lost = "; ".join(f"{count:,} {reason}" for stage in stages.values() for reason, count in stage.items())
        kept = "at work" if take.kept is None else f"{take.kept:,}"
        at = f"{take.opened_at:%Y-%m-%d %H:%M}"
        table.add_row(str(take.number), at, f"{take.pairs:,}", kept, tables.escape(lost))
    tables.console.print(table)
    newest = takes[-1]
    if newest.finished_at is not None:
        tables.plainly(f"Shards, report.json, contact-sheet.jpg, histograms.png, lost.parquet: {take_url(newest)}")
