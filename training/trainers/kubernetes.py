"""Trainings as pods of a Kubernetes cluster: the one file that makes them.

Airflow's provider gives the client, by a Connection, and makes the pod from its description, so that a cluster's
`pod_mutation_hook` applies. Its operator does not run: its `execute` waits inside itself, and would hold no claim.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import ApiException, CoreV1Api, V1DeleteOptions, V1Preconditions
from urllib3.exceptions import HTTPError

from datasets_defs.cluster import CONFLICT, FINAL, FORBIDDEN, NOT_FOUND, TIMEOUT, UNAUTHORIZED, connect, words_of
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import OwnPodSpec, pod_of
from training.trainers.contract import Ending, Job, JobResult, Look, Phase
from training.trainers.own_pod import description_of
from training.trainers.own_pod_status import image_of, judge_own
from training.trainers.pod import CONTAINER, GRACE_SECONDS, attempt_labels, labels_of_model, pod_name
from training.trainers.pod_log import LogReading
from training.trainers.pod_status import PodStanding, judge

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
"""Between two looks at a pod, however often somebody asks: a training lasts hours."""
AWAY_SECONDS = 600.0
"""How long a pod that was seen is taken to be as it was while the API server cannot be asked."""
GONE_SECONDS = GRACE_SECONDS + 60.0
"""How long a pod may take to stop before it is removed by force; locks and fencing keep a lost node's trainer out."""


def pods_of(connection: str) -> CoreV1Api:
    """Give the client of the cluster that an Airflow Connection names, for pods.

    Raises:
        ContractError: there is no such Connection, or it leads nowhere.
    """
    return CoreV1Api(connect(connection))


class PodTrainer:
    """Trains jobs as pods. A pod's name is its job, so the API server itself keeps a job from having two."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        cluster: Callable[[str], CoreV1Api] = pods_of,
        look_seconds: float = LOOK_SECONDS,
        away_seconds: float = AWAY_SECONDS,
    ) -> None:
        place = pod_of(spec.trainer)
        if place is None:
            raise ContractError(f"{spec.name}: trainer is {spec.trainer.kind!r}, and has no pod")
        self.spec, self.trainer = spec, place
        self._judge = judge_own if isinstance(place, OwnPodSpec) else judge
        self._cluster, self._look_seconds, self._away_seconds = cluster, look_seconds, away_seconds
        self._api: CoreV1Api | None = None
        self._last: Look | None = None
        self._looked = self._answered = -float("inf")
        self._held_back: str | None = None
        self._log = LogReading()
        self._unread = False

    def submit(self, job: Job) -> None:
        """Have the job's pod made; one that waits or runs is left alone, one that ended is made anew.

        Pods of the model's earlier jobs are removed. A pod that the cluster refuses for good becomes the job's result.

        Raises:
            TransientError: the API server is away, or an earlier pod of the job does not end.
        """
        there = self._read(job)
        if there is not None and self._is_active(there):
            log.info("pod %s is there already", pod_name(job))
            return
        if there is not None:
            self._remove(there)
        self._sweep(job)
        self._create(job)

    def look(self, job: Job) -> Look:
        """Say how the pod stands; asked more often than every few seconds, say the same again.

        While the API server does not answer, a pod is taken to be as it was last seen, for some minutes. A pod that
        can never train is removed, and why becomes the job's result.

        Raises:
            TransientError: the API server has been away for too long.
        """
        if self._last is not None and time.monotonic() - self._looked < self._look_seconds:
            return self._last
        self._last, self._looked, self._unread = self._look(job), time.monotonic(), True
        return self._last

    def stop(self, job: Job) -> None:
        """Remove the pod and wait until it is gone; one that is not there is fine.

        Raises:
            TransientError: the API server is away.
        """
        if (there := self._read(job)) is not None:
            self._remove(there)

    def said(self, job: Job) -> list[str]:
        """Give what the pod wrote since the last call; nothing where it cannot be had: it is for people to read."""
        if not self._unread:
            return []
        self._unread = False
        try:
            return self._new_lines(job)
        except (ApiException, HTTPError) as err:
            log.debug("the log of pod %s cannot be read: %s", pod_name(job), err)
            return []

    def facts(self, job: Job) -> dict[str, str]:
        """Say which image the team's command ran in, by its digest; nothing where the pod is gone."""
        return image_of(self._read(job) or {})

    def _look(self, job: Job) -> Look:
        try:
            there = self._read(job)
        except TransientError as err:
            away = time.monotonic() - self._answered
            if self._last is None or away > self._away_seconds:
                raise
            return Look(self._last.phase, f"not known since {away:.0f} s: {err}")
        self._answered = time.monotonic()
        if there is None:
            return self._absent(job)
        return self._final(job, self._judge(there, self.trainer, datetime.now(UTC)), there)

    def _absent(self, job: Job) -> Look:
        if JobResult.of(job) is not None:
            return Look(Phase.ENDED, "the pod is gone, its result is there")
        if self._held_back is None:
            return Look(Phase.ABSENT, f"pod {pod_name(job)} is gone: somebody removed it, or its node was taken away")
        self._create(job)
        return Look(Phase.WAITING, self._held_back or "the pod was made")

    def _final(self, job: Job, seen: PodStanding, there: dict[str, Any]) -> Look:
        """End a job that has no hope, so that people are called and no GPU waits for it."""
        if seen.hopeless is None or JobResult.of(job) is not None:
            return seen.look
        self._refuse(job, seen.hopeless, seen.ending)
        self._remove(there)
        return Look(Phase.ENDED, seen.look.reason)

    def _refuse(self, job: Job, why: str, ending: Ending = Ending.CONTRACT) -> None:
        JobResult(ending=ending, message=f"{self._place}: {why}").save(job)

    @property
    def _place(self) -> str:
        return f"Kubernetes (Connection {self.trainer.connection}, namespace {self.trainer.namespace})"

    def _create(self, job: Job) -> None:
        made = _made(description_of(self.spec, job, settings()))
        self._held_back = None
        with self._asked(f"making pod {pod_name(job)}"):
            try:
                self._client.create_namespaced_pod(self.trainer.namespace, made, _request_timeout=TIMEOUT)
            except ApiException as err:
                why = words_of(err)
                if err.status == CONFLICT:
                    log.info("pod %s is there already", pod_name(job))  # an answer was lost, or another run was faster
                elif err.status == FORBIDDEN and "exceeded quota" in why:
                    self._held_back = f"the namespace's quota is used up: {why}"
                elif err.status in FINAL:
                    self._refuse(job, f"the pod is refused ({err.status}): {why}")
                else:
                    raise

    def _read(self, job: Job) -> dict[str, Any] | None:
        """Read the job's pod; None when there is none.

        Raises:
            TransientError: the API server cannot be asked.
            ContractError: the pod of this name is another's.
        """
        name = pod_name(job)
        if (there := self._named(name)) is None:
            return None
        if (there["metadata"].get("labels") or {}).items() >= labels_of_model(job.model).items():
            return there
        raise ContractError(f"{self._place}: pod {name} is not a training of {job.model}; move one of them")

    def _is_active(self, there: dict[str, Any]) -> bool:
        """Say whether a pod trains or will; one that is being taken away is waited for, and then made anew."""
        leaving = "deletionTimestamp" in there["metadata"]
        return not leaving and self._judge(there, self.trainer, datetime.now(UTC)).look.active

    def _sweep(self, job: Job) -> None:
        """Remove what earlier jobs of the model left: one attempt at a time is trained, in several trials maybe."""
        own, every = attempt_labels(job), labels_of_model(job.model)
        selector = ",".join(f"{key}={value}" for key, value in every.items())
        with self._asked("listing pods"):
            listed = self._client.list_namespaced_pod
            pods = listed(self.trainer.namespace, label_selector=selector, _request_timeout=TIMEOUT)
        for other in self._client.api_client.sanitize_for_serialization(pods)["items"]:
            if other["metadata"]["name"] != pod_name(job) and not own.items() <= other["metadata"]["labels"].items():
                self._delete(other, grace=GRACE_SECONDS)

    def _remove(self, there: dict[str, Any]) -> None:
        """Delete one very pod and wait until it is gone; by force once it had the time to stop."""
        name, uid = there["metadata"]["name"], there["metadata"]["uid"]
        self._delete(there, grace=GRACE_SECONDS)
        began = time.monotonic()
        while (still := self._named(name)) is not None and still["metadata"]["uid"] == uid:
            if time.monotonic() - began > GONE_SECONDS:
                self._delete(there, grace=0)
                raise TransientError(f"{self._place}: pod {name} does not end; it was removed by force")
            time.sleep(0.5)

    def _delete(self, there: dict[str, Any], *, grace: int) -> None:
        name, same = there["metadata"]["name"], V1Preconditions(uid=there["metadata"]["uid"])
        options = V1DeleteOptions(grace_period_seconds=grace, preconditions=same)
        with self._asked(f"removing pod {name}"):
            try:
                self._client.delete_namespaced_pod(name, self.trainer.namespace, body=options, _request_timeout=TIMEOUT)
            except ApiException as err:
                if err.status not in (NOT_FOUND, CONFLICT):  # gone, or another pod of that name by now
                    raise

    def _named(self, name: str) -> dict[str, Any] | None:
        """Read the pod of a name, whoever's it is; None when there is none."""
        with self._asked(f"reading pod {name}"):
            try:
                answer = self._client.read_namespaced_pod(name, self.trainer.namespace, _request_timeout=TIMEOUT)
            except ApiException as err:
                if err.status == NOT_FOUND:
                    return None
                raise
        there: dict[str, Any] = self._client.api_client.sanitize_for_serialization(answer)
        return there

    def _new_lines(self, job: Job) -> list[str]:
        now, name = time.monotonic(), pod_name(job)
        answer = self._client.read_namespaced_pod_log(
            name, self.trainer.namespace, container=CONTAINER, timestamps=True, **self._log.limits(now),
            _preload_content=False,  # else the client makes the text of bytes: `b'…\\n'`
            _request_timeout=TIMEOUT,
        )  # fmt: skip
        return self._log.new_lines(answer.data.decode("utf-8", "replace"), now)

    @property
    def _client(self) -> CoreV1Api:
        if self._api is None:
            self._api = self._cluster(self.trainer.connection)
        return self._api

    @contextmanager
    def _asked(self, doing: str) -> Iterator[None]:
        """Translate an API server that cannot be asked; one that refuses to say is not known either.

        Raises:
            TransientError: it is away, busy, or does not let us in now.
        """
        try:
            yield
        except ApiException as err:
            if err.status == UNAUTHORIZED:
                self._api = None  # the Connection may have another token by now
            raise TransientError(f"{self._place}: {doing}: answered {err.status}, {words_of(err)}") from err
        except HTTPError as err:
            raise TransientError(f"{self._place}: {doing}: does not answer ({type(err).__name__})") from err


def _made(description: dict[str, Any]) -> Any:
    """Make the pod as the provider's operator would."""
    container = description["spec"]["containers"][0]
    train = KubernetesPodOperator(
        task_id="train",
        pod_template_dict=description,
        termination_message_policy=container["terminationMessagePolicy"],  # the one default that would win over ours
        random_name_suffix=False,
        do_xcom_push=False,
    )
    return train.build_pod_request_obj(dry_run=True)  # not a rehearsal: it only asks no cluster where it is
