"""The section of the YAML on trainings by a schedule."""

from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from datasets_defs.spec.fields import NonBlank, Section

NAMED = {"weekly": "0 0 * * 0", "monthly": "0 0 1 * *"}
"""What `cron` may say in a word: midnight between Saturday and Sunday, and midnight on the first of the month."""


def _cron(value: str) -> str:
    expression = NAMED.get(value, value)
    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise ValueError(
            f"{value!r} is neither `weekly`, `monthly` nor a cron expression of five fields such as `0 3 * * 1`"
        )
    return expression


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as err:
        raise ValueError(f"{value!r} is no time zone; take one like `UTC` or `Europe/Berlin`") from err
    return value


class AfterSpec(Section):
    """A task of another DAG that has to end well before a training on schedule begins."""

    dag: NonBlank
    """Id of the other DAG."""
    task: NonBlank | None = None
    """Id of its task; none: the whole DAG's run."""
    minutes_before: int = Field(default=0, ge=0)
    """How long before this schedule's time the other run's own time lies; 0: both have the same."""
    timeout_hours: float = Field(default=24, gt=0)
    """When it has not ended by then, nothing is trained this time, and the task fails."""


class ScheduleSpec(Section):
    """When a model is trained though nothing is wrong with it."""

    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """`weekly`, `monthly`, or a cron expression of five fields."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Of the expression."""
    assets: tuple[NonBlank, ...] = ()
    """Names or URIs of Airflow Assets of your own: any of them, once published, orders a training."""
    after: AfterSpec | None = None
    """What is waited for at the time that `cron` names; for pipelines that know no Assets."""

    @model_validator(mode="after")
    def _has_a_time(self) -> "ScheduleSpec":
        if self.cron is None and not self.assets:
            raise ValueError("says neither when (`cron`) nor after what (`assets`) a training is due; give one")
        if self.after is not None and self.cron is None:
            raise ValueError("`after` waits at the times that `cron` names: give `cron`, too, as the other DAG has it")
        return self


def _in_a_word(value: Any) -> Any:
    return {"cron": value} if isinstance(value, str) else value


Schedule = Annotated[ScheduleSpec, BeforeValidator(_in_a_word)]
"""In YAML also the cron expression alone."""
