"""vLLM: whole weights, reloaded in place from a folder of the version's own.

Needs `VLLM_SERVER_DEV_MODE=1`, which opens routes that change the server: private addresses only. A 200 proves nothing
(vllm-project/vllm#48312), so the caller asks for the label and probes. The order is theirs: pause and drain, reload,
label, drop caches, resume.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from training.servers.http import asked
from training.servers.seam import LOADING, Version

_HINT = "start vLLM with VLLM_SERVER_DEV_MODE=1, on a private address"
_UNTOLD = "default"
"""The label of a vLLM that was told of no version."""


class Vllm:
    """One process of vLLM that serves one model under one name."""

    def __init__(self, url: str, name: str, *, seconds: float, key: str | None = None) -> None:
        self.where, self.is_later = url, False
        self._name = name
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(seconds, connect=3), headers=headers)

    def loaded(self) -> str | None:
        """Give the label of the weights, and let go of a pause that a run left which was killed in it."""
        answer = self._ask("GET", "/weight_info")
        label = answer.get("weight_version") if isinstance(answer, Mapping) else None
        if label is not None and not str(label).startswith(LOADING) and self._is_paused():
            self._ask("POST", "/resume")
        return None if label in (None, _UNTOLD) else str(label)

    def why_not(self) -> str:
        """Say nothing: it has no words for that."""
        return ""

    def load(self, version: Version) -> None:
        """Reload the weights while nobody is being answered: streams under way end first, new requests wait.

        If the reload fails, the replica stays in its pause: the caller puts back what was there, or resumes.
        """
        self._ask("POST", "/pause", params={"mode": "wait"})
        reached("swap.paused")
        self._label(LOADING + version.label)
        reached("swap.loading")
        orders = {"method": "reload_weights", "kwargs": {"weights_path": str(version.folder)}}
        self._ask("POST", "/collective_rpc", json=orders)
        reached("swap.loaded")
        self._ask("POST", "/reset_prefix_cache")
        self._label(version.label)
        reached("swap.labelled")
        self._ask("POST", "/resume")
        reached("swap.resumed")

    def resume(self) -> None:
        """Answer again."""
        self._ask("POST", "/resume")

    def hold(self) -> None:
        """Pause, with those under way broken off: their answers would be a mixture."""
        self._ask("POST", "/pause", params={"mode": "abort"})

    def score(self, tokens: Sequence[Sequence[int]]) -> list[list[float]] | None:
        """Ask for the prompts' log-probabilities (`prompt_logprobs`), all in one request."""
        prompts = [list(ids) for ids in tokens]
        request = {"model": self._name, "prompt": prompts, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        answer = self._ask("POST", "/v1/completions", json=request)
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            return [
                [
                    float(at[str(token)]["logprob"])
                    for token, at in zip(ids[1:], choice["prompt_logprobs"][1:], strict=True)
                ]
                for ids, choice in zip(prompts, choices, strict=True)
            ]
        except (KeyError, TypeError, ValueError) as err:
            raise ContractError(
                f"{self.where} gives no log-probabilities of prompts ({type(err).__name__}: {err})"
            ) from err

    def _is_paused(self) -> bool:
        answer = self._ask("GET", "/is_paused")
        return isinstance(answer, Mapping) and bool(answer.get("is_paused"))

    def _label(self, label: str) -> None:
        self._ask("POST", "/update_weight_version", json={"new_version": label})

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        return asked(self._client, method, path, hint=_HINT, **request)
