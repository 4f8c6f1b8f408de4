"""What each pipeline brings to the show: its name, what it needs of the model's YAML, and the function that runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from ops.pipelines.dag_runs import DagRuns


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a pipeline may use: a running stack with the demo's model."""

    model: str
    db: Engine
    airflow: DagRuns


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a pipeline made, for people."""

    figures: Mapping[str, object]
    """Rows of the closing table: what is counted or measured, and its value."""
    samples: Sequence[str] = ()
    """A few lines of what was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStep:
    """One pipeline of the show."""

    name: str
    """Of its DAG."""
    about: str
    """What it does, in one sentence."""
    run: Callable[[Stage], Told]
    """Runs its DAG on the stack and gives what it made; raises DriftloopError where that is not what was wanted."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Sections that the YAML of the demo's model gets for it."""
