"""The types of fields that several sections of the YAML share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""0..1."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""Of a model, a source or a slice: small letters, digits, hyphens; it becomes part of file names and labels."""
NonBlank = Annotated[str, Field(pattern=r"\S")]
"""A phrase to look for; an empty one would be found in every text."""


class Section(BaseModel):
    """A section of the YAML: nothing unknown in it, and nobody changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NamedFile(Section):
    """All of a YAML file that is called what it describes."""

    name: Name
    """The file's name without `.yaml`."""
