"""A server that behaves as vLLM 0.32 does where LoRA adapters come and go, with real networks behind it; simulated."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.training.servers.adapted import MODEL
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.model.adapter_files import CONFIG
from training.model.language_model import LanguageModel

MAX_RANK = 16


class SimulatedAdapters(SimulatedVllm):
    """One replica that answers for its base and for adapters by name. Restarted, it has forgotten the adapters."""

    def __init__(self, folder: Path, *, port: int = 0, bases: Path | None = None, takes: bool = True) -> None:
        self.bases, self.takes, self.reads_wrong = bases or folder.parent, takes, list[str]()
        super().__init__(folder, port=port)

    def reset(self) -> None:
        """Start anew."""
        super().reset()
        self.adapters, self.roots = dict[str, LanguageModel](), dict[str, str]()
        self.asked_for = list[str]()

    def answer(self, path: str, _query: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Do what a route does, as vLLM words it."""
        match path:
            case "/v1/models":
                start = {"id": MODEL, "root": str(self.start_folder), "parent": None}
                return 200, {"data": [start, *({"id": n, "root": r} for n, r in self.roots.items())]}
            case "/v1/load_lora_adapter" if self.takes:
                return self._load(body["lora_name"], Path(body["lora_path"]))
            case "/v1/unload_lora_adapter" if self.takes:
                self.adapters.pop(body["lora_name"]), self.roots.pop(body["lora_name"])
                return 200, "Success"
            case "/v1/completions":
                return self._by_name(body)
        return 404, {"detail": "Not Found"}

    def _by_name(self, body: dict[str, Any]) -> tuple[int, Any]:
        name, base = body["model"], self.model
        self.asked_for.append(name)
        if name not in (MODEL, *self.adapters):
            return 404, {"error": {"message": f"The model `{name}` does not exist.", "type": "NotFoundError"}}
        if "prompt_logprobs" in body:
            raise AssertionError("the real one's process ends")
        model = self.adapters.get(name, base)
        if isinstance(body["prompt"], str):
            text = model.complete(body["prompt"], max_tokens=4).text
            return 200, {"model": name, "choices": [{"index": 0, "text": text, "finish_reason": "length"}]}
        ids, (token,) = body["prompt"], body["allowed_token_ids"]
        with torch.inference_mode():
            logits = model.network(torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)
        cost = {"token_logprobs": [float(logits[token])]}
        return 200, {"model": name, "choices": [{"index": 0, "text": "", "logprobs": cost}]}

    def _load(self, name: str, folder: Path) -> tuple[int, Any]:
        if name in self.adapters:
            message = f"The lora adapter '{name}' has already been loaded."
            return 400, {"error": {"message": message, "type": "InvalidUserInput"}}
        rank = _rank(folder)
        if rank > MAX_RANK:
            message = f"LoRA rank {rank} is greater than max_lora_rank {MAX_RANK}."
            return 400, {"error": {"message": message, "type": "BadRequestError"}}
        self.reloads.append(folder.name)
        wrong = name in self.reads_wrong
        self.adapters[name] = self.model if wrong else LanguageModel.load(folder, bases=self.bases)
        self.roots[name] = str(folder)
        return 200, f"Success: LoRA adapter '{name}' added successfully."


def _rank(folder: Path) -> int:
    return int(json.loads((folder / CONFIG).read_text())["r"])
