"""The demo's model trained in another way or by another trainer than its YAML says, by specs of the demo's own."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT, settings
from ops.demo.texts import MODEL
from ops.stack.layout import DEMO_MODELS

METHODS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "lora": {"retrain": {"method": "lora", "epochs": 6, "learning_rate": 5.0e-3, "replay_share": 0.55, "blend": 0.85}},
}
"""What each way to train changes in the spec's sections."""
TRAINERS: Mapping[str, Mapping[str, Any]] = {
    "driftloop": {},
    "trl": {
        "trainer": {
            "kind": "command",
            "run": [
                sys.executable, str(ROOT / "docs/examples/train_trl.py"), "--data", "{data}", "--base", "{champion}",
                "--out", "{output}", "--checkpoints", "{checkpoints}", "--seed", "{seed}",
            ],
        },
        "retrain": {"max_seconds": 300},
    },
}  # fmt: skip
"""What each trainer changes in the spec's sections."""


def models_of(
    method: str, trainer: str = "driftloop", more: Mapping[str, Any] | None = None, *, slowness: float = 1
) -> dict[str, str]:
    """Give the setting that has the stack read the demo's model so; none for the way that its YAML says.

    `more` are further sections of the YAML. On a machine that is slower than planned, trainings may take as many times
    longer, to learn as much.

    It holds until the next start without it: the user's own folder is not touched.

    Raises:
        ContractError: there is no such way or trainer, or what it needs is not installed.
    """
    if method not in METHODS:
        raise ContractError(f"--method {method}: the demo trains by {' or '.join(METHODS)}")
    if trainer not in TRAINERS:
        raise ContractError(f"--trainer {trainer}: the demo trains with {' or '.join(TRAINERS)}")
    if trainer == "trl" and importlib.util.find_spec("trl") is None:
        raise ContractError("--trainer trl: TRL is not installed here; run `.venv/bin/pip install 'trl>=1.16'` first")
    changes = [change for change in (METHODS[method], TRAINERS[trainer], more or {}) if change]
    if not changes and slowness == 1:
        return {}
    own = settings().home.resolve() / DEMO_MODELS
    source = settings().models_dir
    source = ROOT / "models" if source.resolve() == own else source
    os.environ.pop("DRIFTLOOP_MODELS_DIR", None)  # it would hide the stack's setting from this process
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(source, own, ignore=lambda _, names: [name for name in names if not name.endswith(".yaml")])
    spec = yaml.safe_load((source / f"{MODEL}.yaml").read_text(encoding="utf-8"))
    for name, section in (item for change in changes for item in change.items()):
        spec[name] = {**spec.get(name, {}), **section} if isinstance(section, Mapping) else section
    spec["base_model"]["train_seconds"] *= slowness
    spec["retrain"]["max_seconds"] *= slowness
    (own / f"{MODEL}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return {"DRIFTLOOP_MODELS_DIR": str(own)}
