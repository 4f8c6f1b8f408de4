"""Watch the GPUs that serve a model: the `gpu` signals of its spec."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.conditions import Outcome
from monitors.prometheus import PrometheusClient
from monitors.signals import watch_signals


def watch(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient, actor: str) -> Outcome:
    """Judge the model's GPU signals over the newest window; a confirmed bad one rings triage."""
    return watch_signals("gpu", model, until=until, db=db, prometheus=prometheus, actor=actor)
