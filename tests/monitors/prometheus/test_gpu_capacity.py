"""Free GPUs, counted by a real Prometheus."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitors.prometheus.client import PrometheusClient
from monitors.prometheus.gpu_capacity import free_gpus, total_gpus
from ops.stack.ports import free_port
from tests.prometheus_server import PrometheusServer, prometheus_server


@pytest.fixture
def own() -> Iterator[PrometheusServer]:
    """A Prometheus that knows no GPU of other tests."""
    with (
        tempfile.TemporaryDirectory(prefix="driftloop-test-gpus-") as folder,
        prometheus_server(Path(folder)) as server,
    ):
        yield server


def gpu(number: int, busy: float | None, used: float, *, model: str = "A100", more: str = "") -> str:
    """Write what the exporter says of one GPU with 10,000 MiB."""
    labels = f'gpu="{number}",UUID="GPU-{number}",modelName="{model}"{more}'
    lines = [f"DCGM_FI_DEV_FB_USED{{{labels}}} {used}", f"DCGM_FI_DEV_FB_FREE{{{labels}}} {10_000 - used}"]
    if busy is not None:
        lines.append(f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} {busy}")
    return "\n".join(lines)


def test_counts_what_is_idle_and_empty(own: PrometheusServer) -> None:
    """Free is what computes nothing and holds nothing; what is not known of a GPU does not make it free."""

    def free(*gpus: str) -> float | None:
        own.say("\n".join(gpus))
        return free_gpus(own.client, at=datetime.now(UTC))

    assert free() is None
    assert free(gpu(0, 0, 300, model="SIMULATED")) is None
    assert free(gpu(1, 0, 300), gpu(2, 0, 500), gpu(3, 80, 500), gpu(4, 0, 9000)) == 2
    assert free(gpu(5, 80, 500), gpu(6, None, 500)) == 0
    assert free(gpu(7, 4294967295, 500), gpu(8, 0, 9223372036854775794)) is None
    slices = [
        f'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="9",UUID="GPU-9",modelName="A100",GPU_I_ID="{n}"}} {share}\n'
        + gpu(9, None, 500, more=f',GPU_I_ID="{n}"')
        for n, share in ((1, 0.0), (2, 0.9))
    ]  # fmt: skip
    assert free(slices[0]) == 1
    assert free(*slices) == 0
    now = datetime.now(UTC)
    assert free_gpus(own.client, at=now + timedelta(minutes=4)) == 0
    own.leave()
    assert free_gpus(own.client, at=datetime.now(UTC)) is None


def test_counts_what_works(own: PrometheusServer) -> None:
    """In the total are busy GPUs, too; not those that need a reset, nor those of which something is not known."""

    def total(*lines: str) -> float | None:
        own.say("\n".join(lines))
        return total_gpus(own.client, at=datetime.now(UTC))

    def last_error(number: int, code: int) -> str:
        return f'DCGM_FI_DEV_XID_ERRORS{{gpu="{number}",UUID="GPU-{number}",modelName="A100"}} {code}'

    assert total() is None
    assert total(gpu(0, 0, 300, model="SIMULATED")) is None
    assert total(gpu(1, 0, 300), gpu(2, 90, 9000), gpu(3, None, 500)) == 2
    application, off_the_bus = last_error(4, 31), last_error(5, 79)
    assert total(gpu(4, 0, 300), application, gpu(5, 0, 300), off_the_bus) == 1
    assert total(gpu(5, 0, 300), off_the_bus) == 0


def test_nobody_to_ask() -> None:
    """Without Prometheus it is not known."""
    nobody = PrometheusClient(f"http://127.0.0.1:{free_port()}")
    assert free_gpus(nobody, at=datetime.now(UTC)) is None
    assert total_gpus(nobody, at=datetime.now(UTC)) is None
