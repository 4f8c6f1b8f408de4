"""Trainings as pods, against a server that behaves as Kubernetes' API does: one pod per job, whatever happens."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import Incident
from datasets_defs.core.settings import ROOT
from datasets_defs.spec.model import ModelSpec
from tests.training.jobs import DONE, INCIDENT, RESULT, script
from tests.training.kubernetes_server import NAMESPACE, TOKEN, Fault, Kubernetes, kubernetes
from tests.waiting import wait_for
from training.trainers import kubernetes as kubernetes_trainer
from training.trainers import watch as watching
from training.trainers.contract import Ending, Job, JobResult, Look, Phase
from training.trainers.kubernetes import PodTrainer
from training.trainers.watch import watch

JOB = Job(model="m", incident_id=7, attempt=1)
POD = "driftloop-m-7-1"
WATCHER = """
import sys
from tests.training.jobs import INCIDENT, script
from tests.training.trainers.test_kubernetes import trainer
from training.trainers.watch import watch

watch(trainer(), script(sys.argv[1]),
      hold=lambda: print("holds", flush=True), incident=lambda: INCIDENT)
"""


def spec_of(**fields: Any) -> ModelSpec:
    where = {"kind": "kubernetes", "image": "here", "namespace": NAMESPACE, "gpus": 0, "claim": "kept", **fields}
    return ModelSpec.model_validate(
        {"name": "m", "base_model": {}, "training_text": "builtin:python-docs", "trainer": where}
    )


def trainer(*, away_seconds: float = 600.0, **fields: Any) -> PodTrainer:
    return PodTrainer(spec_of(**fields), look_seconds=0.0, away_seconds=away_seconds)


@pytest.fixture
def cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    """An empty cluster, to which the Airflow Connection `kubernetes_default` leads."""
    (home / "cluster").mkdir()
    with kubernetes(home / "cluster") as found:
        found.secrets["driftloop"] = {"DRIFTLOOP_ARTIFACT_ROOT": f"file://{home}/artifacts"}
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(found.config())}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        monkeypatch.setattr(kubernetes_trainer, "GONE_SECONDS", 2.0)
        monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
        yield found


def watched(by: PodTrainer, job: Job = JOB, incident: Incident = INCIDENT) -> JobResult:
    return watch(by, job, hold=lambda: None, incident=lambda: incident)


def test_one_pod_however_often_it_is_asked_for(cluster: Kubernetes):
    """Submitted twice, by two who know nothing of each other, at once: the name lets one in."""
    first, second = trainer(), trainer()
    assert first.look(JOB).phase is Phase.ABSENT
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda by: by.submit(JOB), (first, second)))
    first.submit(JOB)
    assert cluster.created == [POD]
    cluster.starts(POD)
    second.submit(JOB)
    assert (first.look(JOB).phase, second.look(JOB).phase) == (Phase.RUNNING, Phase.RUNNING)
    assert (cluster.created, cluster.deleted) == ([POD], [])


def test_an_answer_that_is_lost(cluster: Kubernetes):
    """The pod was made, and nobody heard of it: the next try finds it."""
    cluster.faults.append(Fault("POST", done=True))
    with pytest.raises(TransientError, match=r"namespace models.*making pod driftloop-m-7-1: does not answer"):
        trainer().submit(JOB)
    trainer().submit(JOB)
    assert cluster.created == [POD]


def test_who_watches_may_die(cluster: Kubernetes, home: Path):
    """Killed by SIGKILL while the pod works, who watches next takes the pod's result: one pod was ever made."""
    cluster.runs_pods = True
    job = script(
        f"import pathlib, time; print('begun', flush=True)\n"
        f"while not pathlib.Path('{home}/go').exists(): time.sleep(0.05)\n{DONE}"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WATCHER, job.code],
        stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    assert watcher.stdout is not None
    wait_for(lambda: cluster.logs.get(POD))
    os.killpg(watcher.pid, signal.SIGKILL)
    watcher.wait()
    by = trainer()
    assert by.look(job).phase is Phase.RUNNING
    assert by.said(job) == ["begun"]
    (home / "go").touch()
    assert watched(by, job) == RESULT
    assert cluster.created == [POD]
    assert cluster.pods == {}  # its result is taken, so it is taken away


def test_an_api_that_is_away(cluster: Kubernetes):
    """While nobody can be asked the pod counts as it was last seen, and says since when; not for ever."""
    by = trainer()
    by.submit(JOB)
    cluster.starts(POD)
    assert by.look(JOB).phase is Phase.RUNNING
    for code in (429, 500, 503, 401, 403, None):
        cluster.faults.append(Fault("GET", code, times=4))  # the client itself tries a lost connection four times
        look = by.look(JOB)
        assert (look.phase, "not known since" in look.reason) == (Phase.RUNNING, True), code
        cluster.faults.clear()
    cluster.down = True
    assert by.look(JOB).active
    with pytest.raises(TransientError, match="does not answer"):
        trainer(away_seconds=0).look(JOB)
    cluster.down = False
    assert by.look(JOB).reason.startswith("the pod runs")
    by._away_seconds = -1.0
    cluster.down = True
    with pytest.raises(TransientError, match="does not answer"):
        by.look(JOB)
    cluster.down = False
    assert (cluster.created, cluster.deleted) == ([POD], [])


def test_a_watch_that_outlives_an_outage(cluster: Kubernetes):
    """The API goes away under a watch and comes back; the job's end is found, and one pod was made."""
    by = trainer()
    with ThreadPoolExecutor(1) as threads:
        watching_it = threads.submit(watched, by)
        wait_for(lambda: cluster.pods)
        cluster.starts(POD)
        wait_for(lambda: watching_it.done() or (by._last is not None and by._last.phase is Phase.RUNNING))
        assert not watching_it.done(), watching_it.result()
        cluster.down = True
        wait_for(lambda: watching_it.done() or "not known since" in by._last.reason)
        assert not watching_it.done(), watching_it.result()
        RESULT.save(JOB)
        cluster.ends(POD, 0)
        cluster.down = False
        assert watching_it.result(timeout=60) == RESULT
    assert cluster.created == [POD]


def test_slow_answers_are_answers(cluster: Kubernetes):
    """An API server that takes its time is waited for."""
    cluster.faults.append(Fault("GET", seconds=1.5, only_slow=True))
    by = trainer()
    by.submit(JOB)
    assert by.look(JOB) == Look(Phase.WAITING, "the pod waits for the scheduler")


def test_a_pod_that_somebody_deleted(cluster: Kubernetes):
    """It is gone without a result, which is said; the next try makes it anew."""
    by = trainer()
    by.submit(JOB)
    cluster.starts(POD)
    cluster.remove(POD)
    with pytest.raises(TransientError, match="somebody removed it, or its node was taken away, and left no result"):
        watch(_Submitted(by), JOB, hold=lambda: None, incident=lambda: INCIDENT)
    trainer().submit(JOB)
    assert cluster.created == [POD, POD]


class _Submitted:
    """A trainer whose job is submitted already."""

    def __init__(self, by: PodTrainer) -> None:
        self.look, self.said, self.stop = by.look, by.said, by.stop

    def submit(self, job: Job) -> None:
        """Do nothing."""


def test_a_pod_that_died_is_made_anew(cluster: Kubernetes):
    """A pod that ended without a result, or that is being taken away, makes room for the next try."""
    trainer().submit(JOB)
    cluster.evicts(POD, "The node was low on resource: memory.")
    by = trainer()
    assert by.look(JOB) == Look(Phase.ENDED, "the pod ended: Evicted: The node was low on resource: memory.")
    by.submit(JOB)
    cluster.starts(POD)
    first = cluster.pods[POD]["metadata"]["uid"]
    cluster.delete(POD, {})
    assert "taken away" in by.look(JOB).reason
    with pytest.raises(TransientError, match="removed by force"):  # after its grace: the node does not answer
        trainer().submit(JOB)
    by.submit(JOB)
    assert cluster.created == [POD] * 3
    assert cluster.pods[POD]["metadata"]["uid"] != first


@pytest.mark.parametrize(
    ("happens", "fields", "said"),
    [
        pytest.param(
            lambda cluster: cluster.ends(POD, 137, "OOMKilled"), {"memory": "8Gi"},
            "more than its 8Gi of memory and was killed: raise `trainer.memory`", id="no memory",
        ),
        pytest.param(
            lambda cluster: cluster.unschedulable(POD, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            {"queue_seconds": 0.001, "gpus": 1},
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.; free some", id="no node",
        ),
    ],
)  # fmt: skip
def test_what_has_no_hope_calls_people(cluster: Kubernetes, happens: Callable, fields: dict, said: str):
    """It becomes the job's result, so the incident is escalated with these words, and the pod is taken away."""
    by = trainer(**fields)
    by.submit(JOB)
    happens(cluster)
    assert by.look(JOB).phase is Phase.ENDED
    result = JobResult.of(JOB)
    assert result is not None
    short = "of memory and was killed" in result.message
    assert (result.ending, said in result.message) == (Ending.OUT_OF_MEMORY if short else Ending.CONTRACT, True)
    assert cluster.pods == {}
    assert watched(trainer(**fields)) == result
    assert cluster.created == [POD]


def test_no_node_is_said_while_there_is_hope(cluster: Kubernetes):
    """A pod that waits says for what; it is not removed, and nothing is decided."""
    by = trainer(gpus=1)
    by.submit(JOB)
    cluster.unschedulable(POD, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    words = "no node takes the pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    assert by.look(JOB) == Look(Phase.WAITING, words)
    cluster.waits(POD, "ImagePullBackOff", 'Back-off pulling image "here"')
    assert by.look(JOB).reason == 'the pod\'s container cannot be made: ImagePullBackOff: Back-off pulling image "here"'
    assert (JobResult.of(JOB), cluster.deleted) == (None, [])


@pytest.mark.parametrize(
    ("fault", "fields", "said"),
    [
        pytest.param(
            Fault("POST", 403, "pods is forbidden"), {}, r"refused \(403\): pods is forbidden", id="forbidden"
        ),
        pytest.param(Fault("POST", 401, "Unauthorized"), {}, r"refused \(401\)", id="unknown"),
        pytest.param(None, {"namespace": "nowhere"}, r'\(404\): namespaces "nowhere" not found', id="no namespace"),
        pytest.param(None, {"labels": {"team": "-"}}, r"refused \(422\): Pod is invalid", id="invalid"),
    ],
)
def test_a_refusal_calls_people(cluster: Kubernetes, fault: Fault | None, fields: dict, said: str):
    """A pod that the cluster will never take is said with Connection and namespace; nothing is tried for ever."""
    cluster.faults += [fault] if fault else []
    result = watched(trainer(**fields))
    assert result.ending is Ending.CONTRACT
    assert result.message.startswith("Kubernetes (Connection kubernetes_default, namespace ")
    assert re.search(said, result.message), result.message


def test_a_quota_that_is_used_up_is_waited_for(cluster: Kubernetes):
    """The pod is made once there is room."""
    quota = 'pods "x" is forbidden: exceeded quota: gpus, requested: 1, used: 8, limited: 8'
    cluster.faults.append(Fault("POST", 403, quota, times=2))
    by = trainer()
    by.submit(JOB)
    assert by.look(JOB) == Look(Phase.WAITING, f"the namespace's quota is used up: {quota}")
    assert by.look(JOB).phase is Phase.WAITING
    assert by.look(JOB) == Look(Phase.WAITING, "the pod waits for the scheduler")
    assert cluster.created == [POD]


def test_each_line_is_told_once(cluster: Kubernetes):
    """The log's new lines come with each look; who begins to watch sees the newest few; an unreadable log is none."""
    by = trainer()
    by.submit(JOB)
    by.look(JOB)
    assert by.said(JOB) == []  # it has not begun: the API says 400
    cluster.starts(POD)
    cluster.says(POD, *(f"line {number}" for number in range(50)))
    by.look(JOB)
    assert by.said(JOB) == [f"line {number}" for number in range(30, 50)]
    assert by.said(JOB) == []
    cluster.says(POD, "one", "two")
    by.look(JOB)
    assert by.said(JOB) == ["one", "two"]
    by.look(JOB)
    assert by.said(JOB) == []


def test_looks_are_spared(cluster: Kubernetes):
    """However often it is asked, the API server hears of it every few seconds."""
    by = PodTrainer(spec_of())
    by.submit(JOB)
    before = len(cluster.requests)
    for _ in range(50):
        by.look(JOB)
        by.said(JOB)
    assert len(cluster.requests) - before == 2


def test_a_job_that_is_stopped(cluster: Kubernetes):
    """Its process is gone when `stop` returns; what is not there is stopped already."""
    cluster.runs_pods = True
    by = trainer()
    job = script("import time; print('begun', flush=True); time.sleep(600)")
    by.stop(job)
    by.submit(job)
    wait_for(lambda: cluster.logs.get(POD))
    process = cluster.processes[POD]
    by.stop(job)
    assert process.poll() == -signal.SIGTERM
    assert by.look(job).phase is Phase.ABSENT


def test_what_earlier_attempts_left_goes(cluster: Kubernetes):
    """A model's new job removes the pods of its earlier ones, and nobody else's."""
    earlier = replace(JOB, attempt=0)
    trainer().submit(earlier)
    other = PodTrainer(ModelSpec.model_validate({**spec_of().model_dump(exclude_unset=True), "name": "n"}))
    other.submit(Job(model="n", incident_id=8, attempt=1))
    trainer().submit(JOB)
    assert sorted(cluster.pods) == [POD, "driftloop-n-8-1"]


def test_another_pod_of_that_name(cluster: Kubernetes):
    """A pod that is not a training of this model is neither watched nor removed."""
    trainer().submit(JOB)
    cluster.pods[POD]["metadata"]["labels"]["driftloop/model"] = "another"
    with pytest.raises(ContractError, match="is not a training of m"):
        trainer().submit(JOB)
    assert cluster.deleted == []


@pytest.mark.parametrize(
    "extra", [{"kube_config_path": "/nowhere/config"}, {"kube_config_path": "/x", "in_cluster": True}]
)
def test_a_connection_that_leads_nowhere(extra: dict, home: Path, monkeypatch: pytest.MonkeyPatch):
    """It is named."""
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    with pytest.raises(ContractError, match="Connection 'elsewhere' leads to no Kubernetes cluster"):
        trainer(connection="elsewhere").look(JOB)


def test_a_new_token_is_taken(cluster: Kubernetes):
    """Once the Connection has another token, the same watch goes on with it."""
    by = trainer()
    by.submit(JOB)
    by.look(JOB)
    config = yaml.safe_load(cluster.config("an-old-one").read_text())
    assert config["users"][0]["user"]["token"] != TOKEN
    by._api = None
    assert "answered 401" in by.look(JOB).reason
    cluster.config()
    assert by.look(JOB).reason == "the pod waits for the scheduler"
