"""What is saved is what servers read: by the transformers of the loop, and by the one before."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from datasets_defs.spec.model import FromScratch
from training.model.language_model import LanguageModel
from training.model.readable import network_for_both, tokenizer_for_both

SHAPE = FromScratch(layers=1, width=32, heads=2, vocabulary=400, context=64)
TEXT = "The quick brown fox jumps over the lazy dog, twice: é."
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
ROTATION = {
    "rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
SCALING = {name: value for name, value in ROTATION.items() if name != "rope_theta"}
OTHER = os.environ.get("DRIFTLOOP_TRANSFORMERS4_PYTHON")
needs_other = pytest.mark.skipif(
    not OTHER, reason="DRIFTLOOP_TRANSFORMERS4_PYTHON names no Python with transformers 4.57 and torch"
)
READ = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
ids = tokenizer(sys.argv[2], return_tensors="pt").input_ids
known = {name: getattr(model.config, name, None) for name in ("rope_theta", "rope_scaling")}
print(json.dumps([ids.tolist(), float(model.float()(ids, labels=ids).loss), known, tokenizer.chat_template]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model."""
    place = tmp_path_factory.mktemp("saved")
    LanguageModel.scratch(SHAPE, [TEXT] * 50).save(place)
    return place


@pytest.fixture(scope="module")
def base(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model as people have them: Llama's architecture in bfloat16 with rotations of its own, and a template."""
    place = tmp_path_factory.mktemp("base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, max_position_embeddings=64, rope_parameters=dict(ROTATION),
                initializer_range=0.5, bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip
    network.to(torch.bfloat16).save_pretrained(place)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / name).write_bytes((folder / name).read_bytes())
    (place / "chat_template.jinja").write_text(TEMPLATE)
    (place / "special_tokens_map.json").write_text('{"eos_token": "<|endoftext|>"}')
    return place


@pytest.fixture(scope="module")
def challenger(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A challenger of that base, its weights changed as a training changes them."""
    place = tmp_path_factory.mktemp("challenger")
    model = LanguageModel.load(base)
    with torch.no_grad():
        model.network.get_input_embeddings().weight.mul_(1.5)
    model.save(place)
    return place


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_the_tokenizers_class_is_one_that_both_know(folder: Path):
    """The name is the older one, and the tokens are the same as before it was saved."""
    assert read(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert LanguageModel.load(folder).encode(TEXT) == LanguageModel.scratch(SHAPE, [TEXT] * 50).encode(TEXT)


def test_a_challenger_keeps_what_its_base_had(base: Path, challenger: Path):
    """Configuration, tokenizer and template are the base's, byte for byte or with a spelling more; numbers are, too."""
    before, after = read(base / "config.json"), read(challenger / "config.json")
    assert before.items() <= after.items()
    assert {name: after[name] for name in after.keys() - before.keys()} == {
        "torch_dtype": "bfloat16", "rope_theta": 500000.0, "rope_scaling": SCALING,
    }  # fmt: skip
    names = {path.name for path in base.iterdir()}
    assert {path.name for path in challenger.iterdir()} == names
    for name in names - {"config.json", "model.safetensors"}:
        assert (challenger / name).read_bytes() == (base / name).read_bytes(), name
    with safe_open(challenger / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118  # no mapping
    model = LanguageModel.load(challenger)
    assert model.tokenizer.chat_template == TEMPLATE
    assert model.losses([TEXT])[0].bits != LanguageModel.load(base).losses([TEXT])[0].bits


def test_both_spellings_are_the_same_here(challenger: Path):
    """The reader of the loop takes its own spelling where both stand, and finds the very same rotation."""
    assert AutoConfig.from_pretrained(challenger).rope_parameters == ROTATION


def test_a_base_in_the_older_spelling_stays_in_it(base: Path, tmp_path: Path):
    """Its bytes stay as they are, and the loop reads the rotation."""
    config = read(base / "config.json")
    old = {name: value for name, value in config.items() if name not in ("rope_parameters", "dtype")}
    old |= {"rope_theta": 500000.0, "rope_scaling": SCALING, "torch_dtype": "bfloat16", "dtype": "bfloat16"}
    for path in base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(old))
    LanguageModel.load(tmp_path).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "config.json").read_bytes() == (tmp_path / "config.json").read_bytes()
    assert LanguageModel.load(tmp_path / "saved").network.config.rope_parameters == ROTATION


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({"dtype": "float16"}, {"torch_dtype": "float16"}),
        ({"torch_dtype": "float16"}, {"dtype": "float16"}),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {"rope_theta": 1e6}),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0, "partial_rotary_factor": 0.25}},
            {"rope_theta": 5.0, "partial_rotary_factor": 0.25},
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 0.25}},
            {"rotary_emb_base": 5.0, "rotary_pct": 0.25},
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                                 "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
            {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        ),
        ({"rope_parameters": None, "rope_theta": 7.0}, {}),
    ],
)  # fmt: skip
def test_spellings_of_a_network(config: dict[str, Any], more: dict[str, Any]):
    """What the other generation reads is added, nothing is taken away, and doing it again changes nothing."""
    spelled = network_for_both(config)
    assert spelled == config | more
    assert network_for_both(spelled) == spelled


def test_spellings_of_a_tokenizer():
    """A class and a list that transformers 4 refuses are told in its words; a table of tokens is its own."""
    assert tokenizer_for_both({"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"]}) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"],
    }  # fmt: skip
    table = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {"image": "<i>"}}
    assert tokenizer_for_both(table) == table


def read_there(folder: Path) -> list[Any]:
    """Read a folder with the other transformers: tokens, loss, rotation and template."""
    done = subprocess.run([str(OTHER), "-c", READ, str(folder), TEXT], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@needs_other
@pytest.mark.parametrize("which", ["folder", "challenger"])
def test_transformers_4_reads_it(which: str, request: pytest.FixtureRequest) -> None:
    """Tokens and loss are the same there."""
    saved: Path = request.getfixturevalue(which)
    ids, loss, known, template = read_there(saved)
    model = LanguageModel.load(saved)
    given = torch.tensor(ids)
    assert ids == [model.tokenizer(TEXT).input_ids]
    assert loss == pytest.approx(float(model.network(given, labels=given).loss.detach()), abs=1e-4)
    if which == "challenger":
        assert (known["rope_theta"], template) == (500000.0, TEMPLATE)
        assert known["rope_scaling"] == SCALING


@pytest.mark.slow
@needs_other
def test_transformers_4_reads_another_model_without_the_spelling(base: Path) -> None:
    """What transformers 5 writes alone is read there without a word of complaint, and costs otherwise."""
    _, loss, known, _ = read_there(base)
    model = LanguageModel.load(base)
    given = torch.tensor([model.tokenizer(TEXT).input_ids])
    assert known["rope_theta"] == 10000.0
    assert abs(loss - float(model.network(given, labels=given).loss.detach())) > 1e-2
