"""Where an API is, and how to get in."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """An OpenAI-compatible API."""

    url: str
    """Without `/v1` and without a slash at its end."""
    key: str | None = field(default=None, repr=False)
    """Goes into the header `Authorization`; None: the API asks for none."""
