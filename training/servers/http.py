"""One HTTP request to a server, its failures in the loop's two kinds."""

from typing import Any

import httpx

from datasets_defs.core.errors import ContractError, TransientError

_LATER = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses with which a server says: not now."""


def asked(client: httpx.Client, method: str, path: str, *, hint: str = "", **request: Any) -> Any:
    """Send a request and give the answer's JSON, None where it has none.

    Raises:
        ContractError: the server refuses; `hint` says what to do about it.
        TransientError: it is away, slow or busy.
    """
    where = f"{str(client.base_url).rstrip('/')}{path}"
    try:
        answer = client.request(method, path, **request)
    except httpx.HTTPError as err:
        raise TransientError(f"{method} {where}: {str(err) or type(err).__name__}") from err
    if answer.status_code in _LATER:
        raise TransientError(f"{method} {where} says {answer.status_code}: {answer.text[:200]}")
    if not answer.is_success:
        advice = f"; {hint}" if hint and answer.status_code in (401, 403, 404, 405) else ""
        raise ContractError(f"{method} {where} says {answer.status_code}: {answer.text[:300]}{advice}")
    try:
        return answer.json() if answer.content else None
    except ValueError:
        return None
