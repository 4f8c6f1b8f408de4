"""Reading `models/*.yaml`, with errors that name the file, the field and the cure."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.fields import NamedFile
from datasets_defs.spec.mistakes import sentences
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.yaml_text import read_yaml

Spec = TypeVar("Spec", bound=NamedFile)


def load(path: Path) -> ModelSpec:
    """Read one model's file.

    Raises:
        ContractError: the file is unreadable, not YAML, or says something impossible; names file, field and fix.
    """
    return load_as(ModelSpec, path)


def parse(text: str, path: Path) -> ModelSpec:
    """Read the text of a spec; `path` is where it stands or will stand.

    Raises:
        ContractError: the text is not YAML, or says something impossible; names file, field and fix.
    """
    return parse_as(ModelSpec, text, path)


def load_as(kind: type[Spec], path: Path) -> Spec:
    """Read one file of a kind.

    Raises:
        ContractError: the file is unreadable, not YAML, or says something impossible; names file, field and fix.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(f"{path}: not readable as YAML: {err}") from err
    return parse_as(kind, text, path)


def parse_as(kind: type[Spec], text: str, path: Path) -> Spec:
    """Read the text of a file of a kind.

    Raises:
        ContractError: the text is not YAML, or says something impossible; names file, field and fix.
    """
    content = read_yaml(text, path)
    if not isinstance(content, dict):
        content_kind = "nothing: the file is empty" if content is None else type(content).__name__
        raise ContractError(f"{path}: expected a mapping of fields, found {content_kind}")
    try:
        spec = kind.model_validate(content)
    except ValidationError as err:
        raise ContractError(f"{path}: {sentences(err, kind)}") from err
    if spec.name != path.stem:
        raise ContractError(f"{path}: name is {spec.name!r}; it must equal the file's name, {path.stem!r}")
    return spec


def load_all(folder: Path | None = None) -> tuple[dict[str, ModelSpec], list[str]]:
    """Read every spec of the folder; give the good ones by name, and a sentence for each bad file."""
    specs: dict[str, ModelSpec] = {}
    problems: list[str] = []
    models = folder or settings().models_dir
    for path in yaml_files(models):
        try:
            specs[path.stem] = load(path)
        except ContractError as err:
            problems.append(str(err))
    problems += [f"{path}: not read; rename it to {path.stem}.yaml" for path in _almost_named(models)]
    return specs, problems


def spec_of(name: str) -> ModelSpec:
    """Read the spec of one model.

    Raises:
        ContractError: there is no such file, or it is wrong.
    """
    path = settings().models_dir / f"{name}.yaml"
    if not path.is_file():
        if path.with_suffix(".yml").exists():
            raise ContractError(f"no model {name!r}: {path.with_suffix('.yml')} is not read; rename it to {path.name}")
        known = ", ".join(model_names()) or "none"
        raise ContractError(f"no model {name!r}: {path} does not exist; known models: {known}")
    return load(path)


def model_names(folder: Path | None = None) -> list[str]:
    """List the models by their files' names; a file with errors counts, and fails in its own task."""
    return [path.stem for path in yaml_files(folder or settings().models_dir)]


def yaml_files(folder: Path) -> list[Path]:
    """Give a folder's files by name; what editors and archives leave beside them, `.#m.yaml` or `._m.yaml`, is none."""
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("."))


def _almost_named(folder: Path) -> list[Path]:
    """Find files that people take to be read, and that are not: `m.yml`, `m.YAML`."""
    names = (path for path in folder.glob("*") if path.suffix.lower() in (".yml", ".yaml") and path.suffix != ".yaml")
    return sorted(path for path in names if not path.name.startswith("."))
