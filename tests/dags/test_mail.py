"""A mail about a failed task arrives at a real SMTP server, and only where somebody is to get one."""

from email import message_from_bytes
from email.policy import default

import pytest
from aiosmtpd.controller import Controller

from datasets_defs.core.settings import settings
from ops.stack.ports import free_port
from tests.dags.test_dag_runs import airflow_database, run  # noqa: F401 fixtures

BROKEN = "name: first\nbase_model: ['{{ 7 * 7 }}<b>'"


class Letters:
    """Keeps what a server is sent."""

    def __init__(self) -> None:
        self.received: list = []

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802  the library's name
        self.received.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch):
    """A real SMTP server on this machine, as Airflow's Connection names it; gives what it received."""
    kept, port = Letters(), free_port()
    server = Controller(kept, hostname="127.0.0.1", port=port)
    server.start()
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_DEFAULT",
        f"smtp://127.0.0.1:{port}?disable_ssl=true&disable_tls=true&from_email=loop%40example.com",
    )
    yield kept.received
    server.stop()


@pytest.mark.slow
def test_a_failed_task_sends_one_mail(run, home, letters: list, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    """Each task that failed for good is one mail with DAG, task and error, which is shown as text."""
    (home / "models" / "first.yaml").write_text(BROKEN)
    assert "failed" in run("watch_gpu").values()
    assert letters == []

    monkeypatch.setenv("DRIFTLOOP_MAIL_TO", "ann@example.com, ops@example.com")
    settings.cache_clear()
    states = run("watch_gpu")
    failed = [name for name, state in states.items() if state == "failed"]
    assert len(letters) == len(failed) > 0
    people, letter = letters[0]
    assert people == ["ann@example.com", "ops@example.com"]
    assert letter["subject"] == "driftloop: watch_gpu.judge failed"
    assert letter["from"] == "loop@example.com"
    text = letter.get_body(("html",)).get_content()
    assert "first.yaml" in text
    assert "['49" not in text
    assert "<b>'" not in text
