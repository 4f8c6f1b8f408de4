"""Parts of a running stack are gone for five minutes: nothing is taken for health or for harm, and all comes back."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ops.demo.pace import measured
from ops.demo.texts import MODEL, passages
from ops.demo.traffic import Traffic
from ops.stack.layout import Layout
from ops.stack.supervision import Supervisor
from tests.stack import Stack, new_stack
from tests.waiting import wait_for

OUTAGE_SECONDS = 300
RECOVERY_SECONDS = 240
LOG, PROMETHEUS = ("data", "drift", "loss"), ("quality:", "gpu:")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(OUTAGE_SECONDS + 2 * RECOVERY_SECONDS + 120)]


def newest(stack: Stack) -> dict[str, tuple[datetime, str]]:
    """Give each signal's newest window and its condition."""
    rows = stack.ask("SELECT DISTINCT ON (signal) signal, window_end, condition FROM verdict "
                     "WHERE signal <> 'drift_report' ORDER BY signal, window_end DESC")  # fmt: skip
    return {signal: (end, condition) for signal, end, condition in rows}


def wait_until_all_ok(stack: Stack, since: datetime) -> None:
    """Wait until every signal was OK in a window that ended after a time."""
    verdicts: dict[str, tuple[datetime, str]] = {}

    def all_ok() -> bool:
        verdicts.update(newest(stack))
        return bool(verdicts) and all(end > since and condition == "OK" for end, condition in verdicts.values())

    wait_for(all_ok, lambda: f"OK again: {verdicts}", seconds=RECOVERY_SECONDS, every=1)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack with ordinary traffic, its windows as long as the demo's."""
    with new_stack() as stack:
        pace = measured()
        stack.environment |= pace.settings
        started = stack.command("up", timeout=600)
        assert started.returncode == 0, started.stdout + started.stderr
        url = stack.setting("DRIFTLOOP_SERVING_URL")
        assert url is not None
        traffic = Traffic(url=url, model=MODEL, per_second=pace.requests_per_second, seed=1)
        traffic.switch_to(passages("documentation"))
        traffic.start()
        try:
            yield stack
        finally:
            traffic.stop()


@pytest.mark.parametrize(
    ("victims", "blind"),
    [
        pytest.param(("prometheus",), PROMETHEUS, id="prometheus"),
        pytest.param(("gpu-simulator", "exporter"), ("gpu:",), id="exporters"),
        pytest.param(("serving",), (*LOG, "quality:"), id="the-log-writer"),
        pytest.param(("postgres",), (), id="postgres"),
    ],
)
def test_five_minutes_without(stack: Stack, victims: tuple[str, ...], blind: tuple[str, ...]):
    """What cannot be measured is NO_DATA or STALE, nothing else is anything but OK, and no incident opens."""
    wait_until_all_ok(stack, datetime.now(UTC))
    supervisor = Supervisor(Layout(stack.home))
    for victim in victims:
        supervisor.stop_component(victim)
    gone = datetime.now(UTC)
    time.sleep(OUTAGE_SECONDS)  # the outage itself
    back = datetime.now(UTC)
    for victim in victims:
        supervisor.start_component(victim)
    wait_until_all_ok(stack, back)
    verdicts = stack.ask(
        "SELECT signal, condition, window_start, window_end, reason FROM verdict "
        f"WHERE window_end > '{gone.isoformat()}' AND signal <> 'drift_report' ORDER BY window_end"
    )
    wrong = [row for row in verdicts if row[1] in ("WARN", "BAD")]
    assert wrong == []
    during = [row for row in verdicts if row[2] >= gone and row[3] <= back and row[0].startswith(blind or ("none",))]
    assert bool(during) == bool(blind)
    assert [row for row in during if row[1] not in ("NO_DATA", "STALE")] == []
    assert stack.ask("SELECT count(*) FROM incident") == [(0,)]
