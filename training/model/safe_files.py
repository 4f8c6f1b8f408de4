"""What a base model's files may be: weights as safetensors, a known architecture, no code however deep it hides."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from datasets_defs.core.errors import ContractError, TransientError
from training.model.size_check import require_fitting

WrongConfigError = StrictDataclassError
"""What transformers raises for a field of a wrong type in config.json."""

UNSAFE = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "*.dill")
"""Weights that can run code when they are read."""
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a model that are read; of a hub's repository only those of its top folder."""
_INDEX = "*.safetensors.index.json"


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
        ContractError: something in it could run code, or something is missing.
    """
    if pickled := sorted(str(path.relative_to(folder)) for pattern in UNSAFE for path in folder.rglob(pattern)):
        raise ContractError(
            f"model {name} holds {', '.join(pickled)}: pickled weights can run code; "
            "convert them to safetensors and remove them"
        )
    if (folder / "adapter_config.json").exists():
        raise ContractError(
            f"model {name} is an adapter, which names another model to be loaded; merge the two and save the result"
        )
    if not (folder / "config.json").is_file():
        raise ContractError(f"model {name}: config.json is missing")
    for path in sorted(folder.rglob("*.json")):
        _refuse_code(path, name)
    _check_type(folder, name, known_types)
    if not any(folder.glob("*.safetensors")):
        raise ContractError(f"model {name}: no *.safetensors; save the weights with safe serialization")
    for path in folder.glob(_INDEX):
        _check_index(path, name)
    require_fitting(folder, name, _json(folder / "config.json", name))
    if not any(folder.glob("tokenizer*")) and not (folder / "vocab.json").is_file():
        raise ContractError(f"model {name}: no tokenizer files; save the tokenizer into the same folder")


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
    for each in sorted(map(str, named)):
        if Path(each).name != each or not each.endswith(".safetensors"):
            raise ContractError(f"model {name}: {path.name} names {each!r}; only *.safetensors beside it are read")
        if not (path.parent / each).is_file():
            raise ContractError(f"model {name}: {each}, which {path.name} names, is missing")


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise ContractError(f"model {name}: {path.name} is not JSON ({_first(err)})") from err


def _keys(content: Any) -> set[str]:
    found: set[str] = set()
    waiting = [content]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found |= set(each)
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found


def _first(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
