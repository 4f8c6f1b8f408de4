"""Waits in the triggerer until a PromQL result crosses a threshold."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from datasets_defs.core.errors import ContractError, TransientError
from monitors.prometheus.hook import PrometheusHook
from monitors.prometheus.threshold import Threshold


class PrometheusTrigger(BaseTrigger):
    """Polls one expression. Its arguments stand in clear in Airflow's database: a connection's id, never a secret."""

    def __init__(
        self,
        *,
        promql: str,
        operator: str,
        threshold: float,
        max_age_seconds: float,
        poll_seconds: float,
        prometheus_conn_id: str,
    ) -> None:
        super().__init__()
        self.promql = promql
        self.threshold = Threshold(operator=operator, value=threshold, max_age=timedelta(seconds=max_age_seconds))
        self.poll_seconds = poll_seconds
        self.prometheus_conn_id = prometheus_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class' path and the arguments that make it again in the triggerer."""
        return (
            f"{type(self).__module__}.{type(self).__name__}",
            {
                "promql": self.promql,
                "operator": self.threshold.operator,
                "threshold": self.threshold.value,
                "max_age_seconds": self.threshold.max_age.total_seconds(),
                "poll_seconds": self.poll_seconds,
                "prometheus_conn_id": self.prometheus_conn_id,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the threshold is crossed. Prometheus being away is waited out; a wrong query ends it at once."""
        hook = PrometheusHook(self.prometheus_conn_id)
        while True:
            try:
                client, now = await hook.aclient(), datetime.now(UTC)
                samples = await client.aquery(self.promql, at=now)
                sample = self.threshold.crossed_by(samples, await client.afreshness(self.promql, at=now))
            except TransientError as err:
                self.log.warning("%s; asking again in %s s", err, self.poll_seconds)
            except ContractError as err:
                yield TriggerEvent({"status": "error", "message": str(err)})
                return
            else:
                if sample is not None:
                    yield TriggerEvent({"status": "crossed", "value": sample.value, "labels": sample.labels})
                    return
            await asyncio.sleep(self.poll_seconds)
