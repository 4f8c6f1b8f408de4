"""The demo's model trained in another way than its YAML says, in a folder of specs of the demo's own."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

import yaml

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT, settings
from ops.demo.texts import MODEL
from ops.stack.layout import DEMO_MODELS

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "lora": {"method": "lora", "epochs": 6, "learning_rate": 5.0e-3, "replay_share": 0.55, "blend": 0.85},
}
"""What each way changes in the spec's `retrain`."""


def models_of(method: str) -> dict[str, str]:
    """Give the setting that has the stack read the demo's model so; none for the way that its YAML says.

    It holds until the next start without it: the user's own folder is not touched.

    Raises:
        ContractError: there is no such way.
    """
    if method not in VARIANTS:
        raise ContractError(f"--method {method}: the demo trains by {' or '.join(VARIANTS)}")
    if not (changes := VARIANTS[method]):
        return {}
    own = settings().home.resolve() / DEMO_MODELS
    source = settings().models_dir
    source = ROOT / "models" if source.resolve() == own else source
    os.environ.pop("DRIFTLOOP_MODELS_DIR", None)  # it would hide the stack's setting from this process
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(source, own, ignore=lambda _, names: [name for name in names if not name.endswith(".yaml")])
    spec = yaml.safe_load((source / f"{MODEL}.yaml").read_text(encoding="utf-8"))
    spec["retrain"] = {**spec.get("retrain", {}), **changes}
    (own / f"{MODEL}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return {"DRIFTLOOP_MODELS_DIR": str(own)}
