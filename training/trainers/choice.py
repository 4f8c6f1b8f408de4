"""Which trainer a model has chosen."""

from sqlalchemy import Engine

from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import pod_of
from training.trainers.contract import Trainer


def trainer_of(spec: ModelSpec, db: Engine) -> Trainer:
    """Give the place where a model's trainings run; jobs on this machine use the database at `db`'s address."""
    if pod_of(spec.trainer) is not None:
        from training.trainers.kubernetes import PodTrainer

        return PodTrainer(spec)
    from training.trainers.local import DetachedTrainer

    return DetachedTrainer(db)
