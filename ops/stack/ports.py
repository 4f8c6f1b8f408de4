"""Loopback ports: found once, remembered with the stack, never taken from a stranger."""

import json
import random
import socket
from collections.abc import Container, Mapping
from pathlib import Path

from datasets_defs.core.errors import ContractError

PREFERRED = {
    "postgres": 5433,
    "prometheus": 9090,
    "mlflow": 5000,
    "api-server": 8080,
    "serving": 8000,
    "gateway": 8001,
    "exporter": 9108,
    "gpu-simulator": 9400,
}
"""Where each component listens if nobody else does; all lie below the range that outgoing connections use."""
OTHERS = range(20_000, 30_000)
"""Where other ports are looked for, also below that range (Linux's `ip_local_port_range`, from 32768 on): otherwise a
connection of anybody's may take a port between the look and the start."""
_TRIES = 200


def free_port(taken: Container[int] = ()) -> int:
    """Give a loopback port that nobody listens on now, by chance, and none of those taken.

    Raises:
        ContractError: of many that were tried, none was free.
    """
    for port in random.SystemRandom().sample(OTHERS, _TRIES):
        if port not in taken and is_free(port):
            return port
    where = f"{OTHERS.start} to {OTHERS.stop - 1}"
    raise ContractError(f"of {_TRIES} ports from {where} none is free on 127.0.0.1; end what listens there")


def is_free(port: int) -> bool:
    """Say whether nobody listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def remembered(file: Path) -> dict[str, int]:
    """Read the ports of a stack; empty before its first start, or when the file was damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): int(port) for name, port in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def choose(known: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    """Give a free port to every component of a stopped stack: the remembered one, or another if a stranger holds it.

    The second value is a sentence for each remembered port that had to change.
    """
    ports: dict[str, int] = {}
    changes: list[str] = []
    for name, preferred in PREFERRED.items():
        wanted = known.get(name, preferred)
        ports[name] = _near(wanted, set(ports.values()))
        if name in known and ports[name] != wanted:
            changes.append(f"port {wanted} of {name} is held by another program; {name} moves to port {ports[name]}")
    return ports, changes


def _near(wanted: int, taken: set[int]) -> int:
    for port in range(wanted, wanted + 50):
        if port < 65_536 and port not in taken and is_free(port):
            return port
    return free_port(taken)
