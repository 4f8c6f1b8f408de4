"""Reading `models/pairs/*.yaml`, with errors that name the file, the field and the cure."""

from pathlib import Path

from pydantic import ValidationError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.files import sentences
from datasets_defs.spec.pairs import PairsSpec
from datasets_defs.spec.yaml_text import read_yaml


def pair_sets_folder() -> Path:
    """Give the folder of the sets' files: beside those of models, which are never sought in it."""
    return settings().models_dir / "pairs"


def pair_set_names() -> list[str]:
    """List the sets by their files' names; a file with errors counts, and fails in its own task."""
    return sorted(path.stem for path in pair_sets_folder().glob("*.yaml"))


def pair_set(name: str) -> PairsSpec:
    """Read one set's file.

    Raises:
        ContractError: there is no such file, or it is wrong.
    """
    path = pair_sets_folder() / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(pair_set_names()) or "none"
        raise ContractError(f"no set of pairs {name!r}: {path} does not exist; known sets: {known}")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(f"{path}: not readable as YAML: {err}") from err
    if not isinstance(content, dict):
        raise ContractError(f"{path}: expected a mapping of fields, found {type(content).__name__}")
    try:
        spec = PairsSpec.model_validate(content)
    except ValidationError as err:
        raise ContractError(f"{path}: {sentences(err)}") from err
    if spec.name != path.stem:
        raise ContractError(f"{path}: name is {spec.name!r}; it must equal the file's name, {path.stem!r}")
    return spec
