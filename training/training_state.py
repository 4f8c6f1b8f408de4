"""What a training needs to go on as if it had never been killed: its state, written to and read from a checkpoint."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from datasets_defs.errors import ContractError
from training import checkpoints
from training.curve import Curve

log = logging.getLogger(__name__)
_FILE = "state.safetensors"


@dataclass(slots=True)
class State:
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
        """Keep the state as a checkpoint."""
        tensors = {f"model.{name}": value.detach().contiguous() for name, value in self.trainable.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in state.items()}
        tensors |= {f"curve.{name}": value for name, value in self.curve.tensors().items()}
        tensors["rng.cpu"] = torch.get_rng_state()  # dropout, where a model has it, draws from the global generator
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        counters = {"elapsed": repr(self.elapsed), "scaler": json.dumps(self.scaler.state_dict())}
        checkpoints.save(folder, self.step, lambda to: save_file(tensors, to / _FILE, metadata=counters))

    def resume(self, folder: Path) -> bool:
        """Go on from the newest valid checkpoint of the folder; False when there is none.

        Raises:
            ContractError: it is what was written, and cannot be read.
        """
        path = checkpoints.newest_valid(folder)
        if path is None:
            return False
        try:
            tensors = load_file(path / _FILE)
            with safe_open(path / _FILE, "pt") as file:
                counters = file.metadata()
        except (SafetensorError, OSError) as err:
            raise ContractError(f"checkpoint {path} cannot be read ({err}); remove it") from err
        self._take(tensors, counters)
        log.info("resumed at step %d from %s", self.step, path)
        return True

    def _take(self, tensors: dict[str, torch.Tensor], counters: dict[str, str]) -> None:
        with torch.no_grad():
            for name, weight in self.trainable.items():
                weight.copy_(tensors[f"model.{name}"])
        self.best = _under("best.", tensors)
        state: dict[int, dict[str, Any]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, entry = name.partition(".")
            state.setdefault(int(index), {})[entry] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.curve = Curve.of(_under("curve.", tensors))
        self.elapsed = float(counters["elapsed"])
        self.scaler.load_state_dict(json.loads(counters["scaler"]))
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng.cuda"])


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
