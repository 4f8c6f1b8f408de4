"""Shows `generate_texts`: passages of real documentation, continued by the demo's model, judged and published."""

import json

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.core.waiting import wait_until
from datasets_defs.store.generated_texts import counts_of, run_of, texts_in
from ops.demo.texts import passages
from ops.pipelines.step import PipelineStep, Stage, Told

TOPICS = settings().home.resolve() / "pipelines" / "topics.jsonl"
PASSAGES, CHARACTERS = 40, 240
SECONDS = 300
"""How long the run may take."""


def run(stage: Stage) -> Told:
    """Write the topics, run the DAG until its report is there, and read what it came to. Forms stay open for a person.

    Raises:
        ContractError: the run failed, or published nothing.
        TransientError: it took too long.
    """
    TOPICS.parent.mkdir(parents=True, exist_ok=True)
    prompts = [passage.prompt[-CHARACTERS:] for passage in passages("documentation")[:PASSAGES]]
    TOPICS.write_text("\n".join(json.dumps({"topic": prompt}) for prompt in prompts), encoding="utf-8")
    run_id = stage.airflow.start("generate_texts", {"model": stage.model}, seconds=SECONDS)
    name = f"generate_texts:{run_id}"

    def reported() -> str | None:
        if stage.airflow.has_failed("generate_texts", run_id):
            raise ContractError(f"run {run_id} of generate_texts failed; see its log in Airflow")
        stored = run_of(stage.db, name)
        return stored.report_uri if stored is not None else None

    url = wait_until(
        reported,
        seconds=SECONDS,
        every=1,
        complain=lambda _: TransientError(f"run {run_id} of generate_texts has no report after {SECONDS} s"),
    )
    written, states = run_of(stage.db, name), counts_of(stage.db, name, "state")
    if written is None or not texts_in(stage.db, stage.model, "published", limit=1):
        raise ContractError(f"generate_texts published nothing: {states}")
    samples = texts_in(stage.db, stage.model, "published", run_id=name, limit=2)
    return Told(
        figures={**written.figures, **states, "tokens": written.tokens, "report": url},
        samples=[f"{sample.prompt[-80:]} → {sample.completion}" for sample in samples],
    )


STEP = PipelineStep(
    name="generate_texts",
    about="Passages of real documentation, continued by the champion, judged by the quality gate, published once.",
    run=run,
    spec={
        "generate": {
            "topics": {"file": str(TOPICS)},
            "template": "{{ topic }}",
            "max_tokens": 40,
            "pace": {"batch_prompts": 10, "concurrency": 4},
            "quality": {"cut_off": "accept", "min_characters": 20},
            "daily_at": None,
        }
    },
)
