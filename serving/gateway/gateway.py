"""The parts of one gateway, put together: models, replicas, keys, log, metrics."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import arm_log, inference_log
from serving.gateway.arms import Arm, ArmCounts, arm_of, unit_of
from serving.gateway.asked import Asked, for_server
from serving.gateway.directory import Directory
from serving.gateway.doorkeeper import Doorkeeper
from serving.gateway.exchange import Exchange
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.recent import Recent
from serving.gateway.upstream import Upstream
from serving.log_writer import LogWriter
from serving.protocol import not_ready, retired_model, unknown_model
from serving.wire.http_client import HttpClient

log = logging.getLogger(__name__)


class Gateway:
    """Everything that answers, measures and logs; `start` and `close` bracket its life."""

    def __init__(
        self,
        db: Engine,
        specs: Mapping[str, ModelSpec],
        *,
        problems: tuple[str, ...] = (),
        poll: float = 1.0,
        always_keys: bool = False,
    ) -> None:
        """Read PostgreSQL every `poll` seconds; with `always_keys` nobody asks without a key, ever."""
        self.db, self.specs, self.problems = db, specs, problems
        self.metrics = GatewayMetrics(specs)
        self.client = HttpClient()
        self.doorkeeper, self.recent = Doorkeeper(always=always_keys), Recent()
        speaking = [name for name, spec in specs.items() if spec.serving.can_say]
        self.arms = ArmCounts(partial(arm_log.add_tallies, db))
        self.directory = Directory(db, self.doorkeeper, speaking=speaking, poll=poll, also=self.arms.flush)
        self.log = LogWriter(
            partial(inference_log.append, db),
            wrote=lambda row: self.metrics.log_rows.labels(row.model).inc(),
            dropped=lambda row: self.metrics.log_dropped.labels(row.model).inc(),
        )
        self.upstreams = {name: self._upstream(spec) for name, spec in specs.items()}

    async def start(self) -> None:
        """Read PostgreSQL once, open the pool of connections, and start the threads."""
        await asyncio.to_thread(self.directory.start)
        self.log.start()
        await self.client.start()

    async def close(self) -> None:
        """Close the pool, and write what waits for the log; requests in flight have ended before."""
        await self.client.close()
        await asyncio.to_thread(self.directory.close)
        with suppress(TransientError, SQLAlchemyError):  # counts of the last second: both versions lose alike
            await asyncio.to_thread(self.arms.flush)
        await asyncio.to_thread(self.log.close)

    def upstream(self, model: str) -> Upstream:
        """Find the servers of a model.

        Raises:
            ApiError: there is no such model, or it is retired and its route closed.
        """
        if model not in self.upstreams:
            raise unknown_model(model, self.open_models())
        if (retired := self.directory.closed(model)) is not None:
            raise retired_model(model, retired.since)
        return self.upstreams[model]

    def open_models(self) -> list[str]:
        """List the models that answer, by name."""
        return sorted(name for name in self.upstreams if self.directory.closed(name) is None)

    def arm_for(self, asked: Asked, request_id: str) -> Arm | None:
        """Say which version answers a request while two serve; None: one serves."""
        model = asked.body["model"]
        route = self.directory.route(model)
        if route is None:
            return None
        every = [replica.url for replica in self.upstreams[model].replicas.all]
        return arm_of(route, unit_of(asked, request_id), every)

    def body_for(self, exchange: Exchange) -> bytes:
        """Give the body that goes to the server, and note what it asks for on the log's behalf.

        Raises:
            ApiError: no version serves yet, and the server's name of it needs one.
        """
        upstream, asked = exchange.upstream, exchange.asked
        serving = upstream.limits
        adapter = self.directory.adapter(exchange.model, exchange.version)
        name = serving.name_at_server(exchange.model, exchange.version, adapter=adapter)
        if name is None:
            raise not_ready(f"{exchange.model} has no champion yet, and its name at the server holds the version")
        streams = exchange.logged and asked.streams
        exchange.hides_count = streams and serving.stream_usage and not asked.counts
        exchange.hides_loss = exchange.logged and not asked.streams and "prompt_logprobs" not in asked.body
        exchange.hides_loss &= _drawn(exchange.request_id) < serving.prompt_loss_share
        return for_server(asked, name, count_tokens=exchange.hides_count, prompt_loss=exchange.hides_loss)

    def ended(self, exchange: Exchange) -> None:
        """Count a request that has ended, and hand its rows to the log."""
        metrics, model, outcome = self.metrics, exchange.model, exchange.outcome or "error"
        metrics.requests.labels(model, outcome).inc()
        if exchange.arm is not None and exchange.counted:
            self.arms.add(exchange.arm, outcome)
            metrics.arm_requests.labels(model, exchange.arm.kind, outcome).inc()
        if outcome == "ok" and exchange.seconds is not None:
            metrics.seconds.labels(model).observe(exchange.seconds)
            metrics.prompt_tokens.labels(model).inc(exchange.answer.prompt_tokens or 0)
            metrics.completion_tokens.labels(model).inc(exchange.answer.completion_tokens or 0)
        if exchange.first_token_seconds is not None:
            metrics.first_token.labels(model).observe(exchange.first_token_seconds)
        if exchange.logged and (outcome == "ok" or (outcome == "cancelled" and exchange.status == 200)):
            self._log(exchange)
        elif exchange.client is not None and outcome == "ok":
            self.recent.add(exchange.request_id, exchange.client)

    def _log(self, exchange: Exchange) -> None:
        """Hand a request's rows to the log; one that cannot be read is counted, and fails nobody."""
        try:
            rows = exchange.rows()
        except (ValueError, TypeError, AttributeError, RecursionError):  # JSON whose parts are of other kinds
            log.warning("request %s has no row in the log", exchange.request_id, exc_info=True)
            rows = None
        if rows is None:
            self.metrics.log_unreadable.labels(exchange.model).inc()
        for row in rows or ():
            self.log.put(row)
            if row.client is not None:
                self.recent.add(row.request_id, row.client)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether keys are known and every model with replicas has one that may be asked, and how all stands."""
        models = {}
        for name, upstream in self.upstreams.items():
            models[name] = {
                "version": self.directory.version(name),
                "rollout": _rollout(self.directory.route(name)),
                "replicas": {
                    replica.url: {
                        "state": "ok" if replica.breaker.closed else "resting",
                        "failures": replica.breaker.failures,
                        "in_flight": replica.in_flight,
                    }
                    for replica in upstream.replicas.all
                },
            }
        down = [
            name
            for name, upstream in self.upstreams.items()
            if upstream.replicas.all and upstream.resting() == len(upstream.replicas.all)
        ]
        problem = f"no replica answers for {', '.join(sorted(down))}" if down else None
        if self.doorkeeper.keys is None:
            problem = "nobody may ask: PostgreSQL is away, and the clients' keys were not read yet"
        return problem is None, {
            "status": problem or "ok",
            "models": models,
            "database": self.directory.problem or self.log.problem or "ok",
            "database_read_seconds_ago": self.directory.age(),
            "keys": "needed" if self.doorkeeper.guards else "none: anybody who reaches this address may ask",
            "log_rows_waiting": self.log.waiting,
            "log_rows_dropped": self.log.lost,
            "problems": list(self.problems),
        }

    def _upstream(self, spec: ModelSpec) -> Upstream:
        urls = spec.serving.replicas
        if not urls and spec.serving.kind == "driftloop":
            urls = (settings().serving_url,)
        retries = self.metrics.retries.labels(spec.name)
        upstream = Upstream(spec, urls, self.client, retries.inc)
        self.metrics.follow(spec.name, upstream.resting, upstream.in_flight)
        return upstream


def _rollout(route: Route | None) -> dict[str, Any] | None:
    if route is None:
        return None
    return {"version": route.challenger_version, "share": route.share, "replicas": route.replicas, "held": route.held}


def _drawn(request_id: str) -> float:
    """Give a number from 0 to 1 that a request's id decides."""
    return int.from_bytes(hashlib.md5(request_id.encode(), usedforsecurity=False).digest()[:8]) / 2**64
