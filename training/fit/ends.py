"""Where a training begins and what it leaves: whole weights, or an adapter over a base that stays."""

from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import file_sha256
from training.fit.plan import FitPlan
from training.model import adapters
from training.model.adapter_files import AdapterBase, base_folder, base_of
from training.model.language_model import LanguageModel


def begin_from(source: Path, plan: FitPlan, *, device: str | None = None) -> LanguageModel:
    """Load the version that a training starts from; one whose adapter the training keeps comes with it beside.

    Raises:
        ContractError: it cannot be loaded, or its adapter is of another shape than the plan's.
    """
    base = base_of(source)
    if base is None or plan.merge:
        return LanguageModel.load(source, device=device)
    rank, alpha = adapters.shape_of(source)
    if (rank, alpha) != (plan.rank, plan.alpha):
        raise ContractError(
            f"{base.model}: the champion is an adapter of rank {rank} and alpha {alpha:g}, and retrain.lora asks for "
            f"rank {plan.rank} and alpha {plan.alpha:g}. A training goes on with it: set those, or once `merge: true`, "
            "whose weights are the next base"
        )
    whole = LanguageModel.load(base_folder(source, base), device=device)
    adapters.put_beside(whole.network, source)
    return whole


def leave(model: LanguageModel, made: Path, plan: FitPlan, *, name: str, parent: int, source: Path) -> None:
    """Save what was trained: the whole model, or where the plan keeps adapters these, for the base of its parent."""
    if plan.merge:
        model.save(made)
        return
    base = base_of(source) or AdapterBase(name, parent, file_sha256(source / "manifest.json"))
    adapters.save(model.network, made, base)
