"""Shows that a new champion completes the model's reference prompts."""

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.artifacts import artifact_url, read_rows
from ops.pipelines.step import PipelineStep, Stage, Told


def run(stage: Stage) -> Told:
    """Run the DAG, and read what it wrote.

    Raises:
        ContractError: it wrote nothing.
    """
    tasks = stage.airflow.run("generate", {"model": stage.model}, seconds=300)
    champion = Ledger(stage.db).champion(stage.model)
    if champion is None:
        raise ContractError(f"{stage.model} has no champion")
    url = artifact_url("generations", stage.model, f"v{champion.version}.parquet")
    rows = read_rows(url)
    return Told(
        figures={"tasks": tasks, "texts": len(rows), "file": url},
        samples=[row["completion"] for row in rows[:2]],
    )


STEP = PipelineStep(name="generate_texts", about="Texts written by the champion, kept for people to read.", run=run)
