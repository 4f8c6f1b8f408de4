"""Making a change of champion real: the registry's aliases after the ledger, and serving's word that it has loaded."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import ChampionChange, change_with, changes_of, changes_of_incident
from datasets_defs.ledger.routes import withdrawn_versions
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.heartbeats import heartbeats
from training.registry.aliases import mirrored
from training.registry.manifest import MANIFEST_SHA256
from training.registry.registry import Registry
from training.servers.follow import follow
from training.servers.seam import Word

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5
UNASKED = "nobody can ask this server what it has loaded; `serving.swap` in the YAML says how one can"


class ChampionChangedError(ContractError):
    """Somebody changed the champion, e.g. rolled back by hand, before serving had confirmed the change before."""


def confirmed(
    ledger: Ledger,
    registry: Registry,
    spec: ModelSpec,
    champion: Champion,
    *,
    challenger: int | None = None,
    renew: Callable[[], None] = lambda: None,
) -> Word:
    """Wait until serving reports the champion's version since it became that, and bring the aliases in line.

    Says whether it did within the settings' limit. Our server follows the ledger, so its word is waited for first: a
    registry that hangs holds up its own copies alone. Servers that can be told are told, and asked each. Where nobody
    can ask, the aliases as read back let the loop go on, and the word says that the version is unconfirmed.
    """
    give_up = time.monotonic() + settings().serving_confirm_seconds
    while True:
        renew()
        word = _asked(ledger, registry, spec, champion, challenger, renew)
        if word.is_confirmed:
            ledger.confirm_champion(champion)
            break
        if not word.may_change or time.monotonic() >= give_up:
            return word
        time.sleep(POLL_SECONDS)
    reached("confirm.confirmed")
    if spec.serving.can_say:
        mirrored(registry, champion, challenger=challenger)
    reached("confirm.mirrored")
    return word


def _asked(
    ledger: Ledger,
    registry: Registry,
    spec: ModelSpec,
    champion: Champion,
    challenger: int | None,
    renew: Callable[[], None],
) -> Word:
    """Ask once whether the champion serves, in the way its server has."""
    if spec.serving.swap != "none":
        return follow(ledger.engine, registry, spec, champion, renew=renew)
    late = f"serving did not report version {champion.version} within {settings().serving_confirm_seconds:.0f} s"
    if spec.serving.can_say:
        serves = _loaded(ledger.engine, champion, changed_at(ledger.engine, champion))
        return Word(serves, f"serving reported version {champion.version}" if serves else late, may_change=True)
    in_line = mirrored(registry, champion, challenger=challenger)
    unknown = f"unconfirmed: the registry's alias names version {champion.version}, and {UNASKED}"
    return Word(in_line, unknown if in_line else f"{late}: the registry is away", may_change=True)


def confirm_late(ledger: Ledger, spec: ModelSpec, champion: Champion, *, now: datetime, actor: str) -> str:
    """Write down that serving reports a champion whose step died before it could; say so, or nothing if all is said.

    A step is given its whole limit first: it writes that down itself. Servers that are told are asked by `follow`.
    """
    made = last_change(ledger.engine, champion)
    limit = timedelta(seconds=settings().serving_confirm_seconds)
    if made is None or made.is_confirmed or now < made.at + limit:
        return ""
    if spec.serving.can_say and (spec.serving.swap != "none" or not _loaded(ledger.engine, champion, made.at)):
        return ""
    ledger.confirm_champion(champion)
    serves = "serving reports" if spec.serving.can_say else "the registry's alias names"
    reason = f"{serves} version {champion.version}, as the change ({made.kind}) wants that nobody finished"
    ledger.note(champion.model, EventKind.NOTE, reason, {"change": made.kind, "token": made.token}, actor=actor)
    return reason


def put_back(ledger: Ledger, registry: Registry, spec: ModelSpec, champion: Champion) -> str:
    """Bring aliases and servers back to a champion whose successor was not confirmed; give what there is to say.

    What is away now is brought in line by `reconcile`'s next round.
    """
    mirrored(registry, champion)
    if spec.serving.swap == "none":
        return ""
    try:
        return follow(ledger.engine, registry, spec, champion).reason
    except TransientError as err:
        return f"the replicas were not brought back yet: {err}"


def _loaded(db: Engine, champion: Champion, since: datetime) -> bool:
    at, details = heartbeats(db).get(f"serving:{champion.model}", (None, {}))
    return at is not None and at >= since and details.get("loaded_version") == champion.version


def require_champion(ledger: Ledger, known: Champion) -> None:
    """Check that a champion is still the one that was made.

    Raises:
        ChampionChangedError: it is not.
    """
    now = ledger.champion(known.model)
    if now is None or now.token != known.token:
        successor = f"version {now.version}" if now else "none"
        raise ChampionChangedError(
            f"version {known.version} was made champion, and {successor} took its place before it served"
        )


def changed_at(db: Engine, champion: Champion) -> datetime:
    """Read when the change was made that the champion's token is of; after a drill that is later than its `since`."""
    made = change_with(db, champion.model, champion.token)
    return made.at if made is not None else champion.since


def last_change(db: Engine, champion: Champion) -> ChampionChange | None:
    """Read the change that made this champion; None if it is not recorded."""
    return change_with(db, champion.model, champion.token)


def rolled_back_versions(db: Engine, model: str) -> list[int]:
    """List the versions that were ever taken out of service by a rollback, or from their users in a rollout."""
    out = {change.from_version for change in changes_of(db, model) if change.kind == "roll_back"}
    return sorted({version for version in out if version is not None} | withdrawn_versions(db, model))


def why_never_again(db: Engine, registry: Registry, model: str, version: int) -> str | None:
    """Say why a version may not be promoted: it, or one with the very same files, was rolled back; None: it may.

    Raises:
        TransientError: versions were rolled back, and the registry cannot say whether this is one of them.
    """
    out = rolled_back_versions(db, model)
    if version in out:
        return f"version {version} was rolled back before and is not promoted again"
    files = registry.tags(model, version).get(MANIFEST_SHA256) if out else None
    for other in out if files is not None else ():
        try:
            same = registry.tags(model, other).get(MANIFEST_SHA256) == files
        except ContractError as err:  # deleted there: nothing is left to compare with
            log.warning("%s", err)
            continue
        if same:
            return f"version {version} has the files of version {other}, which was rolled back, and is not promoted"
    return None


def changed_by(db: Engine, incident_id: int, kind: str) -> int | None:
    """Read the champion token that this incident's newest change of a kind set; None if there was none."""
    tokens = [change.token for change in changes_of_incident(db, incident_id) if change.kind == kind]
    return max(tokens, default=None)
