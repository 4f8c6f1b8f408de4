"""What must hold of routes and rollouts: a sentence for each breach. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from datasets_defs.core.incidents import Incident, State
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.routes import Route

_DIVIDED = (State.ROLLOUT, State.PROMOTING)


def broken_division(
    incidents: Sequence[Incident], champions: Sequence[Champion], routes: Mapping[str, Route]
) -> Iterator[str]:
    """Check that users are divided where a rollout says so, between its versions, and nowhere else."""
    by_id, served = (
        {incident.id: incident for incident in incidents},
        {champion.model: champion.version for champion in champions},
    )
    for model, route in routes.items():
        incident = by_id.get(route.incident_id)
        if not route.ending and (incident is None or incident.state not in _DIVIDED):
            state = incident.state if incident is not None else "not there"
            what = f"version {route.challenger_version} is routed to"
            yield f"{model}: {what}, but incident {route.incident_id} is {state}"
        if not route.ending and served.get(model) not in (route.champion_version, route.challenger_version):
            yield (
                f"{model}: users are divided between versions {route.champion_version} and "
                f"{route.challenger_version}, but version {served.get(model)} is champion"
            )
        if route.ending and route.share > 0:
            yield f"{model}: version {route.challenger_version} leaves, but answers {route.share:.0%} of users"
    for incident in incidents:
        route_of = routes.get(incident.model)
        if incident.state is State.ROLLOUT and (route_of is None or route_of.incident_id != incident.id):
            yield f"{incident.model}: incident {incident.id} is in rollout, but no route is its"
