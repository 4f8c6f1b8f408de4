"""What a training needs to go on as if it had never been killed: its state, written to and read from a checkpoint."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from datasets_defs.core.errors import ContractError
from training.fit import checkpoints
from training.fit.curve import Curve
from training.fit.group import Group

log = logging.getLogger(__name__)
_FILE = "state.safetensors"


@dataclass(slots=True)
class FitState:
    """A training between two steps."""

    trainable: dict[str, torch.nn.Parameter]
    """What is trained, by name; tied weights come once."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    curve: Curve = field(default_factory=Curve)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """Copies of the trained weights at the best look at the validation texts so far."""
    elapsed: float = 0.0
    """Training time in seconds, over all runs."""
    group: Group = field(default_factory=Group)
    """The processes that train; each knows the whole state, or its part of it."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return len(self.curve)

    def keep_best(self) -> None:
        """Remember the weights as they are."""
        self.best = {name: weight.detach().clone() for name, weight in self.trainable.items()}

    @torch.no_grad()
    def take_best(self) -> None:
        """Go back to the weights that were remembered, if any were."""
        for name, value in self.best.items():
            self.trainable[name].copy_(value)

    def save(self, folder: Path) -> None:
        """Keep the state as a checkpoint, which the first process writes; all have to ask for it at once."""
        parts: dict[str, torch.Tensor] = {f"model.{name}": value for name, value in self.trainable.items()}
        parts |= {f"best.{name}": value for name, value in self.best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            parts |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        gathered = {name: self.group.whole(value) for name, value in parts.items()}
        tensors = {name: value for name, value in gathered.items() if value is not None}
        tensors |= {f"curve.{name}": value for name, value in self.curve.tensors().items()}
        tensors |= self.group.generators()  # dropout, where a model has it, draws from the global generator
        counters = {"elapsed": repr(self.elapsed), "scaler": json.dumps(self.scaler.state_dict())}
        if self.group.rank == 0:
            checkpoints.save(folder, self.step, lambda to: save_file(tensors, to / _FILE, metadata=counters))

    def resume(self, folder: Path) -> bool:
        """Go on from the newest valid checkpoint of the folder; False when there is none.

        Raises:
            ContractError: it is what was written, and cannot be read.
        """
        checkpoint = self.group.from_first(lambda: _read(folder))
        if checkpoint is None:
            return False
        self._take(*checkpoint)
        log.info("resumed at step %d from %s", self.step, folder)
        return True

    def _take(self, tensors: dict[str, torch.Tensor], counters: dict[str, str]) -> None:
        with torch.no_grad():
            for name, weight in self.trainable.items():
                weight.copy_(self.group.part(tensors[f"model.{name}"], weight))
        best = _under("best.", tensors)
        self.best = {name: self.group.part(value, self.trainable[name]) for name, value in best.items()}
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, entry = name.partition(".")
            like = weights[int(index)]
            kept = self.group.part(value, like) if value.shape == like.shape else value
            state.setdefault(int(index), {})[entry] = kept
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.curve = Curve.of(_under("curve.", tensors))
        self.elapsed = float(counters["elapsed"])
        self.scaler.load_state_dict(json.loads(counters["scaler"]))
        self.group.take_generators(tensors)


def _read(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    path = checkpoints.newest_valid(folder)
    if path is None:
        return None
    try:
        with safe_open(path / _FILE, "pt") as file:
            return load_file(path / _FILE), file.metadata()
    except (SafetensorError, OSError) as err:
        raise ContractError(f"checkpoint {path} cannot be read ({err}); remove it") from err


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
