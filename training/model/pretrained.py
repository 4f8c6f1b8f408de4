"""Networks and tokenizers as folders hold them, or a clear no. The only file that imports transformers."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers import PreTrainedTokenizerFast as Wrapped
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN_TYPES
from transformers.utils import logging as chatter

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.model.foreign import require_used
from training.model.round_trip import require_fitting_tokens, require_same_tokens, require_whole_texts
from training.model.safe_files import WrongConfigError, folder_of

chatter.set_verbosity_error()  # it warns of attention masks that padding on the right does not need
chatter.disable_progress_bar()

END = "<|endoftext|>"
NO_DROPOUT = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
"""A model this small underfits; without dropout a resumed training is bit-identical, too."""
_NOT_LOADED = (
    *(OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, ArithmeticError, ImportError),
    *(SafetensorError, WrongConfigError),
)
"""What comes of a folder whose configuration asks for what cannot be made, or whose weights are damaged."""
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.", "_forward_module.")
"""What DistributedDataParallel, `torch.compile`, FSDP, PEFT and Lightning put before the names of weights."""
_Read = TypeVar("_Read")
_ONE_AT_A_TIME = threading.RLock()
"""transformers replaces functions of its own and of torch's for the whole process while it makes a network.

Two threads that do so at once leave them replaced: `tie_weights` did nothing for good, and no model loaded any more
(seen with 5.23). The files' bytes were read before, for their hashes, so that nobody waits here for a disk.
"""


def checked_folder(source: str | Path) -> Path:
    """Give a folder of a model, fetched from the hub where `source` is a name there, with every file checked."""
    return folder_of(source, KNOWN_TYPES)


def read_network(folder: Path, name: str) -> Any:
    """Read a network in float32, from safetensors alone and by no code of the model's own.

    Raises:
        ContractError: weights are missing, would be passed over, or do not fit the configuration.
    """

    def read() -> Any:
        with _ONE_AT_A_TIME:
            return AutoModelForCausalLM.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that we say which; its own words are "look at the above report"
            )

    network, loading = _told(f"model {name} cannot be loaded", read)
    if mismatched := sorted(loading["mismatched_keys"]):
        key, there, asked = mismatched[0]
        raise ContractError(
            f"model {name}: {len(mismatched)} of its weights have other sizes than config.json asks for, first {key}: "
            f"{list(there)} and not {list(asked)}; put the config.json of these very weights beside them"
        )
    if missing := sorted(loading["missing_keys"]):
        raise ContractError(
            f"model {name}: {len(missing)} of its weights are in no *.safetensors that its index names and would be "
            f"random, first {missing[0]}; {_cure(loading['unexpected_keys'])}"
        )
    require_used(loading["unexpected_keys"], name)
    _require_tied(network, name)
    return network


def _cure(unexpected: Iterable[str]) -> str:
    """Say what to do about weights that are missing under the names that the network has for them."""
    if prefix := next((prefix for prefix in _WRAPPERS if any(key.startswith(prefix) for key in unexpected)), None):
        return f"a wrapper put `{prefix}` before the names: take it off, and save the model within"
    return "save the whole model again, with the names that its own class gives them"


def _require_tied(network: Any, name: str) -> None:
    """Refuse two different layers where config.json says that they are one: servers take either, and answer otherwise.

    Merging an adapter that has an output layer of its own leaves such a folder.
    """
    into, out = network.get_input_embeddings(), network.get_output_embeddings()
    if not getattr(network.config, "tie_word_embeddings", False) or out is None or out.weight is into.weight:
        return
    if out.weight.shape != into.weight.shape or not torch.equal(out.weight, into.weight):
        raise ContractError(
            f"model {name}: its output layer is another than its embeddings, and `tie_word_embeddings` says "
            "that they are one; set it to false in config.json, so that servers load what was trained"
        )


def read_tokenizer(folder: Path, name: str, *, rows: int) -> Any:
    """Read a tokenizer that fits embeddings of so many rows, gives texts back whole, and reads what its file says.

    Raises:
        ContractError: it cannot be read, or is another one than its file describes.
    """

    def read() -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if (folder / "tokenizer.json").is_file():
            require_same_tokens(tokenizer, Wrapped.from_pretrained(folder, local_files_only=True), name)
        require_fitting_tokens(tokenizer, rows, name)
        require_whole_texts(tokenizer, name)
        return tokenizer

    return _told(f"model {name}: its tokenizer cannot be read", read)


def numbers_described(folder: Path, name: str) -> int:
    """Count the numbers that a folder's config.json asks for, without making a network of them.

    Raises:
        ContractError: it describes no network that can be made, or the folder may not be read.
    """
    checked_folder(folder)

    def describe() -> Any:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with _ONE_AT_A_TIME, torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)

    network = _told(f"model {name}: its config.json describes no network", describe)
    return sum(parameter.numel() for parameter in network.parameters())


def fresh(shape: FromScratch, bpe: Any, *, seed: int) -> tuple[Any, Any]:
    """Make an untrained GPT-2 of a shape for a byte-level BPE; give network and tokenizer."""
    tokenizer = Wrapped(
        tokenizer_object=bpe,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=shape.context,
        clean_up_tokenization_spaces=False,
    )
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_positions=shape.context, n_embd=shape.width,
                n_layer=shape.layers, n_head=shape.heads, **NO_DROPOUT,
                **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id),
            )
        )  # fmt: skip
    return network, tokenizer


def _told(broken: str, read: Callable[[], _Read]) -> _Read:
    """Read something, and tell in one sentence why it cannot be read.

    The library of tokenizers raises bare `Exception`, and panics of its own where it meets what it did not expect.
    """
    try:
        return read()
    except _NOT_LOADED as err:
        raise ContractError(f"{broken}: {_first(err)}") from err
    except BaseException as err:
        if type(err) is not Exception and type(err).__name__ != "PanicException":
            raise
        raise ContractError(f"{broken}: {_first(err)}; save it again with the library that made it") from err


def _first(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
