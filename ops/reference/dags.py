"""The page on DAGs and Assets: what each DAG runs, and who rings whom."""

from collections.abc import Iterable

from ops.reference.dag_files import DagFacts, asset_names, read_dags
from ops.reference.markdown import code, page, table

LEAD = (
    "One DAG per file of `dags/`, named like the file. A task is one import, one call and one event. A DAG runs by the "
    "clock, or once for each key that another DAG adds to an Asset it waits for. What an event means is read from the "
    "[incident](states.md), never from the event."
)


def write() -> str:
    """Write the page."""
    dags = read_dags()
    return page(
        "DAGs and Assets",
        LEAD,
        f"## Who rings whom\n\n{picture(dags)}\n\n{_assets(dags)}",
        *(_dag(dag) for dag in dags),
    )


def picture(dags: Iterable[DagFacts]) -> str:
    """Draw DAGs and Assets as a diagram; `reconcile`, which rings every Asset again, is left out of it."""
    lines = ["```mermaid", "flowchart TD"]
    for dag in dags:
        lines += [f"    {asset}([{asset}]) --> {dag.name}" for asset in dag.waits_for]
        if dag.name != "reconcile":
            rings = dict.fromkeys(asset for task in dag.tasks for asset in task.rings)
            lines += [f"    {dag.name} --> {asset}([{asset}])" for asset in rings]
    return "\n".join([*lines, "```"])


def _assets(dags: list[DagFacts]) -> str:
    rows = []
    for asset in asset_names().values():
        ringers = [f"{dag.name}.{task.name}" for dag in dags for task in dag.tasks if asset in task.rings]
        woken = [dag.name for dag in dags if asset in dag.waits_for]
        rows.append((code(asset), ", ".join(map(code, ringers)), ", ".join(map(code, woken))))
    return table(("Asset", "rung by", "wakes"), rows)


def _dag(dag: DagFacts) -> str:
    when = dag.schedule or "for each key of " + " or ".join(map(code, dag.waits_for))
    rows = [(code(task.name), code(task.calls), ", ".join(map(code, task.rings))) for task in dag.tasks]
    return f"## {dag.name}\n\n{dag.text}\n\nRuns {when}.\n\n{table(('task', 'runs', 'rings'), rows)}"
