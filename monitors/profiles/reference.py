"""The rows that a champion is judged by: its reference, made from its own log if it has none."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.redaction.names import names_of
from datasets_defs.redaction.rows import clean_rows, clean_texts
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import artifact_url, read_rows, write_named_rows
from datasets_defs.store.inference_log import count_prompts, read_window
from datasets_defs.store.references import ReferenceProfile, reference_of, save_reference
from monitors.counts.moments import Moments
from monitors.profiles.collected import Collected, collected

OWN_ROWS = 500
"""A reference made from the log has at least this many rows, and five times `drift.min_rows`."""
MIN_JOINED = 0.9
"""Share of a set of rows that must be in the log for the set to be taken from there."""


def losses_of(rows: Sequence[Mapping[str, Any]]) -> Moments:
    """Sum what the prompts of rows of the log, or of a reference, cost; rows without a loss are left out."""
    return Moments.of(
        [np.nan if row.get("prompt_bits_per_byte") is None else row["prompt_bits_per_byte"] for row in rows],
        [len((row["prompt"] or "").encode("utf-8", "replace")) for row in rows],
    )


def recent_rows(db: Engine, champion: Champion, *, limit: int) -> list[dict[str, Any]]:
    """Read the rows that show what the champion's traffic costs, at most `limit`; none while it has no reference.

    Raises:
        ContractError: the reference's file is gone or damaged.
    """
    reference = reference_of(db, champion.model, champion.version)
    rows = read_rows(reference.uri, reference.sha256) if reference is not None else []
    return [row for row in rows if row["role"] == "recent"][:limit]


def rows_of_champion(db: Engine, champion: Champion, window: Window, *, limit: int) -> list[dict[str, Any]]:
    """Read the window's rows that the champion answered; a foreign log, which names no version, counts as its own."""
    rows = read_window(db, champion.model, window, limit=limit)
    return [row for row in rows if row["model_version"] in (champion.version, None)]


def cleaned(rows: Sequence[Mapping[str, Any]], spec: ModelSpec) -> list[dict[str, Any]]:
    """Give rows of the log without what `data.redact` takes out of prompts: a profile keeps their words."""
    prompts = clean_texts([row["prompt"] or "" for row in rows], spec.data.redact)
    return [{**row, "prompt": prompt} for row, prompt in zip(rows, prompts, strict=True)]


def collected_rows(db: Engine, spec: ModelSpec, champion: Champion, until: datetime) -> Collected:
    """Count the requests that a reference of the champion's own could be made from, up to as many as it takes."""

    def count(window: Window) -> dict[str, int]:
        most = rows_needed(spec)
        return {"rows": count_prompts(db, champion.model, champion.version, window, most=most)}

    return collected(db, champion, "data", until, at=until, count=count)


def rows_needed(spec: ModelSpec) -> int:
    """Give how many requests make a reference."""
    return max(OWN_ROWS, 5 * spec.drift.min_rows)


def build_reference(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime) -> str:
    """Make the champion's reference from what it was asked since it serves, once there is enough; say how it stands.

    For models whose first version came from elsewhere: what its traffic looks like and costs, only its log can tell.
    Older text that is not to be forgotten stays. Doing it again changes nothing.
    """
    needed = rows_needed(spec)
    if until <= champion.since:
        return f"version {champion.version} serves only since {champion.since:%Y-%m-%d %H:%M:%S}Z"
    there = collected_rows(db, spec, champion, until).counts["rows"]
    if there < needed:
        return _too_few(there, needed, champion)
    limit = max(needed, spec.drift.max_rows)
    rows = rows_of_champion(db, champion, Window(champion.since, until), limit=limit)
    accepted = [row for row in rows if row["prompt"].strip()]
    if len(accepted) < needed:
        return _too_few(len(accepted), needed, champion)
    kept = ("request_id", "prompt", "prompt_bits_per_byte")
    content = [{**{name: row[name] for name in kept}, "reference": None, "role": "recent"} for row in accepted]
    content = clean_rows(content, spec.data.redact, names_of(db))
    present = reference_of(db, champion.model, champion.version)
    if present is not None:
        content += [row for row in read_rows(present.uri, present.sha256) if row["role"] == "anchor"]
    url, sha256 = write_named_rows(artifact_url("references", champion.model, f"v{champion.version}"), content)
    save_reference(
        db,
        ReferenceProfile(
            model=champion.model,
            version=champion.version,
            uri=url,
            sha256=sha256,
            rows=len(content),
            source=f"the first requests that version {champion.version} answered",
        ),
        completes=present,
    )
    return f"{len(accepted)} logged requests became version {champion.version}'s reference just now"


def _too_few(there: int, needed: int, champion: Champion) -> str:
    return f"{there} of the {needed} logged requests that make version {champion.version}'s reference"
