"""The files of a model that somebody else saved: found, and copied without what could run code."""

import shutil
from pathlib import Path

from datasets_defs.core.errors import ContractError
from training.model.safe_files import PICKLED, WANTED, pickles_in, refuse_cut_links, without_weights

CONFIG, ADAPTER = "config.json", "adapter_config.json"
_TOKENIZER = ("tokenizer*", "vocab.json", "spiece.model")
_MOST_NAMED = 5


def collect(source: Path, into: Path) -> Path:
    """Copy a model's files into the folder `into`, and give it; only kinds that are read, and no pickles.

    The model stands in `source` itself or in one folder below it, as MLflow's own flavours lay it out. Its tokenizer
    may stand in a folder beside it.

    Raises:
        ContractError: there is no model, more than one, or its weights are pickled.
    """
    if not source.is_dir():
        raise ContractError(f"{source} is no folder; give one with config.json, *.safetensors and the tokenizer")
    refuse_cut_links(source, str(source))
    root = _model_in(source)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    _copy(root, into)
    if not _has_tokenizer(into) and (beside := _tokenizer_in(source)) is not None:
        _copy(beside, into)
    return into


def is_adapter_folder(folder: Path) -> bool:
    """Say whether a folder holds an adapter rather than a whole model."""
    return (folder / ADAPTER).is_file() and not (folder / CONFIG).is_file()


def _model_in(source: Path) -> Path:
    """Find the folder of the model: this one, or the only one below it that has configuration and weights."""
    if _is_model(source):
        return source
    below = sorted({path.parent for name in (CONFIG, ADAPTER) for path in source.rglob(name)})
    models = [folder for folder in below if _is_model(folder)]
    if len(models) == 1:
        return models[0]
    if models:
        named = ", ".join(str(folder.relative_to(source)) for folder in models[:_MOST_NAMED])
        raise ContractError(f"{source} holds {len(models)} models ({named}); name the folder of the one that is meant")
    if pickled := pickles_in(source):
        raise ContractError(f"{source} holds its weights as {', '.join(pickled[:_MOST_NAMED])}: {PICKLED}")
    if instead := without_weights(source):
        raise ContractError(f"{source} holds no model: {instead}")
    names = sorted(path.name for path in source.iterdir())
    seen = ", ".join(names[:_MOST_NAMED]) or "nothing"
    raise ContractError(
        f"{source} holds no model: {CONFIG} (or {ADAPTER}) with *.safetensors beside it is needed, and {seen} is there"
    )


def _is_model(folder: Path) -> bool:
    has_config = (folder / CONFIG).is_file() or (folder / ADAPTER).is_file()
    return has_config and any(folder.glob("*.safetensors"))


def _has_tokenizer(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in _TOKENIZER)


def _tokenizer_in(source: Path) -> Path | None:
    folders = sorted({path.parent for path in source.rglob("tokenizer_config.json")})
    return folders[0] if len(folders) == 1 else None


def _copy(source: Path, into: Path) -> None:
    for pattern in WANTED:
        for path in sorted(source.glob(pattern)):
            shadow = path.name.startswith("._")  # of macOS, in archives
            if path.is_file() and not shadow and not (into / path.name).exists():
                shutil.copyfile(path, into / path.name)
