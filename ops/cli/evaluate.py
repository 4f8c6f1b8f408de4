"""The command that compares two versions of a model by hand."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datasets_defs.core.plain import plain
from datasets_defs.core.settings import settings
from datasets_defs.spec.files import spec_of
from ops.cli.models import Model
from ops.stack.database import database
from ops.stack.first_champions import progress_bar

if TYPE_CHECKING:
    from training.by_hand.evaluate import ByHand

console = Console()
_STYLES = {"accept": "green", "reject": "red", "inconclusive": "yellow"}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(evaluate)


def evaluate(
    model: Model,
    champion: Annotated[int | None, typer.Option(help="Version to beat; the champion unless said.")] = None,
    challenger: Annotated[int | None, typer.Option(help="Version to judge; the newest other one unless said.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two versions as the loop would, on the challenger's held-out rows; print the verdict, write nothing."""
    from training.by_hand.evaluate import by_hand
    from training.registry.registry import Registry

    spec, db = spec_of(model), database()
    with progress_bar(Console(stderr=True), model) as bar:
        registry = Registry(settings().mlflow_url)
        found = by_hand(spec, db=db, registry=registry, champion=champion, challenger=challenger, tick=bar.stage)
    if as_json:
        print(json.dumps(_plain(found), indent=1))  # noqa: T201 for a program
    else:
        _tell(found)


def _plain(found: "ByHand") -> object:
    decision = found.judged.decision
    return plain(
        {
            "champion": found.champion,
            "challenger": found.challenger,
            "announced": found.announced,
            "decision": decision.decision,
            "reason": decision.reason,
            "scores": found.judged.scores,
        }
    )


def _tell(found: "ByHand") -> None:
    from training.judge.score_table import intervals

    console.print(f"Said before the look: {escape(found.announced)}", highlight=False)
    table = Table(
        "slice", "documents", f"version {found.champion}", f"version {found.challenger}", "change", "interval"
    )
    for name, each in intervals(found.judged):
        figures = (f"{each.champion:.3f}", f"{each.challenger:.3f}", f"{each.change:+.1%}")
        table.add_row(escape(name), str(each.documents), *figures, f"{each.low:+.1%} to {each.high:+.1%}")
    if table.row_count:
        console.print(table)
    metrics = found.judged.measured.metrics if found.judged.measured else {}
    for name, scores in metrics.items():
        console.print(f"  {escape(name)}: {scores.champion:.4g} → {scores.challenger:.4g}", highlight=False)
    decision = found.judged.decision
    style = _STYLES[decision.decision]
    console.print(f"[{style}]{decision.decision}[/] {escape(decision.reason)}", highlight=False, soft_wrap=True)
