"""What one contributor may have of a challenger's fresh documents, and who judges."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.names import Names
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trust import TrustSpec
from datasets_defs.store.documents import Document
from training.data.freeze import freeze
from training.data.shares import beyond_shares
from training.prepare.checks import Record

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
KNOWN = {f"key:{name}": LONG_AGO for name in "abcdef"}


def records(**counts: int) -> list[Record]:
    """Records of contributors, `own` without one; each a minute older than the one before."""
    made = []
    for name, count in counts.items():
        whose = None if name == "own" else f"key:{name}"
        made += [
            Record(
                source="log", place=0, request_id=f"{name}{i}", prompt=f"{name} {i}", reference="r",
                at=NOW - timedelta(minutes=i), contributor=whose,
            )
            for i in range(count)
        ]  # fmt: skip
    return made


def kept(trust: TrustSpec, first: dict[str, datetime] = KNOWN, **counts: int) -> Counter[str]:
    given = records(**counts)
    beyond = beyond_shares(given, trust, first)
    return Counter((each.contributor or "own") for place, each in enumerate(given) if place not in beyond)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"own": 300, "a": 80}, {"own": 300, "key:a": 80}),
        ({"own": 300, "a": 400}, {"own": 300, "key:a": 100}),
        ({"a": 100, "b": 100, "c": 100, "d": 100}, {"key:a": 100, "key:b": 100, "key:c": 100, "key:d": 100}),
        ({"a": 1000, "b": 10, "c": 10}, {}),
        ({"own": 3, "a": 1000}, {"own": 3, "key:a": 1}),
    ],
)
def test_nobody_has_more_than_their_share_of_what_is_left(counts: dict[str, int], expected: dict[str, int]):
    """The share is one of the documents that remain, whoever else is bounded, too."""
    assert kept(TrustSpec(max_share=0.25), **counts) == Counter(expected)


def test_who_is_new_has_half_and_who_is_trusted_all():
    """A key that was first heard of this week is bounded by half the share; a named one by none."""
    assert kept(TrustSpec(max_share=0.25), {"key:a": NOW}, own=700, a=400)["key:a"] == 100
    assert kept(TrustSpec(max_share=0.25), {}, own=700, a=400)["key:a"] == 100
    assert kept(TrustSpec(max_share=0.25, contributors=("a",)), own=700, a=400)["key:a"] == 400


def test_the_newest_of_too_many_are_left_out():
    """Whoever floods today does not push out what they wrote before."""
    given = records(own=30, a=40)
    beyond = beyond_shares(given, TrustSpec(max_share=0.25), KNOWN)
    left = [given[place].at for place in range(30, 70) if place not in beyond]
    assert left == sorted(each.at for each in given[30:])[: len(left)][::-1]


def spec(**trust: object) -> ModelSpec:
    return ModelSpec(
        name="m", base_model="gpt2", training_text="x", trust=trust, data={"near_duplicates": None, "languages": None},
        gate={"min_documents": 20}, retrain={"holdout_share": 0.3},
    )  # fmt: skip


def documents(**counts: int) -> list[Document]:
    return [
        Document(
            request_id=each.request_id, at=each.at or NOW, prompt=f"What is {each.request_id}? ",
            reference=f"It is number {hash(each.request_id) % 9973} of {each.contributor}.",
            contributor=each.contributor,
        )
        for each in records(**counts)
    ]  # fmt: skip


def test_the_rows_of_contributors_are_on_one_side_and_trusted_ones_judge_alone(home):
    """A key's rows are never on both sides; where enough trusted rows are held out the others judge nothing."""
    many = documents(a=40, b=40, c=40, d=40, e=40, f=40)
    outside = freeze(many, [], uri=str(home / "outside.parquet"), spec=spec(), names=Names(b""), first_heard=KNOWN)
    sides = {part: {row["contributor"] for row in outside.rows(part)} for part in ("train", "holdout")}
    assert sides["train"]
    assert sides["holdout"]
    assert sides["train"].isdisjoint(sides["holdout"])
    assert outside.report["contributors"]["train"].keys() == sides["train"]


def test_trusted_rows_judge_alone(tmp_path):
    """With the operator's own rows among the held-out ones, a key's do not judge."""
    mixed = documents(own=160, a=40)
    frozen = freeze(mixed, [], uri=str(tmp_path / "m.parquet"), spec=spec(), names=Names(b""), first_heard=KNOWN)
    assert {row["contributor"] for row in frozen.rows("holdout")} == {None}
    assert "key:a" in {row["contributor"] for row in frozen.rows("train")}


def test_one_contributor_alone_teaches_nothing(tmp_path):
    """When all comes from one key nothing is trained on, and the sentence says what would change that."""
    with pytest.raises(ContractError, match=r"all 50 fresh documents come from key:a, .* `trust.contributors`"):
        freeze(documents(a=50), [], uri=str(tmp_path / "m.parquet"), spec=spec(), names=Names(b""), first_heard=KNOWN)
