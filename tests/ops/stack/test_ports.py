import json
import socket

from ops.stack import ports


def listener(port: int = 0) -> socket.socket:
    stranger = socket.socket()
    stranger.bind(("127.0.0.1", port))
    stranger.listen()
    return stranger


def test_remembered_ports_stay():
    """A stopped stack starts again on the ports of its last start."""
    known = {name: ports.free_port() for name in ports.PREFERRED}
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
    port = ports.free_port()
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
