"""The parts of one serving process, put together: models, log, metrics, and the champion's follower."""

import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.contributors import ANONYMOUS
from datasets_defs.core.faults import passing
from datasets_defs.core.settings import settings
from datasets_defs.core.streams import stream_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import inference_log
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.inference_log import Inference
from serving.engine import Completer, LossLike, ServedCompletion, ServedModel
from serving.log_writer import LogWriter
from serving.metrics import ServingMetrics
from serving.protocol import ApiError, CompletionRequest, unknown_model
from serving.reload import Fetch, Pace, Reloader
from training.model.adapter_files import base_of


class Service:
    """Everything that answers, measures, logs and follows; `start` and `close` bracket its life."""

    def __init__(
        self,
        db: Engine,
        specs: Mapping[str, ModelSpec],
        fetch: Fetch,
        *,
        problems: tuple[str, ...] = (),
        pace: Pace | None = None,
    ) -> None:
        self.db = db
        self.problems = problems
        self.described = frozenset(specs)
        self.models = {name: ServedModel(spec) for name, spec in specs.items() if spec.serving.kind == "driftloop"}
        self.metrics = ServingMetrics(self.models)
        for name, served in self.models.items():
            self.metrics.follow(name, partial(_version, served), partial(_queue_length, served))
        self.log = LogWriter(
            partial(inference_log.append, db),
            wrote=lambda row: self.metrics.log_rows.labels(row.model).inc(),
            dropped=lambda row: self.metrics.log_dropped.labels(row.model).inc(),
        )
        self.reloader = Reloader(db, self.models, fetch, pace=pace)

    def start(self) -> None:
        """Start the threads."""
        self.log.start()
        self.reloader.start()

    def close(self) -> None:
        """Stop taking work, finish what is being answered, write what is waiting."""
        self.reloader.close()
        for served in self.models.values():
            served.close()
        self.log.close()

    def model(self, name: str) -> ServedModel:
        """Find a model.

        Raises:
            ApiError: it is not served here.
        """
        try:
            return self.models[name]
        except KeyError:
            raise unknown_model(name, list(self.models)) from None

    def record(self, request: CompletionRequest, request_id: str, answer: ServedCompletion, seconds: float) -> None:
        """Count an answered request and hand its row to the log; a batch's stand apart from live traffic."""
        completion = answer.completion
        row = Inference(
            model=stream_of(request.model, request.metadata),
            request_id=request_id,
            at=datetime.now(UTC),
            prompt=request.prompt,
            completion=completion.text,
            model_version=answer.version,
            prompt_bits_per_byte=_per_byte(completion.prompt_loss),
            completion_bits_per_byte=_per_byte(completion.completion_loss),
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            latency_seconds=seconds,
            user_id=request.user,
            session_id=request.session_id,
            attributes=dict(request.metadata or {}),
        )
        self.metrics.answered(row, prompt=_cost(completion.prompt_loss), completion=_cost(completion.completion_loss))
        self.log.put(row)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether at least one model can answer, and how everything stands."""
        models = {
            name: {**status, "queue_length": self.models[name].queue_length}
            for name, status in self.reloader.status().items()
        }
        ready = not models or any(status["loaded_version"] is not None for status in models.values())
        return ready, {
            "status": "ok" if ready else "no champion is loaded yet",
            "models": models,
            "database": self.reloader.database_problem or self.log.problem or "ok",
            "log_rows_waiting": self.log.waiting,
            "problems": list(self.problems),
        }

    def add_feedback(
        self, model: str, request_id: str, reference: str | None, score: float | None, *, contributor: str = ANONYMOUS
    ) -> bool:
        """Keep a late word on a request, and whose it is; says whether it is kept, or another's stands.

        The model may be one that another server serves.

        Raises:
            ApiError: there is no such model.
            TransientError: PostgreSQL is away; the caller has to try again.
        """
        if model not in self.described:
            raise unknown_model(model, list(self.described))
        return add_feedback(self.db, model, request_id, reference=reference, score=score, contributor=contributor)


def fetch_from_registry(db: Engine, model: str, version: int) -> Completer:
    """Bring a version into the serving cache and load it; versions of the model not used lately are removed."""
    from training.model.language_model import LanguageModel
    from training.registry.fetch import fetch
    from training.registry.registry import Registry

    cache = settings().home / "serving-cache"
    folder = fetch(db, Registry(settings().mlflow_url), model, version, cache=cache)
    passing("serving.load")
    loaded = LanguageModel.load(folder)
    _forget_old(folder)
    return loaded


def _forget_old(folder: Path, keep: int = 3) -> None:
    """Keep this version's folder and the newest few beside it; a rollback goes to one of those."""
    with suppress(OSError):  # another process may clean the same cache
        others = sorted(
            (path for path in folder.parent.iterdir() if path.is_dir() and path != folder and path.name[:1] != "."),
            key=lambda path: path.stat().st_mtime,
        )
        kept = [folder, *others[-(keep - 1) :]]
        bases = {f"v{base.version}" for place in kept if (base := base_of(place)) is not None}
        for path in others[: -(keep - 1)]:
            if path.name not in bases:  # an adapter that may be loaded again needs it
                shutil.rmtree(path, ignore_errors=True)


def refuse_impossible(spec: ModelSpec, request: CompletionRequest) -> None:
    """Check a request against the model's limits.

    Raises:
        ApiError: more tokens are asked for than the spec allows.
    """
    limit = spec.serving.max_completion_tokens
    if request.max_tokens > limit:
        message = f"max_tokens is {request.max_tokens}; {spec.name} allows {limit} (serving.max_completion_tokens)."
        raise ApiError(400, message, param="max_tokens")


def _version(served: ServedModel) -> int | None:
    return served.version


def _queue_length(served: ServedModel) -> int:
    return served.queue_length


def _per_byte(loss: LossLike | None) -> float | None:
    return loss.bits / loss.bytes if loss is not None and loss.bytes else None


def _cost(loss: LossLike | None) -> tuple[float, int]:
    """Give bits and bytes to count; one NaN of a broken version would make a counter NaN until the next restart."""
    return (loss.bits, loss.bytes) if loss is not None and math.isfinite(loss.bits) else (0.0, 0)
