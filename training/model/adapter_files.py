"""A version that is an adapter: its files, and which version's weights they are for. Imports neither torch nor peft."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import file_sha256

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What PEFT calls them, and every server that takes adapters."""
BASE = "driftloop_base.json"
"""Names the base by version and hash; PEFT and servers pass it over."""
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class AdapterBase:
    """The version whose weights an adapter is for."""

    model: str
    version: int
    manifest_sha256: str
    """Of its manifest: under its number nothing else is ever put below the adapter."""


def base_of(folder: Path) -> AdapterBase | None:
    """Read which version's weights a folder's adapter is for; None: it has weights of its own.

    Raises:
        ContractError: the file that names it is damaged.
    """
    try:
        content = json.loads((folder / BASE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as err:
        raise ContractError(f"adapter {folder}: {BASE} cannot be read ({err}); register the version again") from err
    try:
        return AdapterBase(str(content["model"]), int(content["version"]), str(content["manifest_sha256"]))
    except (KeyError, TypeError, ValueError) as err:
        raise ContractError(
            f"adapter {folder}: {BASE} holds {str(content)[:100]}; it must name model, version and manifest_sha256"
        ) from err


def write_base(folder: Path, base: AdapterBase) -> None:
    """Write beside an adapter whose weights it is for."""
    (folder / BASE).write_text(json.dumps(asdict(base), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def base_folder(folder: Path, base: AdapterBase, bases: Path | None = None) -> Path:
    """Give the folder of an adapter's base: `vN`, beside the adapter's own or in `bases`.

    Raises:
        ContractError: it is not there, or something else is.
    """
    path = (bases or folder.parent) / f"v{base.version}"
    if not (path / _MANIFEST).is_file():
        raise ContractError(
            f"adapter {folder}: its base, {base.model} version {base.version}, is not in {path}; fetch the adapter's "
            "version through driftloop, which brings both"
        )
    if (there := file_sha256(path / _MANIFEST)) != base.manifest_sha256:
        raise ContractError(
            f"adapter {folder} is for {base.model} version {base.version} with the manifest "
            f"{base.manifest_sha256[:12]}…, and {path} has {there[:12]}…: nothing else is put below it"
        )
    return path
