"""`python -m training.trainers.worker`, as torchrun starts it: one of the processes that train one model together."""

import logging
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import distributed

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.settings import settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import CommandTrainer, LocalTrainer
from training.data.snapshot import stored
from training.fit.ends import begin_from, leave
from training.fit.fine_tune import fine_tune
from training.fit.group import Together
from training.fit.plan import Progress
from training.fit.trouble import OutOfMemoryError, told
from training.registry.fetch import with_base
from training.registry.registry import Registry
from training.trainers.launcher import WORK, Work, plan_from, say_ended, say_progress, say_refused
from training.trainers.torchrun import on_the_leash

log = logging.getLogger(__name__)


def main() -> int:
    """Train as one of a group; the first process writes what is written."""
    on_the_leash()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    local = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    work = _work()
    try:
        _train(work)
    except ContractError as err:
        if distributed.get_rank() == 0 or isinstance(err, OutOfMemoryError):  # the others wait for it, and say nothing
            say_refused(Path(work.folder), err)
        log.error("%s", err)  # noqa: TRY400 the message says it all
        return 1
    except DriftloopError as err:
        log.error("%s", err)  # noqa: TRY400
        return 1
    with suppress(RuntimeError):  # the others may be gone
        distributed.destroy_process_group()
    return 0


def _work() -> Work:
    """Read the group's work in its first process, and hear of it in the others."""
    shared = [asdict(Work.of(Path(os.environ[WORK])))] if distributed.get_rank() == 0 else [None]
    distributed.broadcast_object_list(shared, 0)
    return Work(**shared[0])  # type: ignore[arg-type]


def _train(work: Work) -> None:
    spec, first, folder = ModelSpec.model_validate(work.spec), distributed.get_rank() == 0, Path(work.folder)
    snapshot = stored(work.snapshot_uri)
    if snapshot is None:
        raise ContractError(f"the frozen rows {work.snapshot_uri} are not to be had here")
    sharding = "none" if isinstance(spec.trainer, LocalTrainer | CommandTrainer) else spec.trainer.sharding
    source = _parent(spec, work.parent_sha256, work.parent)
    with told(plan_from(work)):
        model = begin_from(source, plan_from(work), device="cpu" if sharding == "full" else None)
    texts, _ = snapshot.mixture(spec.retrain)

    def tell(progress: Progress) -> None:
        if first:
            say_progress(folder, progress)

    done = fine_tune(
        model, texts, plan_from(work), folder / "checkpoints", tell,
        validation=snapshot.validation, group=Together(sharding),
    )  # fmt: skip
    if first:
        made = Path(work.made)
        shutil.rmtree(made, ignore_errors=True)  # of a run that died while saving
        leave(model, made, plan_from(work), name=spec.name, parent=work.parent, source=source)
        say_ended(folder, done)


def _parent(spec: ModelSpec, sha256: str, version: int) -> Path:
    """Fetch the weights to start from; one process on each machine does, and the others find them."""
    cache, registry = settings().home / "cache", Registry(settings().mlflow_url)
    fetches = int(os.environ["LOCAL_RANK"]) == 0
    if fetches:
        with_base(registry, spec.name, version, cache, expected=sha256)
    distributed.barrier()
    return with_base(registry, spec.name, version, cache, expected=sha256)


if __name__ == "__main__":
    sys.exit(main())
