"""Asking a webhook for capacity, over a real connection: once for each wake-up, and what its refusals lead to."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import TransientError
from datasets_defs.core.incidents import State
from datasets_defs.store.verdicts import save_verdict
from monitors.scale_gpu import PATIENCE_WINDOWS, scale_gpu
from monitors.verdicts.conclude import judged_window
from ops.stack.ports import free_port
from tests.monitors.loop import MODEL, Loop
from tests.monitors.webhook_server import WebhookServer, webhook_server


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    """A webhook that accepts."""
    with webhook_server() as server:
        yield server


@pytest.fixture
def loop(engine: Engine, home: Path, webhook: WebhookServer) -> Loop:
    """A model whose spec names the webhook, with an open incident."""
    loop = Loop(engine, home)
    loop.spec(scale={"webhook": webhook.url})
    window = judged_window(datetime.now(UTC))
    save_verdict(engine, Verdict(
        model=MODEL, signal="gpu:utilisation_percent", window=window, condition=Condition.BAD, reason="r", method="t",
        champion_version=1,
    ))  # fmt: skip
    loop.ledger.open_incident(
        MODEL, signal="gpu:utilisation_percent", degraded_since=loop.window(0).start, reason="r",
        evidence={"score": 97.0}, actor="t",
    )  # fmt: skip
    return loop


def test_the_webhook_is_asked_with_the_wake_ups_key(loop: Loop, webhook: WebhookServer) -> None:
    """It hears the key, the model, the incident and its evidence; triage looks again some windows later."""
    key = str(loop.ledger.ring(1))
    before = datetime.now(UTC)
    outcome = scale_gpu(key, db=loop.db, actor="t")
    assert webhook.keys == [key]
    incident = loop.ledger.incident(1)
    assert webhook.bodies == [{"model": MODEL, "incident": 1, "evidence": incident.evidence}]
    assert incident.evidence
    assert incident.state is State.OPEN
    assert incident.not_before is not None
    assert incident.not_before >= before + PATIENCE_WINDOWS * loop.length
    assert "asked 127.0.0.1 for more capacity" in outcome.reason


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_request_that_is_repeated_has_the_same_key(loop: Loop, webhook: WebhookServer, status: int) -> None:
    """A webhook that is overloaded is asked again under the same key, so that it adds capacity once."""
    key = str(loop.ledger.ring(1))
    webhook.status = status
    events = loop.kinds()
    with pytest.raises(TransientError, match=f"answered {status}"):
        scale_gpu(key, db=loop.db, actor="t")
    assert loop.kinds() == events
    webhook.status = 202
    scale_gpu(key, db=loop.db, actor="t")
    assert webhook.keys == [key, key]
    assert webhook.granted == 1


def test_another_wake_up_has_another_key(loop: Loop, webhook: WebhookServer) -> None:
    """Capacity that is still short when triage looks again is asked for anew, under a key of its own."""
    for _ in range(2):
        scale_gpu(str(loop.ledger.ring(1)), db=loop.db, actor="t")
    assert webhook.granted == 2


def test_a_webhook_that_refuses_calls_a_person(loop: Loop, webhook: WebhookServer) -> None:
    """Capacity that is refused will be refused again: a person hears of it, with what the webhook said."""
    webhook.status, webhook.answer = 403, "the quota is used up"
    outcome = scale_gpu(str(loop.ledger.ring(1)), db=loop.db, actor="t")
    assert "refused with 403: the quota is used up" in outcome.reason
    assert loop.ledger.incident(1).state is State.ESCALATED
    assert "the quota is used up" in loop.ledger.events(MODEL)[-1].reason


def test_a_webhook_that_is_away_is_asked_again(loop: Loop) -> None:
    """Nobody listens: the task is retried, and the incident is as it was."""
    loop.spec(scale={"webhook": f"http://127.0.0.1:{free_port()}/ask"})
    with pytest.raises(TransientError, match="is not reachable"):
        scale_gpu(str(loop.ledger.ring(1)), db=loop.db, actor="t")
    assert loop.ledger.incident(1).state is State.OPEN
    assert loop.ledger.incident(1).not_before is None
