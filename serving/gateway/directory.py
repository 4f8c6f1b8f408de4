"""What PostgreSQL says and every request needs: versions and keys, read beside the requests, kept while it is away."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from datasets_defs.core.errors import TransientError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import Retirement, closed_routes
from datasets_defs.ledger.routes import Route
from datasets_defs.store.client_keys import keys
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.versions import adapter_labels
from serving.gateway.doorkeeper import Doorkeeper

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What was read last."""

    versions: Mapping[str, int]
    """The version that answers, by model; models before their first are not in it."""
    routes: Mapping[str, Route]
    """How the users of models are divided between two versions; the champion answers all of the others."""
    closed: Mapping[str, Retirement]
    """Retired models that answer nobody any more."""
    adapters: Mapping[tuple[str, int], str]
    """The labels of versions that are adapters, by model and version."""
    at: float
    """When, on the monotonic clock."""


class Directory:
    """One thread that reads every `poll` seconds; requests read what it knows and wait for nothing.

    A change is known to every gateway after `poll` seconds. While PostgreSQL is away the last word holds; `age` says
    how old it is. Models in `speaking` have servers that say what they loaded: their version is the one last confirmed,
    since until then the former one answers. Of others it is the ledger's champion. With each look what requests left
    to be told (`also`) is told.
    """

    def __init__(
        self,
        db: Engine,
        doorkeeper: Doorkeeper,
        *,
        speaking: Collection[str] = (),
        poll: float = 1.0,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        self._db, self._doorkeeper, self._speaking, self._poll = db, doorkeeper, frozenset(speaking), poll
        self._confirmed: dict[str, int] = {}
        self._also = also
        self._ledger = Ledger(db)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="directory", daemon=True)
        self.known: Known | None = None
        self.problem: str | None = None
        """Why PostgreSQL cannot be read now, for /health."""

    def start(self) -> None:
        """Read once, and go on reading."""
        self.read()
        self._thread.start()

    def close(self, limit: float = 5.0) -> None:
        """Stop reading; a read under way is not waited for longer than `limit` seconds."""
        self._stop.set()
        self._thread.join(limit)

    def version(self, model: str) -> int | None:
        """Give the version that serves a model, as far as is known."""
        return self.known.versions.get(model) if self.known else None

    def route(self, model: str) -> Route | None:
        """Give how a model's users are divided; None: the champion answers all, as far as is known."""
        return self.known.routes.get(model) if self.known else None

    def adapter(self, model: str, version: int | None) -> str | None:
        """Give the label of a version that is an adapter; None: it has weights of its own, as far as is known."""
        return self.known.adapters.get((model, version)) if self.known and version is not None else None

    def closed(self, model: str) -> Retirement | None:
        """Give the retirement that closed a model's route; None: it answers, as far as is known."""
        return self.known.closed.get(model) if self.known else None

    def age(self) -> float | None:
        """Say how many seconds ago the last word came; None: none came yet."""
        return time.monotonic() - self.known.at if self.known else None

    def read(self) -> None:
        """Read once; what cannot be read stays as it was."""
        try:
            versions = {name: champion.version for name, champion in self._ledger.champions().items()}
            versions |= self._loaded()
            routes = self._ledger.routes()
            closed = closed_routes(self._db)
            adapters = adapter_labels(self._db)
            self._also()
            known = {key.id: key for key in keys(self._db)}
        except (TransientError, SQLAlchemyError) as err:  # e.g. a schema that is yet to be migrated
            if self.problem is None:
                log.warning("the gateway goes on with what it last knew: %s", err)
            self.problem = str(err).splitlines()[0]
            return
        self.problem = None
        self.known = Known(versions, routes, closed, adapters, time.monotonic())
        self._doorkeeper.keys = known

    def _loaded(self) -> dict[str, int]:
        """Give the versions that servers last confirmed; one that has none loaded now still answers with its last."""
        if self._speaking:
            told = heartbeats(self._db)
            for name in self._speaking:
                loaded = told[f"serving:{name}"][1].get("loaded_version") if f"serving:{name}" in told else None
                if isinstance(loaded, int):
                    self._confirmed[name] = loaded
        return dict(self._confirmed)

    def _run(self) -> None:
        while not self._stop.wait(self._poll):
            self.read()
