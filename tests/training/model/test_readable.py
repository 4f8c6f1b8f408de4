"""What is saved is what servers read: by the transformers of the loop, and by the one before."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from datasets_defs.spec.model import FromScratch
from training.model.language_model import LanguageModel

SHAPE = FromScratch(layers=1, width=32, heads=2, vocabulary=400, context=64)
TEXT = "The quick brown fox jumps over the lazy dog, twice: é."
OTHER = os.environ.get("DRIFTLOOP_TRANSFORMERS4_PYTHON")
READ = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
ids = tokenizer(sys.argv[2], return_tensors="pt").input_ids
print(json.dumps([ids.tolist(), float(model(ids, labels=ids).loss)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model."""
    place = tmp_path_factory.mktemp("saved")
    LanguageModel.scratch(SHAPE, [TEXT] * 50).save(place)
    return place


def test_the_tokenizers_class_is_one_that_both_know(folder: Path):
    """The name is the older one, and the tokens are the same as before it was saved."""
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert LanguageModel.load(folder).encode(TEXT) == LanguageModel.scratch(SHAPE, [TEXT] * 50).encode(TEXT)


@pytest.mark.slow
@pytest.mark.skipif(not OTHER, reason="DRIFTLOOP_TRANSFORMERS4_PYTHON names no Python with transformers 4.57 and torch")
def test_transformers_4_reads_it(folder: Path):
    """Tokens and loss are the same there."""
    done = subprocess.run([str(OTHER), "-c", READ, str(folder), TEXT], capture_output=True, text=True, check=True)
    ids, loss = json.loads(done.stdout.splitlines()[-1])
    model = LanguageModel.load(folder)
    given = torch.tensor(ids)
    assert ids == [model.tokenizer(TEXT).input_ids]
    assert loss == pytest.approx(float(model.network(given, labels=given).loss.detach()), abs=1e-4)
