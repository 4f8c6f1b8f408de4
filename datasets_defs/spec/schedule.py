"""The sections of the YAML on trainings by a schedule, and on the settings that such a training tries."""

from itertools import product
from typing import Annotated, Any, Literal

from croniter import croniter
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from datasets_defs.spec.fields import NonBlank, Section, TimeZone

NAMED = {"weekly": "0 0 * * 0", "monthly": "0 0 1 * *"}
"""What `cron` may say in a word: midnight between Saturday and Sunday, and midnight on the first of the month."""
SETTINGS = ("learning_rate", "epochs", "batch_tokens", "blend", "rank", "alpha")
"""What a search may set; `rank` and `alpha` are the adapters'."""
Setting = Literal["learning_rate", "epochs", "batch_tokens", "blend", "rank", "alpha"]
MOST_TRIALS = 200
"""Settings that one search tries at most."""
WHOLE = frozenset({"batch_tokens", "rank"})
"""Settings that are whole numbers."""


def _cron(value: str) -> str:
    expression = NAMED.get(value, value)
    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise ValueError(
            f"{value!r} is neither `weekly`, `monthly` nor a cron expression of five fields such as `0 3 * * 1`"
        )
    return expression


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
    timezone: TimeZone = "UTC"
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


class RangeSpec(Section):
    """Between which values a setting is tried."""

    low: float
    """Least value."""
    high: float
    """Greatest value."""
    log: bool = False
    """Whether values are drawn evenly by their logarithm: for learning rates."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "RangeSpec":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.low <= 0:
            raise ValueError(f"low {self.low:g} is not above 0, as every setting has to be")
        return self


class SearchSpec(Section):
    """Which settings a training on schedule tries; the best on the validation texts meets the gate."""

    grid: dict[Setting, Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]] = {}
    """Values of each setting; every combination is tried."""
    ranges: dict[Setting, RangeSpec] = {}
    """Ranges of settings, from which Optuna proposes; needs `driftloop[search]` and `trials`."""
    trials: int | None = Field(default=None, ge=2, le=MOST_TRIALS)
    """How many proposals of Optuna's are tried."""
    most: int = Field(default=32, ge=2, le=MOST_TRIALS)
    """Combinations of a grid at most, so that a long list is no accident."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "SearchSpec":
        if bool(self.grid) is bool(self.ranges):
            raise ValueError("needs either `grid`, whose combinations are all tried, or `ranges` with `trials`")
        if bool(self.ranges) is not bool(self.trials):
            raise ValueError("`ranges` and `trials` belong together: how many proposals from which ranges")
        if self.grid and not 2 <= len(self.combinations) <= self.most:
            raise ValueError(f"`grid` has {len(self.combinations)} combinations; from 2 to {self.most} can be tried")
        return self

    @property
    def combinations(self) -> list[dict[str, float]]:
        """List the settings of a grid, in the order of the YAML; none where Optuna proposes."""
        if not self.grid:
            return []
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    @property
    def count(self) -> int:
        """How many trainings the search takes."""
        return self.trials or len(self.combinations)


def _in_a_word(value: Any) -> Any:
    return {"cron": value} if isinstance(value, str) else value


Schedule = Annotated[ScheduleSpec, BeforeValidator(_in_a_word)]
"""In YAML also the cron expression alone."""
