"""What a user says about a model: `models/NAME.yaml` → `ModelSpec`."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from datasets_defs.core.settings import settings
from datasets_defs.spec.fields import Name, Section
from datasets_defs.spec.gate import EvaluationSpec, GateSpec, ShadowSpec
from datasets_defs.spec.presets import PRESETS
from datasets_defs.spec.signals import DriftSpec, LabelSpec, Signals, distinct
from datasets_defs.spec.trainers import KubernetesTrainer, LocalTrainer, TorchrunTrainer, TrainerSpec
from datasets_defs.spec.training import DataSpec, RetrainSpec


class FromScratch(Section):
    """A small GPT-2-shaped model with a byte-level BPE, made on the spot."""

    layers: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=16)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=2048, ge=300)
    context: int = Field(default=256, ge=32)
    """Longest prompt plus completion, in tokens."""
    train_seconds: float = Field(default=60, gt=0)
    """How long the first champion trains at set-up, at most."""


class ServingSpec(Section):
    """Who answers requests."""

    kind: Literal["driftloop", "external"] = "driftloop"
    """`external`: vLLM, TGI, Triton …; a promotion is then confirmed by the registry's alias alone."""
    max_completion_tokens: int = Field(default=256, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS["quality"]:
            raise ValueError(f"no server of that name; there are {', '.join(PRESETS['quality'])}, or write `kind`")
        return {"kind": "driftloop" if value == "driftloop" else "external"}


class ScaleSpec(Section):
    """What `scale_gpu` does when triage asks for more serving capacity."""

    webhook: str | None = None
    """URL that gets a POST with model, incident and evidence; none: a person is told."""


class ModelSpec(Section):
    """One monitored model; the only thing a user edits."""

    name: Name
    description: str = ""
    base_model: FromScratch | str
    """A folder or hub name that `from_pretrained` reads, or the shape of a model made from scratch."""
    training_text: str
    """Text the first champion learns or is judged by: `builtin:python-docs`, or a file (.txt, .jsonl, .parquet)."""
    serving: ServingSpec = ServingSpec()
    """In YAML also a server's name, `driftloop`, `vllm` or `tgi`, which brings the `quality` preset of that name."""
    drift: DriftSpec = DriftSpec()
    quality: Signals = ()
    """What serving's metrics say. Presets: `driftloop`, `vllm`, `tgi`."""
    gpu: Signals = ()
    """What the GPUs' metrics say. Preset: `dcgm`."""
    labels: Annotated[tuple[LabelSpec, ...], AfterValidator(distinct)] = ()
    """What people say of the answers afterwards."""
    blind_after_windows: int = Field(default=3, ge=1)
    """Windows without data before people hear that the loop cannot judge."""
    retrain: RetrainSpec = RetrainSpec()
    trainer: TrainerSpec = LocalTrainer()
    """Where trainings run: `local`, `torchrun` or `kubernetes`, or a mapping with that `kind` and its fields."""
    data: DataSpec = DataSpec()
    gate: GateSpec = GateSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    promotion: Literal["auto", "approve"] = "auto"
    approval_windows: int = Field(default=24, ge=1)
    """With `approve`: windows until an unanswered request is a no."""
    probation_windows: int = Field(default=3, ge=1)
    """Good windows after a promotion until the incident is resolved."""
    shadow: ShadowSpec = ShadowSpec()
    scale: ScaleSpec = ScaleSpec()

    @model_validator(mode="before")
    @classmethod
    def _server_brings_signals(cls, value: Any) -> Any:
        named = isinstance(value, dict) and isinstance(value.get("serving"), str) and "quality" not in value
        return {**value, "quality": value["serving"]} if named else value

    @property
    def gpus(self) -> int:
        """How many GPUs a training takes, where there are any."""
        match self.trainer:
            case KubernetesTrainer(gpus=gpus):
                return gpus
            case TorchrunTrainer(processes=processes, nodes=nodes):
                return processes * nodes
            case _:
                return 1

    def window_count(self, count: int) -> timedelta:
        """Give the duration of `count` windows."""
        return count * settings().window_length
