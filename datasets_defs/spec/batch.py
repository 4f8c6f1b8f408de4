"""The `batch` section of the YAML: completions for a table or for files. Pure."""

from typing import Literal

from pydantic import Field

from datasets_defs.spec.fields import NonBlank, Section, Share
from datasets_defs.spec.generation import ApiSpec, PaceSpec
from datasets_defs.spec.source import RowsSource


class BatchInput(RowsSource):
    """Where the rows come from: one of `file`, `sql` and `asset`."""

    limit: int = Field(default=1_000_000, ge=1, le=10_000_000)
    """Rows that one run reads at most; that there are more is said."""


class BatchPace(PaceSpec):
    """How fast a run asks, how often again, and how much it may take."""

    batch_prompts: int = Field(default=500, ge=1)
    """Rows of one shard, which is one mapped task and one file; at most 500 shards: larger inputs have larger ones."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests of one task that are on their way at once; users of the same server wait behind them."""
    most_failed: Share = 0.1
    """Share of a shard's rows that may fail by faults of the server; with more the shard is asked again, whole."""


class BatchSpec(Section):
    """Completions for rows of yours: after each promotion, and when a person asks for them."""

    input: BatchInput
    """Where the rows come from."""
    template: NonBlank = "{{ prompt }}"
    """The prompt, as a Jinja template over a row's columns; a variable that is missing is a fault of that row."""
    id: str | None = None
    """Column that names a row in the output; without it, the row's number. One without it or named twice is a fault."""
    system: str = ""
    """What stands before the prompt: as the system message of a chat, or as the text's beginning."""
    output: str | None = None
    """Folder or URL (`s3://…`) that gets a folder for each run; without it, `artifacts/batches`."""
    machine: Literal["server", "local"] = "server"
    """`server`: whoever `api` names; `local`: the champion's files, in a process of their own where the task runs."""
    api: ApiSpec = ApiSpec()
    """Who answers; without it the model's own server."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest completion, in tokens."""
    temperature: float = Field(default=0, ge=0, le=2)
    """How random the choice of tokens is; 0: the likeliest each time."""
    pace: BatchPace = BatchPace()
    """How fast, how often, how much."""
    after_promotion: bool = True
    """Run for each new champion; without it, only when a person asks."""
