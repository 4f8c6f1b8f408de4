"""The newest verdicts of a model's signals, as kept, or as they would be with verdicts that are not kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.windows import Window
from datasets_defs.store.verdicts import recent_verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestVerdicts:
    """Reads verdicts up to one window."""

    db: Engine
    model: str
    window: Window
    fresh: Mapping[str, Verdict] = field(default_factory=dict)
    """Verdicts on the window by signal, of a dry run: each takes the place of the kept one."""

    def of(self, signal: str, count: int, *, waiting: bool = True) -> list[Verdict]:
        """Give a signal's newest `count` verdicts, newest first; without `waiting`, those that wait do not count.

        Raises:
            TransientError: PostgreSQL is away.
        """
        fresh = self.fresh.get(signal)
        until = self.window.end if fresh is None else self.window.start
        kept = recent_verdicts(self.db, self.model, signal, until=until, count=count, waiting=waiting)
        if fresh is None or (fresh.waits and not waiting):
            return kept
        return [fresh, *kept][:count]
