"""vLLM: LoRA adapters beside one base, each version under a name of its own that no other ever gets.

Needs `--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`, which opens routes that load files: private addresses
only. What is loaded changes nothing for those who ask for another name. A restart forgets all adapters.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from datasets_defs.core.errors import ContractError
from training.model.adapter_files import CONFIG
from training.servers.http import asked
from training.servers.probe import asked_of
from training.servers.seam import Version

AT_ONCE = 4
"""Requests of a probe that are under way together."""
_CLOSED = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, on a private address"


class VllmAdapters:
    """One process of vLLM that serves a base under one name, and adapters of it under theirs."""

    def __init__(self, url: str, name: str, *, seconds: float, key: str | None = None) -> None:
        self.where, self.base_name = url, name
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(seconds, connect=3), headers=headers)

    def names(self) -> dict[str, str]:
        """Give the names that it answers to, and the folder of each."""
        answer = asked(self._client, "GET", "/v1/models")
        try:
            return {str(model["id"]): str(model.get("root") or "") for model in answer["data"]}
        except (KeyError, TypeError, AttributeError) as err:
            raise ContractError(f"{self.where}/v1/models answered {str(answer)[:200]}; it must list models") from err

    def load(self, version: Version) -> None:
        """Load a version's adapter under its label.

        Raises:
            ContractError: the server refuses; the message says what to set.
            TransientError: it is away or slow.
        """
        order = {"lora_name": version.label, "lora_path": str(version.folder)}
        try:
            asked(self._client, "POST", "/v1/load_lora_adapter", json=order)
        except ContractError as err:
            if "already been loaded" in str(err):  # by a run that was killed before it could ask
                return
            raise ContractError(f"{err}; {_cure(str(err), version)}") from err

    def unload(self, label: str) -> None:
        """Let go of an adapter; one that is not there is gone already."""
        if label in self.names():
            asked(self._client, "POST", "/v1/unload_lora_adapter", json={"lora_name": label})

    def score(self, name: str, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
        """Ask under a name for the log-probability of every eighth token of prompts (`probe.asked_of`).

        Each is the only token that may follow what is before it. `prompt_logprobs` would give all in one request, and
        has ended vLLM's process where adapters are enabled: it reckons with one row of logits for each request.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:  # a server answers several in about the time of one
            asking = [[pool.submit(self._cost, name, *place) for place in asked_of(ids)] for ids in tokens]
            return [[future.result() for future in row] for row in asking]

    def _cost(self, name: str, before: Sequence[int], token: int) -> float:
        request = {
            "model": name, "prompt": list(before), "max_tokens": 1, "temperature": 0, "allowed_token_ids": [token],
            "logprobs": 0,
        }  # fmt: skip
        answer = asked(self._client, "POST", "/v1/completions", json=request)
        try:
            return float(answer["choices"][0]["logprobs"]["token_logprobs"][0])
        except (KeyError, IndexError, TypeError, ValueError) as err:
            raise ContractError(
                f"{self.where} gives no log-probability of its answer's token ({type(err).__name__}: {err})"
            ) from err


def _cure(error: str, version: Version) -> str:
    """Say what to set, by what the server said. Pure but for the adapter's rank."""
    if "max_lora_rank" in error or "LoRA rank" in error:
        rank = _rank(version)
        return f"start vLLM with --max-lora-rank {rank} or more, or lower `retrain.lora.rank` for a new base"
    if "Not Found" in error:
        return _CLOSED
    return f"see its log; {version.folder} must lie where the replica reads it under that path"


def _rank(version: Version) -> Any:
    try:
        return json.loads((version.folder / CONFIG).read_text())["r"]
    except (OSError, ValueError, KeyError):
        return "N"
