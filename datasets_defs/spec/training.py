"""The sections of the YAML on how a challenger is trained, and on what data."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from datasets_defs.redaction.kinds import USUAL, Kind
from datasets_defs.spec.fields import Name, NonBlank, Section, Share, is_no


class BudgetSpec(Section):
    """How many training attempts may begin in a stretch of time, over all incidents."""

    attempts: int = Field(default=2, ge=1)
    """Training attempts that may begin within `windows`."""
    windows: int = Field(default=168, ge=1)
    """Length of that stretch, in windows; 168 hours are a week."""


class LoraSpec(Section):
    """Adapters: which matrices get one is found by itself (every linear layer but the output's)."""

    rank: int = Field(default=16, ge=1)
    """Rank of each adapter's two matrices."""
    alpha: float = Field(default=32, gt=0)
    """What they add is multiplied by alpha / rank."""
    embeddings: bool = True
    """Trains embeddings and norms, too: new words need it, most of all in a small model; it costs memory.

    With `merge: false` it is off unless said, and cannot be on: an adapter holds neither.
    """
    merge: bool = True
    """Whether adapters are merged into the weights when a version is saved.

    `false`: the version is its adapter, in PEFT's form, and the hash of the base that it belongs to. A server loads it
    beside others (`serving.swap: adapters`); the next training goes on with it, over the same base.
    """

    @model_validator(mode="before")
    @classmethod
    def _kept_alone(cls, value: Any) -> Any:
        """Let adapters that are kept be all that is trained, unless the section says otherwise."""
        if isinstance(value, dict) and is_no(value.get("merge")):
            return {"embeddings": False, **value}
        return value

    @model_validator(mode="after")
    def _holds_what_is_trained(self) -> "LoraSpec":
        """Refuse to train what an adapter cannot hold.

        Raises:
            ValueError: it is asked for.
        """
        if self.embeddings and not self.merge:
            raise ValueError(
                "`merge: false` keeps adapters alone, and `embeddings: true` trains embeddings and norms beside them, "
                "which servers take from no adapter; set one of the two to the other value"
            )
        return self


class RetrainSpec(Section):
    """How a challenger is made, and how often at most."""

    min_documents: int = Field(default=200, ge=1)
    """Fresh prompts with references needed before a retrain starts."""
    max_documents: int = Field(default=20_000, ge=1)
    """Fresh documents that are used at most, the newest ones."""
    replay_share: Share = 0.25
    """Share of older training data mixed in against forgetting."""
    holdout_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the fresh documents kept for the evaluation and never trained on."""
    epochs: float = Field(default=3, gt=0)
    """Passes over the training data."""
    max_seconds: float = Field(default=3600, gt=0)
    """Training stops here at the latest."""
    method: Literal["full", "lora"] = "full"
    """`lora`: small adapters are trained beside frozen weights, and merged into them unless `lora.merge` is false."""
    lora: LoraSpec = LoraSpec()
    """Shape of the adapters; read with `method: lora` only."""
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
    """Seconds between two checkpoints."""
    seed: int = 0
    """Seed of the order of rows and of every random draw."""
    cool_down_windows: int = Field(default=24, ge=0)
    """Windows between the end of one incident and the next retrain; none after one that was resolved by hand."""
    back_off_windows: int = Field(default=24, ge=1)
    """Windows from a rejected challenger to the next attempt; doubled after each one, up to a fortnight of hours."""
    budget: BudgetSpec = BudgetSpec()
    """Attempts that may begin in a stretch of time, over all incidents."""
    min_free_gpus: int = Field(default=0, ge=0)
    """GPUs that have to be known to be free for a retrain to start; 0: nobody asks."""
    max_attempts: int = Field(default=3, ge=1)
    """Rejected challengers in one incident before a person is called."""
    futile_after: int = Field(default=3, ge=1)
    """So many challengers in a row, over all incidents, that surely gained too little: a person is called."""

    @property
    def keeps_adapters(self) -> bool:
        """Whether a challenger is saved as an adapter, and not as whole weights."""
        return self.method == "lora" and not self.lora.merge

    @model_validator(mode="after")
    def _adapters_are_trained(self) -> "RetrainSpec":
        """Refuse to keep adapters where none are trained.

        Raises:
            ValueError: `lora.merge` is false, and the method is another.
        """
        if not self.lora.merge and self.method != "lora":
            raise ValueError(f"`lora: {{merge: false}}` needs `method: lora`; found method: {self.method}")
        return self


class SourceSpec(Section):
    """A corpus of the user's own: texts that are trained on beside the log's, and never judge anything."""

    name: Name
    """Name of the source in reports; `log` is taken by the inference log."""
    url: str
    """File or pattern that fsspec reads: a path, `s3://…`, `https://…`.

    .jsonl, .json, .csv, .tsv, .parquet or .txt, maybe .gz or .zst.
    """
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


class DataSpec(Section):
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
    redact: tuple[Kind, ...] = USUAL
    """What is taken out of texts; `pii` needs `driftloop[pii]`."""
    split: Literal["user", "time"] = "user"
    """`user`: all of a user's documents are held out or none; `time`: the newest are, whoever's they are."""
    validation_share: Share = 0.0
    """Share of the fresh documents to train on that only say when to stop training."""
    max_rejected_share: Share = 0.2
    """Share of a source's documents that may be invalid; with more it is broken, and the log's stop the training."""
