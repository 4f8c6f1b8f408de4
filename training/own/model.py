"""The model that a team's own trainer left: whole and usable, of the champion's architecture, or a clear no."""

import json
from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from training.offers.model_files import CONFIG, collect
from training.offers.taking import usable_in

NAME = "of the trainer of your own"


def model_in(output: Path, work: Path, *, spec: ModelSpec, parent: Path) -> Path:
    """Give a folder with the model that stands in `output`, copied and tried; an adapter is merged into its parent.

    Raises:
        ContractError: there is none, it cannot be served, or it is of another architecture than its parent.
    """
    try:
        folder = collect(output, work / "collected")
    except ContractError as err:
        raise ContractError(f"the trainer of your own ended with exit code 0 and left no model: {err}") from err
    before, now = _kind(parent), _kind(folder)
    if now is not None and before != now:
        raise ContractError(
            f"the trainer of your own made a {now} of a {before}: servers cannot exchange one for the other in place. "
            f"Name a new base in `base_model` and train that with `driftloop rebase {spec.name}`"
        )
    return usable_in(folder, work, base=lambda: parent, name=NAME)


def _kind(folder: Path) -> str | None:
    """Read a model's architecture; None for an adapter, and for a configuration that is none."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(config.get("model_type")) if isinstance(config, dict) else None
