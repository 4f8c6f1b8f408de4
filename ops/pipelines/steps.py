"""The pipelines that are shown, in their order; another one is another line."""

from ops.pipelines import generate_texts, prepare_pairs
from ops.pipelines.step import PipelineStep

STEPS: tuple[PipelineStep, ...] = (
    generate_texts.STEP,
    prepare_pairs.STEP,
)  # fmt: skip
