"""What people say of answers, for every model behind the gateway, and who may say it."""

import re
import time

from pydantic import ValidationError

from datasets_defs.core.contributors import ANONYMOUS, KEY, USER
from datasets_defs.store import inference_log
from datasets_defs.store.client_keys import ClientKey, Scope
from datasets_defs.store.feedback import add_feedback
from serving.gateway.gateway import Gateway
from serving.protocol import ApiError, FeedbackRequest, from_validation

MAY = frozenset({Scope.ASK, Scope.REFERENCES})
_SERVERS_ID = re.compile(r"(?:chat)?cmpl-([0-9a-f]{32})(?:-\d+)?")
"""How vLLM writes the gateway's request id into the `id` of its answers."""


def read(body: bytes) -> FeedbackRequest:
    """Read the body of `POST /v1/feedback`.

    Raises:
        ApiError: a field is missing, unknown or wrong; names it.
    """
    try:
        return FeedbackRequest.model_validate_json(body)
    except ValidationError as err:
        raise from_validation([{**item, "loc": ("body", *item["loc"])} for item in err.errors()]) from err


def gateways_id(given: str) -> str:
    """Give a request's id in the log: the header's, also when the caller has only the `id` that vLLM made of it."""
    match = _SERVERS_ID.fullmatch(given)
    return match.group(1) if match else given


def keep(gateway: Gateway, key: ClientKey | None, feedback: FeedbackRequest) -> None:
    """Keep what was said; with keys only of a request that the same key asked, or by a key that may send references.

    Raises:
        ApiError: there is no such model, or this key may not say anything of this request.
        TransientError: PostgreSQL is away; the caller has to try again.
    """
    gateway.upstream(feedback.model)
    gateway.doorkeeper.require_model(key, feedback.model)
    request_id = gateways_id(feedback.request_id)
    if key is not None and Scope.REFERENCES not in key.scopes:
        asked_by = gateway.recent.asked_by(request_id) or inference_log.asked_by(gateway.db, feedback.model, request_id)
        if asked_by != key.name:
            raise ApiError(
                403,
                f"The key {key.name!r} did not ask the request {feedback.request_id!r}; feedback on others' requests "
                f"needs a key with the scope {Scope.REFERENCES}, since references are training data.",
                param="request_id",
                code="insufficient_scope",
            )
    contributor = _whose(key)
    kept = add_feedback(
        gateway.db,
        feedback.model,
        request_id,
        reference=feedback.reference,
        score=feedback.score,
        contributor=contributor,
    )
    if not kept:
        raise ApiError(
            409,
            f"Somebody else's word on the request {feedback.request_id!r} stands; only who sent it can replace it.",
            param="request_id",
            code="others_word",
        )


def _whose(key: ClientKey | None) -> str:
    """Name whose word it is: nobody's, a key's that sends references, or that of the user who asked with the key."""
    if key is None:
        return ANONYMOUS
    return (KEY if Scope.REFERENCES in key.scopes else USER) + key.name


def admit(gateway: Gateway, authorization: str | None) -> ClientKey | None:
    """Say whose key it is that comes with feedback.

    Raises:
        ApiError: as `Doorkeeper.admit`.
    """
    return gateway.doorkeeper.admit(authorization, MAY, time.monotonic())
