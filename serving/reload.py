"""Follows the ledger's champion: loads a new version aside, swaps it in, and says so in a heartbeat."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from datasets_defs.core.errors import DriftloopError, TransientError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import closed_routes
from datasets_defs.store import heartbeats
from serving.engine import Completer, Loaded, ServedModel

log = logging.getLogger(__name__)

SIDE_BY_SIDE = 2
"""Loads of one model at a time: the wanted version's, and one that was begun before and is not wanted any more."""

Fetch = Callable[[str, int], Completer]
"""Brings a version of a model into memory; ContractError when it cannot ever be, TransientError when not now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often things are done, in seconds."""

    poll: float = 1.0
    beat: float = 2.0
    retry_away: float = 3.0
    """After the registry was away."""
    retry_broken: float = 60.0
    """After a version did not load; somebody may have mended it."""


class _Follower:
    """What is known of one model: wanted version, a load under way, the last failure.

    Each model loads by itself: one model's slow load holds up no other. A load that is no longer wanted is left alone
    and its result dropped; the one that is wanted begins beside it. Another follower of the model brings a challenger
    that is rolled out `beside` the champion.
    """

    def __init__(self, served: ServedModel, *, beside: bool = False) -> None:
        self.served, self.is_beside = served, beside
        self.wanted: int | None = None
        self.load: Future[Completer] | None = None
        self.loading: int | None = None
        self.error: str | None = None
        self.failed: int | None = None
        self.not_before = 0.0
        self.loader = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix=f"load-{served.spec.name}")

    @property
    def loaded(self) -> Loaded | None:
        """What is in memory in its place."""
        return self.served.beside if self.is_beside else self.served.loaded

    def put(self, loaded: Loaded | None) -> None:
        """Put a version into its place; whoever began with another one goes on with that."""
        if self.is_beside:
            self.served.beside = loaded
        else:
            self.served.loaded = loaded

    @property
    def version(self) -> int | None:
        """The version in its place."""
        return self.loaded.version if self.loaded is not None else None

    @property
    def details(self) -> dict[str, Any]:
        """What the heartbeat says."""
        if self.is_beside:
            beside = {"beside_version": self.version, "beside_error": self.error}
            return {name: value for name, value in beside.items() if value is not None}
        unusual = {"wanted_version": self.wanted, "loading_version": self.loading, "load_error": self.error}
        return {
            "loaded_version": self.version,
            **{name: value for name, value in unusual.items() if value is not None},
        }

    def drop_unwanted(self) -> None:
        """Forget a load of a version that the ledger no longer wants; what it brings is never served."""
        if self.wanted is None:
            self.error = self.failed = None
            self.put(None)
        if self.load is None or self.loading == self.wanted:
            return
        self.load.cancel()
        log.info("%s: version %s is not wanted any more; its load is dropped", self.served.spec.name, self.loading)
        self.load = self.loading = None

    def take_over(self) -> bool:
        """Make a challenger that is held beside the champion the champion, once it is; say whether that was done."""
        beside = self.served.beside
        if self.is_beside or beside is None or beside.version != self.wanted or self.version == self.wanted:
            return False
        self.put(beside)
        return True


class Reloader:
    """One thread that watches and beats, and for each model some that load; requests never wait for any of them."""

    def __init__(
        self, db: Engine, models: Mapping[str, ServedModel], fetch: Fetch, *, pace: Pace | None = None
    ) -> None:
        self._db, self._ledger, self._fetch, self._pace = db, Ledger(db), fetch, pace or Pace()
        self._followers = {name: _Follower(served) for name, served in models.items()}
        self._beside = {name: _Follower(served, beside=True) for name, served in models.items()}
        self._wake = threading.Event()
        self._stopping = False
        self._beaten = 0.0
        self.database_problem: str | None = None
        """Why the ledger cannot be read or written now, for /healthz."""
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def close(self, limit: float = 5.0) -> None:
        """Stop watching; a load under way is not waited for longer than `limit` seconds."""
        self._stopping = True
        self._wake.set()
        self._thread.join(limit)
        for follower in (*self._followers.values(), *self._beside.values()):
            follower.loader.shutdown(wait=False, cancel_futures=True)

    def status(self) -> dict[str, dict[str, Any]]:
        """Say how each model stands."""
        return {name: {**one.details, **self._beside[name].details} for name, one in self._followers.items()}

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._look()
            self._wake.wait(self._pace.poll)

    def _look(self) -> None:
        """Ask the ledger what is wanted, then swap in what was loaded and still is, and tell what serves.

        Without the ledger nothing is swapped: a version that was wanted when its load began may be rolled back by now.
        """
        try:
            champions, routes, closed = self._ledger.champions(), self._ledger.routes(), closed_routes(self._db)
            swapped = []
            for name, follower in self._followers.items():
                champion, route = champions.get(name) if name not in closed else None, routes.get(name)
                swapped.append(self._follow(follower, champion.version if champion else None))
                challenger = route.challenger_version if route is not None and not route.ending else None
                swapped.append(self._follow(self._beside[name], challenger))
            if any(swapped) or time.monotonic() - self._beaten >= self._pace.beat:
                for name, details in self.status().items():
                    heartbeats.beat(self._db, f"serving:{name}", details)
                self._beaten = time.monotonic()
            self.database_problem = None
        except (TransientError, SQLAlchemyError) as err:  # e.g. a schema that is yet to be migrated
            if self.database_problem is None:
                log.warning("serving goes on without the ledger: %s", err)
            self.database_problem = str(err).splitlines()[0]
            self._beaten = 0.0  # beat as soon as it is back: a swap may not have been told yet

    def _follow(self, follower: _Follower, wanted: int | None) -> bool:
        """Bring one model nearer to what the ledger wants; say whether anything changed that people wait to hear."""
        follower.wanted = wanted
        follower.drop_unwanted()
        swapped = follower.take_over() or self._settle(follower)
        self._start_load(follower)
        return swapped

    def _start_load(self, follower: _Follower) -> None:
        wanted, name = follower.wanted, follower.served.spec.name
        if wanted is None or follower.load is not None:
            return
        if wanted == follower.version:
            follower.error = follower.failed = None
            return
        if wanted == follower.failed and time.monotonic() < follower.not_before:
            return
        log.info("%s: loading version %d", name, wanted)
        follower.loading = wanted
        follower.load = follower.loader.submit(self._fetch, name, wanted)
        follower.load.add_done_callback(lambda _: self._wake.set())

    def _settle(self, follower: _Follower) -> bool:
        """Swap in what has been loaded; say whether anything changed that people wait to hear."""
        if follower.load is None or not follower.load.done() or follower.loading is None:
            return False
        load, version, name = follower.load, follower.loading, follower.served.spec.name
        follower.load = follower.loading = None
        error = load.exception()
        if error is None:
            follower.put(Loaded(version, load.result()))
            follower.error = follower.failed = None
            log.info("%s: version %d serves%s", name, version, " beside the champion" if follower.is_beside else "")
            return True
        wait = self._pace.retry_away if isinstance(error, TransientError) else self._pace.retry_broken
        words = str(error) if isinstance(error, DriftloopError) else f"{type(error).__name__}: {error}"
        follower.error = f"version {version} does not load: {words}"
        follower.failed, follower.not_before = version, time.monotonic() + wait
        log.error("%s: %s; version %s serves on", name, follower.error, follower.served.version)
        return True
