"""The exporter's metrics on GPUs that are lent: added serving capacity, and GPU jobs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Engine

from datasets_defs.core.errors import DriftloopError
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.scaling import Capacity
from datasets_defs.store.gpu_jobs import JobRow, JobState, jobs_at_work
from datasets_defs.store.gpu_scaling import Stay, StayState, stays

SILENT_SECONDS = 300.0
"""A job that was not heard of for so long is not shown any more: its process died, or its machine did."""
_STATES = (JobState.WAITING, JobState.RUNNING)
_TOLD = ("step", "steps", "loss", "validation_bits_per_byte", "tokens_per_second")
"""Numbers of a job that are shown, as of a training; others stand in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """What the exporter shows of GPUs."""

    floors: Mapping[str, int]
    """Replicas that models which the loop scales have without any addition, as their YAML says."""
    stays: Mapping[str, Stay]
    jobs: Sequence[JobRow]


def read_gpus(db: Engine, models: Sequence[str]) -> GpuReading:
    """Read it all.

    Raises:
        TransientError: PostgreSQL is away.
    """
    floors = {model: floor for model in models if (floor := _floor(model)) is not None}
    added = {model: stay for model, stay in stays(db).items() if model in models}
    jobs = [job for job in jobs_at_work(db) if job.silent_seconds <= SILENT_SECONDS]
    return GpuReading(floors=floors, stays=added, jobs=jobs)


def _floor(model: str) -> int | None:
    try:
        scale = spec_of(model).scale
    except DriftloopError:  # a YAML that is wrong for the moment changes no other model's metrics
        return None
    return scale.min_replicas if isinstance(scale, Capacity) else None


def gpu_families(reading: GpuReading, now: datetime) -> Iterator[Metric]:
    """Give the metric families; a family without a value is given, too."""
    by_model, standing = ("model",), {
        model: stay for model, stay in reading.stays.items() if stay.state in (StayState.RISING, StayState.UP)
    }  # fmt: skip
    wanted = {
        (model,): float(standing[model].replicas if model in standing else floor)
        for model, floor in reading.floors.items()
    }
    text = "Replicas that shall serve the model: what was added, or else `scale.min_replicas`; for KEDA."
    yield _gauge("scale_wanted_replicas", text, wanted, by_model)
    gpus = {(model,): float(standing[model].gpus if model in standing else 0) for model in reading.floors}
    yield _gauge("scale_added_gpus", "GPUs that were added for a time; 0 without any.", gpus, by_model)
    until = {
        (model,): max(0.0, (standing[model].until - now).total_seconds()) if model in standing else 0.0
        for model in reading.floors
    }
    yield _gauge("scale_remaining_seconds", "Until what was added comes down; 0 without any.", until, by_model)
    yield from _jobs(reading.jobs, now)


def _jobs(jobs: Sequence[JobRow], now: datetime) -> Iterator[Metric]:
    counts = Counter((job.job, job.state.value) for job in jobs)
    states = {(job.job, state.value): float(counts[job.job, state.value]) for job in jobs for state in _STATES}
    yield _gauge("gpu_jobs", "GPU jobs that wait or run, by DAG and task.", states, ("job", "state"))
    gpus = Counter[tuple[str, ...]]()
    for job in jobs:
        gpus[(job.job,)] += len(job.devices or [])
    yield _gauge("gpu_job_gpus", "GPUs that the jobs of a task hold.", dict(gpus), ("job",))
    newest = {job.job: job for job in jobs if job.begun_at is not None}
    for name in _TOLD:
        by_job = {job.job: (job.progress or {}).get(name) for job in newest.values()}
        values = {(of,): number for of, number in by_job.items() if number is not None}
        text = f"What a task's newest running GPU job said of `{name}` last."
        yield _gauge(f"gpu_job_{name}", text, values, ("job",))
    ages = {(job.job,): (now - job.begun_at).total_seconds() for job in newest.values() if job.begun_at is not None}
    yield _gauge("gpu_job_elapsed_seconds", "How long a task's newest running GPU job has run.", ages, ("job",))


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"driftloop_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
