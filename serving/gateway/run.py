"""Runs a gateway: who may reach it, and how it ends."""

import gc
import ipaddress
import logging
import sys

import uvicorn
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.files import load_all
from datasets_defs.store.client_keys import keys
from datasets_defs.store.database import engine
from serving.gateway.app import create_app
from serving.gateway.gateway import Gateway

log = logging.getLogger("serving.gateway")

SWITCH_SECONDS = 0.0005
"""How long the thread that writes the log may keep the requests' waiting; Python's own 5 ms showed in their p99."""
LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104  # only with keys


def run(*, host: str | None, port: int, drain_seconds: int, needs_models: bool = True) -> None:
    """Serve every model of the models folder until told to stop; requests in flight get `drain_seconds`.

    Raises:
        ContractError: there is no model although it `needs_models`, or the address can be reached by others and no key
            is needed.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    specs, problems = load_all()
    for problem in problems:
        log.error("not served: %s", problem)
    if not specs and needs_models:
        raise ContractError("the gateway has no model to serve; describe one first: driftloop init NAME")
    db = engine()
    address = address_for(host, keys_exist(db))
    app = create_app(Gateway(db, specs, problems=tuple(problems), always_keys=not _loopback(address)))
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what was imported lives as long as the process: no collection has to walk through it
    log.info("the gateway listens on %s:%d for %s", address, port, ", ".join(sorted(specs)))
    uvicorn.run(
        app,
        host=address,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # longer than clients keep idle connections: one that is closed as it is used fails
        timeout_graceful_shutdown=drain_seconds,
    )


def keys_exist(db: Engine) -> bool | None:
    """Say whether a key is needed; None: PostgreSQL is away and nobody knows."""
    try:
        return bool(keys(db))
    except TransientError as err:
        log.warning("whether there are keys is not known: %s", err)
        return None


def address_for(host: str | None, keys_exist: bool | None) -> str:  # noqa: FBT001  # it is what the decision is about
    """Decide where to listen: on loopback while no key is needed, else wherever is asked. Pure, but for its warning.

    Raises:
        ContractError: others could reach the address, and there is no key.
    """
    if keys_exist is False:
        if host is not None and not _loopback(host):
            raise ContractError(
                f"--host {host} can be reached by others, and there is no key: anybody could ask, and write training "
                "data. Make one first: driftloop key create NAME"
            )
        log.warning(
            "NO KEYS: whoever reaches this address may ask and send references; it listens on loopback only. "
            "Make a key with `driftloop key create NAME`, and start the gateway again to let others in"
        )
        return host or LOOPBACK
    return host or (ANY if keys_exist else LOOPBACK)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
