"""Watch a model's quality: what serving's metrics say of it (`quality` in its spec), and what people say (`labels`)."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import beat
from monitors.labels import judge
from monitors.prometheus import signals
from monitors.prometheus.client import PrometheusClient
from monitors.verdicts.conclude import conclude, judged_window


def watch(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient, actor: str) -> Outcome:
    """Judge the model's quality signals and labels over the newest window; a confirmed bad one rings triage.

    Raises:
        ContractError: the model's spec is wrong.
        TransientError: PostgreSQL is away.
    """
    spec, window, champion = spec_of(model), judged_window(until), Ledger(db).champion(model)
    verdicts = [
        *signals.assess("quality", spec, champion, window, db=db, prometheus=prometheus),
        *judge.judge(spec, champion, window, db=db),
    ]
    confirm = {
        **{f"quality:{signal.name}": signal.confirm for signal in spec.quality},
        **{f"label:{label.name}": label.confirm for label in spec.labels},
    }
    outcome = conclude(verdicts, confirm, blind_after=spec.blind_after_windows, db=db, actor=actor)
    beat(db, f"watch_quality:{model}", {"window": str(window)})
    return outcome
