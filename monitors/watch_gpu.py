"""Watch the GPUs that serve a model: the `gpu` signals of its spec."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import GPU_CAPACITY, beat
from monitors.prometheus import signals
from monitors.prometheus.client import PrometheusClient
from monitors.prometheus.gpu_capacity import free_gpus, total_gpus
from monitors.verdicts.conclude import conclude, judged_window


def watch(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient, actor: str) -> Outcome:
    """Judge the model's GPU signals over the newest window; a confirmed bad one rings triage.

    How many GPUs there are is noted, too: how many are free for the governor of retraining, how many work for the pool.

    Raises:
        ContractError: the model's spec is wrong.
        TransientError: PostgreSQL is away.
    """
    beat(db, GPU_CAPACITY, {"free": free_gpus(prometheus, at=until), "total": total_gpus(prometheus, at=until)})
    spec, window, champion = spec_of(model), judged_window(until), Ledger(db).champion(model)
    verdicts = signals.assess("gpu", spec, champion, window, db=db, prometheus=prometheus)
    confirm = {f"gpu:{signal.name}": signal.confirm for signal in spec.gpu}
    outcome = conclude(verdicts, confirm, blind_after=spec.blind_after_windows, db=db, actor=actor)
    beat(db, f"watch_gpu:{model}", {"window": str(window)})
    return outcome
