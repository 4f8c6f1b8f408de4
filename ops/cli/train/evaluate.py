"""The command that compares two versions of a model by hand."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from training.by_hand.evaluate import ComparisonByHand

_CONDITIONS = {"accept": "OK", "reject": "BAD", "inconclusive": "WARN"}
"""The gate's decisions, by the condition whose colour they have."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, evaluate, Panel.TRAIN,
        "driftloop evaluate docs-writer",
        "driftloop evaluate docs-writer --champion 3 --challenger 7 --json",
    )  # fmt: skip


def evaluate(
    model: Model,
    champion: Annotated[int | None, typer.Option(help="Version to beat. Without it: the champion.")] = None,
    challenger: Annotated[int | None, typer.Option(help="Version to judge. Without it: the newest other one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions as the loop would, on the challenger's held-out rows; print the verdict. Writes nothing."""
    from datasets_defs.core.settings import settings
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database
    from ops.stack.first_champions import progress_bar
    from training.by_hand.evaluate import by_hand
    from training.registry.registry import Registry

    spec, db = spec_of(model), database()
    with progress_bar(tables.errors, model) as bar:
        registry = Registry(settings().mlflow_url)
        evaluation = by_hand(spec, db=db, registry=registry, champion=champion, challenger=challenger, tick=bar.stage)
    if as_json:
        tables.print_json(_plain(evaluation))
    else:
        _tell(evaluation)


def _plain(evaluation: "ComparisonByHand") -> object:
    from datasets_defs.core.plain import plain

    decision = evaluation.judged.decision
    return plain(
        {
            "champion": evaluation.champion,
            "challenger": evaluation.challenger,
            "announced": evaluation.announced,
            "decision": decision.decision,
            "reason": decision.reason,
            "scores": evaluation.judged.scores,
        }
    )


def _tell(evaluation: "ComparisonByHand") -> None:
    from training.judge.score_table import intervals

    tables.plainly(f"Said before the look: {evaluation.announced}")
    versions = (f"version {evaluation.champion}", f"version {evaluation.challenger}")
    table = tables.table(
        "slice", "documents", *versions, "change", "interval", right=("documents", *versions, "change")
    )
    for name, interval in intervals(evaluation.judged):
        figures = (f"{interval.champion:.3f}", f"{interval.challenger:.3f}", f"{interval.change:+.1%}")
        bounds = f"{interval.low:+.1%} to {interval.high:+.1%}"
        table.add_row(tables.escape(name), str(interval.documents), *figures, bounds)
    if table.row_count:
        tables.console.print(table)
    metrics = evaluation.judged.measured.metrics if evaluation.judged.measured else {}
    for name, scores in metrics.items():
        tables.plainly(f"  {name}: {scores.champion:.4g} → {scores.challenger:.4g}")
    kinds = evaluation.judged.measured.kinds if evaluation.judged.measured else None
    for name, before, after in kinds.lines if kinds is not None and kinds.differ else ():
        tables.plainly(f"  {name}: {before} → {after}")
    decision = evaluation.judged.decision
    tables.say(f"{tables.coloured(_CONDITIONS[decision.decision], decision.decision)} {tables.escape(decision.reason)}")
