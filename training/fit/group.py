"""One training in several processes: who takes which rows, how they agree, and where the whole model is.

`Group` is a training alone, and what the training loop talks to; `Together` is one of several processes of torchrun.
The rows of a step are the same however many share them, so the loss curve is the same, too, up to rounding. With as
many processes as before it is the same to the last digit on a CPU.
"""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import distributed

from datasets_defs.core.errors import ContractError
from training.model.language_model import LanguageModel

Tensors = dict[str, torch.Tensor]


class Group:
    """A training in one process."""

    rank = 0
    size = 1

    def prepare(self, network: Any) -> tuple[Any, Any]:
        """Give the network that is trained, and what its passes are called on."""
        return network, network

    def check(self, dtype: torch.dtype | None) -> None:
        """Refuse a precision of passes that the group cannot train in."""

    def passes(self, chosen: Sequence[int], most: int) -> list[list[int]]:
        """Give this process's rows of a step, pass by pass; a pass without rows has to be made all the same."""
        return passes_of(chosen, rank=self.rank, size=self.size, most=most)

    def pass_of(self, network: Any, *, last: bool) -> AbstractContextManager[Any]:
        """Enclose one pass, forwards and backwards; with the last of a step the gradients are brought together."""
        del network, last
        return nullcontext()

    def total(self, value: float) -> float:
        """Add up a figure over all processes."""
        return value

    def agree(self, *answers: bool) -> tuple[bool, ...]:
        """Give what the first process says, to all."""
        return answers

    def cost(self, model: LanguageModel, texts: Sequence[str]) -> tuple[float, int]:
        """Give what texts cost together, in bits, and how many bytes they have; the same in all processes."""
        losses = model.losses(texts)
        return sum(loss.bits for loss in losses), sum(loss.bytes for loss in losses)

    def whole(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Give a weight whole to the first process; asked by all at once."""
        return tensor.detach().contiguous()

    def part(self, tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Give this process's part of a whole weight, split as another is."""
        del like
        return tensor

    def generators(self) -> Tensors:
        """Give the states of all processes' generators of chance, by name, to the first process."""
        return _named(0, _generators())

    def take_generators(self, tensors: Tensors) -> None:
        """Go on from this process's states, where they are known."""
        own = "" if self.rank == 0 else f".{self.rank}"
        if f"rng.cpu{own}" in tensors:
            torch.set_rng_state(tensors[f"rng.cpu{own}"])
        if f"rng.cuda{own}" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors[f"rng.cuda{own}"])

    def from_first(self, read: Callable[[], tuple[Tensors, dict[str, str]] | None]) -> Any:
        """Have the first process read something, and give it to all."""
        return read()

    def finish(self, trained: Any, network: Any) -> None:
        """Put what was learned into the network that the training began with; asked by all at once."""


class Together(Group):
    """One of several processes, each with a part of every step's rows; torchrun has started them."""

    def __init__(self, sharding: Literal["none", "full"] = "none") -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.sharding = sharding
        self.device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else _CPU

    def prepare(self, network: Any) -> tuple[Any, Any]:
        """Wrap the network in DDP, or split a copy of it among the processes (FSDP2)."""
        if self.sharding == "full":
            shards = _sharded(copy.deepcopy(network), self.device)
            return shards, shards
        network.to(self.device)
        wrapped = torch.nn.parallel.DistributedDataParallel(
            network,
            broadcast_buffers=False,
            # Else DDP sorts its buckets anew after the first step, which sums in another order: not after a kill.
            find_unused_parameters=self.device == _CPU,
        )
        return network, wrapped

    def check(self, dtype: torch.dtype | None) -> None:
        """Refuse float16 where each process sees the overflows of its own part only.

        Raises:
            ContractError: it was asked for with `sharding: full`.
        """
        if self.sharding == "full" and dtype is torch.float16:
            raise ContractError("trainer: `sharding: full` trains in bfloat16 or float32; set `retrain.precision`")

    def pass_of(self, network: Any, *, last: bool) -> AbstractContextManager[Any]:
        """Keep gradients to itself but in the last pass; split weights have no room for others' gradients."""
        if self.sharding == "full" or last:
            return nullcontext()
        quiet: AbstractContextManager[Any] = network.no_sync()
        return quiet

    def total(self, value: float) -> float:
        """Add up a figure over all processes, in 64 bits."""
        sums = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        return float(sums)

    def agree(self, *answers: bool) -> tuple[bool, ...]:
        """Give what the first process says, to all."""
        words = torch.tensor(answers, dtype=torch.uint8, device=self.device)
        distributed.broadcast(words, 0)
        return tuple(bool(word) for word in words.tolist())

    def cost(self, model: LanguageModel, texts: Sequence[str]) -> tuple[float, int]:
        """Share the texts; with split weights, whose passes need everybody, all score all, and the first one counts."""
        if self.sharding == "full":
            bits, count = super().cost(model, texts)
            model.network.reshard()  # a pass without gradients leaves the outermost weights whole, and soon stale
            return self.total(bits if self.rank == 0 else 0.0), count
        bits, count = super().cost(model, texts[self.rank :: self.size])
        return self.total(bits), round(self.total(count))

    def whole(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Gather a split weight; only the first process keeps it."""
        full = tensor.full_tensor() if _is_split(tensor) else tensor  # type: ignore[attr-defined]  # a DTensor's
        return full.detach().cpu().contiguous() if self.rank == 0 else None

    def part(self, tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Cut this process's part out of a whole weight."""
        if not _is_split(like):
            return tensor
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]  # a DTensor's
        return distribute_tensor(tensor.to(self.device), mesh, placements, src_data_rank=None)

    def generators(self) -> Tensors:
        """Gather the states of all processes' generators of chance."""
        gathered: list[Any] = [None] * self.size
        distributed.all_gather_object(gathered, _generators())
        return {name: state for rank, states in enumerate(gathered) for name, state in _named(rank, states).items()}

    def from_first(self, read: Callable[[], tuple[Tensors, dict[str, str]] | None]) -> Any:
        """Have the first process read something, and hand it out, tensor by tensor."""
        content = read() if self.rank == 0 else None
        shapes = (
            {name: (tensor.shape, tensor.dtype) for name, tensor in content[0].items()} if content is not None else None
        )
        header: list[Any] = [shapes, content[1] if content is not None else None]
        distributed.broadcast_object_list(header, 0)
        if header[0] is None:
            return None
        tensors = {}
        for name, (shape, dtype) in header[0].items():
            tensor = (
                content[0][name].to(self.device)
                if content is not None
                else torch.empty(shape, dtype=dtype, device=self.device)
            )
            distributed.broadcast(tensor, 0)
            tensors[name] = tensor.cpu()
        return tensors, header[1]

    @torch.no_grad()
    def finish(self, trained: Any, network: Any) -> None:
        """Gather split weights into the first process's network."""
        if trained is network:
            return
        into = dict(network.named_parameters())
        for name, weight in trained.named_parameters():
            whole = self.whole(weight)
            if whole is not None:
                into[name].copy_(whole)


def passes_of(chosen: Sequence[int], *, rank: int, size: int, most: int) -> list[list[int]]:
    """Share the rows of a step among `size` processes, at most `most` rows a pass; give those of one process. Pure.

    Everybody makes as many passes, so that nobody waits for one who is done: the last ones may have no rows.
    """
    mine = list(chosen[rank::size])
    count = math.ceil(math.ceil(len(chosen) / size) / most)
    return [mine[at * most : (at + 1) * most] for at in range(count)]


_CPU = torch.device("cpu")


def _sharded(network: Any, device: torch.device) -> Any:
    """Split a network's weights among all processes, block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    blocks = set(getattr(network, "_no_split_modules", None) or ())
    parts = [module for module in network.modules() if type(module).__name__ in blocks]
    for module in (*parts, network):
        fully_shard(module, mesh=mesh)
        if device == _CPU:
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no mean
    for module in (*parts, network):  # made here, and not by the first look, whose tensors could not be trained on
        module.unshard()
        module.reshard()
    return network


def _is_split(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _generators() -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_available() else states


def _named(rank: int, states: Sequence[torch.Tensor]) -> Tensors:
    own = "" if rank == 0 else f".{rank}"
    return {f"rng.{kind}{own}": state for kind, state in zip(("cpu", "cuda"), states, strict=False)}
