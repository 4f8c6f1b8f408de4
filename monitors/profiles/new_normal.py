"""Makes a shifted input the reference, and says so once in the history."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from monitors.profiles.profile import Profile
from monitors.profiles.renewal import rebaseline


def take_as_normal(
    db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime, windows: int, reason: str, actor: str
) -> Profile:
    """Hold the champion's windows against its newest judged ones from now on. Doing it again changes nothing.

    Raises:
        ContractError: there is no profile, or no judged window.
        TransientError: PostgreSQL is away.
    """
    made = rebaseline(db, spec, champion, until=until, windows=windows)
    evidence = {"version": made.version, "revision": made.revision, "rows": made.rows}
    ledger = Ledger(db)
    newest = ledger.newest_of(spec.name, EventKind.REBASELINED)
    if newest is None or newest.evidence != evidence:  # otherwise an earlier try came to its end
        ledger.note(spec.name, EventKind.REBASELINED, reason, evidence, actor=actor)
    return made
