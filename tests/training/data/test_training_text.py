"""The text that the first champion learns: its parts, its passages, and files that cannot be used."""

import json
import random

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from training.data.training_text import (
    all_documents,
    cut_passages,
    heldout_documents,
    spare_documents,
    training_documents,
)

SPEC = ModelSpec(name="m", base_model="x", training_text="builtin:python-docs")


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
        ("a.jsonl", '{"text": "one"}\nnot json\n', "row 2: not JSON"),
        ("a.jsonl", '{"other": 1}\n', "row 1: no text"),
        ("a.xlsx", "x", "kind 'xlsx' are not read"),
        ("a.csv", "x", "0 distinct texts"),
        ("a.txt", "one only", "both sides"),
    ],
)
def test_bad_training_text(tmp_path, name: str, content: str, said: str):
    """A training file that cannot be used is refused with the place of the fault."""
    (tmp_path / name).write_text(content)
    spec = SPEC.model_copy(update={"training_text": str(tmp_path / name)})
    with pytest.raises(ContractError, match=said):
        training_documents(spec)


@pytest.mark.parametrize("column", ["completion", "chosen"])
def test_an_answer_that_is_not_learned_is_told(tmp_path, caplog, column: str):
    """Prompts beside completions, as trainers' data sets have them, were learned alone without a word."""
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"question {n}", column: f"answer {n}"}) for n in range(40)))
    texts = all_documents(str(file))
    assert texts[0] == "question 0"
    assert f"prompts alone are learned, and {column} is passed over; call it `reference`" in caplog.text
    caplog.clear()
    file.write_text(file.read_text().replace(f'"{column}"', '"reference"'))
    assert all_documents(str(file))[0] == "question 0answer 0"
    assert caplog.text == ""
