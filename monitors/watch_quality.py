"""Watch a model's quality: what serving's metrics say of it (`quality` in its spec), and what people say (`labels`)."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.spec.files import spec_of
from datasets_defs.store.verdicts import save_verdict
from monitors.incidents.turns import in_order
from monitors.labels import judge as labels
from monitors.prometheus import signals
from monitors.prometheus.client import PrometheusClient
from monitors.verdicts.conclude import conclude


def watch(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient, actor: str) -> Outcome:
    """Judge the model's quality signals and labels over the windows that are due; a confirmed bad one rings triage.

    Raises:
        ContractError: the model's spec is wrong.
        TransientError: PostgreSQL is away, or another run is judging this model's windows.
    """
    spec = spec_of(model)
    confirm = {
        **{f"quality:{signal.name}": signal.confirm for signal in spec.quality},
        **{f"label:{label.name}": label.confirm for label in spec.labels},
    }

    def judge(window: Window, champion: Champion | None) -> list[Verdict]:
        return [
            *signals.assess("quality", spec, champion, window, db=db, prometheus=prometheus),
            *labels.judge(spec, champion, window, db=db),
        ]

    def judge_as_on_time(window: Window, champion: Champion | None) -> Outcome:
        verdicts = judge(window, champion)
        return conclude(verdicts, confirm, blind_after=spec.blind_after_windows, db=db, actor=actor)

    def fill_in(window: Window, champion: Champion | None) -> None:
        for verdict in judge(window, champion):
            save_verdict(db, verdict)

    return in_order("watch_quality", model, judge_as_on_time, fill_in, until=until, db=db, actor=actor)
