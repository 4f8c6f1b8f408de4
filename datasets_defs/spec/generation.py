"""The `generate` section of the YAML: texts that the model writes for publication. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from datasets_defs.spec.fields import NonBlank, Section, Share
from datasets_defs.spec.source import RowsSource


class TopicsSpec(RowsSource):
    """Where topics come from: one of `file`, `sql` and `asset`; each row's columns are the template's variables."""


class ApiSpec(Section):
    """An OpenAI-compatible API; without `connection` and `url`, the model's own server."""

    connection: str | None = None
    """Airflow Connection with the address (host, schema, port; a path in `extra.path`) and the key (password)."""
    url: str | None = Field(default=None, pattern=r"^https?://")
    """Address without `/v1`, where no Connection holds it."""
    key_env: str | None = None
    """Environment variable of the loop's workers that holds the key for `url`."""
    model: str | None = None
    """The model's name at the API; without it and `model_variable`, the name of this YAML."""
    model_variable: str | None = None
    """Airflow Variable that holds the model's name at the API, so that it changes without a deployment."""
    endpoint: Literal["auto", "chat", "completions"] = "auto"
    """`auto`: `completions` for the model's own server, `chat` for any other."""
    seconds: float = Field(default=120, gt=0)
    """How long one answer may take."""
    connect_seconds: float = Field(default=5, gt=0)
    """How long reaching the server may take."""
    prompt_price: float = Field(default=0, ge=0)
    """Price of a million tokens of prompts, in the currency of `most_cost`."""
    completion_price: float = Field(default=0, ge=0)
    """Price of a million tokens of completions."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.connection and self.url:
            raise ValueError("give connection or url, not both")
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is the model's own server."""
        return self.connection is None and self.url is None


class PaceSpec(Section):
    """How fast a run asks, how often again, and how much it may cost."""

    batch_prompts: int = Field(default=500, ge=1)
    """Prompts of one mapped task; 10,000 prompts are 20 tasks. At most 500 tasks: larger runs have larger batches."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Requests of one task that are on their way at once; the pool `texts` says how many tasks work at once."""
    tries: int = Field(default=6, ge=1)
    """How often a prompt is asked in one run before it counts as failed."""
    back_off_seconds: float = Field(default=1, gt=0)
    """The first wait after a refusal without `Retry-After`; it doubles with each, and varies by half."""
    longest_wait_seconds: float = Field(default=120, gt=0)
    """Longest wait; a server that asks for a longer one is asked in the next run."""
    most_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and completions that one run may take; none: no limit."""
    most_cost: float | None = Field(default=None, gt=0)
    """What one run may cost by the API's prices; none: no limit."""


class JudgeSpec(ApiSpec):
    """A model that scores each text from 0 to 1; where it does not answer, a person decides."""

    instruction: str = (
        "Score the text for the request from 0 (useless) to 1 (ready to publish). "
        'Answer with JSON alone: {"score": NUMBER, "reason": "ONE SENTENCE"}.'
    )
    """What the judge is told; the request and the text follow it."""
    publish_from: Share = 0.7
    """Least score of a text that is published without a person."""
    reject_below: Share = 0.3
    """Texts that score less are rejected."""


class TextQualitySpec(Section):
    """The quality gate: what publishes a text, what asks a person, and what rejects it."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter texts are rejected."""
    max_characters: int = Field(default=20_000, ge=1)
    """Longer texts go to a person."""
    review_repetition: Share = 0.2
    """Share of repeated runs of four words from which on a person looks."""
    reject_repetition: Share = 0.5
    """Share of repeated runs of four words from which on a text is rejected."""
    min_lix: float | None = None
    """Least readability index LIX (words a sentence plus percent of words over six letters); below, a person looks."""
    max_lix: float | None = None
    """Greatest LIX; 40 is a newspaper, 60 is hard. Above, a person looks."""
    blocked_phrases: tuple[NonBlank, ...] = ()
    """Phrases, whatever their case, that reject a text."""
    refusals: tuple[NonBlank, ...] = ("I cannot", "I can't", "I'm sorry", "I am sorry", "As an AI")
    """Beginnings, whatever their case, by which a text is a refusal; those are rejected."""
    cut_off: Literal["review", "accept"] = "review"
    """What a text at the longest length is: for a person, or as good as any (some models never end by themselves)."""
    always_review: bool = False
    """A person looks at every text that is not rejected."""
    judge: JudgeSpec | None = None
    """A model that scores what the other checks let pass."""


class TablePublisher(Section):
    """Rows of a PostgreSQL table, one for each text; a text that is there stays as it is."""

    kind: Literal["table"] = "table"
    """A table."""
    connection: str | None = None
    """Airflow Connection of your PostgreSQL; without it, the loop's own table `published_text`."""
    table: str = Field(default="published_text", pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$")
    """Table with the columns of `published_text`; made if it is not there."""


class FilesPublisher(Section):
    """A JSON file for each text, in a folder or an object store."""

    kind: Literal["files"]
    """Files."""
    url: NonBlank
    """Folder by path or URL (`s3://…`, `gs://…`); the file of a text is `KEY.json`."""


class WebhookPublisher(Section):
    """A signed POST for each text, to a content system."""

    kind: Literal["webhook"]
    """A webhook."""
    url: str = Field(pattern=r"^https?://")
    """Address that gets the text as JSON; `Idempotency-Key` holds the text's key."""
    key_env: NonBlank
    """Environment variable of the loop's workers that holds the secret of the signature."""
    seconds: float = Field(default=30, gt=0)
    """How long one request may take."""


PublisherSpec = Annotated[TablePublisher | FilesPublisher | WebhookPublisher, Field(discriminator="kind")]


class GenerateSpec(Section):
    """Texts that `generate_texts` writes: from which topics, by whom, how they are judged, and where they go."""

    topics: TopicsSpec
    """Where topics come from."""
    template: NonBlank = "{{ topic }}"
    """The prompt, as a Jinja template over a topic's columns; a variable that is missing is an error of that row."""
    system: str = ""
    """What stands before the prompt: as the system message of a chat, or as the text's beginning."""
    api: ApiSpec = ApiSpec()
    """Who writes."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest text, in tokens."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """How random the choice of tokens is."""
    again: Literal["never", "version", "day"] = "version"
    """When a prompt that was answered is asked again: never, of each new version of the model, or every day."""
    pace: PaceSpec = PaceSpec()
    """How fast, how often, how much."""
    quality: TextQualitySpec = TextQualitySpec()
    """What is published, reviewed, rejected."""
    publish: tuple[PublisherSpec, ...] = Field(default=(TablePublisher(),), min_length=1)
    """Where accepted texts go; each place has each text once."""
    daily_at: str | None = Field(default="05:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Time of day (UTC) of the daily run; null: only after a change of champion and by hand."""
    review_hours: float = Field(default=24, gt=0)
    """How long a form waits for a person; what nobody decided is asked again in the next run."""
