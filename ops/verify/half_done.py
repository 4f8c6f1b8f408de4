"""Changes of champion that stand half done: nobody confirmed them, or a drill that nobody ended. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.promotions import ChampionChange


def half_done(champions: Sequence[Champion], changes: Sequence[ChampionChange], then: datetime) -> Iterator[str]:
    """Give a sentence for each champion whose last change is older than `then` and did not come to its end.

    A first champion is left out: whether a server for it was ever started is told by the watchdog.
    """
    made = {(change.model, change.token): change for change in changes}
    for champion in champions:
        change = made.get((champion.model, champion.token))
        if change is None or change.at > then or change.kind == "bootstrap":
            continue
        since = f"{champion.model}: version {champion.version} is champion since {change.at:%Y-%m-%d %H:%M:%S}Z"
        if change.kind == "drill":
            yield f"{since} by a drill that nobody ended"
        elif not change.is_confirmed:
            yield f"{since} ({change.kind}), and serving has not confirmed it"
