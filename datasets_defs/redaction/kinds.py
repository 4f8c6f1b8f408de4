"""The kinds of redaction, and those that are done unless a YAML says otherwise."""

from typing import Literal

Kind = Literal["secrets", "emails", "telephones", "pii"]
USUAL: tuple[Kind, ...] = ("secrets", "emails", "telephones")
