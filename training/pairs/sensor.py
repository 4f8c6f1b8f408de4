"""What Airflow needs for pairs: the sensor that waits for new ones, the form of the DAG, and a take's event."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, BaseSensorOperator, Param, PokeReturnValue
from airflow.sdk.exceptions import AirflowSkipException

from datasets_defs.assets import form, loop_database
from datasets_defs.spec.pair_sets import pair_set_names
from training.pairs.due import due_sets
from training.pairs.join import Joined
from training.pairs.trigger import PairsTrigger


class PairsSensor(BaseSensorOperator):
    """Gives the names of the sets that have something to prepare; skips when `timeout` seconds brought nothing.

    Deferred it holds no worker. What was taken before is remembered, and a file that changed is new again. A run that a
    person made looks once, at the set named in its form or at all.
    """

    ui_color = "#e0f0ff"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"poke_interval": 60, "timeout": 3_300, **kwargs})

    def execute(self, context: Any) -> list[str]:
        """Look once; then wait in the triggerer."""
        chosen = (context.get("params") or {}).get("pair_set")
        names = [name for name in pair_set_names() if chosen in (None, "", name)]
        if not names:
            raise AirflowSkipException("no models/pairs/*.yaml describes a set of pairs")
        db = loop_database()
        due = due_sets(names, db, datetime.now(UTC))
        db.dispose()
        if due:
            return due
        if context["dag_run"].run_type == "manual":
            raise AirflowSkipException(f"nothing new lies in the source of {', '.join(names)}")
        self._wait(names)
        return []

    def poke(self, context: Any) -> PokeReturnValue:
        """Say whether a set has something to prepare now."""
        del context
        due = due_sets(pair_set_names(), loop_database(), datetime.now(UTC))
        return PokeReturnValue(is_done=bool(due), xcom_value=due)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> list[str]:
        """Take what the trigger saw."""
        del context
        due = list(event["due"])
        if not due:
            raise AirflowSkipException("nothing new came in time; the next run waits on")
        return due

    def _wait(self, names: Sequence[str]) -> None:
        until = datetime.now(UTC) + timedelta(seconds=self.timeout)
        self.defer(
            trigger=PairsTrigger(pair_sets=names, until=until.isoformat(), poll_seconds=self.poke_interval),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + 600),  # the trigger itself ends in time
        )


def pairs_form() -> dict[str, Param]:
    """Give the form of the pipeline that prepares pairs: which set, and why."""
    sets = Param(
        None, type=["null", "string"], enum=[None, *pair_set_names()], title="Set",
        description="For which set of pairs. Without it: all.",
    )  # fmt: skip
    return {"pair_set": sets, "reason": form()["reason"]}


def publish_take(made: Joined, asset: Asset, outlet_events: Any) -> str:
    """Ring the Asset under a take's key, `SET|NUMBER`; where nobody is to be woken, skip with the reason."""
    if made.ring is None:
        raise AirflowSkipException(made.reason)
    outlet_events[asset].add_partitions(made.ring)
    return made.reason
