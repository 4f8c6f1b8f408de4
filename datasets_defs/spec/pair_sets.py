"""Reading `models/pairs/*.yaml`, with errors that name the file, the field and the cure."""

from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.files import load_as, yaml_files
from datasets_defs.spec.pairs import PairsSpec


def pair_sets_folder() -> Path:
    """Give the folder of the sets' files: beside those of models, which are never sought in it."""
    return settings().models_dir / "pairs"


def pair_set_names() -> list[str]:
    """List the sets by their files' names; a file with errors counts, and fails in its own task."""
    return [path.stem for path in yaml_files(pair_sets_folder())]


def pair_set(name: str) -> PairsSpec:
    """Read one set's file.

    Raises:
        ContractError: there is no such file, or it is wrong.
    """
    path = pair_sets_folder() / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(pair_set_names()) or "none"
        raise ContractError(f"no set of pairs {name!r}: {path} does not exist; known sets: {known}")
    return load_as(PairsSpec, path)
