"""What Prometheus answers, or a server that speaks as it does: samples, or its own words of refusal. Pure."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from typing import Any

import httpx

from datasets_defs.core.errors import ContractError, TransientError

WORDS = 300
"""Characters of a server's own words that are passed on."""
_WRONG_QUERY = (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)
_WRONG_CREDENTIALS = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.PROXY_AUTHENTICATION_REQUIRED)
_HIDDEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series' value."""

    labels: dict[str, str]
    value: float
    at: datetime
    """When the query was evaluated; how old the scraped sample is, `freshness` says."""


def read(where: str, promql: str, response: httpx.Response) -> list[Sample]:
    """Read the answer to an instant query.

    Raises:
        ContractError: the server refuses the query or the credentials; its own words are in it.
        TransientError: it fails, or answers in part only, or as Prometheus does not.
    """
    _check(where, promql, response)
    try:
        answer = response.json()
        data = answer["data"]
        samples = _samples(data["resultType"], data["result"], promql)
        lacks = _lacks(answer)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
        raise TransientError(f"{where} did not answer as Prometheus does: {words(response)!r}") from err
    if lacks:  # a store behind it is away, say: what came is not all there is
        raise TransientError(f"{where} answered in part only: {lacks[:WORDS]}")
    return samples


def words(response: httpx.Response) -> str:
    """Give what the server says in its body: an error's text in JSON or in HTML, or the plain text."""
    try:
        return _of_json(response.json())[:WORDS]
    except ValueError:
        plain = unescape(_TAG.sub(" ", _HIDDEN.sub(" ", response.text)))
        return " ".join(plain.split())[:WORDS] or f"{response.reason_phrase or 'no'} and nothing else"


def _check(where: str, promql: str, response: httpx.Response) -> None:
    """Refuse an answer that holds no samples."""
    code, text = response.status_code, words(response) if response.status_code != httpx.codes.OK else ""
    if code in _WRONG_QUERY:
        raise ContractError(f"{where} refuses the query {promql!r}: {text}")
    if code in _WRONG_CREDENTIALS:
        raise ContractError(
            f"{where} refuses these credentials (HTTP {code}: {text}); mend the Connection's login, password or extra, "
            "or DRIFTLOOP_PROMETHEUS_OPTIONS for commands"
        )
    if response.is_redirect:
        raise ContractError(
            f"{where} sends the query on to {response.headers.get('Location', 'nowhere')!r} (HTTP {code}), as a login "
            "page or a proxy does; give the address that answers queries itself, and its credentials"
        )
    if code == httpx.codes.NOT_FOUND:
        raise TransientError(
            f"{where} answered HTTP 404: {text}; where that stays, its API lies under a path, as /prometheus (Mimir, a "
            "prefix) or /api/prom: write it behind the address, without /graph and /api/v1"
        )
    if code != httpx.codes.OK:
        raise TransientError(f"{where} answered HTTP {code}: {text}")


def _of_json(content: Any) -> str:
    """Find the words of an error: Prometheus and Thanos say `error`, cloud services and gateways have other names."""
    while isinstance(content, dict):
        name = next((name for name in ("error", "message", "detail", "title") if content.get(name)), None)
        if name is None:
            break
        content = content[name]
    return content if isinstance(content, str) else json.dumps(content)


def _lacks(answer: dict[str, Any]) -> str:
    """Say what an answer lacks; nothing: it is whole. What begins with `PromQL` is a remark about the query."""
    warnings = [str(warning) for warning in answer.get("warnings") or []]
    partial = [warning for warning in warnings if not warning.startswith("PromQL")]
    if answer.get("isPartial"):  # VictoriaMetrics' word for it
        partial.append("it marks its answer as partial (isPartial)")
    return "; ".join(partial)


def _samples(kind: str, result: Any, promql: str) -> list[Sample]:
    match kind:
        case "vector" if any("histogram" in item and "value" not in item for item in result):
            raise ContractError(
                f"the query {promql!r} gives native histograms; a number is needed: write histogram_quantile(0.95, …), "
                "histogram_avg(…) or histogram_count(…) around it"
            )
        case "vector":
            pairs = [(item["metric"], item["value"]) for item in result]
        case "scalar":
            pairs = [({}, result)]
        case _:
            raise ContractError(f"the query {promql!r} gives a {kind}; an instant vector or a scalar is needed")
    return [
        Sample(labels=dict(labels), value=float(value), at=datetime.fromtimestamp(float(at), UTC))
        for labels, (at, value) in pairs
    ]
