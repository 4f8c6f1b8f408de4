"""The types of fields that several sections of the YAML share."""

from typing import Annotated, Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise ValueError(f"{value!r} is no time zone; take one like `UTC` or `Europe/Berlin`") from err
    return value


Share = Annotated[float, Field(ge=0, le=1)]
"""0..1."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""Of a model, a source or a slice: small letters, digits, hyphens; it becomes part of file names and labels."""
NonBlank = Annotated[str, Field(pattern=r"\S")]
"""A phrase to look for; an empty one would be found in every text."""
TimeZone = Annotated[str, AfterValidator(_zone)]
"""Of the IANA's data."""


def is_no(value: Any) -> bool:
    """Say of a value as it is written whether pydantic will read it as false."""
    return value is False or str(value).lower() in ("false", "no", "off", "n", "f", "0")


class Section(BaseModel):
    """A section of the YAML: nothing unknown in it, and nobody changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_no_truths(cls, value: Any) -> Any:
        """Refuse true and false where a number is needed: they would be 1 and 0 without a word.

        Raises:
            ValueError: names the field.
        """
        if isinstance(value, dict):
            for name, field in cls.model_fields.items():
                kinds = {field.annotation, *get_args(field.annotation)}
                if isinstance(value.get(name), bool) and kinds & {int, float} and bool not in kinds:
                    raise ValueError(f"`{name}` needs a number, found {str(value[name]).lower()}")
        return value


class NamedFile(Section):
    """All of a YAML file that is called what it describes."""

    name: Name
    """The file's name without `.yaml`."""
