"""What a version's reference is when two evaluators write it at once: the row's own file, whoever came first."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.references import reference_of
from training.evaluate import _save_reference
from training.judge.frozen_rows import Rows, frozen
from training.model.language_model import Loss

MODEL = "writer"


def rows_of(*prompts: str) -> list[dict[str, str | None]]:
    """Give rows that both sides are judged by."""
    return [
        {"slice": "recent", "request_id": prompt, "prompt": prompt, "reference": "r", "user_id": None, "source": None}
        for prompt in prompts
    ]


def save(db: Engine, incident: Incident, prompts: Sequence[str]) -> None:
    """Save the reference of version 2 as an evaluator does that scored these prompts."""
    losses = [Loss(bits=8.0, bytes=4) for _ in prompts]
    _save_reference(db, spec_of(MODEL), incident, 2, Rows("", "", rows_of(*prompts)), losses, trained=[])


def test_two_evaluators_leave_one_whole_reference(engine: Engine, home: Path) -> None:
    """The reference that came first can be read after another evaluator, whose claim was lost, has written its own."""
    (home / "models" / f"{MODEL}.yaml").write_text(
        f"name: {MODEL}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n"
    )
    incident, _ = Ledger(engine).open_incident(
        MODEL, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    save(engine, incident, ("a", "b"))
    save(engine, incident, ("a", "c", "d"))
    reference = reference_of(engine, MODEL, 2)
    assert reference is not None
    assert [row["prompt"] for row in read_rows(reference.uri, reference.sha256)] == ["a", "b"]


def test_two_evaluators_judge_by_the_same_rows(tmp_path: Path) -> None:
    """The rows that were frozen first are those of whoever freezes others under the same name."""
    uri = f"file://{tmp_path}/rows.parquet"
    first, second = (frozen(rows_of(*prompts), uri) for prompts in (("a", "b"), ("c",)))
    assert (second.sha256, second.rows) == (first.sha256, first.rows)
