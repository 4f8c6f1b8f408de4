"""A rollout for a test, written as the loop does."""

from datetime import UTC, datetime, timedelta

from datasets_defs.core.incidents import Incident, State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.routes import Route
from datasets_defs.store.arm_log import BUCKETS, bucket_of


def approved(ledger: Ledger, model: str, challenger: int = 2) -> Incident:
    """Open an incident whose challenger is approved."""
    incident, _ = ledger.open_incident(
        model, signal="loss", degraded_since=datetime.now(UTC) - timedelta(days=1), reason="r", evidence={}, actor="t"
    )
    for state in (State.RETRAINING, State.EVALUATING):
        incident = ledger.move(incident, state, actor="t", reason="r")
    return ledger.move(incident, State.APPROVING, actor="t", reason="r", approved=True, challenger_version=challenger)


def rolled_out(
    ledger: Ledger, model: str, *, share: float = 0.5, replicas: tuple[str, ...] = (), challenger: int = 2
) -> Route:
    """Let a challenger answer a share of the users beside the champion, which is there already."""
    incident = approved(ledger, model, challenger)
    champion = ledger.champion(model)
    assert champion is not None
    incident = ledger.move(incident, State.ROLLOUT, actor="t", reason="r")
    route = ledger.begin_route(incident, champion=champion.version, challenger=challenger)
    if replicas:
        route = ledger.change_route(route, actor="t", replicas=replicas)
    return ledger.reach_share(route, share=share, actor="t", reason=f"version {challenger} answers {share:.0%}")


def users(count: int) -> list[str]:
    """Name users no two of whom are counted together."""
    named: dict[int, str] = {}
    number = 0
    while len(named) < min(count, BUCKETS):
        named.setdefault(bucket_of(f"user-{number}"), f"user-{number}")
        number += 1
    return list(named.values())
