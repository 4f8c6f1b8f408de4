"""Rows completed by our own serving application, on a real port: bad ones are named, the log keeps them apart."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from tests.serving.batches.conftest import Batches
from tests.serving.conftest import Running
from tests.waiting import wait_for


@pytest.fixture
def served(batches: Batches, running: Running, monkeypatch: pytest.MonkeyPatch, home: Path) -> Batches:
    """The model with its own server, version 1 loaded."""
    monkeypatch.setenv("DRIFTLOOP_SERVING_URL", running.url)
    settings.cache_clear()
    return batches


def test_rows_are_logged_apart_from_live_traffic(served: Batches, running: Running, prompts: Callable[[int], list]):
    """The server knows what they cost, logs them as a stream of their own, once, and counts them apart."""
    httpx.post(
        f"{running.url}/v1/completions", json={"model": "writer", "prompt": "live"}, timeout=60
    ).raise_for_status()
    served.rows(prompts(12))
    served.spec()
    assert served.run() == ["writer|batch|1"]
    assert {row["version"] for row in served.completed()} == {1}
    assert served.completed()[0]["completion"] == "v1:prompt 000"
    wait_for(lambda: len(served.logged()) == 12)
    assert served.logged()[0] == ("prompt 000", 1, 2.0)
    wait_for(lambda: served.logged("writer") == [("live", 1, 2.0)])
    metrics = httpx.get(f"{running.url}/metrics", timeout=60).text
    assert 'driftloop_serving_requests_total{model="writer",outcome="ok"} 1.0' in metrics
    assert 'driftloop_serving_requests_total{model="writer@batch",outcome="ok"} 12.0' in metrics


def test_ten_bad_rows_are_named_and_the_others_completed(served: Batches, engine: Engine):
    """Broken, empty, nameless, repeated, too long, refused and fatal rows: none stops a batch, none is missing."""
    bad = [
        "{broken",
        '["no", "object"]',
        {"id": "no column"},
        {"id": "null", "prompt": None},
        {"id": "blank", "prompt": "   "},
        {"prompt": "no name"},
        {"id": "good 1", "prompt": "named twice"},
        {"id": "long", "prompt": "x" * 300_000},
        {"id": "context", "prompt": "y" * 90},
        {"id": "fatal", "prompt": "explode"},
    ]
    served.rows([*({"id": f"good {at}", "prompt": f"fine {at}"} for at in range(12)), *bad])
    served.spec(id="id", pace={"batch_prompts": 100})
    served.run()
    rows = served.completed()
    assert [row["fault"] for row in rows] == [None] * 12 + [
        "unreadable", "unreadable", "no_prompt", "no_prompt", "no_prompt", "no_id", "repeated_id", "no_prompt",
        "prompt_too_long", "server_error",
    ]  # fmt: skip
    assert all(row["reason"] for row in rows[12:])
    assert all(row["completion"] for row in rows[:12])
    faults = served.newest.figures["faults"]
    assert faults["no_prompt"] == 4
    assert sum(faults.values()) == 10
