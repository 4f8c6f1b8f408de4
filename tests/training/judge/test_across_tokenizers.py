"""Two models of other architectures and tokenizers are compared by the same bytes of the same texts."""

from pathlib import Path

import pytest

from datasets_defs.spec.model import FromScratch
from tests.training.other_base import bits_by_hand, tiny_llama
from training.judge.kinds import ModelKind, ModelKinds
from training.judge.paired import Pair, compare
from training.judge.passes import score
from training.model.language_model import LanguageModel

TEXTS = [
    *(f"Entry {number}: the square of {number} is {number**2}, in words and figures. " * 3 for number in range(8)),
    "naïve café ☕, 東京 🚲",
    "one word",
]


def test_bits_per_byte_are_those_of_a_direct_computation(tmp_path: Path):
    """Both sides of the gate's interval, of texts longer than a context and beyond ASCII, within a millionth."""
    shape = FromScratch(layers=1, width=32, heads=2, vocabulary=300, context=40, train_seconds=1)
    LanguageModel.scratch(shape, TEXTS).save(tmp_path / "gpt2")
    tiny_llama(tmp_path / "llama", TEXTS[:5])
    folders = tmp_path / "gpt2", tmp_path / "llama"
    champion, challenger = map(LanguageModel.load, folders)
    assert len(champion.encode(TEXTS[0])) > champion.context
    pairs = [
        Pair(a.bits, b.bits, a.bytes) for a, b in zip(score(champion, TEXTS), score(challenger, TEXTS), strict=True)
    ]
    found = compare(pairs, 0.95)
    for folder, bits_per_byte in zip(folders, (found.champion, found.challenger), strict=True):
        bits, size = bits_by_hand(folder, TEXTS)
        assert bits_per_byte == pytest.approx(bits / size, abs=1e-6)

    kinds = ModelKinds(champion=ModelKind.of(champion), challenger=ModelKind.of(challenger))
    assert kinds.differ
    assert ("architecture", "gpt2", "llama") in kinds.lines
    assert ("context", "40", "128") in kinds.lines
    assert ("chat template", "no", "yes") in kinds.lines
    assert ModelKinds(champion=kinds.champion, challenger=kinds.champion).plain == {}
