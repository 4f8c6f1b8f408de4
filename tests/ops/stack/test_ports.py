import json
import socket
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError
from ops.stack import ports
from ops.stack.layout import Layout
from ops.stack.plan import _ports
from ops.stack.ports import OTHERS, PREFERRED, free_port


def listener(port: int = 0) -> socket.socket:
    stranger = socket.socket()
    stranger.bind(("127.0.0.1", port))
    stranger.listen()
    return stranger


def test_remembered_ports_stay():
    """A stopped stack starts again on the ports of its last start."""
    known: dict[str, int] = {}
    for name in ports.PREFERRED:
        known[name] = free_port(known.values())
    chosen, changes = ports.choose(known)
    assert (chosen, changes) == (known, [])


def test_a_port_taken_by_a_stranger_is_named_and_left_to_it():
    """The component moves to another port, and a sentence says which port is whose."""
    with listener() as stranger:
        taken = stranger.getsockname()[1]
        chosen, changes = ports.choose({"mlflow": taken})
    assert chosen["mlflow"] != taken
    assert changes == [f"port {taken} of mlflow is held by another program; mlflow moves to port {chosen['mlflow']}"]


def test_no_port_is_given_twice():
    """Components whose wishes collide get different ports."""
    port = free_port()
    chosen, _ = ports.choose(dict.fromkeys(ports.PREFERRED, port))
    assert len(set(chosen.values())) == len(ports.PREFERRED)


def test_a_damaged_memory_is_no_memory(tmp_path):
    """A half-written or foreign ports file is treated as a first start."""
    file = tmp_path / "ports.json"
    contents = ["", "{", "[1]", json.dumps({"mlflow": "x"})]
    found = []
    for content in contents:
        file.write_text(content)
        found.append(ports.remembered(file))
    assert found == [{}] * len(contents)


def test_another_port_is_none_that_a_connection_may_take():
    """It lies below the range that Linux gives to outgoing connections, and two looks give two ports."""
    first, *_ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = {free_port() for _ in range(20)}
    assert max(ports) < first
    assert len(ports) > 15


def test_no_port_is_given_that_is_taken():
    """Ports that others are to have are passed over; when all are taken, that is said."""
    assert free_port(set(OTHERS) - set(range(20_000, 29_000))) < 29_000
    with pytest.raises(ContractError, match="none is free"):
        free_port(OTHERS)


def test_a_stack_of_an_earlier_release_gets_the_ports_it_lacks(tmp_path):
    """What it knows stays; a component that came later gets one of its own."""
    layout = Layout(tmp_path)
    known = {name: number for number, name in enumerate(PREFERRED, start=21_000) if name != "gateway"}
    layout.ports.write_text(json.dumps(known))
    found = dict(_ports(layout))
    assert set(found) == set(PREFERRED)
    assert found.pop("gateway") not in known.values()
    assert found == known
