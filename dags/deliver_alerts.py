"""# Deliver alerts

Turns new events of the history into messages and sends what waits to Slack. A message that cannot be sent waits on;
it never holds up the loop.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, about, every, loop_database
from datasets_defs.core.settings import settings


@dag(
    schedule=every(settings().alert_interval_seconds),
    max_active_runs=1,
    **COMMON,
    **about(__doc__),
    tags=["upkeep"],
)
def deliver_alerts():
    @task
    def deliver():
        from alerts.deliver_alerts import deliver_alerts

        return deliver_alerts(loop_database())

    deliver()


deliver_alerts()
