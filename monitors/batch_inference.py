"""Compare what a batch asked with what the champion was judged on: apart from live traffic, and nobody is woken."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.streams import batch_stream
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.batch_runs import BatchRun, batch_run, note_batch
from monitors.counts.rollup import WindowSketch, roll_up
from monitors.drift.policy import drift_verdict, evidence_of
from monitors.drift.subject import LEAST_ROWS, Subject
from monitors.profiles.first import proposed_profile
from monitors.profiles.profile import Profile, profile_of

LOSS = "prompt_bits_per_byte"
SHOWN = 5
"""Columns that are kept of a comparison, those that moved most."""


def compare_input(runs: Sequence[Mapping[str, Any]] | None, *, db: Engine) -> str:
    """Say how a run's prompts stand to the champion's reference, and keep it with the run's figures.

    Texts and, where it is known, the loss are compared. A batch is the user's own choice of rows: whatever is found
    opens no incident. What cannot be compared is said.

    Raises:
        ContractError: the spec or the reference is wrong.
        TransientError: PostgreSQL is away.
    """
    sentences = [
        _compared(run, db) for named in runs or () if (run := batch_run(db, named["model"], named["run"])) is not None
    ]
    return "; ".join(sentences) or "no run was opened, so there is nothing to compare"


def _compared(run: BatchRun, db: Engine) -> str:
    comparison = _input(run, spec_of(run.model), db, datetime.now(UTC))
    note_batch(db, run, {"input": comparison})
    return f"{run.name}: {comparison['reason']}"


def _input(run: BatchRun, spec: ModelSpec, db: Engine, now: datetime) -> dict[str, Any]:
    champion = Ledger(db).champion(run.model)
    if champion is None or champion.version != run.version:
        return _unknown("the answers are not of the present champion, so there is no reference to compare with")
    profile = profile_of(db, champion, at=now) or proposed_profile(db, spec, champion, until=now)
    if profile is None:
        return _unknown(f"version {champion.version} has no reference yet; the next batch is compared")
    sketch = roll_up(
        db, batch_stream(run.model), champion.version, Window(run.opened_at, now), profile.encoding,
        text_rows=spec.drift.max_rows, redact=spec.data.redact,
    )  # fmt: skip
    if sketch.rows < LEAST_ROWS:
        return _unknown(f"{sketch.rows} rows are in the log; {LEAST_ROWS} are needed to compare them")
    return _judged(run, champion, profile, sketch)


def _judged(run: BatchRun, champion: Champion, profile: Profile, sketch: WindowSketch) -> dict[str, Any]:
    at = sketch.window.start
    names = {column.name for column in profile.encoding.of("text", "embedding")} | (
        {LOSS} if sketch.loss.rows else set()
    )
    columns = {name: column for name, column in sketch.columns.items() if name in names}
    detector = profile.detector(at)
    after = detector.step(detector.start(), columns, rows_per_user=1.0)
    evidence = evidence_of(detector.evidence(after), columns, profile.reference_at(at))
    evidence["columns"] = {name: column for name, column in evidence["columns"].items() if name in columns}
    subject = Subject(model=run.model, window=sketch.window, champion_version=champion.version)
    verdict = drift_verdict(subject, sketch, evidence, in_burn_in=False)
    return {
        "condition": str(verdict.condition),
        "reason": verdict.reason,
        "rows": sketch.rows,
        "log10_m": verdict.score,
        "columns": dict(list(evidence["columns"].items())[:SHOWN]),
        "bits_per_byte": sketch.loss.mean,
        "reference_bits_per_byte": profile.loss.mean,
        "reference": profile.source,
    }


def _unknown(reason: str) -> dict[str, Any]:
    return {"condition": "NO_DATA", "reason": reason}
