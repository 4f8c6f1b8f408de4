"""Models are loaded safely, scored by the byte and continued within their context."""

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.model.language_model import LanguageModel

SHAPE = FromScratch(layers=1, width=32, heads=2, vocabulary=400, context=64)
TEXTS = [f"The quick brown fox number {i} jumps over the lazy dog." for i in range(50)]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.scratch(SHAPE, TEXTS)


def test_saved_and_loaded_is_the_same(model: LanguageModel, tmp_path: Path):
    """What is loaded costs the same text the same, bit by bit, and only safetensors were written."""
    model.save(tmp_path)
    assert model.losses(TEXTS) == LanguageModel.load(tmp_path).losses(TEXTS)
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".jinja")] == ["model.safetensors"]


def test_several_threads_load_at_once(model: LanguageModel, tmp_path: Path):
    """Models of one server are loaded beside each other, and each is whole, then and later."""
    model.save(tmp_path)
    begin = threading.Barrier(4)

    def load(_: int) -> LanguageModel:
        begin.wait(30)
        return LanguageModel.load(tmp_path)

    with ThreadPoolExecutor(4) as threads:
        loaded = [*threads.map(load, range(12))]
    for each in [*loaded, LanguageModel.load(tmp_path), LanguageModel.scratch(SHAPE, TEXTS)]:
        assert each.losses(TEXTS[:5]) == model.losses(TEXTS[:5])


def test_a_seed_makes_one_model(model: LanguageModel):
    """The same texts, shape and seed give the same weights; another seed gives others."""
    assert model.losses(TEXTS) == LanguageModel.scratch(SHAPE, TEXTS).losses(TEXTS)
    assert model.losses(TEXTS) != LanguageModel.scratch(SHAPE, TEXTS, seed=1).losses(TEXTS)


def test_loss_does_not_depend_on_company(model: LanguageModel):
    """A text costs the same alone as in a batch with longer ones."""
    texts = ["é", TEXTS[0], "a much longer text " * 40, "", "x"]
    alone = [model.losses([text])[0] for text in texts]
    for one, together in zip(alone, model.losses(texts), strict=True):
        assert one.bits == pytest.approx(together.bits, rel=1e-5)
        assert one.bytes == together.bytes


def test_every_byte_is_paid_for(model: LanguageModel):
    """An untrained model pays close to the logarithm of its vocabulary for each token, the first included."""
    ids = model.encode("zebra zebra")
    expected = len(ids) * torch.log2(torch.tensor(float(len(model.tokenizer)))).item()
    assert model.losses(["zebra zebra"])[0].bits == pytest.approx(expected, rel=0.05)


def test_text_longer_than_the_context(model: LanguageModel):
    """A long text is scored in chunks to its end; bytes are UTF-8's."""
    text = "ünicode " * 300
    loss = model.losses([text])[0]
    assert len(text.encode()) == loss.bytes
    assert loss.bits > 5 * model.losses([text[:200]])[0].bits


def test_empty_text_has_no_bits_per_byte(model: LanguageModel):
    """Nothing costs nothing, and has no ratio rather than a good one."""
    (loss,) = model.losses([""])
    assert (loss.bits, loss.bytes, loss.bits_per_byte) == (0.0, 0, None)


def test_control_tokens_in_a_text_are_text(model: LanguageModel):
    """A prompt that spells out the end token does not contain it."""
    ids = model.encode("a <|endoftext|> b")
    assert model.end not in ids
    assert model._decode(ids) == "a <|endoftext|> b"


def test_prompt_loss_of_a_completion(model: LanguageModel):
    """The loss that comes with a completion is the loss of scoring the prompt by itself."""
    done = model.complete(TEXTS[0], max_tokens=5)
    assert done.prompt_loss.bits == pytest.approx(model.losses([TEXTS[0]])[0].bits, rel=1e-5)
    assert (done.completion_tokens, done.finish_reason) == (5, "length")


def test_completion_with_the_cache_equals_without(model: LanguageModel):
    """Greedy completion with the cache gives the tokens of recomputing everything each time."""
    done = model.complete("The quick", max_tokens=6)
    ids = [model.start, *model.encode("The quick")]
    for _ in range(6):
        with torch.inference_mode():
            ids.append(int(model.network(torch.tensor([ids])).logits[0, -1].argmax()))
    assert model._decode(ids[-6:]) == done.text


def test_seeds_and_stop_strings(model: LanguageModel):
    """A seed repeats a sample; a stop string ends the text before it."""
    free = model.complete("The", max_tokens=20, temperature=1.0, seed=3)
    again = model.complete("The", max_tokens=20, temperature=1.0, seed=3)
    word = free.text[5:7]
    cut = model.complete("The", max_tokens=20, temperature=1.0, seed=3, stop=[word])
    assert free == again
    assert (free.text[: free.text.index(word)], "stop") == (cut.text, cut.finish_reason)


def test_too_long_for_the_context(model: LanguageModel):
    """Prompt plus max_tokens beyond the context is refused with the figures."""
    with pytest.raises(ContractError, match=r"context holds 64"):
        model.complete("word " * 10, max_tokens=60)


def into(path: Path, content: str = "{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def rename_tensors(file: Path) -> None:
    """Give each tensor the name that a wrapper for several GPUs would save it under."""
    save_file({f"module.{name}": tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


def put(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda f: (f / "pytorch_model.bin").write_bytes(b""), "pickled weights", id="pickle"),
        pytest.param(lambda f: into(f / "onnx" / "old" / "weights.pkl"), "onnx/old/weights.pkl", id="nested-pickle"),
        pytest.param(lambda f: into(f / "adapter_config.json"), "is an adapter", id="adapter"),
        pytest.param(lambda f: put(f / "config.json", model_type="evil"), "'evil' in config.json", id="unknown-type"),
        pytest.param(lambda f: put(f / "config.json", model_type=["gpt2"]), "'gpt2'", id="types"),
        pytest.param(lambda f: put(f / "config.json", n_head=0), "cannot be loaded", id="no-heads"),
        pytest.param(lambda f: put(f / "config.json", n_layer="two"), "cannot be loaded", id="layers-in-words"),
        pytest.param(lambda f: put(f / "config.json", n_layer=9), "would be random, first", id="layers-missing"),
        pytest.param(lambda f: rename_tensors(f / "model.safetensors"), "would be random, first", id="other-names"),
        pytest.param(lambda f: put(f / "config.json", model_type=None), "`model_type` None", id="no-type"),
        pytest.param(lambda f: put(f / "config.json", model_type="clip"), "'clip' in config.json", id="no-language"),
        pytest.param(
            lambda f: put(f / "config.json", text_config={"deep": [{"auto_map": {"AutoConfig": "x.Y"}}]}),
            "config.json has `auto_map`",
            id="nested-code",
        ),
        pytest.param(
            lambda f: put(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
            "tokenizer_config.json has `auto_map`",
            id="tokenizers-code",
        ),
        pytest.param(
            lambda f: into(f / "sub" / "processor_config.json", '{"auto_map": {}}'),
            "processor_config.json has `auto_map`",
            id="code-in-a-subfolder",
        ),
        pytest.param(
            lambda f: into(f / "model.safetensors.index.json", '{"weight_map": {"a": "../other/model.safetensors"}}'),
            "names '../other/model.safetensors'",
            id="index-leads-out",
        ),
        pytest.param(
            lambda f: into(f / "model.safetensors.index.json", '{"weight_map": {"a": "model-2.safetensors"}}'),
            "model-2.safetensors, which",
            id="part-missing",
        ),
        pytest.param(lambda f: (f / "config.json").unlink(), "config.json is missing", id="no-config"),
        pytest.param(lambda f: (f / "model.safetensors").unlink(), "no \\*.safetensors", id="no-weights"),
        pytest.param(lambda f: (f / "model.safetensors").write_bytes(b"xx"), "is no safetensors file", id="damaged"),
        pytest.param(lambda f: [p.unlink() for p in f.glob("tokenizer*")], "no tokenizer", id="no-tokenizer"),
        pytest.param(
            lambda f: (f / "config.json").write_text(
                json.dumps({**json.loads((f / "config.json").read_text()), "auto_map": {"AutoModel": "x.Y"}})
            ),
            "auto_map",
            id="own-code",
        ),
    ],
)
def test_refused_folders(model: LanguageModel, tmp_path: Path, spoil, said: str):
    """A folder with pickled weights, code of its own or missing parts is refused, and told why."""
    model.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ContractError, match=said):
        LanguageModel.load(tmp_path)


def test_folder_that_is_not_there(tmp_path: Path):
    """A path that does not exist is not looked for on the hub."""
    with pytest.raises(ContractError, match="does not exist"):
        LanguageModel.load(str(tmp_path / "nothing"))


HUB = """
import sys
from datasets_defs.core.errors import ContractError
from training.model.language_model import LanguageModel
try:
    LanguageModel.load("someone/model")
    print("loaded")
except ContractError as err:
    print(err)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(Path.exists, "loaded", id="good"),
        pytest.param(
            lambda f: put(f / "config.json", auto_map={"AutoModelForCausalLM": "evil--x.Y"}),
            "model someone/model: config.json has `auto_map`",
            id="code",
        ),
        pytest.param(lambda f: into(f / "pytorch_model.bin"), "someone/model holds pytorch_model.bin", id="pickle"),
        pytest.param(lambda f: put(f / "config.json", model_type="evil"), "'evil' in config.json", id="unknown-type"),
        pytest.param(shutil.rmtree, "not in the local cache", id="absent"),
    ],
)
def test_models_of_the_hub(model: LanguageModel, tmp_path: Path, spoil, said: str):
    """A model that is given by its name on the hub is checked as a folder is, before anything reads it."""
    kept = tmp_path / "hub" / "models--someone--model"
    into(kept / "refs" / "main", "a" * 40)
    folder = kept / "snapshots" / ("a" * 40)
    model.save(folder)
    spoil(folder)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}

    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, timeout=200, check=True
    )

    assert said in done.stdout
