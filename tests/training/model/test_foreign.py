"""Folders that are no plain language model, or only half of one: refused by name, in a sentence that names the cure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    SiglipVisionConfig,
)
from transformers.utils import sentencepiece_model_pb2_new as pieces

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.model.language_model import LanguageModel
from training.offers.model_files import collect

TEXTS = ["The quick brown fox jumps over the lazy dog; 0123456789 and more words of it, each of them. "] * 20
SHAPE = FromScratch(layers=1, width=16, heads=2, vocabulary=300, context=64)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
LAYER = "transformer.h.0.attn.c_attn"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that was really saved."""
    folder = tmp_path_factory.mktemp("saved")
    LanguageModel.scratch(SHAPE, TEXTS).save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def beside(**tensors: torch.Tensor) -> Spoil:
    """Lay tensors beside the weights, as libraries do that quantise or adapt a model in place."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({**load_file(path), **tensors}, path, metadata={"format": "pt"})

    return spoil


def retyped(name: str, kind: torch.dtype) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({key: each.to(kind) if key == name else each for key, each in load_file(path).items()}, path)

    return spoil


def put(name: str, **fields: object) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return spoil


def instead(weights: str, *, alone: bool = False) -> Spoil:
    """Put a file in the place of the weights, or of everything."""

    def spoil(folder: Path) -> None:
        for path in list(folder.iterdir()):
            if alone or path.suffix == ".safetensors":
                path.unlink()
        (folder / weights).write_bytes(b"GGUF")

    return spoil


def sentencepiece_alone(folder: Path) -> None:
    """Leave a real SentencePiece model where the tokenizer was, as base models of the Llama family have it."""
    model = pieces.ModelProto()
    for number, piece in enumerate(("<unk>", "<s>", "</s>", "\u2581the", "a")):
        model.pieces.add(piece=piece, score=-number, type=2 if number == 0 else 3 if number < 3 else 1)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())


def longer_tokenizer(folder: Path) -> None:
    """Add a token that has no row in the embeddings."""
    model = LanguageModel.load(folder)
    model.tokenizer.add_tokens(["<new>"])
    model.tokenizer.save_pretrained(folder)


def lossy_tokenizer(folder: Path) -> None:
    """Lower every letter before it is read, as encoders do."""
    put("tokenizer.json", normalizer={"type": "Lowercase"})(folder)


def other_output_layer(folder: Path) -> None:
    """Lay an output layer of its own beside tied embeddings, as merging an adapter with one leaves it."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["transformer.wte.weight"] * 2}, path, metadata={"format": "pt"})


def sharded(*, keep: bool = False, index: bool = True, all_named: bool = True) -> Spoil:
    """Lay the weights in two files with an index, as newer saves do, and maybe leave the older single file."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        places = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(sorted(tensors))}
        for file in set(places.values()):
            part = {name: each + 1 for name, each in tensors.items() if places[name] == file}
            save_file(part, folder / file, metadata={"format": "pt"})
        named = places if all_named else {name: file for name, file in places.items() if "00001" in file}
        if index:
            content = {"metadata": {"total_size": 1}, "weight_map": named}
            (folder / "model.safetensors.index.json").write_text(json.dumps(content))
        if not keep:
            (folder / "model.safetensors").unlink()

    return spoil


def in_two_files(folder: Path) -> None:
    """Let a shard that is named hold an older value of a tensor of another, as one does that was used again."""
    sharded()(folder)
    first, second = sorted(folder.glob("model-*.safetensors"))
    older = {name: each * 0 for name, each in load_file(first).items()}
    save_file({**load_file(second), **older}, second, metadata={"format": "pt"})


def renamed(prefix: str) -> Spoil:
    """Save the weights out of a wrapper."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({f"{prefix}{name}": each for name, each in load_file(path).items()}, path, metadata={"format": "pt"})

    return spoil


def sized(change: int) -> Spoil:
    """Cut the weights short, or append to them."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[:change] if change < 0 else content + bytes(change))

    return spoil


def dangling(name: str) -> Spoil:
    """Copy a link of a hub's cache without what it names."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("../../blobs/abc")

    return spoil


def within(folder: Path) -> None:
    """Give the folder of a training in the place of its checkpoint's."""
    (folder / "checkpoint-500").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "checkpoint-500" / path.name)


NO_MODEL = json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "Nothing", "vocab": {}}})
Q, LORA = f"{LAYER}.qweight", f"{LAYER}.lora_A.default.weight"
CASES = {
    "gptq": (beside(**{Q: torch.zeros(2, 2, dtype=torch.int32)}), "quantised by GPTQ or AWQ .*qweight"),
    "bitsandbytes": (beside(**{f"{LAYER}.weight.absmax": torch.zeros(4)}), "quantised by bitsandbytes .*absmax"),
    "bitsandbytes-8": (beside(**{f"{LAYER}.SCB": torch.zeros(4)}), "quantised by bitsandbytes .*SCB"),
    "fp8-scales": (beside(**{f"{LAYER}.weight_scale_inv": torch.zeros(4)}), "quantised by FP8 or packed"),
    "mxfp4": (beside(**{"h.0.experts.gate_up_proj_blocks": torch.zeros(4, dtype=torch.uint8)}), "by MXFP4"),
    "fp8": (retyped(f"{LAYER}.weight", torch.float8_e4m3fn), r"is quantised \(its tensor .* is F8_E4M3\)"),
    "int8": (retyped(f"{LAYER}.weight", torch.int8), r"is quantised \(its tensor .* is I8\)"),
    "config": (put("config.json", quantization_config={"quant_method": "gptq"}), "`quantization_config` in config"),
    "packed": (put("config.json", compression_config={"format": "x"}), "`compression_config` in config.json"),
    "autogptq": (lambda f: (f / "quantize_config.json").write_text("{}"), r"quantize_config\.json says how"),
    "lora": (beside(**{LORA: torch.zeros(4, 16)}), r"adapter beside its weights \(1 tensors.*`merge_and_unload\(\)`"),
    "value-head": (beside(**{"v_head.summary.weight": torch.zeros(1, 16)}), "first v_head.summary.weight; save the"),
    "not-tied": (other_output_layer, "is another than its embeddings, and `tie_word_embeddings` .* set it to false"),
    "fewer-layers": (put("config.json", n_layer=0), "of its tensors have no place in the network"),
    "multimodal": (put("config.json", text_config={"hidden_size": 16}), "more than text .*`model.language_model`"),
    "longer-tokenizer": (longer_tokenizer, r"numbers up to 300, and its embeddings have 300 rows; resize"),
    "lossy-tokenizer": (lossy_tokenizer, "loses text makes a model look better"),
    "other-tokenizer": (put("tokenizer_config.json", tokenizer_class="Qwen2Tokenizer"), "`tokenizer_class` Qwen2Tok"),
    "other-class": (put("tokenizer_config.json", tokenizer_class="BertTokenizer"), "cannot be read: .*again with the"),
    "no-tokenizer-model": (lambda f: (f / "tokenizer.json").write_text(NO_MODEL), "its tokenizer cannot be read"),
    "tokenizer-list": (lambda f: (f / "tokenizer.json").write_text("[]"), "its tokenizer cannot be read"),
    "sentencepiece": (sentencepiece_alone, "SentencePiece's tokenizer.model alone; write tokenizer.json"),
    "lfs-weights": (lambda f: (f / "model.safetensors").write_text(POINTER), "model.safetensors is a pointer of Git"),
    "lfs-tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "tokenizer.json is a pointer of Git LFS"),
    "lfs-config": (lambda f: (f / "config.json").write_text(POINTER), "config.json is .*`git lfs pull`"),
    "gguf": (instead("model-q4_k_m.gguf"), "model-q4_k_m.gguf is there: servers read that"),
    "pickle": (instead("pytorch_model.bin"), r"pytorch_model.bin: pickled .* `model.save_pretrained\(FOLDER\)`"),
    "tensorflow": (instead("tf_model.h5"), "tf_model.h5 is there: save it from PyTorch"),
    "older-file": (sharded(keep=True), r"model\.safetensors lies beside its weights, .*index\.json does not name it"),
    "in-two-files": (in_two_files, "both hold .*, and readers differ in which they take"),
    "not-indexed": (sharded(all_named=False), r"model-00002-of-00002\.safetensors lies beside its weights"),
    "no-index": (sharded(index=False), r"2 files of weights, .* and neither model\.safetensors nor"),
    "second-file": (
        lambda f: shutil.copy(f / "model.safetensors", f / "extra.safetensors"),
        r"extra\.safetensors lies beside its weights, and model\.safetensors is the model",
    ),
    "cut": (sized(-1000), "its own table says .*cut short; fetch it again"),
    "appended": (sized(4), "something was appended; fetch it again"),
    "ddp": (renamed("module."), "a wrapper put `module.` before the names: take it off"),
    "compiled": (renamed("_orig_mod."), "a wrapper put `_orig_mod.` before the names"),
    "dangling-weights": (dangling("model.safetensors"), r"model\.safetensors is a link to a file that is not here"),
    "dangling-config": (dangling("config.json"), r"config\.json is a link .*copy what links name \(`cp -rL`\)"),
    "shadow": (lambda f: (f / "._model.safetensors").write_bytes(b"\0\5\x16\7"), "a shadow that macOS leaves"),
    "within": (within, "config.json is missing; checkpoint-500 within has one: give that"),
    "larger-vocabulary": (put("config.json", vocab_size=320), r"wte.weight: \[300, 16\] and not \[320, 16\]"),
    "arguments": (instead("training_args.bin", alone=True), r"training_args.bin is there: .*trainer.save_model\("),
}


@pytest.mark.parametrize(("spoil", "says"), CASES.values(), ids=CASES)
def test_refused_by_name(folder: Path, spoil: Spoil, says: str) -> None:
    """Each is refused at load, before anything is trained or served, with what was found and what to do."""
    spoil(folder)
    with pytest.raises(ContractError, match=says) as refused:
        LanguageModel.load(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["gguf", "pickle", "tensorflow", "arguments"])
def test_an_offer_without_weights(folder: Path, tmp_path: Path, name: str) -> None:
    """What was offered in the place of a model is named with the same cure."""
    CASES[name][0](folder)
    with pytest.raises(ContractError, match=r"holds (no model|its weights as)"):
        collect(folder, tmp_path / "collected")


def test_shards_with_their_index_are_read(folder: Path) -> None:
    """The weights that the index names are the model's; Mistral's second set of the same weights is no fault."""
    before = load_file(folder / "model.safetensors")["transformer.ln_f.bias"]
    sharded()(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "consolidated.safetensors")
    assert torch.equal(LanguageModel.load(folder).network.state_dict()["transformer.ln_f.bias"], before + 1)


def test_an_offer_whose_links_were_cut(folder: Path, tmp_path: Path) -> None:
    """A copied cache lost its weights, and was said to lack them; what macOS leaves in archives is left out."""
    (folder / "._config.json").write_bytes(b"\0\5\x16\7")
    assert not list(collect(folder, tmp_path / "whole").glob("._*"))
    dangling("model.safetensors")(folder)
    with pytest.raises(ContractError, match=r"model\.safetensors is a link to a file that is not here"):
        collect(folder, tmp_path / "cut")


def test_what_a_trainer_leaves_is_passed_over(folder: Path) -> None:
    """Pickles of transformers' own trainer beside whole weights are neither read nor a reason to refuse them."""
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        (folder / name).write_bytes(b"never read")
    assert LanguageModel.load(folder).context == SHAPE.context


def test_constants_of_older_versions_are_no_weights(folder: Path) -> None:
    """Masks and frequencies that older versions saved with the weights say nothing of another architecture."""
    beside(**{"transformer.h.0.attn.masked_bias": torch.zeros(1), "rotary_emb.inv_freq": torch.zeros(4)})(folder)
    assert LanguageModel.load(folder).context == SHAPE.context


def test_a_language_model_out_of_a_multimodal_one(saved: Path, tmp_path: Path) -> None:
    """A real multimodal model is refused, and what the sentence says to do gives one that is taken."""
    whole, alone = tmp_path / "whole", tmp_path / "alone"
    text = Gemma3TextConfig(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    made = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    for folder in (whole, alone):
        made.save_pretrained(whole)
        shutil.copytree(
            saved, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"), dirs_exist_ok=True
        )
    with pytest.raises(ContractError, match=r"reads more than text \(`text_config`"):
        LanguageModel.load(whole)
    read = AutoModelForImageTextToText.from_pretrained(whole)
    only = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(whole).text_config)
    only.model, only.lm_head = read.model.language_model, read.lm_head
    only.save_pretrained(alone)
    assert LanguageModel.load(alone).losses(["the fox"])[0].bits > 0


def test_bare_exceptions_are_the_librarys_own(folder: Path) -> None:
    """The library of tokenizers still raises what is only an Exception; were it to stop, the case would go."""
    with pytest.raises(Exception, match="untagged enum") as raised:  # that is what this is about
        Tokenizer.from_str(NO_MODEL)
    assert type(raised.value) is Exception
    assert Tokenizer(models.BPE()).get_vocab_size() == 0
