"""Governor, gate, snapshot and passages: pure decisions on known evidence."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.gate import GateSpec
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import RetrainSpec
from datasets_defs.store.inference_log import Document
from tests.training.snapshots import as_snapshot, assembled
from training.data.snapshot import DataBreakError, text_of
from training.data.training_text import cut_passages, heldout_documents, spare_documents, training_documents
from training.judge.gate import GateEvidence, decide
from training.judge.paired import Pair, compare
from training.limits.governor import GovernorEvidence, back_off_windows, may_retrain

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = ModelSpec(name="m", base_model="x", training_text="builtin:python-docs")


def governed(**changes):
    evidence = {"now": NOW, "window_length": HOUR, "last_closed_at": None, "fresh_documents": 500, "attempts": 0}
    spec = RetrainSpec(cool_down_windows=3, min_free_gpus=changes.pop("min_free_gpus", 0))
    return may_retrain(GovernorEvidence(**{**evidence, **changes}), spec)


def test_governor_goes():
    """With documents, attempts and no cool-down, it goes."""
    assert governed().go
    assert governed(last_closed_at=NOW - 3 * HOUR).go
    assert governed(min_free_gpus=1, free_gpus=1.0).go


@pytest.mark.parametrize(
    ("changes", "not_before", "said"),
    [
        ({"last_closed_at": NOW - 2 * HOUR}, NOW + HOUR, "cool-down"),
        ({"fresh_documents": 199}, NOW + HOUR, "199 fresh"),
        ({"attempts": 3}, None, "3 of 3"),
        ({"min_free_gpus": 2, "free_gpus": 1}, NOW + HOUR, "free: 1; 2 are"),
        ({"min_free_gpus": 1, "free_gpus": None}, NOW + HOUR, "not known"),
        ({"recent_starts": (NOW - 9 * HOUR, NOW - 5 * HOUR, NOW - HOUR)}, NOW + 163 * HOUR, "budget: 3 attempts"),
    ],
)
def test_governor_holds(changes, not_before, said: str):
    """It names what is missing and when to ask again; with no attempt left, waiting does not help."""
    decision = governed(**changes)
    assert (False, not_before) == (decision.go, decision.not_before)
    assert said in decision.reason


def test_back_off_doubles_up_to_a_fortnight():
    """After each rejection of an incident the next attempt waits twice as long, and never over 336 windows."""
    assert [back_off_windows(attempt, RetrainSpec()) for attempt in (1, 2, 3, 9)] == [24, 48, 96, 336]


def test_cool_down_is_for_first_attempts():
    """A second attempt in an incident is not held by the cool-down of the incident before."""
    assert governed(last_closed_at=NOW, attempts=1).go


def pairs(change: float, noise: float, count: int = 200, seed: int = 1) -> list[Pair]:
    rng = random.Random(seed)
    costs = [rng.gauss(1000, 200) for _ in range(count)]
    return [Pair(cost, cost * (1 + change + rng.gauss(0, noise)), 400) for cost in costs]


@pytest.mark.parametrize(
    ("recent", "old", "expected"),
    [
        pytest.param(pairs(-0.2, 0.05), pairs(0.0, 0.05), "accept", id="cure"),
        pytest.param(pairs(-0.2, 0.05), pairs(0.08, 0.05), "reject", id="forgets"),
        pytest.param(pairs(0.05, 0.05), pairs(0.0, 0.05), "reject", id="worse"),
        pytest.param(pairs(-0.005, 0.05), pairs(0.0, 0.05), "inconclusive", id="near-the-limit"),
        pytest.param(pairs(-0.2, 0.05), pairs(0.018, 0.2), "inconclusive", id="old-uncertain"),
        pytest.param(pairs(0.0, 0.0), pairs(0.0, 0.0), "inconclusive", id="identical"),
        pytest.param(pairs(-0.2, 0.05, 49), pairs(0.0, 0.05), "inconclusive", id="few-recent"),
        pytest.param(pairs(-0.2, 0.05), [], "inconclusive", id="no-old"),
    ],
)
def test_gate(recent, old, expected: str):
    """Accepts what is surely better and forgets little; rejects what surely is not; else cannot tell."""
    assert expected == decide(GateEvidence(recent=recent, old=old, champion_version=1), GateSpec()).decision


def test_gate_without_champion():
    """No champion is a case of its own."""
    assert decide(GateEvidence(recent=[], old=[], champion_version=None), GateSpec()).decision == "accept"


def test_bound_holds_as_often_as_it_says():
    """The one-sided 97.5 % bound covers the true change in about 97.5 % of many seeded samples."""
    covered = sum(compare(pairs(-0.01, 0.05, 60, seed), 0.975).high >= -0.01 for seed in range(1000))
    assert 955 <= covered <= 992


def test_null_challenger_is_rarely_accepted():
    """A challenger that is no better is accepted in fewer than 2.5 % of many seeded comparisons."""
    accepted = sum(
        decide(
            GateEvidence(recent=pairs(0, 0.05, 100, seed), old=pairs(0, 0.01, 100, -seed), champion_version=1),
            GateSpec(min_gain_share=0.0),
        ).decision
        == "accept"
        for seed in range(1, 401)
    )
    assert accepted <= 20


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


def test_python_docs_are_split():
    """Trained, held-out and spare parts share no text, are all large, and are the same every time."""
    train, held, spare = training_documents(SPEC), heldout_documents(SPEC), spare_documents(SPEC)
    assert len({*train, *held, *spare}) == len(train) + len(held) + len(spare)
    assert sum(map(len, train)) > 200_000
    assert sum(map(len, held)) > 100_000
    assert sum(map(len, spare)) > 60_000
    assert train == training_documents(SPEC)


def test_passages_cover_the_text():
    """Passages follow each other without gaps, keep to their size and split at lines or words."""
    text = " ".join(f"word{i}" for i in range(1000))
    cuts = cut_passages(text, random.Random(0))
    assert text.startswith("".join(cut.text for cut in cuts))
    assert all(200 <= len(cut.text) <= 560 for cut in cuts)
    assert all(cut.prompt.endswith(" ") for cut in cuts)
    assert cut_passages("short", random.Random(0)) == []
    assert cut_passages("x" * 2000, random.Random(0))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "one"}\nnot json\n', "line 2"),
        ("a.jsonl", '{"other": 1}\n', "line 1"),
        ("a.csv", "x", "'.csv'"),
        ("a.txt", "one only", "both sides"),
    ],
)
def test_bad_training_text(tmp_path, name: str, content: str, said: str):
    """A training file that cannot be used is refused with the place of the fault."""
    (tmp_path / name).write_text(content)
    spec = SPEC.model_copy(update={"training_text": str(tmp_path / name)})
    with pytest.raises(ContractError, match=said):
        training_documents(spec)
