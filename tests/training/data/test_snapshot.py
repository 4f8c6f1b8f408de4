"""What an attempt is trained and judged on: no text on two sides, replay, and feeds that are broken."""

from datetime import UTC, datetime

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.documents import Document
from tests.training.snapshots import as_snapshot, assembled
from training.data.freeze import DataBreakError
from training.data.snapshot import text_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SPEC = ModelSpec(name="m", base_model="x", training_text="builtin:python-docs")


def documents(count: int, start: int = 0) -> list[Document]:
    return [
        Document(request_id=f"r{i}", at=NOW, prompt=f"prompt {i} ", reference=f"reference {i}")
        for i in range(start, start + count)
    ]


def replayable(count: int) -> list[dict[str, str]]:
    return [
        {"part": "train", "request_id": f"o{i}", "prompt": f"old {i:04} ", "reference": "text"} for i in range(count)
    ]


def test_no_text_on_two_sides():
    """Duplicates count once; held-out texts and the champion's own judges are never trained on."""
    kept_out = {documents(1)[0].text}
    rows = assembled(documents(200) + documents(200), replayable(500), spec=SPEC, keep_out=kept_out)[0]
    sides = {part: {text_of(row) for row in rows if row["part"] == part} for part in ("train", "replay", "holdout")}
    assert len(sides["train"]) + len(sides["holdout"]) == 199
    assert not sides["train"] & sides["holdout"]
    assert not (sides["train"] | sides["holdout"] | sides["replay"]) & kept_out
    assert len(rows) == len({text_of(row) for row in rows})


def test_arrival_order_does_not_matter():
    """The same documents in another order give the same rows."""
    some = documents(100)
    assert assembled(some, replayable(50), spec=SPEC)[0] == assembled(some[::-1], replayable(50)[::-1], spec=SPEC)[0]


def test_replay_makes_up_its_share(tmp_path):
    """A quarter of what is trained on is replayed, few of it twice, and each fresh text comes once an epoch."""
    rows = assembled(documents(150), replayable(5000), spec=SPEC)[0]
    mixed, epochs = as_snapshot(rows, tmp_path).mixture(SPEC.retrain)
    texts = list(mixed)
    old = [text for text in texts if text.startswith("old")]
    assert sum(map(len, old)) / sum(map(len, texts)) == pytest.approx(0.25, abs=0.02)
    assert len(old) == len(set(old))
    assert SPEC.retrain.epochs == epochs * texts.count(text_of(next(row for row in rows if row["part"] == "train")))


def test_the_gate_gets_its_rows(tmp_path):
    """Held out is the spec's share, or what the gate needs if that is more; without old rows nothing is replayed."""
    rows = assembled(documents(150), [], spec=SPEC)[0]
    snapshot = as_snapshot(rows, tmp_path)
    assert snapshot.counts == {"holdout": 50, "train": 100}
    texts, epochs = snapshot.mixture(SPEC.retrain)
    assert (100, SPEC.retrain.epochs) == (len(list(texts)), epochs)


def test_broken_references_are_a_data_break():
    """More than a fifth of documents without a real reference means a broken feed, said with counts."""
    empty = [Document(request_id=f"e{i}", at=NOW, prompt="p", reference=" ") for i in range(30)]
    with pytest.raises(DataBreakError, match="30 of 130"):
        assembled(documents(100) + empty, [], spec=SPEC)[0]
    assert assembled(documents(200) + empty, [], spec=SPEC)[0]


def test_nothing_left_to_train_on():
    """A single distinct text cannot be split in two."""
    with pytest.raises(ContractError, match="nothing is left"):
        assembled(documents(1) * 50, [], spec=SPEC)[0]
