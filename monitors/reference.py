"""What a champion is judged against: the rows of its reference profile, made from its own log if it has none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from datasets_defs.artifacts import artifact_url, read_rows, write_rows
from datasets_defs.inference_log import read_window
from datasets_defs.ledger import Champion
from datasets_defs.models import ModelSpec
from datasets_defs.records import ReferenceProfile, reference_of, save_reference
from datasets_defs.windows import Window

MAX_NULL_SHARE = 0.2
"""More rows without a loss, or without a prompt, are a broken log and no drift."""
OWN_ROWS = 500
"""A profile made from the log has at least this many rows, and five times `drift.min_rows`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Prompts with what the champion paid for them: of a window, or of a reference."""

    prompts: tuple[str, ...]
    bits_per_byte: NDArray[np.float64]
    """NaN where it was not logged."""

    @property
    def null_share(self) -> float:
        """Share of rows without a loss, 0..1."""
        return float(np.isnan(self.bits_per_byte).mean()) if self.prompts else 0.0

    @property
    def has_loss(self) -> bool:
        """Whether the log these rows come from holds losses."""
        return self.null_share <= MAX_NULL_SHARE

    @property
    def empty_share(self) -> float:
        """Share of rows without a prompt, 0..1."""
        return sum(not prompt.strip() for prompt in self.prompts) / max(len(self.prompts), 1)

    @property
    def mean_bits_per_byte(self) -> float | None:
        """Bits of all prompts over their bytes (as the serving counters have it); None if no row has a loss."""
        weights = np.array([len(prompt.encode("utf-8", "replace")) for prompt in self.prompts], dtype=np.float64)
        known = ~np.isnan(self.bits_per_byte) & (weights > 0)
        return float(np.average(self.bits_per_byte[known], weights=weights[known])) if known.any() else None

    @property
    def relative_error(self) -> float:
        """Standard error of the mean bits per byte as a share of it; infinite for fewer than two rows with a loss.

        A ratio of totals over independent rows: linearised residuals (Cochran, "Sampling Techniques", 3rd ed. 1977,
        section 6.3).
        """
        mean = self.mean_bits_per_byte
        weights = np.array([len(prompt.encode("utf-8", "replace")) for prompt in self.prompts], dtype=np.float64)
        known = ~np.isnan(self.bits_per_byte) & (weights > 0)
        count = int(known.sum())
        if mean is None or mean <= 0 or count < 2:
            return float("inf")
        residuals = weights[known] * (self.bits_per_byte[known] - mean)
        return float(residuals.std(ddof=1) / np.sqrt(count) / weights[known].mean() / mean)


def texts_of(rows: Sequence[dict[str, Any]]) -> Texts:
    """Take prompts and losses out of rows of the log or of a profile; a loss that is no finite number is none."""
    bits = np.array([np.nan if row["prompt_bits_per_byte"] is None else row["prompt_bits_per_byte"] for row in rows])
    return Texts(
        prompts=tuple(row["prompt"] or "" for row in rows),
        bits_per_byte=np.where(np.isfinite(bits.astype(np.float64)), bits.astype(np.float64), np.nan),
    )


def load_reference(db: Engine, champion: Champion, *, limit: int) -> Texts | None:
    """Read the champion's recent reference rows, at most `limit`; None while it has none.

    Raises:
        ContractError: the profile's file is gone or damaged.
    """
    profile = reference_of(db, champion.model, champion.version)
    if profile is None:
        return None
    rows = [row for row in read_rows(profile.uri, profile.sha256) if row["role"] == "recent"]
    if not rows:
        return None
    return texts_of(rows[:limit])


def rows_of_champion(db: Engine, champion: Champion, window: Window, *, limit: int) -> list[dict[str, Any]]:
    """Read the window's rows that the champion answered; a foreign log, which names no version, counts as its own."""
    rows = read_window(db, champion.model, window, limit=limit)
    return [row for row in rows if row["model_version"] in (champion.version, None)]


def build_reference(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime) -> str:
    """Make the champion's profile from what it was asked since it serves, once there is enough; say how it stands.

    For models whose first version came from elsewhere: what its traffic looks like and costs, only its log can tell.
    Older text that is not to be forgotten stays. Doing it again changes nothing.
    """
    needed = max(OWN_ROWS, 5 * spec.drift.min_rows)
    if until <= champion.since:
        return f"version {champion.version} serves only since {champion.since:%Y-%m-%d %H:%M:%S}Z"
    limit = max(needed, spec.drift.max_rows)
    rows = rows_of_champion(db, champion, Window(champion.since, until), limit=limit)
    accepted = [row for row in rows if row["prompt"].strip()]
    if len(accepted) < needed:
        return f"{len(accepted)} of the {needed} logged requests that make version {champion.version}'s reference"
    url = artifact_url("references", champion.model, f"v{champion.version}-{until:%Y%m%dT%H%M%SZ}.parquet")
    kept = ("request_id", "prompt", "prompt_bits_per_byte")
    content = [{**{name: row[name] for name in kept}, "reference": None, "role": "recent"} for row in accepted]
    present = reference_of(db, champion.model, champion.version)
    if present is not None:
        content += [row for row in read_rows(present.uri, present.sha256) if row["role"] == "anchor"]
    sha256 = write_rows(url, content)
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
