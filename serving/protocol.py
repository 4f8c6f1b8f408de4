"""The documented subset of OpenAI's completions protocol: requests, answers and errors as values. Pure."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(max_length=1_000_000)]
Label = Annotated[str, Field(min_length=1, max_length=256)]
AttributeName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
AttributeValue = Annotated[str, Field(max_length=512)] | bool | int | Annotated[float, Field(allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        """Read null as OpenAI does: clients that pass `max_tokens=None` mean its default."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or name not in cls.model_fields}


class CompletionRequest(_Request):
    """`POST /v1/completions`. Fields of OpenAI's that are not served are accepted at their neutral value only."""

    model: Label
    """Name of a served model, as in its YAML."""
    prompt: Annotated[Text, Field(min_length=1)]
    """The text to go on from: one string, at most a million characters."""
    max_tokens: int = Field(default=16, ge=1)
    """Longest completion, in tokens; the model's YAML sets the most that is allowed."""
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """How random the choice of tokens is; 0 always takes the likeliest."""
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    """Share of the probability that tokens are drawn from, the likeliest first."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """Makes the random choice repeatable, for one version."""
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] | None = None
    """Up to four texts that end the completion; they are not part of it."""
    user: Label | None = None
    """Who asks; kept in the inference log as `user_id`."""
    session_id: Label | None = None
    """Not OpenAI's: kept in the inference log."""
    metadata: dict[AttributeName, AttributeValue] | None = Field(default=None, max_length=16)
    """Kept in the inference log as typed attributes of the request."""
    n: Literal[1] | None = None
    """Only one completion is served."""
    best_of: Literal[1] | None = None
    """Only one completion is made."""
    stream: Literal[False] | None = None
    """Answers are not streamed."""
    echo: Literal[False] | None = None
    """The prompt is not repeated."""
    logprobs: None = None
    """Log-probabilities are not served."""
    suffix: None = None
    """Text behind the completion is not served."""
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    """Only an empty mapping is accepted."""
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    """Only 0 is accepted."""
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    """Only 0 is accepted."""

    @property
    def stops(self) -> list[str]:
        """The stop texts as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    @model_validator(mode="after")
    def _few_stops(self) -> "CompletionRequest":
        if len(self.stops) > 4:
            raise ValueError(f"stop: {len(self.stops)} texts given; at most 4 are allowed")
        return self


class FeedbackRequest(_Request):
    """`POST /v1/feedback`: what a person wrote or thought, joined to the request by its id."""

    model: Label
    """Name of the model that answered."""
    request_id: Label
    """`id` of the completion."""
    reference: Text | None = None
    """What a person wrote for the prompt; the only completion that is ever trained on."""
    score: float | None = Field(default=None, ge=0, le=1)
    """How good a person found the answer, 0 to 1."""

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackRequest":
        if self.reference is None and self.score is None:
            raise ValueError("feedback says nothing; give `reference`, `score` (0..1) or both")
        return self


UNAVAILABLE = "unavailable"
"""Code of an answer that something needed is away for now."""


class ApiError(Exception):
    """An answer that is not 200, in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type_: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type_
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def outcome(self) -> str:
        """How a request that ended this way is counted."""
        if self.code == UNAVAILABLE:
            return "not_ready"
        return "rejected" if self.status < 500 else "error"

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error JSON."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}


def unknown_model(name: str, known: list[str]) -> ApiError:
    """Say that a model is not served here."""
    message = f"The model {name!r} does not exist here; served: {', '.join(sorted(known)) or 'none'}."
    return ApiError(404, message, param="model", code="model_not_found")


def retired_model(name: str, since: datetime) -> ApiError:
    """Say that a model was retired, and answers no more."""
    message = f"The model {name!r} was retired on {since:%Y-%m-%d} and is not served any more."
    return ApiError(404, message, param="model", code="model_not_found")


def busy(name: str, waiting: int) -> ApiError:
    """Say that the queue of a model is full."""
    message = f"{name} has {waiting} requests waiting, which is its limit; try again in a second."
    return ApiError(429, message, type_="rate_limit_error", code="rate_limit_exceeded", retry_after=1)


def not_ready(message: str) -> ApiError:
    """Say that something this request needs is away for now."""
    return ApiError(503, message, type_="server_error", code=UNAVAILABLE, retry_after=2)


def from_validation(errors: list[dict[str, Any]]) -> ApiError:
    """Put pydantic's findings in OpenAI's form; the first one names the parameter."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    param = place[0] if place else None
    match first["type"], param:
        case "json_invalid", _:
            return ApiError(400, "The body is not valid JSON.")
        case "extra_forbidden", str():
            return ApiError(400, f"Unrecognized request argument supplied: {param}", param=param)
        case _, "prompt" if isinstance(first.get("input"), list):
            return ApiError(400, "prompt: only a single string is served, not a list.", param=param)
        case _, "stream" | "echo" | "logprobs" | "n" | "best_of" | "suffix" | "logit_bias":
            return ApiError(400, f"{param} is not supported by this server.", param=param, code="unsupported_value")
        case _:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in errors[:3])
            return ApiError(400, problems, param=param)
