"""A break of the data: what is wrong, in how many rows, since when, and how a person accepts it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

ROWS, COLUMN, NOTE, ACCEPTED = "rows", "column", "note", "accepted"
_LETTERS = re.compile(r"[^\W\d_]")
_DIGITS = re.compile(r"\d")
EXAMPLE_CHARACTERS = 60
EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One named finding."""

    kind: str
    """What a person accepts it by, as in `driftloop accept MODEL --what template`."""
    share: float
    """Of the rows that it is about, 0..1."""
    since: datetime | None = None
    """When the first row that shows it was answered; None: not known."""
    examples: tuple[str, ...] = ()
    """Beginnings of texts that show it; letters and digits that are no part of the finding are masked."""
    reason: str
    """What was found, with its figures, in words."""
    key: str = ""
    """What tells it from others of its kind: a hash of the template, a length, a column's name."""
    scope: str = ROWS
    """How far the finding reaches.

    `rows`: nothing of the window is judged. `column`: the column is left out, and the rest is judged. `note`: the
    column is left out, and nothing is broken. `accepted`: as `note`, because a person said so.
    """
    column: str | None = None
    """The column that it is about."""

    def cure(self, model: str) -> str:
        """Give the command that accepts it as the new normal, or for a column also the setting that ends it."""
        command = f"driftloop accept {model} --what {self.kind}"
        if self.column is None:
            return command
        return f"{command} --key {self.key}, or `drift.exclude: [{self.column}]` in models/{model}.yaml"

    def plain(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        return {
            "kind": self.kind,
            "share": self.share,
            "since": self.since and self.since.isoformat(),
            "examples": list(self.examples),
            "reason": self.reason,
            "key": self.key,
            "scope": self.scope,
            "column": self.column,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Break":
        """Read what `plain` gave."""
        since = plain["since"]
        return cls(
            **{
                **plain,
                "since": datetime.fromisoformat(since) if since else None,
                "examples": tuple(plain["examples"]),
            }
        )

    def begun(self, earlier: "Break") -> "Break":
        """Give it with the beginning that the window before saw."""
        known = [at for at in (self.since, earlier.since) if at is not None]
        return replace(self, since=min(known, default=None))

    def is_same(self, other: "Break") -> bool:
        """Say whether another window's finding is this one going on."""
        return (self.kind, self.key) == (other.kind, other.key)


def masked(text: str, keep: re.Pattern[str] | None = None) -> str:
    """Give the beginning of a text with letters as x and digits as 0, but for what the pattern matches."""
    start = text[:EXAMPLE_CHARACTERS]
    parts, at = [], 0
    for match in keep.finditer(start) if keep is not None else ():
        parts += [_hidden(start[at : match.start()]), match.group()]
        at = match.end()
    parts.append(_hidden(start[at:]))
    return "".join(parts) + ("…" if len(text) > EXAMPLE_CHARACTERS else "")


def _hidden(text: str) -> str:
    return _DIGITS.sub("0", _LETTERS.sub("x", text))
