"""Watch the GPUs that serve a model: the `gpu` signals of its spec."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.conditions import Outcome
from datasets_defs.records import GPU_CAPACITY, beat
from monitors.gpu_capacity import free_gpus
from monitors.prometheus import PrometheusClient
from monitors.signals import watch_signals


def watch(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient, actor: str) -> Outcome:
    """Judge the model's GPU signals over the newest window; a confirmed bad one rings triage.

    How many GPUs are free is noted for the governor of retraining, too.
    """
    beat(db, GPU_CAPACITY, {"free": free_gpus(prometheus, at=until)})
    return watch_signals("gpu", model, until=until, db=db, prometheus=prometheus, actor=actor)
