"""A sensor for users' own DAGs: waits until a PromQL result crosses a threshold."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException

from datasets_defs.core.errors import ContractError, TransientError
from monitors.prometheus.hook import PrometheusHook
from monitors.prometheus.threshold import Threshold
from monitors.prometheus.trigger import PrometheusTrigger


class PrometheusSensor(BaseSensorOperator):
    """Succeeds when any series of `promql` is `operator` `threshold`; gives `{"value": …, "labels": …}` as XCom.

    Samples older than `max_age`, missing ones and NaN cross nothing. While Prometheus is away the sensor goes on
    waiting, until its `timeout`; a query that Prometheus refuses fails the task at once, without retries. Deferred
    (the default) it holds no worker while it waits; `poke_interval` is how often it asks.
    """

    template_fields: ClassVar[Sequence[str]] = ("promql",)
    ui_color = "#f9e3d0"

    def __init__(
        self,
        *,
        promql: str,
        operator: str = ">",
        threshold: float,
        max_age: timedelta = timedelta(minutes=5),
        prometheus_conn_id: str = PrometheusHook.default_conn_name,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        Threshold(operator=operator, value=threshold, max_age=max_age)  # refuses nonsense when the DAG is read
        self.promql = promql
        self.operator = operator
        self.threshold = threshold
        self.max_age = max_age
        self.prometheus_conn_id = prometheus_conn_id
        self.deferrable = deferrable

    def execute(self, context: Any) -> Any:
        """Ask once; then wait in the triggerer, or here when not deferrable."""
        if not self.deferrable:
            return super().execute(context)
        first = self.poke(context)
        if first:
            return first.xcom_value
        self.defer(
            trigger=PrometheusTrigger(
                promql=self.promql,
                operator=self.operator,
                threshold=self.threshold,
                max_age_seconds=self.max_age.total_seconds(),
                poll_seconds=self.poke_interval,
                prometheus_conn_id=self.prometheus_conn_id,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
        return None

    def poke(self, context: Any) -> PokeReturnValue:
        """Ask Prometheus now."""
        del context
        threshold, now = (
            Threshold(operator=self.operator, value=self.threshold, max_age=self.max_age),
            datetime.now(UTC),
        )
        try:
            client = PrometheusHook(self.prometheus_conn_id).client()
            samples = client.query(self.promql, at=now)
            sample = threshold.crossed_by(samples, client.freshness(self.promql, at=now))
        except TransientError as err:
            self.log.warning("%s; asking again", err)
            return PokeReturnValue(is_done=False)
        except ContractError as err:
            raise AirflowFailException(str(err)) from err
        if sample is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value={"value": sample.value, "labels": sample.labels})

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Take the trigger's event: the value that crossed, or why waiting longer is no use."""
        del context
        if event["status"] != "crossed":
            raise AirflowFailException(str(event["message"]))
        return {"value": event["value"], "labels": event["labels"]}
