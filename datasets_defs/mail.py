"""Mail about a task that failed for good, through Airflow's own SMTP Connection."""

from typing import Any

from datasets_defs.core.settings import settings

CONNECTION = "smtp_default"
"""Airflow's Connection with the server, and with `from_email` in its extras."""
SUBJECT = "driftloop: {{ dag.dag_id }}.{{ ti.task_id }} failed"
TEXT = """
<p>Task <b>{{ ti.task_id }}</b> of DAG <b>{{ dag.dag_id }}</b> failed for good at try {{ ti.try_number }},
in run {{ run_id | e }}.</p>
<pre>{{ (exception | string)[:2000] | e }}</pre>
<p>What it was about: <code>driftloop status</code>, <code>driftloop history</code>.
<a href="{{ ti.log_url | e }}">The task's log</a></p>
"""
"""A template: what users wrote may stand in an error, and is put in by Jinja, never read as a template."""


def tell_of_failure(context: Any) -> None:
    """Send a mail about a failed task to the people in `DRIFTLOOP_MAIL_TO`; without any, do nothing.

    A mail that cannot be sent is an error in the task's log, and changes nothing else.
    """
    people = [address.strip() for address in (settings().mail_to or "").split(",") if address.strip()]
    if not people:
        return
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    SmtpNotifier(to=people, subject=SUBJECT, html_content=TEXT, smtp_conn_id=CONNECTION)(context)
