"""The servers of a model brought to the ledger's champion, by one process at a time; what they said is written down."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.heartbeats import beat
from datasets_defs.store.locks import held
from datasets_defs.store.versions import adapter_of, label_of, manifest_of
from training.registry.fetch import fetch
from training.registry.registry import Registry
from training.servers.beside import bring_beside, unload_others
from training.servers.choice import adapter_servers_of, servers_of
from training.servers.published import forget, others, publish
from training.servers.seam import Version, VersionServer, Word
from training.servers.swap import bring, confirmed_by

_LOCK = "driftloop servers"


def follow(
    db: Engine, registry: Registry, spec: ModelSpec, champion: Champion, *, renew: Callable[[], None] = lambda: None
) -> Word:
    """Bring every replica to the champion, and say whether each has confirmed it. Done twice, it only asks.

    Raises:
        TransientError: PostgreSQL is away, or the registry and no copy is here.
    """
    with held(db, _LOCK, spec.name) as is_mine:
        if not is_mine:
            return Word(False, "another process is at the replicas", may_change=True)
        now = Ledger(db).champion(spec.name)
        if now is None or now.token != champion.token:
            return Word(False, f"version {champion.version} is not champion any more")
        try:
            word = _brought(db, registry, spec, champion, renew)
        except ContractError as err:
            word = Word(False, str(err))
        details = {"loaded_version": champion.version} if word.is_confirmed else {"load_error": word.reason[:1000]}
        beat(db, f"serving:{spec.name}", {"loaded_version": None, **details})
    return word


def _brought(db: Engine, registry: Registry, spec: ModelSpec, champion: Champion, renew: Callable[[], None]) -> Word:
    """Bring each replica to the version that it is to have: the champion's, or in a rollout the challenger's."""
    if spec.serving.swap == "adapters":
        return _brought_beside(db, registry, spec, champion, renew)
    words = []
    for number, servers in _wanted(servers_of(spec), champion, Ledger(db).route(spec.name)):
        root = Path(spec.serving.versions_folder or "") / spec.name
        version = _published(db, registry, spec, number, root)
        renew()
        rest, tolerance = others(root, version.label), spec.serving.probe_tolerance
        word = confirmed_by(servers, bring(servers, version, others=rest, tolerance=tolerance, renew=renew), version)
        if not word.is_confirmed:
            return word
        words.append(word.reason)
    return Word(True, "; ".join(words))


def _brought_beside(
    db: Engine, registry: Registry, spec: ModelSpec, champion: Champion, renew: Callable[[], None]
) -> Word:
    """Bring every replica to the champion and, in a rollout, to the challenger beside it."""
    servers, route = adapter_servers_of(spec), Ledger(db).route(spec.name)
    root, words = Path(spec.serving.versions_folder or "") / spec.name, []
    numbers = [champion.version]
    if route is not None and not route.ending and route.challenger_version != champion.version:
        numbers.append(route.challenger_version)
    for number in numbers:
        version = _published(db, registry, spec, number, root)
        renew()
        rest, tolerance = others(root, version.label), spec.serving.probe_tolerance
        answers = bring_beside(servers, version, others=rest, tolerance=tolerance, renew=renew)
        word = confirmed_by(servers, answers, version)
        if not word.is_confirmed:
            return word
        words.append(word.reason)
    return Word(True, "; ".join(words))


def unload_old(spec: ModelSpec, champion: Champion, incident: Incident | None) -> list[str]:
    """Unload adapters that nobody is answered by or will soon be sent back to; give what was done.

    The champion before stays loaded as long as an incident is open: until probation ends, a way back is a change of
    route and nothing else.
    """
    keep = {champion.version}
    if incident is not None:
        keep |= {incident.challenger_version or champion.version, champion.previous_version or champion.version}
    return unload_others(adapter_servers_of(spec), spec.name, keep)


def _wanted(
    servers: Sequence[VersionServer], champion: Champion, route: Route | None
) -> list[tuple[int, list[VersionServer]]]:
    """Say which replicas are to have which version, the champion's first. Pure."""
    if route is None or route.ending or route.challenger_version == champion.version:
        return [(champion.version, list(servers))]
    apart = [server for server in servers if server.where in route.apart]
    rest = [server for server in servers if server.where not in route.apart]
    return [(champion.version, rest), *([(route.challenger_version, apart)] if apart else [])]


def _published(db: Engine, registry: Registry, spec: ModelSpec, number: int, root: Path) -> Version:
    model = spec.name
    get = partial(fetch, db, registry, model, number)
    sha256 = manifest_of(db, model, number)
    if sha256 is None:
        get()  # the ledger knows it from here on
        sha256 = manifest_of(db, model, number)
    if sha256 is None:
        raise TransientError(f"{model} version {number}: its manifest was not noted")
    label = label_of(model, number, sha256) + ("-untied" if spec.serving.untie else "")
    version = publish(root, label, number, get, untied=spec.serving.untie)
    base = adapter_of(db, model, number)
    return version if base is None else replace(version, base=_published(db, registry, spec, base, root))


def forget_old(spec: ModelSpec, champion: Champion, *also: int | None) -> list[str]:
    """Remove the folders of versions that are neither champion, nor the way back, nor named; give their labels."""
    keep = {champion.version, champion.previous_version, *also} - {None}
    return forget(Path(spec.serving.versions_folder or "") / spec.name, {number for number in keep if number})
