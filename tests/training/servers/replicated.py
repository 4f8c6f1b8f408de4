"""A model that two simulated replicas serve, and its changes of champion."""

from sqlalchemy import Engine

from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger

MODEL = "replicated"


def change(engine: Engine, to: int, expected: int | None) -> Champion:
    kind = "promote" if expected else "bootstrap"
    return Ledger(engine).change_champion(MODEL, expected=expected, to=to, kind=kind, reason="test", actor="test")
