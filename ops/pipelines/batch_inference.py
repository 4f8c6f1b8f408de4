"""Shows `batch_inference`: a table of real passages completed by the demo's model, bad rows named, nothing lost."""

import json

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.batch_runs import batch_runs
from ops.demo.texts import passages
from ops.pipelines.step import PipelineStep, Stage, Told

ROWS = settings().home.resolve() / "pipelines" / "rows.jsonl"
PASSAGES, CHARACTERS = 60, 240
BAD = ('{"id": "cut", "prompt": "a li', '{"id": "empty", "prompt": ""}', '{"id": "p0", "prompt": "named twice"}',
       '{"id": "no prompt"}')  # fmt: skip
SECONDS = 600
"""How long the run may take."""


def run(stage: Stage) -> Told:
    """Write the rows, run the DAG, and read what it came to.

    Raises:
        ContractError: the run failed, or rows are missing.
        TransientError: it took too long.
    """
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    prompts = [passage.prompt[-CHARACTERS:] for passage in passages("documentation")[:PASSAGES]]
    rows = [json.dumps({"id": f"p{number}", "prompt": prompt}) for number, prompt in enumerate(prompts)]
    ROWS.write_text("\n".join([*rows, *BAD]), encoding="utf-8")
    tasks = stage.airflow.run("batch_inference", {"model": stage.model}, seconds=SECONDS)
    newest = next(iter(batch_runs(stage.db, stage.model)), None)
    if newest is None or newest.finished_at is None:
        raise ContractError("batch_inference finished no run; see the logs of its tasks in Airflow")
    figures = newest.figures
    if figures["rows"] != len(rows) + len(BAD) or not figures["answered"] or figures["unusable"] != len(BAD):
        raise ContractError(f"{newest.name}: {figures['answered']} of {figures['rows']} rows are completed: {figures}")
    told = ("rows", "answered", "faults", "versions", "completion_tokens", "rows_per_second", "tokens_per_second")
    first = [row for row in read_rows(f"{newest.output}/part-00000.parquet") if row["completion"]]
    return Told(
        figures={
            "tasks": tasks,
            **{name: figures[name] for name in told},
            "its input": figures["input"]["reason"],
            "look at": figures["manifest"],
        },
        samples=[f"{row['prompt'][-80:]} → {row['completion']}" for row in first[:2]],
    )


STEP = PipelineStep(
    name="batch_inference",
    about="A table of passages, completed by the champion in shards: Parquet with version, lineage, named faults.",
    run=run,
    spec={
        "batch": {
            "input": {"file": str(ROWS)},
            "id": "id",
            "max_tokens": 40,
            "temperature": 0.7,
            "pace": {"batch_prompts": 20},
            "after_promotion": False,
        }
    },
)
