"""A small Llama and adapters of it, as trainings leave them: version 1 is the base, 2 and 3 are adapters for it."""

from dataclasses import replace
from pathlib import Path

from tests.training.other_base import tiny_llama
from training.fit.ends import begin_from, leave
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan
from training.registry.manifest import make_manifest

MODEL = "adapted"
TEXTS = [f"The loop asks server {n} which version it has loaded." for n in range(40)]
OTHER = {2: ["def mean(values): return sum(values) / len(values)"] * 40, 3: ["Dear customer, thank you for it."] * 40}
PLAN = FitPlan(
    epochs=4, learning_rate=2e-2, batch_tokens=256, max_seconds=60, checkpoint_seconds=60, method="lora", rank=8,
    alpha=32, embeddings=False, merge=False,
)  # fmt: skip


def adapted(home: Path) -> dict[int, Path]:
    """Make the three, each where the cache would have it; sizes are some that vLLM's CPU build takes."""
    made = {1: tiny_llama(home / "v1", [*TEXTS, *OTHER[2][:1], *OTHER[3][:1]], seconds=2, width=64, heads=2)}
    make_manifest(made[1])
    for number, texts in OTHER.items():
        made[number] = adapter_of_rank(made[1], home / f"v{number}", texts, rank=PLAN.rank)
    return made


def adapter_of_rank(base: Path, folder: Path, texts: list[str], *, rank: int, name: str = MODEL) -> Path:
    """Train an adapter of a base and lay it where it is asked for."""
    plan = replace(PLAN, rank=rank)
    model = begin_from(base, plan)
    fine_tune(model, texts, plan, folder.with_name(f"{folder.name}-checkpoints"))
    leave(model, folder, plan, name=name, parent=1, source=base)
    make_manifest(folder)
    return folder
