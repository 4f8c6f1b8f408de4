"""Commands about the keys of the gateway's clients: key create, key list, key revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, person, require_known
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from datasets_defs.store.client_keys import ClientKey

KeyName = Annotated[str, typer.Argument(help="Who holds the key; it stands in the log.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(help="Keys of the gateway's clients: who may ask, and for what.", no_args_is_help=True)
    add(group, create, None, "driftloop key create shop --requests-per-minute 600")
    add(group, list_, None, "driftloop key list", name="list")
    add(group, revoke, None, "driftloop key revoke shop")
    app.add_typer(group, name="key", rich_help_panel=Panel.SERVE)


def create(
    name: KeyName,
    scope: Annotated[
        list[str] | None, typer.Option(help="ask (the default), references or read; give it several times for several.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only for this model; several times for several. Left out: for all.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Most requests a minute, for each gateway.", min=1, show_default=False)
    ] = None,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from datasets_defs.core.errors import ContractError
    from datasets_defs.store.client_keys import Scope
    from datasets_defs.store.client_keys import create as make
    from ops.stack.database import database

    given = scope or [Scope.ASK]
    unknown = sorted(set(given) - set(Scope))
    if unknown:
        raise ContractError(f"--scope {unknown[0]}: there are {', '.join(Scope)}")
    for known in model or ():
        require_known(known)
    key = make(
        database(),
        name,
        {Scope(value) for value in given},
        actor=person(),
        models=model,
        requests_per_minute=requests_per_minute,
    )
    tables.errors.print(f"The key of {name}; it is shown this once. Gateways know it within a second.", highlight=False)
    tables.plainly(key)


def list_(as_json: AsJson = False) -> None:
    """List the keys, without their secrets; those that were revoked, too."""
    from datasets_defs.store.client_keys import keys
    from ops.stack.database import database

    known = keys(database())
    if as_json:
        tables.print_json([_plain(key) for key in known])
        return
    if not known:
        tables.plainly("there is no key: the gateway listens on loopback, and anybody there may ask")
        return
    shown = tables.table("name", "scopes", "models", "a minute", "made", "state", right=("a minute",))
    for key in known:
        shown.add_row(
            tables.escape(key.name),
            ", ".join(sorted(key.scopes)),
            "all" if key.models is None else ", ".join(sorted(key.models)),
            str(key.requests_per_minute or ""),
            f"{key.created_at:%Y-%m-%d}",
            f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else "in use",
        )
    tables.console.print(shown)


def _plain(key: "ClientKey") -> dict[str, object]:
    return {
        "name": key.name,
        "id": key.id,
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "requests_per_minute": key.requests_per_minute,
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "created_by": key.created_by,
        "revoked_at": key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else None,
    }


def revoke(name: KeyName) -> None:
    """Revoke a key, for good; gateways refuse it within a second."""
    from datasets_defs.store.client_keys import revoke as end
    from ops.stack.database import database

    if end(database(), name, actor=person()):
        tables.plainly(f"the key of {name} is revoked")
    else:
        tables.plainly(f"the key of {name} was revoked before")
