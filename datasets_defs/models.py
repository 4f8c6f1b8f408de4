"""What a user says about a model: `models/NAME.yaml` → `ModelSpec`."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from datasets_defs.errors import ContractError
from datasets_defs.presets import PRESETS
from datasets_defs.settings import settings

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
NonBlank = Annotated[str, Field(pattern=r"\S")]
"""A phrase to look for; an empty one would be found in every text."""


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FromScratch(_Spec):
    """A small GPT-2-shaped model with a byte-level BPE, made on the spot."""

    layers: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=16)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=2048, ge=300)
    context: int = Field(default=256, ge=32)
    """Longest prompt plus completion, in tokens."""
    train_seconds: float = Field(default=60, gt=0)
    """How long the first champion trains at set-up, at most."""


class ServingSpec(_Spec):
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


class ConfirmSpec(_Spec):
    """When a bad reading counts as confirmed: bad in `bad` of the last `of` windows including the newest."""

    bad: int = Field(default=2, ge=1)
    of: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "ConfirmSpec":
        if self.bad > self.of:
            raise ValueError(f"bad ({self.bad}) of the last {self.of} windows can never happen; lower `bad`")
        return self


class DriftSpec(_Spec):
    """How the input is held against the champion's profile; how much it may move is learned, not set."""

    min_rows: int = Field(default=200, ge=20)
    """A window with fewer rows is NO_DATA, and is judged together with the next."""
    max_rows: int = Field(default=5000, ge=100)
    """Prompts of a window that are described at most; figures and attributes are counted over all rows."""
    harm_ratio: float = Field(default=1.02, gt=1)
    """The loss is harmful when the prompts surely cost this many times the reference's bits per byte."""
    carry_over_windows: int = Field(default=24, ge=1)
    """Windows that are judged together at most until there are enough rows."""
    burn_in_windows: int = Field(default=24, ge=0)
    """After a change of champion drift is at most a warning for this many windows: its reference is new."""
    exclude: tuple[str, ...] = ()
    """Columns that are not watched, by name; an attribute of the log is `attribute:NAME`."""
    embedding: str | None = None
    """Folder of a local sentence-transformers model; its distances become columns, too."""
    confirm: ConfirmSpec = ConfirmSpec()
    reports: Literal["always", "on_warn"] = "always"
    """Which windows' reports (about 4 MB each) are kept; `on_warn`: those whose drift or loss is not OK."""


class SignalSpec(_Spec):
    """One PromQL query and its limits. `{model}` and `{window}` in the query are filled in."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    promql: str
    worse: Literal["higher", "lower"] = "higher"
    warn: float | None = None
    bad: float
    """Limit; BAD from here on in the `worse` direction."""
    relative_to_reference: bool = False
    """The limits are multiples of the champion's reference loss (bits per byte) instead of plain values."""
    max_age_seconds: float = Field(default=300, gt=0)
    """An older newest sample is STALE."""
    confirm: ConfirmSpec = ConfirmSpec()

    @model_validator(mode="after")
    def _ordered(self) -> "SignalSpec":
        if self.warn is not None and (self.warn > self.bad if self.worse == "higher" else self.warn < self.bad):
            raise ValueError(f"warn ({self.warn}) lies beyond bad ({self.bad}) when {self.worse} is worse; swap them")
        return self


def _preset_or_signal(
    value: Any, signal: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> SignalSpec | tuple[SignalSpec, ...]:
    if not isinstance(value, str):
        found: SignalSpec = signal(value)
        return found
    known = PRESETS[info.field_name or ""]
    if value not in known:
        raise ValueError(f"no preset of that name; {info.field_name} has {', '.join(known)}, or write the signal")
    return tuple(SignalSpec.model_validate(fields) for fields in known[value])


def _flat(entries: Sequence[SignalSpec | tuple[SignalSpec, ...]]) -> tuple[SignalSpec, ...]:
    """Put the presets' signals where their names stood; a signal written out replaces a preset's of its name."""
    taken = {entry.name for entry in entries if isinstance(entry, SignalSpec)}
    flat: list[SignalSpec] = []
    for entry in entries:
        if isinstance(entry, SignalSpec):
            flat.append(entry)
            continue
        flat += [signal for signal in entry if signal.name not in taken]
        taken |= {signal.name for signal in entry}
    return tuple(flat)


Signals = Annotated[
    tuple[Annotated[SignalSpec, WrapValidator(_preset_or_signal)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    AfterValidator(_flat),
]
"""Signals; in YAML a preset's name, or a list of presets' names and signals (`datasets_defs/presets.py`)."""


class LabelSpec(_Spec):
    """How good the answers are by the scores that come late (`score` of feedback and of `ingest`, 0..1).

    The signal `label:NAME` holds them against those of the champion's own first windows: a version that is bad from its
    first label on is for the gate and for its loss to see. The more labels the reference has (five times `min_labels`
    or more), the less the scores have to fall until they are surely worse.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    better: Literal["higher", "lower"] = "higher"
    """`higher`: 1 - score is the badness that is compared; `lower`: the score itself."""
    maturity_windows: int = Field(default=24, ge=0)
    """Windows until a window's labels are taken to be in; each verdict is on the window that long before its own.

    Labels that come later count once `driftloop rescore` judges their windows again.
    """
    harm_ratio: float = Field(default=1.05, gt=1)
    """The answers are harmful when their badness is surely this many times the reference's."""
    min_labels: int = Field(default=50, ge=50)
    """A window with fewer is NO_DATA, and is judged together with the next; under 50, chance decides."""
    carry_over_windows: int = Field(default=24, ge=1)
    """Windows that are judged together at most until there are enough labels."""
    confirm: ConfirmSpec = ConfirmSpec()
    """By the clock: where only every fifth window has enough labels, 2 BAD ones need `{bad: 2, of: 10}`."""


def _distinct(labels: tuple[LabelSpec, ...]) -> tuple[LabelSpec, ...]:
    names = [label.name for label in labels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"more than one label is called {', '.join(twice)}; each needs a name of its own")
    return labels


class BudgetSpec(_Spec):
    """How many training attempts may begin in a stretch of time, over all incidents."""

    attempts: int = Field(default=2, ge=1)
    windows: int = Field(default=168, ge=1)


class LoraSpec(_Spec):
    """Adapters: which matrices get one is found by itself (every linear layer but the output's)."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    """What they add is multiplied by alpha / rank."""
    embeddings: bool = True
    """Trains embeddings and norms, too: new words need it, most of all in a small model; it costs memory."""


class RetrainSpec(_Spec):
    """How a challenger is made, and how often at most."""

    min_documents: int = Field(default=200, ge=1)
    """Fresh prompts with references needed before a retrain starts."""
    max_documents: int = Field(default=20_000, ge=1)
    replay_share: Share = 0.25
    """Share of older training data mixed in against forgetting."""
    holdout_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the fresh documents kept for the evaluation and never trained on."""
    epochs: float = Field(default=3, gt=0)
    max_seconds: float = Field(default=3600, gt=0)
    """Training stops here at the latest."""
    method: Literal["full", "lora"] = "full"
    """`lora`: small adapters are trained beside frozen weights, and merged into them when the version is saved."""
    lora: LoraSpec = LoraSpec()
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak. Unless given 1 / sqrt(parameters): 1e-3 for a million, 1e-5 for ten thousand million; tenfold for adapters.

    One that is given holds for embeddings and norms beside adapters, too.
    """
    batch_tokens: int = Field(default=4096, ge=64)
    """Tokens per optimizer step."""
    row_tokens: int = Field(default=1024, ge=32)
    """Longest row of packed documents, at most the model's context; longer documents are cut."""
    forward_tokens: int = Field(default=4096, ge=64)
    """Tokens in one forward pass at most, to bound memory; a step adds up as many passes as it needs."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the passes; weights stay float32. `auto`: float32 on a CPU, bfloat16 or float16 where the GPU has it."""
    gradient_checkpointing: bool = False
    """Computes activations twice instead of keeping them: slower, and far less memory."""
    patience: int = Field(default=3, ge=1)
    """Of ten looks at the validation texts (`data.validation_share`), so many without a new best end the training."""
    blend: float = Field(default=0.6, gt=0, le=1)
    """How far the challenger goes from the champion's weights to the trained ones; less forgets less."""
    checkpoint_seconds: float = Field(default=60, gt=0)
    seed: int = 0
    cool_down_windows: int = Field(default=24, ge=0)
    """Windows between the end of one incident and the next retrain; none after one that was resolved by hand."""
    back_off_windows: int = Field(default=24, ge=1)
    """Windows from a rejected challenger to the next attempt; doubled after each one, up to a fortnight of hours."""
    budget: BudgetSpec = BudgetSpec()
    min_free_gpus: int = Field(default=0, ge=0)
    """GPUs that have to be known to be free for a retrain to start; 0: nobody asks."""
    max_attempts: int = Field(default=3, ge=1)
    """Rejected challengers in one incident before a person is called."""
    futile_after: int = Field(default=3, ge=1)
    """So many challengers in a row, over all incidents, that surely gained too little: a person is called."""


class LocalTrainer(_Spec):
    """One process on the machine of the Airflow task, which lives on when the task or Airflow dies."""

    kind: Literal["local"] = "local"


class _Processes(_Spec):
    processes: int = Field(default=1, ge=1)
    """On each machine; they share the rows of every step. On GPUs: one for each."""
    sharding: Literal["none", "full"] = "none"
    """`none`: every process holds the whole model (DDP); `full`: weights and optimizer are split (FSDP2)."""


class TorchrunTrainer(_Processes):
    """Several processes that train one model together, started by torchrun, on one machine or several."""

    kind: Literal["torchrun"]
    nodes: int = Field(default=1, ge=1)
    """Machines; each but the first runs `driftloop trainer-node MODEL`."""
    rendezvous: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]:-]+:\d+$")] | None = None
    """`host:port` of the machine that Airflow's task runs on, as the others reach it; needed with several."""

    @model_validator(mode="after")
    def _can_meet(self) -> "TorchrunTrainer":
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"{self.nodes} nodes have to meet somewhere: set `rendezvous: host:port`")
        return self


Amount = Annotated[
    str,
    Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"),
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
]
"""As Kubernetes writes amounts: `4`, `500m`, `64Gi`."""
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class TolerationSpec(_Spec):
    """A taint of nodes that the pod may run on all the same, in Kubernetes' words."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class KubernetesTrainer(_Processes):
    """A pod in a Kubernetes cluster."""

    kind: Literal["kubernetes"]
    image: str = Field(min_length=1)
    """Holds driftloop and its dependencies; the pod runs `python -m training.job`."""
    connection: str = "kubernetes_default"
    """Airflow Connection that leads to the cluster; without one: the cluster in which Airflow itself runs."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "driftloop"
    """Of one driftloop alone: pods are named after models and incidents."""
    secret: ObjectName = "driftloop"  # noqa: S105  # a name, not a password
    """Secret with the addresses and passwords that the pod needs, as `DRIFTLOOP_*` and other variables."""
    gpus: int = Field(default=1, ge=0)
    """One process each, unless `processes` says otherwise."""
    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$")] = "nvidia.com/gpu"
    """What the cluster calls a GPU, such as `amd.com/gpu` or `nvidia.com/mig-3g.40gb`."""
    cpu: Amount = "4"
    memory: Amount = "32Gi"
    shared_memory: Amount = "8Gi"
    """Of `/dev/shm`, by which processes and GPUs exchange tensors; counts as `memory` once used."""
    claim: ObjectName | None = None
    """PersistentVolumeClaim with checkpoints; none: they go with the pod, and a lost pod's training begins anew."""
    queue: ObjectName | None = None
    """Kueue's LocalQueue, of the same namespace."""
    queue_seconds: float = Field(default=24 * 3600, gt=0)
    """A pod that found no node after so long is taken back, and a person is called."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[TolerationSpec, ...] = ()
    """Beside that of the GPU resource's own taint."""
    priority_class: ObjectName | None = None
    runtime_class: ObjectName | None = None
    """Such as `nvidia`, where that is not the nodes' default."""
    service_account: ObjectName | None = None
    image_pull_secret: ObjectName | None = None
    user: int | None = Field(default=1000, ge=1)
    """Number of the user in the pod; `null`: the cluster gives one, as OpenShift does."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _a_process_each(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "processes" in value or not isinstance(value.get("gpus"), int):
            return value
        return {**value, "processes": max(1, value["gpus"])}

    @model_validator(mode="after")
    def _a_gpu_each(self) -> "KubernetesTrainer":
        if self.gpus and self.processes > self.gpus:
            raise ValueError(f"{self.processes} processes cannot share {self.gpus} GPUs: one needs one of its own")
        return self


TrainerSpec = Annotated[
    LocalTrainer | TorchrunTrainer | KubernetesTrainer,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value),
]
"""Where trainings run; in YAML also a kind's name alone."""


class SourceSpec(_Spec):
    """A corpus of the user's own: texts that are trained on beside the log's, and never judge anything."""

    name: Name
    url: str
    """File or pattern that fsspec reads: a path, `s3://…`, `https://…`; .jsonl, .csv, .parquet or .txt, maybe .gz."""
    format: Literal["jsonl", "csv", "parquet", "txt"] | None = None
    """By the file's ending unless said."""
    columns: dict[Literal["text", "prompt", "reference", "user_id", "id"], str] = {}
    """Names of columns that are called otherwise. A row has a `text`, or a `reference` and maybe a `prompt`."""
    max_documents: int | None = Field(default=None, ge=1)
    """Quota: so many documents are kept at most, the first of the source."""
    max_bytes: int | None = Field(default=None, ge=1)
    """Quota: so many bytes of text are kept at most."""


def _one_each(sources: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
    names = [source.name for source in sources]
    if twice := sorted({name for name in [*names, "log"] if [*names, "log"].count(name) > 1}):
        raise ValueError(f"more than one source is called {', '.join(twice)} (`log` is the inference log)")
    return sources


class DataSpec(_Spec):
    """What training data is made of, and what is kept out of it."""

    sources: Annotated[tuple[SourceSpec, ...], AfterValidator(_one_each)] = ()
    """Corpora that are trained on beside the log's documents."""
    max_bytes: int = Field(default=256 * 1024, ge=64)
    """A longer document is taken for a mistake."""
    min_bytes: int = Field(default=1, ge=1)
    """A shorter document says too little."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] | None = ()
    """ISO 639 codes that are kept, `und` for text without one; none: all are, and are counted; `null`: nobody looks."""
    markup: bool = False
    """Whether documents with script tags and event handlers are kept: web pages, JSX, and writing about them."""
    near_duplicates: float | None = Field(default=0.8, gt=0.5, le=1)
    """Share of its word 5-grams that a document may at most have in common with one before; `null`: nobody looks."""
    phrase_documents: int | None = Field(default=50, ge=5)
    """Documents from which a phrase that older texts lack counts as injected; `null`: nobody looks."""
    allow_phrases: tuple[NonBlank, ...] = ()
    """Phrases that may come as often as they like."""
    redact: tuple[Literal["secrets", "emails", "pii"], ...] = ("secrets", "emails")
    """What is taken out of texts; `pii` needs `driftloop[pii]`."""
    split: Literal["user", "time"] = "user"
    """`user`: all of a user's documents are held out or none; `time`: the newest are, whoever's they are."""
    validation_share: Share = 0.0
    """Share of the fresh documents to train on that only say when to stop training."""
    max_rejected_share: Share = 0.2
    """Share of a source's documents that may be invalid; with more it is broken, and the log's stop the training."""


class RuleSpec(_Spec):
    """A condition on a metric, in MLflow's words; a change is from the champion's value to the challenger's."""

    threshold: float | None = None
    """At least this much, or at most where less is better."""
    min_absolute_change: float | None = Field(default=None, gt=0)
    """Better by at least this much."""
    min_relative_change: float | None = Field(default=None, gt=0, lt=1)
    """Better by at least this share of the champion's value."""
    greater_is_better: bool

    @model_validator(mode="after")
    def _says_something(self) -> "RuleSpec":
        if self.threshold is None and self.min_absolute_change is None and self.min_relative_change is None:
            raise ValueError("a rule needs threshold, min_absolute_change or min_relative_change")
        return self


class GateSpec(_Spec):
    """When a challenger may replace the champion. Shares of bits per byte, paired by document."""

    min_gain_share: Share = 0.005
    """The lower confidence bound of the gain on recent rows must reach this."""
    max_loss_share: Share = 0.02
    """The upper confidence bound of the loss on old rows must stay below this."""
    confidence: float = Field(default=0.975, gt=0.5, lt=1)
    """One-sided confidence of both bounds."""
    min_documents: int = Field(default=50, ge=10)
    """Fewer recent, old or golden documents are inconclusive."""
    worth_seeing: Share = 0.06
    """A gain that must not be missed: fewer recent documents than see it with `power` are inconclusive."""
    power: float = Field(default=0.8, ge=0.5, lt=1)
    """Chance of seeing a gain of `worth_seeing`."""
    expected_spread: float = Field(default=0.13, gt=0)
    """Spread of the change among documents until an evaluation of this model has measured it, as a share."""
    rules: dict[str, RuleSpec] = {}
    """Further conditions by metric (`bleu`, `repetition_share` …); a challenger that breaks one is rejected."""

    @model_validator(mode="after")
    def _can_be_seen(self) -> "GateSpec":
        if self.worth_seeing <= self.min_gain_share:
            raise ValueError(
                f"worth_seeing ({self.worth_seeing}) must lie above min_gain_share ({self.min_gain_share}): "
                "a gain at the limit itself is never seen"
            )
        return self


class SliceSpec(_Spec):
    """A protected part of the traffic: no value of the attribute may lose much, or the challenger is not promoted."""

    attribute: str = Field(min_length=1)
    """`language` (found out from the prompt), or the name of an attribute of the inference log."""
    values: tuple[str, ...] = ()
    """Those that are protected whatever comes: too few documents of one are inconclusive. None: all that are found."""
    min_documents: int = Field(default=30, ge=10)
    """Values that were found with fewer are judged together as `other`."""
    max_loss_share: Share | None = None
    """As of the gate; none: the gate's own."""


class EvaluationSpec(_Spec):
    """What challenger and champion are scored on beside recent and old rows, and by what beside bits per byte."""

    golden: str | None = None
    """File with columns `prompt` and `reference` (.jsonl, .csv, .parquet; path or URL) that is never trained on."""
    slices: tuple[SliceSpec, ...] = ()
    archived: bool = True
    """Score the former champion that fits the recent rows best, too."""
    generate: int = Field(default=0, ge=0)
    """Recent and golden prompts that both complete, to measure what they write; 0: none."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Of each completion."""
    blocked_phrases: tuple[NonBlank, ...] = ()
    """Completions that hold one count in `blocked_share`; case does not matter."""
    refusals: tuple[NonBlank, ...] = ("i cannot help", "i can't help", "i'm sorry, but", "as an ai", "i am unable to")
    """Completions that begin with one count in `refusal_share`."""
    metrics: tuple[str, ...] = ()
    """Names of your own metrics: entry points of the group `driftloop.metrics`."""


class ShadowSpec(_Spec):
    """How a new champion is held against the one before it, which scores a sample of its prompts in shadow."""

    rows: int = Field(default=200, ge=1)
    """Prompts scored per window at most, chosen by the hash of their request id."""
    margin: float = Field(default=0.01, ge=0, lt=1)
    """Bits that it may cost more and still pass, as a share of the former champion's on the same prompts."""
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    """Of both bounds together, however often they are looked at."""


class ScaleSpec(_Spec):
    """What `scale_gpu` does when triage asks for more serving capacity."""

    webhook: str | None = None
    """URL that gets a POST with model, incident and evidence; none: a person is told."""


class ModelSpec(_Spec):
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
    labels: Annotated[tuple[LabelSpec, ...], AfterValidator(_distinct)] = ()
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


def load(path: Path) -> ModelSpec:
    """Read one spec.

    Raises:
        ContractError: the file is unreadable, not YAML, or says something impossible; names file, field and fix.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ContractError(f"{path}: not readable as YAML: {err}") from err
    if not isinstance(content, dict):
        raise ContractError(f"{path}: expected a mapping of fields, found {type(content).__name__}")
    try:
        spec = ModelSpec.model_validate(content)
    except ValidationError as err:
        raise ContractError(f"{path}: {_sentences(err)}") from err
    if spec.name != path.stem:
        raise ContractError(f"{path}: name is {spec.name!r}; it must equal the file's name, {path.stem!r}")
    return spec


def load_all(folder: Path | None = None) -> tuple[dict[str, ModelSpec], list[str]]:
    """Read every spec of the folder; give the good ones by name, and a sentence for each bad file."""
    specs: dict[str, ModelSpec] = {}
    problems: list[str] = []
    for path in sorted((folder or settings().models_dir).glob("*.yaml")):
        try:
            specs[path.stem] = load(path)
        except ContractError as err:
            problems.append(str(err))
    return specs, problems


def spec_of(name: str) -> ModelSpec:
    """Read the spec of one model.

    Raises:
        ContractError: there is no such file, or it is wrong.
    """
    path = settings().models_dir / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(model_names()) or "none"
        raise ContractError(f"no model {name!r}: {path} does not exist; known models: {known}")
    return load(path)


def model_names(folder: Path | None = None) -> list[str]:
    """List the models by their files' names; a file with errors counts, and fails in its own task."""
    return sorted(path.stem for path in (folder or settings().models_dir).glob("*.yaml"))


_TAGS = ("FromScratch", "str", "local", "torchrun", "kubernetes")
"""Parts of a place in pydantic's words that stand for a choice among types, and not for a field."""


def _sentences(err: ValidationError) -> str:
    def place(location: tuple[int | str, ...]) -> str:
        return ".".join(str(part) for part in location if part not in _TAGS) or "the file"

    return "; ".join(
        f"field {place(item['loc'])}: {item['msg']}"
        + (f" (found {item['input']!r})" if item["type"] not in ("missing", "extra_forbidden") else "")
        for item in err.errors()
    )
