"""Watch the GPUs that serve a model: the `gpu` signals of its spec."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import GPU_CAPACITY, beat
from datasets_defs.store.verdicts import save_verdict
from monitors.incidents.turns import in_order
from monitors.prometheus import signals
from monitors.prometheus.client import PrometheusClient
from monitors.prometheus.gpu_capacity import free_gpus, total_gpus
from monitors.verdicts.conclude import conclude


def watch(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient, actor: str) -> Outcome:
    """Judge the model's GPU signals over the windows that are due; a confirmed bad one rings triage.

    How many GPUs there are is noted, too: how many are free for the governor of retraining, how many work for the pool.

    Raises:
        ContractError: the model's spec is wrong.
        TransientError: PostgreSQL is away, or another run is judging this model's windows.
    """
    beat(db, GPU_CAPACITY, {"free": free_gpus(prometheus, at=until), "total": total_gpus(prometheus, at=until)})
    spec = spec_of(model)
    confirm = {f"gpu:{signal.name}": signal.confirm for signal in spec.gpu}

    def judge(window: Window, champion: Champion | None) -> Sequence[Verdict]:
        return signals.assess("gpu", spec, champion, window, db=db, prometheus=prometheus)

    def judge_as_on_time(window: Window, champion: Champion | None) -> Outcome:
        verdicts = judge(window, champion)
        return conclude(verdicts, confirm, blind_after=spec.blind_after_windows, db=db, actor=actor)

    def fill_in(window: Window, champion: Champion | None) -> None:
        for verdict in judge(window, champion):
            save_verdict(db, verdict)

    return in_order("watch_gpu", model, judge_as_on_time, fill_in, until=until, db=db, actor=actor)
