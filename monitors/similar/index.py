"""Keeps some prompts of each window as vectors: each window once, in the order of time, whoever was killed before."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.faults import reached
from datasets_defs.core.windows import Window
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.inference_log import first_day_kept
from datasets_defs.store.prompt_vectors import Indexed, first_prompt_at, indexed_until, save_vectors, some_prompts
from monitors.similar.spaces import PromptSpace

WINDOW_PROMPTS = 50
"""Prompts of a window that are indexed: about a thousand a day, from which a topic of one in a hundred shows."""
AT_ONCE = 6
"""Windows that a sensor's run indexes at most; `maintain` does what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was added to the index."""

    windows: int = 0
    prompts: int = 0

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.prompts} prompts of {self.windows} windows were indexed"


def keep_up(db: Engine, spec: ModelSpec, *, until: datetime, most: int | None = None) -> Kept:
    """Index the windows after the newest that is indexed, up to `until`; at most so many of them.

    Windows without a prompt are passed over. What comes into the log after its window was indexed is not indexed.

    Raises:
        ContractError: the embedding model is wrong, or a kind of redaction is not installed.
        TransientError: PostgreSQL is away; the windows until then are indexed.
    """
    length = spec.window_count(1)
    since = max(filter(None, (indexed_until(db, spec.name), first_day_kept(until))))
    kept = Kept()
    while since < until and (most is None or kept.windows < most):
        at = first_prompt_at(db, spec.name, Window(since, until))
        if at is None:
            break
        window = Window.last_complete(at, length).before(-1)
        if window.end > until:
            break
        kept = Kept(windows=kept.windows + 1, prompts=kept.prompts + _index(db, spec, window))
        reached("similar.indexed")
        since = window.end
    return kept


def _index(db: Engine, spec: ModelSpec, window: Window) -> int:
    """Index a window; a text that it holds more than once counts once."""
    logged = some_prompts(db, spec.name, window, most=2 * WINDOW_PROMPTS)
    some = [prompt for prompt in logged if prompt.prompt.strip()][:WINDOW_PROMPTS]
    texts = clean_texts([prompt.prompt for prompt in some], spec.data.redact)
    first = dict(reversed([*zip(texts, some, strict=True)]))
    space = PromptSpace.of(spec)
    vectors = space.vectors([*first])
    rows = [
        Indexed(prompt.request_id, prompt.at, vector.tolist())
        for prompt, vector in zip(first.values(), vectors, strict=True)
        if np.isfinite(vector).all() and vector.any()
    ]
    reached("similar.made")
    save_vectors(db, spec.name, window, space.name, rows)
    return len(rows)
