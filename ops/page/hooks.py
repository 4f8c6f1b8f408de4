"""The route for MLflow's webhooks: whoever signs with our secret may have the registry looked at now, and no more.

What a delivery says is believed in nothing: it says which model to look at. What `reconcile` then finds in MLflow and
in the model's YAML decides, as it does every ten minutes. A delivery that is lost, late, or comes twice changes when.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.files import spec_of
from training.registry.manifest import KEY, OFFER

SIGNATURE, TIMESTAMP, DELIVERY = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"
OLDEST = timedelta(minutes=5)
"""How far a delivery's time may be from ours, either way; MLflow's own tries are over in seconds."""
MOST_BYTES = 256 * 2**10
ALIAS = "challenger"
_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


class RefusedDeliveryError(ContractError):
    """A delivery that is not from MLflow, or not for us; MLflow tries a 4xx no more."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDelivery:
    """What a signed delivery says."""

    id: str
    model: str
    asks: str | None
    """How the version asks to become champion; None: the event is of another kind."""


def read(headers: Mapping[str, str], body: bytes, *, secret: str, now: datetime) -> HookDelivery:
    """Read a delivery whose signature and time are right. Pure.

    Raises:
        RefusedDeliveryError: it is not signed with the secret, too old, or says nothing that MLflow says.
    """
    given = {name: headers.get(name, "") for name in (SIGNATURE, TIMESTAMP, DELIVERY)}
    if missing := sorted(name for name, value in given.items() if not value):
        raise RefusedDeliveryError(
            401, f"{', '.join(missing)} missing: MLflow signs a webhook that was made with a secret; make it with one"
        )
    signed = b".".join([given[DELIVERY].encode(), given[TIMESTAMP].encode(), body])
    wanted = "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(wanted.encode(), given[SIGNATURE].encode()):
        raise RefusedDeliveryError(
            401, "the signature is not of this secret: give the webhook the value of DRIFTLOOP_MLFLOW_WEBHOOK_SECRET"
        )
    age = now - _time_of(given[TIMESTAMP])
    if abs(age) > OLDEST:
        raise RefusedDeliveryError(
            401, f"the delivery is {age.total_seconds():.0f} s old, and {OLDEST.total_seconds():.0f} s are the most: "
            "it was sent again by somebody, or a clock is wrong",
        )  # fmt: skip
    if not _ID.fullmatch(given[DELIVERY]):
        raise RefusedDeliveryError(400, f"{DELIVERY} is {given[DELIVERY][:80]!r}, and no id of MLflow's")
    return _said(given[DELIVERY], body)


def _time_of(stamp: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(stamp), UTC)
    except (ValueError, OverflowError, OSError) as err:
        raise RefusedDeliveryError(400, f"{TIMESTAMP} is {stamp[:40]!r}, and no time in seconds since 1970") from err


def _said(delivery: str, body: bytes) -> HookDelivery:
    try:
        content = json.loads(body)
        data, event = content["data"], f"{content['entity']}.{content['action']}"
        model = str(data["name"])
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise RefusedDeliveryError(
            400, "the body is no event of MLflow's: entity, action and data.name are needed"
        ) from err
    return HookDelivery(id=delivery, model=model, asks=_asks(event, data))


def _asks(event: str, data: Mapping[str, Any]) -> str | None:
    """Say by what the event's version asks to become champion, as `reconcile` would find it."""
    tags = data.get("tags")
    match event:
        case "model_version_alias.created" if data.get("alias") == ALIAS:
            return f"the alias {ALIAS}"
        case "model_version_tag.set" if data.get("key") == OFFER:
            return f"the tag {OFFER}"
        case "model_version.created" if isinstance(tags, dict) and OFFER in tags and KEY not in tags:
            return f"the tag {OFFER}"
        case _:
            return None


def make_hooks(
    secret: str, wake: Callable[[str], str], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> FastAPI:
    """Make the app; `wake` has the registry looked at for a delivery's id, once, and says what it did."""
    app = FastAPI(title="driftloop hooks", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.post("/mlflow")
    async def mlflow(request: Request) -> Response:
        """Have `reconcile` look for offers in MLflow, where a version of a model that takes them asks."""
        if not secret:
            return _answer(503, "DRIFTLOOP_MLFLOW_WEBHOOK_SECRET is not set here, so nothing is believed")
        body = await _body_of(request)
        if body is None:
            return _answer(413, f"more than {MOST_BYTES} bytes are no event of MLflow's")
        try:
            delivery = read(request.headers, body, secret=secret, now=clock())
            return await run_in_threadpool(_done, delivery, wake)
        except RefusedDeliveryError as err:
            return _answer(err.status, str(err))
        except TransientError as err:
            return _answer(503, str(err))  # MLflow tries again

    return app


async def _body_of(request: Request) -> bytes | None:
    """Read the body; None where it is longer than any event."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return body


def _done(delivery: HookDelivery, wake: Callable[[str], str]) -> Response:
    if delivery.asks is None:
        return _answer(200, "nothing: no version asks to become champion by this event")
    try:
        takes = "registry" in spec_of(delivery.model).offers
    except ContractError as err:
        return _answer(200, f"nothing: {err}")
    if not takes:
        return _answer(200, f"nothing: `offers` of {delivery.model} does not name the registry")
    return _answer(202, f"{wake(delivery.id)}: a version of {delivery.model} asks by {delivery.asks}")


def _answer(status: int, words: str) -> Response:
    return JSONResponse({"did" if status < 400 else "error": words}, status_code=status)
