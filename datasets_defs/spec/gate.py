"""The sections of the YAML on how a challenger is judged."""

from pydantic import Field, model_validator

from datasets_defs.spec.fields import NonBlank, Section, Share


class RuleSpec(Section):
    """A condition on a metric, in MLflow's words; a change is from the champion's value to the challenger's."""

    threshold: float | None = None
    """At least this much, or at most where less is better."""
    min_absolute_change: float | None = Field(default=None, gt=0)
    """Better by at least this much."""
    min_relative_change: float | None = Field(default=None, gt=0, lt=1)
    """Better by at least this share of the champion's value."""
    greater_is_better: bool
    """Whether a higher value of the metric is better."""

    @model_validator(mode="after")
    def _says_something(self) -> "RuleSpec":
        if self.threshold is None and self.min_absolute_change is None and self.min_relative_change is None:
            raise ValueError("a rule needs threshold, min_absolute_change or min_relative_change")
        return self


class GateSpec(Section):
    """When a challenger may replace the champion. Shares of bits per byte, paired by document."""

    min_gain_share: Share = 0.005
    """The lower confidence bound of the gain on recent rows must reach this."""
    max_loss_share: Share = 0.02
    """The upper confidence bound of the loss on old rows must stay below this."""
    confidence: float = Field(default=0.975, gt=0.5, lt=1)
    """One-sided confidence of the bounds, for each condition."""
    max_old_documents: int = Field(default=2000, ge=10)
    """Old documents scored at most: what showing that nothing is forgotten may cost, in scored documents."""
    min_documents: int = Field(default=50, ge=10)
    """Fewer recent, old or golden documents are inconclusive."""
    worth_seeing: Share = 0.06
    """A gain that must not be missed: fewer recent documents than see it with `power` are inconclusive."""
    power: float = Field(default=0.8, ge=0.5, lt=1)
    """Chance that a challenger which gains `worth_seeing` and forgets nothing is accepted."""
    expected_spread: float = Field(default=0.13, gt=0)
    """Spread of the change among documents until an evaluation of this model has measured it, as a share."""
    rules: dict[str, RuleSpec] = {}
    """Further conditions by metric (`bleu`, `repetition_share` …); a challenger that breaks one is rejected."""

    @model_validator(mode="after")
    def _can_be_seen(self) -> "GateSpec":
        if self.worth_seeing <= self.min_gain_share:
            raise ValueError(
                f"worth_seeing ({self.worth_seeing}) must lie above min_gain_share ({self.min_gain_share}): "
                "a gain at the limit itself is never seen"
            )
        return self


class SliceSpec(Section):
    """A protected part of the traffic: no value of the attribute may lose much, or the challenger is not promoted."""

    attribute: str = Field(min_length=1)
    """`language` (found out from the prompt), or the name of an attribute of the inference log."""
    values: tuple[str, ...] = ()
    """Those that are protected whatever comes: too few documents of one are inconclusive. None: all that are found."""
    min_documents: int = Field(default=30, ge=10)
    """Values that were found with fewer are judged together as `other`."""
    max_loss_share: Share | None = None
    """As of the gate; none: the gate's own."""


class EvaluationSpec(Section):
    """What challenger and champion are scored on beside recent and old rows, and by what beside bits per byte."""

    golden: str | None = None
    """File with columns `prompt` and `reference` (.jsonl, .csv, .parquet; path or URL) that is never trained on."""
    slices: tuple[SliceSpec, ...] = ()
    """Protected parts of the traffic."""
    archived: bool = True
    """Score the former champion that fits the recent rows best, too."""
    generate: int = Field(default=0, ge=0)
    """Recent and golden prompts that both complete, to measure what they write; 0: none."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Of each completion."""
    blocked_phrases: tuple[NonBlank, ...] = ()
    """Completions that hold one count in `blocked_share`; case does not matter."""
    refusals: tuple[NonBlank, ...] = ("i cannot help", "i can't help", "i'm sorry, but", "as an ai", "i am unable to")
    """Completions that begin with one count in `refusal_share`."""
    metrics: tuple[str, ...] = ()
    """Names of your own metrics: entry points of the group `driftloop.metrics`."""


class ShadowSpec(Section):
    """How a new champion is held against the one before it, which scores a sample of its prompts in shadow."""

    rows: int = Field(default=200, ge=1)
    """Prompts scored per window at most, chosen by the hash of their request id."""
    margin: float = Field(default=0.01, ge=0, lt=1)
    """Bits that it may cost more and still pass, as a share of the former champion's on the same prompts."""
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    """Of both bounds together, however often they are looked at."""
