"""Who may do what, and how often. Pure: time is an argument, in seconds."""

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from datasets_defs.store.client_keys import ClientKey, Scope, digest, key_id
from serving.protocol import ApiError


@dataclass
class Doorkeeper:
    """Knows the keys as PostgreSQL last told them, and counts each key's requests in this process."""

    keys: Mapping[str, ClientKey] | None = None
    """By the part that is no secret; None: they are not known yet."""
    always: bool = False
    """Whether a key is needed even where none was ever made, as at an address that others reach."""
    _allowances: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each key with a limit: requests left, and when that was counted."""

    @property
    def guards(self) -> bool:
        """Whether a key is needed; once there was one, for good, even when all are revoked."""
        return self.always or self.keys is None or bool(self.keys)

    def admit(self, authorization: str | None, scopes: frozenset[Scope], now: float) -> ClientKey | None:
        """Say whose key this is; None: no key is needed here. One of `scopes` must be the key's.

        Raises:
            ApiError: 401 without a good key, 403 without the scope, 429 beyond its limit, 503 while keys are unknown.
        """
        if self.keys is None:
            raise ApiError(503, "The clients' keys are not read yet; PostgreSQL is away.", type_="server_error",
                           code="unavailable", retry_after=2)  # fmt: skip
        if not self.guards:
            return None
        key = self._known(authorization)
        if not scopes & key.scopes:
            needed = " or ".join(sorted(scopes))
            raise ApiError(403, f"The key {key.name!r} lacks the scope {needed}.", code="insufficient_scope")
        self._count(key, now)
        return key

    def require_model(self, key: ClientKey | None, model: str) -> None:
        """Check that a key is for a model.

        Raises:
            ApiError: it is not.
        """
        if key is not None and key.models is not None and model not in key.models:
            raise ApiError(403, f"The key {key.name!r} is not for the model {model!r}.", param="model",
                           code="insufficient_scope")  # fmt: skip

    def _known(self, authorization: str | None) -> ClientKey:
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        identity = key_id(given) if scheme.lower() == "bearer" else None
        key = (self.keys or {}).get(identity or "")
        if key is None or not hmac.compare_digest(key.sha256, digest(given)) or key.revoked_at is not None:
            why = "was revoked" if key is not None and key.revoked_at is not None else "is missing or not known"
            raise ApiError(401, f"The key {why}; give one as `Authorization: Bearer dl-…`.", code="invalid_api_key")
        return key

    def _count(self, key: ClientKey, now: float) -> None:
        """Take one request from a key's allowance, which fills up evenly to a minute's worth."""
        limit = key.requests_per_minute
        if limit is None:
            return
        left, at = self._allowances.get(key.id, (float(limit), now))
        left = min(float(limit), left + (now - at) * limit / 60)
        if left < 1:
            self._allowances[key.id] = (left, now)
            wait = max(1, math.ceil(round((1 - left) * 60 / limit, 6)))
            message = f"The key {key.name!r} may ask {limit} times a minute; try again in {wait} s."
            raise ApiError(429, message, type_="rate_limit_error", code="rate_limit_exceeded", retry_after=wait)
        self._allowances[key.id] = (left - 1, now)
