"""What becomes a column of rows, and how its values are counted."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_defs.core.errors import ContractError
from monitors.counts import columns
from monitors.counts.columns import (
    MAX_ATTRIBUTES,
    MAX_LEVELS,
    ColumnEncoding,
    Encoding,
    count_levels,
    learn_encoding,
    sketches,
    text_sketches,
    values,
)
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale, hashed_level, is_hashed, merge
from tests.monitors.counts.test_embeddings import make_model
from tests.monitors.texts import documentation, licences

TEXT_COLUMNS = {
    "length_characters", "words", "sentences", "mean_word_length", "non_letter_share", "upper_share", "digit_share",
    "line_break_share", "repetition_share", "oov_share", "common_share", "mean_surprisal_bits", "language",
}  # fmt: skip


def row(attributes: dict[str, Any] | None = None, prompt: str = "a prompt", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "attributes": attributes or {}, **more}


def attributes(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {column.name: column.kind for column in learn_encoding(rows).of("attribute")}


def test_what_is_watched():
    """Figures that were logged, attributes of one type, and the text; ids, nested and mixed values are not."""
    rows = [
        row(
            {"tokens": number % 7 or 3.5, "tier": "free" if number % 3 else "paid", "beta": number % 2 == 0,
             "id": f"x{number}", "nested": {"a": 1}, "mixed": number if number % 2 else "s", "gone": None},
            latency_seconds=0.1 * number, prompt_tokens=None,
        )
        for number in range(100)
    ]  # fmt: skip
    encoding = learn_encoding(rows)
    assert {column.name for column in encoding.of("text")} == TEXT_COLUMNS
    assert {column.name: column.kind for column in encoding.of("log")} == {"latency_seconds": "numeric"}
    assert attributes(rows) == {
        "attribute:beta": "category", "attribute:tier": "category", "attribute:tokens": "numeric",
    }  # fmt: skip
    (tier,) = (column for column in encoding.columns if column.name == "attribute:tier")
    assert (tier.levels, tier.scale, tier.attribute) == (("free", "paid"), None, "tier")


def test_nearly_all_values_decide_the_type():
    """A few values of another type do not change a column's; they are counted as wrong."""
    rows = [row({"n": "12" if number < 4 else number, "s": 1 if number < 4 else "a"}) for number in range(100)]
    assert attributes(rows) == {"attribute:n": "numeric", "attribute:s": "category"}
    found = sketches(learn_encoding(rows), rows)
    numbers, texts = found["attribute:n"], found["attribute:s"]
    assert isinstance(numbers, NumericSketch)
    assert isinstance(texts, CategorySketch)
    assert (numbers.numbers, numbers.wrong) == (96, 4)
    assert (texts.count_of(["a"]).tolist(), texts.wrong) == ([96], 4)


def test_rare_and_excluded_columns_are_left_out():
    """An attribute of hardly any row or an endless name is not watched, nor any column that the spec excludes."""
    rows = [row({"often": 1.5, "long" * 99: 1, **({"rare": 1} if number == 0 else {})}) for number in range(101)]
    assert attributes(rows) == {"attribute:often": "numeric"}
    left = learn_encoding(rows, exclude=("attribute:often", "words", "no such"))
    assert {column.name for column in left.columns} == TEXT_COLUMNS - {"words"}


def test_at_most_so_many_attributes():
    """Of many, those present most often are watched."""
    rows = [row({f"a{n:03}": 1 for n in range(80) if n < 60 or number % 2}) for number in range(20)]
    assert list(attributes(rows)) == [f"attribute:a{n:03}" for n in range(MAX_ATTRIBUTES)]


def test_at_most_so_many_levels():
    """The most frequent are known by name; the others, and very long ones, are counted under shared names."""
    many = [row({"c": f"level {number % 1_500:04}"}) for number in range(3_001)]
    (column,) = learn_encoding(many, exclude=tuple(TEXT_COLUMNS)).columns
    assert len(column.levels) == MAX_LEVELS
    assert column.levels[0] == "level 0000"
    counted = count_levels(column, {"level 0001": 2, "never seen": 3}, nulls=1, wrong=0)
    assert dict(zip(counted.levels, counted.counts.tolist(), strict=True)) == {
        "level 0001": 2, hashed_level("never seen"): 3,
    }  # fmt: skip
    long = [row({"c": "x" * 1_000_000}) for _ in range(3)]
    (column,) = learn_encoding(long, exclude=tuple(TEXT_COLUMNS)).columns
    assert column.levels == ()
    assert all(map(is_hashed, sketches(Encoding((column,)), long)["attribute:c"].levels))


def test_values_row_by_row():
    """Every column has a value for every row: NaN or None for nothing and for another type; any number of any size."""
    learned = learn_encoding([row({"n": number, "c": "ab"[number % 2]}) for number in range(20)])
    cells = [1, 2.5, None, "3", True, [1], 10**400, -(10**400), math.nan]
    rows = [row({"n": cell, "c": cell}) for cell in [*cells[:-1]]] + [row(), {"prompt": None, "attributes": None}]
    found = values(learned, rows)
    inf, nan = math.inf, math.nan
    assert np.array_equal(
        np.asarray(found["attribute:n"], dtype=float), [1, 2.5, nan, nan, nan, nan, inf, -inf, nan, nan], equal_nan=True
    )
    assert found["attribute:c"] == [None, None, None, "3", "true", None, None, None, None, None]
    assert {len(column) for column in found.values()} == {10}


def test_a_reference_judged_by_its_own_words():
    """Rows that made the vocabulary are judged by each other's words; later rows by all of them."""
    rows = [row(prompt=text) for text in documentation()[:200]]
    encoding = learn_encoding(rows)
    own, later, other = (
        np.mean(np.asarray(values(encoding, those, own=flag)["oov_share"], dtype=float))
        for those, flag in (
            (rows, True),
            ([row(prompt=text) for text in documentation()[200:400]], False),
            ([row(prompt=text) for text in licences()[:200]], False),
        )
    )
    assert abs(own - later) < 0.03
    assert other > later + 0.1


def test_texts_in_any_batches():
    """Texts counted in parts come to the same as all at once."""
    texts = documentation()[:60]
    encoding = learn_encoding([row(prompt=text) for text in texts])
    whole, first, rest, none = (text_sketches(encoding, part) for part in (texts, texts[:7], texts[7:], ()))
    assert whole == {name: first[name] + rest[name] + none[name] for name in whole}
    assert text_sketches(Encoding(()), texts) == {}


def test_where_texts_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With an embedding model its distances are columns, of a bounded number of rows, and go with the encoding."""
    monkeypatch.setattr(columns, "EMBEDDED_ROWS", 40)
    rows = [row(prompt=text) for text in documentation()[:60]]
    encoding = learn_encoding(rows, embedding=make_model(tmp_path / "model"))
    names = [column.name for column in encoding.of("embedding")]
    assert names == ["embedding_distance", *(f"embedding_component_{n}" for n in range(1, 9))]
    assert Encoding.from_bytes(encoding.to_bytes()) == encoding
    assert encoding.digest != Encoding(encoding.columns, encoding.vocabulary).digest
    distances = np.asarray(values(encoding, rows)["embedding_distance"], dtype=float)
    assert np.isfinite(distances).tolist() == [True] * 40 + [False] * 20
    counted = sketches(encoding, rows)
    parts = [text_sketches(encoding, documentation()[a:b], embedded=b - a) for a, b in ((0, 30), (30, 40), (40, 40))]
    for name in names:
        assert (counted[name].present, counted[name].absent) == (40, 20)
        assert merge(part[name] for part in parts).present == 40
    known = learn_encoding(rows, embedding=encoding.space, exclude=("embedding_distance",))
    assert known.space == encoding.space
    assert [column.name for column in known.of("embedding")] == names[1:]


@pytest.mark.parametrize("prompt", ["", "\x00", "\ud800", "</script><script>", "字" * 300_000, "a\u202eb"], ids=repr)
def test_any_prompt(prompt: str):
    """Any text can be learned from and counted."""
    rows = [row(prompt=prompt)] * 5
    counted = sketches(learn_encoding(rows), rows, own=True)
    assert {sketch.rows for sketch in counted.values()} == {5}


def test_an_encoding_comes_back_as_it_was():
    """Bytes give an equal encoding of the same digest; another scale gives another."""
    encoding = learn_encoding([row({"ü\ud800'\"": "é", "n": 1}, prompt=text) for text in documentation()[:50]])
    again = Encoding.from_bytes(encoding.to_bytes())
    assert again == encoding
    assert again.digest == encoding.digest == replace(encoding).digest
    bare = Encoding((ColumnEncoding("c", "numeric", "log", Scale(0, 1)),))
    assert Encoding.from_bytes(bare.to_bytes()) == bare
    assert bare.digest != Encoding((ColumnEncoding("c", "numeric", "log", Scale(0, 2)),)).digest


@pytest.mark.parametrize(
    "content", [b"", b"E1", b"E0abc", b"E1abc", learn_encoding([row()]).to_bytes()[:-3]], ids=range(5)
)
def test_damaged_bytes(content: bytes):
    """What is no encoding is refused in words."""
    with pytest.raises(ContractError, match="encoding"):
        Encoding.from_bytes(content)
