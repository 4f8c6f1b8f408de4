"""How a Prometheus server lets one in: headers, credentials, certificates; from a Connection, or from the settings."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from datasets_defs.core.errors import ContractError

TIMEOUT = 10.0
"""Seconds that one answer may take, unless an option says."""
OPTIONS = (
    "headers", "bearer", "bearer_file", "verify", "ca_file", "client_cert", "client_key", "path", "timeout_seconds",
    "patience_seconds",
)  # fmt: skip
"""What a Connection's extra and DRIFTLOOP_PROMETHEUS_OPTIONS may say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client needs to be let in."""

    headers: Mapping[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None
    """User and password (HTTP basic)."""
    verify: bool = True
    """Whether the server's certificate is checked."""
    ca_file: str | None = None
    """File of the authorities that sign it; none: those that this machine trusts."""
    client_cert: str | None = None
    """File of the client's own certificate, where the server asks for one."""
    client_key: str | None = None
    """File of its key; none: it is in the certificate's file."""
    timeout: timedelta = timedelta(seconds=TIMEOUT)

    def tls(self) -> ssl.SSLContext:
        """Give what HTTPS needs.

        Raises:
            ContractError: a file is missing, or holds something else.
        """
        files = (self.ca_file, self.client_cert, self.client_key)
        return _tls(files, tuple(_changed(path) for path in files), verify=self.verify)


@lru_cache(maxsize=8)
def _tls(files: tuple[str | None, str | None, str | None], changed: tuple[int, ...], *, verify: bool) -> ssl.SSLContext:
    """Read certificates once for as long as their files do not change: reading takes longer than a query."""
    del changed
    ca_file, cert, key = files
    try:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context(verify=verify)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if cert:
            context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as err:
        raise ContractError(
            f"Prometheus' certificates: {', '.join(path for path in files if path)} cannot be used ({err}); PEM files "
            "are needed, and client_key has to belong to client_cert"
        ) from err
    return context


def _changed(path: str | None) -> int:
    if path is None:
        return 0
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as err:
        raise ContractError(f"Prometheus' certificates: {path} cannot be read ({err.strerror})") from err


def access_of(where: str, options: Mapping[str, Any], auth: tuple[str, str] | None = None) -> Access:
    """Read what a Connection's extra, or the settings, say.

    Raises:
        ContractError: an option is unknown or wrong; the sentence names it.
    """
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise ContractError(f"{where}: unknown option {', '.join(unknown)}; there are {', '.join(OPTIONS)}")
    headers = options.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ContractError(f"{where}: 'headers' must be a mapping of names to texts")
    bearer = _bearer(where, options)
    ways = {"a login": auth, "a bearer": bearer, "a header Authorization": _named(headers, "authorization")}
    if len(given := [way for way, value in ways.items() if value]) > 1:
        raise ContractError(f"{where}: {' and '.join(given)} say who asks; give one of them")
    paths = {name: _path(where, options, name) for name in ("ca_file", "client_cert", "client_key")}
    if paths["client_key"] and not paths["client_cert"]:
        raise ContractError(f"{where}: 'client_key' needs 'client_cert', the certificate that it belongs to")
    verify = _truth(where, options, "verify")
    if not verify and paths["ca_file"]:
        raise ContractError(f"{where}: 'ca_file' says who signs and 'verify' that nobody looks; leave one out")
    return Access(
        headers={**headers, **({"Authorization": f"Bearer {bearer}"} if bearer else {})},
        auth=auth,
        verify=verify,
        timeout=seconds(where, options, "timeout_seconds", TIMEOUT),
        **paths,
    )


def options_of(where: str, text: str) -> dict[str, Any]:
    """Read options that are written as JSON.

    Raises:
        ContractError: it is no JSON object.
    """
    try:
        options = json.loads(text or "{}")
    except ValueError as err:
        raise ContractError(f'{where} is no JSON ({err}); write it as a Connection\'s extra: {{"bearer": …}}') from err
    if not isinstance(options, dict):
        raise ContractError(f'{where} holds a {type(options).__name__}; needed: an object, {{"bearer": …}}')
    return options


def seconds(where: str, options: Mapping[str, Any], name: str, default: float) -> timedelta:
    """Read a number of seconds; a Connection that is written as a URL holds it as text.

    Raises:
        ContractError: it is none, or not above 0.
    """
    given = options.get(name, default)
    try:
        number = float("nan") if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ContractError(f"{where}: '{name}' is {given!r}; needed: a number of seconds above 0")
    return timedelta(seconds=number)


def _bearer(where: str, options: Mapping[str, Any]) -> str | None:
    """Give the token; one in a file is read anew for each client, because it is renewed there."""
    if options.get("bearer") and options.get("bearer_file"):
        raise ContractError(f"{where}: 'bearer' and 'bearer_file' both hold a token; give one of them")
    if (path := _path(where, options, "bearer_file")) is None:
        return str(options["bearer"]) if options.get("bearer") else None
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ContractError(f"{where}: 'bearer_file' {path} cannot be read ({err})") from err


def _path(where: str, options: Mapping[str, Any], name: str) -> str | None:
    given = options.get(name)
    if given is not None and (not isinstance(given, str) or not given):
        raise ContractError(f"{where}: '{name}' is {given!r}; needed: a file's path")
    return given


def _truth(where: str, options: Mapping[str, Any], name: str) -> bool:
    """Read true or false; a Connection that is written as a URL holds it as text."""
    given = options.get(name, True)
    known = {True: True, False: False, "true": True, "false": False}.get(
        given.strip().lower() if isinstance(given, str) else given
    )
    if known is None:
        raise ContractError(
            f"{where}: '{name}' is {given!r}; needed: true or false; a file of authorities is 'ca_file'"
        )
    return known


def _named(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)
