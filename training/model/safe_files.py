"""What a base model's files may be: weights as safetensors, a known architecture, no code however deep it hides."""

import json
import os
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from datasets_defs.core.errors import ContractError, TransientError
from training.model.foreign import require_plain
from training.model.size_check import require_fitting
from training.model.tensor_tables import SECOND_SET, tensors_of

WrongConfigError = StrictDataclassError
"""What transformers raises for a field of a wrong type in config.json."""

UNSAFE = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "*.dill")
"""Weights that can run code when they are read."""
LEFTOVERS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
"""Pickles that trainers leave beside a model's weights: they are passed over, and never read."""
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a model that are read; of a hub's repository only those of its top folder."""
_INDEX = "*.safetensors.index.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
"""A file of Git LFS is shorter where only its pointer was fetched."""
_CURES = (
    (
        ("*.gguf",),
        "servers read that, and it is mostly quantised: save what it was made of, with `save_pretrained`",
    ),
    (
        ("*.h5", "*.msgpack", "*.onnx", "*.npz", "*.ot", "*.nemo", "*.tflite"),
        "save it from PyTorch with `save_pretrained`, which writes safetensors",
    ),
    (
        LEFTOVERS,
        "a trainer leaves that beside a model; write the model there with `trainer.save_model(FOLDER)`",
    ),
)
"""What may stand where safetensors are needed, and what to do then."""


def folder_of(source: str | Path, known_types: Collection[str]) -> Path:
    """Give a folder that holds the model, fetched from the hub if `source` is a name there, and checked.

    Raises:
        ContractError: the model is incomplete, or holds pickled weights, code, or an unknown architecture.
        TransientError: the hub is not reachable.
    """
    name = str(source)
    if Path(source).is_dir():
        folder = Path(source)
    elif isinstance(source, Path) or name.startswith(("/", ".", "~")):
        raise ContractError(f"model folder {name} does not exist; give a folder with config.json or a hub name")
    else:
        folder = _fetched(name)
    inspect(folder, name, known_types)
    return folder


def inspect(folder: Path, name: str, known_types: Collection[str]) -> None:
    """Check every file of a model before anything reads it.

    Raises:
        ContractError: something in it could run code, something is missing, or it is no plain language model.
    """
    _refuse_left_behind(folder, name)
    if pickled := pickles_in(folder):
        raise ContractError(f"model {name} holds {', '.join(pickled)}: {PICKLED}")
    if (folder / "adapter_config.json").exists():
        raise ContractError(
            f"model {name} is an adapter, which names another model to be loaded; merge the two and save the result"
        )
    _refuse_pointers(folder, name)
    instead = without_weights(folder)
    if not (folder / "config.json").is_file():
        inner = _within(folder)
        advice = f", and {instead}" if instead else f"; {inner} within has one: give that" if inner else ""
        raise ContractError(f"model {name}: config.json is missing{advice}")
    for path in sorted(folder.rglob("*.json")):
        _refuse_code(path, name)
    _check_type(folder, name, known_types)
    if not any(folder.glob("*.safetensors")):
        cure = instead or "save the weights with safe serialization"
        raise ContractError(f"model {name}: no *.safetensors; {cure}")
    for path in folder.glob(_INDEX):
        _check_index(path, name)
    _refuse_two_sets(folder, name)
    tensors, config = tensors_of(folder, name), _json(folder / "config.json", name)
    require_plain(folder, tensors, config, name)
    require_fitting(tensors, config, name)
    _check_tokenizer(folder, name)


PICKLED = (
    "pickled weights can run code and are never read; where you trust them, load them once and "
    "`model.save_pretrained(FOLDER)`, which writes safetensors, and remove them"
)
"""What to do with pickled weights."""


def pickles_in(folder: Path) -> list[str]:
    """Name the files below a folder that could run code when they are read, but what trainers leave beside a model."""
    return sorted(
        str(path.relative_to(folder))
        for pattern in UNSAFE
        for path in folder.rglob(pattern)
        if not any(path.match(leftover) for leftover in LEFTOVERS)
    )


def without_weights(folder: Path) -> str:
    """Say what stands in a folder in the place of safetensors, and what to do; empty where it says nothing."""
    if any(folder.glob("*.safetensors")):
        return ""
    for patterns, cure in _CURES:
        if there := sorted(path.name for pattern in patterns for path in folder.glob(pattern)):
            return f"{there[0]} is there: {cure}"
    return ""


def _refuse_left_behind(folder: Path, name: str) -> None:
    """Refuse links whose file was not copied with them, and what macOS puts beside files in archives."""
    refuse_cut_links(folder, name)
    if shadows := sorted(path.name for pattern in WANTED for path in folder.glob(f"._{pattern}")):
        raise ContractError(
            f"model {name}: {shadows[0]} is a shadow that macOS leaves in archives; remove it (`rm {folder}/._*`)"
        )


def refuse_cut_links(folder: Path, name: str) -> None:
    """Refuse links of a hub's cache whose file was not copied with them, at any depth.

    Raises:
        ContractError: there is one.
    """
    links = (path for pattern in WANTED for path in folder.rglob(pattern) if path.is_symlink() and not path.exists())
    if cut := sorted(path.name for path in links):
        raise ContractError(
            f"model {name}: {cut[0]} is a link to a file that is not here; copy what links name (`cp -rL`)"
        )


def _within(folder: Path) -> str:
    """Name a folder within that holds a model: a cache's newest snapshot, or a trainer's last checkpoint."""
    there = [path.parent for path in folder.glob("*/config.json")] + [
        path.parent for path in folder.glob("snapshots/*/config.json")
    ]
    newest = max(there, key=lambda path: path.stat().st_mtime, default=None)
    return "" if newest is None else newest.relative_to(folder).as_posix()


def _refuse_two_sets(folder: Path, name: str) -> None:
    """Refuse weights that some readers would take and others pass over: a file beside the index, or beside the one.

    transformers prefers model.safetensors to an index, and servers read what the index names, or every file.
    """
    files = {path.name for path in folder.glob("*.safetensors") if not path.name.startswith(SECOND_SET)}
    indexed = {shard for path in folder.glob(_INDEX) for shard in _json(path, name).get("weight_map", {}).values()}
    if not indexed and files and "model.safetensors" not in files:
        raise ContractError(
            f"model {name}: {len(files)} files of weights, first {min(files)}, and neither model.safetensors nor "
            "model.safetensors.index.json, which says what is where; fetch the index, or save the model again"
        )
    if others := sorted(files - (indexed or {"model.safetensors"})):
        of = "model.safetensors.index.json does not name it" if indexed else "model.safetensors is the model"
        raise ContractError(
            f"model {name}: {others[0]} lies beside its weights, and {of}; readers differ in what they take: remove "
            "the file, or the set that it does not belong to"
        )


def _refuse_pointers(folder: Path, name: str) -> None:
    """Refuse files of Git LFS that were never fetched."""
    for path in sorted(path for pattern in WANTED for path in folder.glob(pattern)):
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
        if is_pointer and path.stat().st_size < _POINTER_BYTES:
            raise ContractError(
                f"model {name}: {path.name} is a pointer of Git LFS and not the file; run `git lfs install` and "
                "`git lfs pull` in the repository that it is from"
            )


def _check_tokenizer(folder: Path, name: str) -> None:
    if any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json", "vocab.txt")):
        return
    pieces = sorted(path.name for path in folder.glob("*.model"))
    if not pieces and not any(folder.glob("tokenizer*")):
        raise ContractError(f"model {name}: no tokenizer files; save the tokenizer into the same folder")
    if pieces and find_spec("sentencepiece") is None:
        raise ContractError(
            f"model {name}: its tokenizer is SentencePiece's {pieces[0]} alone; write tokenizer.json beside it, once, "
            "where `sentencepiece` and `protobuf` are installed: "
            "`AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`"
        )


def _check_type(folder: Path, name: str, known_types: Collection[str]) -> None:
    """Refuse a model whose type is not known; without one, it would be guessed from the folder's name."""
    config = _json(folder / "config.json", name)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in known_types:
        raise ContractError(f"model {name}: `model_type` {kind!r} in config.json is no known causal language model")


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED), ignore_patterns=["*/*"]))
    except LocalEntryNotFoundError as err:
        if offline:
            raise ContractError(f"model {name} is not in the local cache, and HF_HUB_OFFLINE is set") from err
        raise TransientError(f"model {name}: the hub is not reachable ({_first(err)})") from err
    except (OSError, ValueError) as err:  # no such model, no right to it, no such name
        raise ContractError(f"model {name} cannot be fetched from the hub: {_first(err)}") from err


def _refuse_code(path: Path, name: str) -> None:
    if path.name in ("tokenizer.json", "vocab.json", "added_tokens.json"):  # vocabularies: any word may be a key
        return
    if "auto_map" in _keys(_json(path, name)):
        raise ContractError(f"model {name}: {path.name} has `auto_map`, code of its own, which is never run")


def _check_index(path: Path, name: str) -> None:
    index = _json(path, name)
    places = index.get("weight_map", {}) if isinstance(index, dict) else {}
    if not isinstance(places, dict):
        raise ContractError(f"model {name}: `weight_map` of {path.name} is no table of tensors and files")
    named = set(places.values())
    for file in sorted(map(str, named)):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ContractError(f"model {name}: {path.name} names {file!r}; only *.safetensors beside it are read")
        if not (path.parent / file).is_file():
            raise ContractError(f"model {name}: {file}, which {path.name} names, is missing")


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise ContractError(f"model {name}: {path.name} is not JSON ({_first(err)})") from err


def _keys(content: Any) -> set[str]:
    keys: set[str] = set()
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            keys |= set(node)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return keys


def _first(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
