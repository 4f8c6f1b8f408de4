"""GPU jobs as pods, against a server that behaves as Kubernetes' API does and holds pods against its schemas."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from tests.training.gpu_jobs.parts import TaskInstance, job
from tests.training.kubernetes_server import NAMESPACE, Kubernetes, kubernetes
from tests.waiting import wait_for
from training.jobs.where import Limits, Pod


@pytest.fixture
def pods(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    """An empty cluster, to which the Airflow Connection `kubernetes_default` leads."""
    (home / "cluster").mkdir()
    with kubernetes(home / "cluster") as found:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(found.config())}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield found


class Instance(TaskInstance):
    """A task instance with what the pod's operator asks of one."""

    try_number = 1

    def xcom_push(self, **_: Any) -> None:
        """Keep nothing."""


CONTEXT: dict[str, Any] = {"ti": Instance(), "run_id": "manual__1", "dag": None, "logical_date": None}
WHERE = Pod(
    image="registry/ours:1", namespace=NAMESPACE, environment={"MINE": "yes"}, more={"node_selector": {"a": "b"}}
)


def operator(**more: Any) -> Any:
    limits = Limits(max_time=timedelta(hours=1), poll_time=timedelta(seconds=1))
    return job(program=("python", "train.py"), gpus=2, where=WHERE, limits=limits, **more)


def test_the_pod_asks_for_its_gpus(pods: Kubernetes) -> None:
    """Kubernetes accepts the pod; it asks for two GPUs, has an end, and its end is the task's."""

    def kubelet() -> None:
        name = wait_for(lambda: pods.created)[0]
        pods.starts(name)
        pods.says(name, "a line")
        pods.ends(name, 0)

    thread = threading.Thread(target=kubelet, daemon=True)
    thread.start()
    operator().execute(CONTEXT)
    thread.join()
    (name,) = pods.created
    made = pods.deleted
    assert made == [name]  # taken away when it has ended


def test_deferred_it_is_found_again(pods: Kubernetes) -> None:
    """The task that made the pod defers; another try finds the same pod and makes none."""
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            operator(deferrable=True).execute(CONTEXT)
        assert deferred.value.method_name == "trigger_reentry"
    (name,) = pods.created
    container = pods.pods[name]["spec"]["containers"][0]
    amounts = {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert container["command"][:2] == ["python", "train.py"]
    assert {"name": "MINE", "value": "yes"} in container["env"]
    assert pods.pods[name]["spec"]["activeDeadlineSeconds"] == 3600
    assert pods.pods[name]["spec"]["nodeSelector"] == {"a": "b"}
    pods.starts(name)
    pods.ends(name, 3)
    event = {"status": "failed", "name": name, "namespace": NAMESPACE, "message": "exit code 3", "stack_trace": ""}
    with pytest.raises(AirflowException, match=name):
        operator(deferrable=True).trigger_reentry(CONTEXT, event)
