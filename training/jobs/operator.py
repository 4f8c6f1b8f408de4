"""An operator for users' own DAGs: runs a command or a function with GPUs, on this machine or as a pod."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from sqlalchemy import Engine

from datasets_defs.assets import loop_database
from datasets_defs.core.errors import ContractError
from datasets_defs.store.gpu_jobs import JobRow, JobState, read_job, take_job
from training.jobs.job import GPUJob
from training.jobs.standing import JobStanding, look, stop, submit
from training.jobs.trigger import GPUJobTrigger, words
from training.jobs.where import Limits, Machine, Pod, Where, command_of
from training.trainers.local import DetachedTrainer


class GPUJobOperator(BaseOperator):
    """Runs `command`, or `function` with `arguments`, with `gpus` GPUs to itself; gives what it returned as XCom.

    On this machine the job is a process of its own, which lives on when task, worker or Airflow die; the next try finds
    it. A try after the job's own death begins it again, with its folder `$DRIFTLOOP_CHECKPOINTS`. It leaves JSON for
    the tasks that follow in the file `$DRIFTLOOP_RETURN`. JSON lines of numbers become metrics. Deferred (the default)
    it holds no worker while it waits.
    """

    template_fields: ClassVar[Sequence[str]] = ("command", "arguments")
    ui_color = "#e3efd4"

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        function: str | Callable[..., Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        gpus: int = 1,
        where: Where | None = None,
        limits: Limits | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = list(command) if command is not None else None
        self.function = function
        self.arguments = dict(arguments or {})
        self.gpus = gpus
        self.where = where or Machine()
        self.limits = limits or Limits()
        self.deferrable = deferrable
        if gpus < 0:
            raise ValueError(f"{self.task_id}: gpus is {gpus}; needed: 0 or more")
        if (command is None) == (function is None):
            raise ValueError(f"{self.task_id}: give either `command` or `function`")

    def execute(self, context: Any) -> Any:
        """Begin the job, or find the one that an earlier try began, and wait for its end."""
        if isinstance(self.where, Pod):
            return self._pod(self.where).execute(context)
        try:
            job, db = self._job(context), loop_database()
            row = submit(job, db)
        except ContractError as err:
            raise AirflowFailException(str(err)) from err
        if row.state is JobState.ENDED:
            return self._take(row, db)
        if not self.deferrable:
            return self._wait(job, db)
        poll = self.limits.poll_time.total_seconds()
        self.defer(trigger=GPUJobTrigger(key=job.key, poll_seconds=poll), method_name="execute_complete")
        return None

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Take the trigger's event: the job has ended, or is lost."""
        key, db = _key_of(context), loop_database()
        row = read_job(db, key)
        if event["standing"] == JobStanding.LOST or row is None or row.state is not JobState.ENDED:
            raise AirflowException(
                f"GPU job {key} died without a word, or its machine did ({event['message']}); "
                "the next try begins it again with its checkpoints"
            )
        return self._take(row, db)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Take the event of a pod's own trigger."""
        if not isinstance(self.where, Pod):
            raise AirflowFailException(f"{self.task_id} has no pod, and was woken for one; clear the task")
        return self._pod(self.where).trigger_reentry(context, event)

    def on_kill(self) -> None:
        """End the job of a task that somebody ends while it waits in its worker; a dead worker ends nothing."""
        if (key := getattr(self, "_watching", None)) is not None:
            stop(key, loop_database(), who="whoever ended its task")

    def _wait(self, job: GPUJob, db: Engine) -> Any:
        self._watching = job.key
        reader = DetachedTrainer(db)
        while True:
            seen = look(job.key, db)
            if seen is None:
                raise AirflowException(f"GPU job {job.key} is not in the database any more")
            for line in words(reader, seen):
                self.log.info("%s", line)
            if seen.standing is JobStanding.ENDED:
                return self._take(seen.row, db)
            if seen.standing is JobStanding.LOST:
                raise AirflowException(f"GPU job {job.key} died without a word; the next try begins it again")
            time.sleep(self.limits.poll_time.total_seconds())

    def _take(self, row: JobRow, db: Engine) -> Any:
        take_job(db, row.key, row.attempt)
        if row.exit_code != 0:
            raise AirflowException(f"GPU job {row.key} on {row.machine}: {row.message}")
        self.log.info("%s: %s, on %s", row.key, row.message, ", ".join(row.devices or []) or "no GPU")
        return row.result

    def _job(self, context: Any) -> GPUJob:
        if isinstance(self.where, Pod):
            raise ContractError(f"{self.task_id} runs as a pod and is no process of this machine")
        return GPUJob(
            key=_key_of(context),
            name=f"{context['ti'].dag_id}.{context['ti'].task_id}",
            command=self._command(),
            gpus=self.gpus,
            directory=self.where.directory,
            environment=self.where.environment,
            max_seconds=self.limits.max_time.total_seconds(),
            queue_seconds=self.limits.queue_time.total_seconds(),
        )

    def _command(self) -> tuple[str, ...]:
        return command_of(
            self.where, command=self.command, function=self.function, arguments=self.arguments, gpus=self.gpus
        )

    def _pod(self, where: Pod) -> Any:
        """Make Airflow's own operator of the pod; it finds the pod of an earlier try by itself."""
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

        amounts = {"cpu": where.cpu, "memory": where.memory}
        if self.gpus:
            amounts[where.gpu_resource] = str(self.gpus)
        return KubernetesPodOperator(
            **{
                "task_id": self.task_id,
                "name": self.task_id,
                "namespace": where.namespace,
                "image": where.image,
                "cmds": list(self._command()),
                "env_vars": dict(where.environment),
                "pod_template_dict": _template(amounts),
                "kubernetes_conn_id": where.connection,
                "deferrable": self.deferrable,
                "poll_interval": self.limits.poll_time.total_seconds(),
                "active_deadline_seconds": int(self.limits.max_time.total_seconds()),
                "labels": {"app.kubernetes.io/name": "driftloop", "app.kubernetes.io/component": "gpu-job"},
                **where.more,
            }
        )


def _template(amounts: dict[str, str]) -> dict[str, Any]:
    """Give what the operator's own arguments do not say without a class of Kubernetes' client."""
    container = {"name": "base", "resources": {"requests": amounts, "limits": amounts}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containers": [container]}}


def _key_of(context: Any) -> str:
    """Name the job after its task instance, the same for every try of it."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/{ti.map_index}"
