"""The pipelines that are shown, in their order; another one is another line."""

from ops.pipelines import batch_inference, generate_texts, prepare_pairs, train_on_schedule
from ops.pipelines.step import PipelineStep

STEPS: tuple[PipelineStep, ...] = (
    generate_texts.STEP,
    batch_inference.STEP,
    prepare_pairs.STEP,
    train_on_schedule.STEP,
)  # fmt: skip
