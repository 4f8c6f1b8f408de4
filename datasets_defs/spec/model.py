"""What a user says about a model: `models/NAME.yaml` → `ModelSpec`."""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from datasets_defs.core.conditions import About
from datasets_defs.core.settings import settings
from datasets_defs.spec.batch import BatchSpec
from datasets_defs.spec.fields import Name, NamedFile, NonBlank, Section
from datasets_defs.spec.gate import EvaluationSpec, GateSpec, ShadowSpec
from datasets_defs.spec.generation import GenerateSpec
from datasets_defs.spec.presets import MEAN_LOSS_QUERIES
from datasets_defs.spec.rollout import AbSpec, RolloutSpec
from datasets_defs.spec.scaling import ScaleByPerson, ScaleSpec
from datasets_defs.spec.schedule import Schedule, SearchSpec
from datasets_defs.spec.serving import ServingSpec
from datasets_defs.spec.signals import DriftSpec, LabelSpec, Signals, distinct
from datasets_defs.spec.trainers import CommandTrainer, KubernetesTrainer, LocalTrainer, TorchrunTrainer, TrainerSpec
from datasets_defs.spec.training import DataSpec, RetrainSpec
from datasets_defs.spec.trust import TrustSpec


class FromScratch(Section):
    """A small GPT-2-shaped model with a byte-level BPE, made on the spot."""

    layers: int = Field(default=4, ge=1)
    """Transformer blocks."""
    width: int = Field(default=128, ge=16)
    """Length of a token's vector; a multiple of `heads`."""
    heads: int = Field(default=4, ge=1)
    """Attention heads of each block."""
    vocabulary: int = Field(default=2048, ge=300)
    """Tokens that the tokenizer learns from `training_text`."""
    context: int = Field(default=256, ge=32)
    """Longest prompt plus completion, in tokens."""
    train_seconds: float = Field(default=60, gt=0)
    """How long the first champion trains at set-up, at most."""


class ModelSpec(NamedFile):
    """One monitored model; the only thing a user edits."""

    name: Name
    """The model's name everywhere; it equals the file's name without `.yaml`."""
    description: str = ""
    """What the model does, in one sentence for people."""
    base_model: FromScratch | NonBlank
    """A folder or hub name that `from_pretrained` reads, or the shape of a model made from scratch."""
    training_text: NonBlank
    """Text the first champion learns or is judged by: `builtin:python-docs`, or a file (.txt, .jsonl, .parquet)."""
    serving: ServingSpec = ServingSpec()
    """In YAML also a server's name, `driftloop`, `vllm` or `tgi`, which brings the `quality` preset of that name."""
    drift: DriftSpec = DriftSpec()
    """How the input and the loss are watched."""
    quality: Signals = ()
    """What serving's metrics say. Presets: `driftloop`, `vllm`, `tgi`, `sglang`, `nim`, `triton`.

    They come on top of what `serving` brings: a signal of the same name replaces that one, `{remove: NAME}` takes it
    out, and an empty list takes out all.
    """
    gpu: Signals = ()
    """What the GPUs' metrics say. Presets: `dcgm`, `amd`, `gaudi`, `nvidia_smi`, `xpu`, `ray`, `triton`."""
    labels: Annotated[tuple[LabelSpec, ...], AfterValidator(distinct)] = ()
    """What people say of the answers afterwards."""
    blind_after_windows: int = Field(default=3, ge=1)
    """Windows without data before people hear that the loop cannot judge."""
    retrain: RetrainSpec = RetrainSpec()
    """How a challenger is made, and how often at most."""
    schedule: Schedule | None = None
    """When a challenger is trained though nothing is wrong: `weekly`, `monthly`, a cron expression, or a mapping."""
    search: SearchSpec | None = None
    """Settings that a training on schedule tries; needs `data.validation_share`."""
    trainer: TrainerSpec = LocalTrainer()
    """Where and how trainings run: `local`, `torchrun`, or a mapping with a `kind` and its fields."""
    data: DataSpec = DataSpec()
    """What training data is made of, and what is kept out of it."""
    trust: TrustSpec = TrustSpec()
    """Whose references and scores count."""
    gate: GateSpec = GateSpec()
    """When a challenger may replace the champion."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What champion and challenger are scored on, and by which further metrics."""
    promotion: Literal["auto", "approve"] = "auto"
    """`auto`: the loop promotes what the gate accepts; `approve`: a person is asked first."""
    approval_windows: int = Field(default=24, ge=1)
    """Windows until an unanswered question is over: with `approve` a no, about drift what `drift.unanswered` says."""
    offers: tuple[Literal["registry"], ...] = ()
    """Who may offer versions beside `driftloop offer`. `registry`: whoever registers one in MLflow under this model's
    name, with the alias `challenger` or the tag `driftloop.offer`."""
    rollout: RolloutSpec | None = None
    """How an accepted challenger takes users over through the gateway, step by step; none: all at once."""
    ab: AbSpec | None = None
    """Instead of `rollout`: an experiment that is held open between champion and challenger."""
    probation_windows: int = Field(default=3, ge=1)
    """Good windows after a promotion until the incident is resolved."""
    shadow: ShadowSpec = ShadowSpec()
    """How a new champion is compared with the one before it during probation."""
    generate: GenerateSpec | None = None
    """Texts that the model writes for publication; none: it writes none."""
    batch: BatchSpec | None = None
    """Rows of yours that the model completes after a promotion and on demand; none: nothing is completed."""
    scale: ScaleSpec = ScaleByPerson()
    """Who gives more serving capacity, how much, and for how long."""

    @model_validator(mode="before")
    @classmethod
    def _server_brings_signals(cls, value: Any) -> Any:
        """Put the server's preset before the signals of one's own; a list that is empty on purpose stays empty."""
        if not isinstance(value, dict) or not isinstance(value.get("serving"), str) or value.get("quality") == []:
            return value
        own = value.get("quality") or []
        own = [own] if isinstance(own, str) else own
        return {**value, "quality": [value["serving"], *own] if isinstance(own, list | tuple) else own}

    @model_validator(mode="before")
    @classmethod
    def _labels_trust_alike(cls, value: Any) -> Any:
        """Let labels count anonymous scores, or not, as the section `trust` says, unless they say it themselves."""
        if not isinstance(value, dict) or not isinstance(labels := value.get("labels"), list | tuple):
            return value
        trust = value.get("trust")  # as it is written: `"no"` and `no` are for pydantic to read, alike in both places
        anonymous = trust.get("anonymous", False) if isinstance(trust, dict) else getattr(trust, "anonymous", False)
        told = [{"anonymous": anonymous, **label} if isinstance(label, dict) else label for label in labels]
        return {**value, "labels": told}

    @model_validator(mode="after")
    def _two_versions_can_serve(self) -> "ModelSpec":
        """Refuse to split users where no server can hold two versions and say so.

        Raises:
            ValueError: the message says what is needed.
        """
        if self.rollout is not None and self.ab is not None:
            raise ValueError("`rollout` and `ab` exclude each other: keep one")
        if self.steps is None or self.serving.kind == "driftloop":
            return self
        section = "rollout" if self.rollout is not None else "ab"
        one_by_one = self.serving.swap in ("weights", "kubernetes")
        if self.serving.swap == "adapters" or (one_by_one and len(self.serving.replicas) > 1):
            return self
        raise ValueError(
            f"{section} needs a server that holds two versions and says so: driftloop's own, `swap: adapters`, or "
            f"`swap: weights` or `kubernetes` with two `replicas` or more; found swap: {self.serving.swap} with "
            f"{len(self.serving.replicas)}"
        )

    @model_validator(mode="after")
    def _own_command_leaves_weights(self) -> "ModelSpec":
        """Refuse to keep adapters of a trainer whose adapters are merged.

        Raises:
            ValueError: it is asked for.
        """
        if self.trainer.kind == "command" and self.retrain.keeps_adapters:
            raise ValueError(
                "trainer: what a command of your own leaves is registered as whole weights; take `lora: {merge: "
                "false}` out of `retrain`, or let driftloop's trainer train"
            )
        return self

    @model_validator(mode="after")
    def _challengers_fit_the_server(self) -> "ModelSpec":
        """Refuse to make challengers that the server could not load beside its base.

        Raises:
            ValueError: the server takes adapters, and whole weights would be made, or the other way round.
        """
        if self.serving.swap == "adapters" and not self.retrain.keeps_adapters:
            raise ValueError(
                "serving: `swap: adapters` loads adapters beside one base; set `retrain: {method: lora, lora: {merge: "
                "false}}`, or `swap: weights`"
            )
        if self.serving.swap in ("weights", "kubernetes", "webhook") and self.retrain.keeps_adapters:
            raise ValueError(
                f"serving: `swap: {self.serving.swap}` loads whole weights; set `swap: adapters`, or leave "
                "`retrain.lora.merge` out"
            )
        return self

    @property
    def base_name(self) -> str:
        """What the base model is called: its folder or hub name, or its shape; how long it trains makes no other."""
        if isinstance(self.base_model, str):
            return self.base_model
        shape = self.base_model.model_dump(exclude={"train_seconds"})
        return f"scratch ({', '.join(f'{name} {value}' for name, value in shape.items())})"

    @property
    def steps(self) -> RolloutSpec | None:
        """How an accepted challenger takes the users over; None: all at once."""
        return self.ab.as_rollout if self.ab is not None else self.rollout

    @model_validator(mode="after")
    def _can_search(self) -> Self:
        """Refuse a search that could not choose, or whose settings would reach nobody."""
        if self.search is None:
            return self
        if not self.data.validation_share:
            raise ValueError("search: the winner is chosen on validation texts: set `data: {validation_share: 0.1}`")
        if self.trainer.kind == "command":
            raise ValueError("search: a command of your own (`trainer`) does not get the settings; search inside it")
        adapters = {"rank", "alpha"} & {*self.search.grid, *self.search.ranges}
        if adapters and self.retrain.method != "lora":
            raise ValueError(f"search: {', '.join(sorted(adapters))} need `retrain: {{method: lora}}`")
        if adapters and self.retrain.keeps_adapters:
            raise ValueError(
                f"search: {', '.join(sorted(adapters))} with `lora: {{merge: false}}`: each training goes on with the "
                "champion's adapter, whose shape stays; take them out of the search"
            )
        return self

    def about(self, signal: str) -> About | None:
        """Say what a signal speaks of, by its name in verdicts; None: the YAML does not say, or does not hold it."""
        kind, _, name = signal.partition(":")
        match kind:
            case "quality":
                return next((entry.about for entry in self.quality if entry.name == name), None)
            case "gpu":
                return next((entry.about for entry in self.gpu if entry.name == name), None) or About.MACHINES
            case _:
                return About.MODEL

    def is_mean_loss(self, signal: str) -> bool:
        """Say whether a signal is what all prompts cost on the mean, by what it asks and not by how it is called."""
        kind, _, name = signal.partition(":")
        asked = next((entry.promql for entry in self.quality if entry.name == name), None)
        return kind == "quality" and asked in MEAN_LOSS_QUERIES

    @property
    def gpus(self) -> int:
        """How many GPUs a training takes, where there are any."""
        match self.trainer:
            case KubernetesTrainer(gpus=gpus) | CommandTrainer(gpus=gpus):
                return gpus
            case TorchrunTrainer(processes=processes, nodes=nodes):
                return processes * nodes
            case _:
                return 1

    @property
    def longest_seconds(self) -> float:
        """How long an attempt's trainings may take together, one after another."""
        return self.retrain.max_seconds * (self.search.count if self.search is not None else 1)

    def window_count(self, count: int) -> timedelta:
        """Give the duration of `count` windows."""
        return count * settings().window_length
