from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError
from ops.stack import doctor, ports
from ops.stack.doctor import Grade
from ops.stack.layout import Layout, write_private


def test_pythons():
    """3.11 to 3.13 are fine; others are a problem whose sentence names the way out."""
    grades = {version: doctor.python_version(version).grade for version in [(3, 10), (3, 11), (3, 13), (3, 14)]}
    assert grades == {(3, 10): Grade.BAD, (3, 11): Grade.OK, (3, 13): Grade.OK, (3, 14): Grade.BAD}
    assert "make PYTHON=" in doctor.python_version((3, 10)).sentence


def test_disk_and_memory_warn():
    """Too little is a warning with the figure, not a refusal."""
    disk, memory = doctor.disk_space(Path("/x"), 2.9), doctor.memory(1.0)
    assert (disk.grade, memory.grade) == (Grade.WARN, Grade.WARN)
    assert disk.sentence.startswith("2.9 GiB free on the disk of /x")


def test_root_needs_a_folder_that_others_may_enter(tmp_path):
    """As root, a home that PostgreSQL's user cannot enter is a problem; for other users it does not matter."""
    closed = doctor.postgres_user(tmp_path, 0, lambda _: False)
    assert (closed.grade, str(tmp_path) in closed.sentence) == (Grade.BAD, True)
    assert doctor.postgres_user(tmp_path, 1000, lambda _: False).grade is Grade.OK


def test_a_taken_port_is_named(tmp_path):
    """A remembered port that somebody else holds is a warning that names component and port."""
    import socket

    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        write_private(Layout(tmp_path).ports, f'{{"mlflow": {taken}}}')
        found = list(doctor.taken_ports(tmp_path))
    assert [f.grade for f in found] == [Grade.WARN]
    assert f"mlflow {taken}" in found[0].sentence
    assert ports.is_free(taken)
    assert [f.grade for f in doctor.taken_ports(tmp_path)] == [Grade.OK]


def test_problems_stop_a_start_and_warnings_do_not(monkeypatch):
    """`require` tells warnings and raises for problems, one sentence each."""
    findings = [doctor.Diagnosis("a", Grade.WARN, "w"), doctor.Diagnosis("b", Grade.OK, "fine")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    said: list[str] = []
    doctor.require(said.append)
    assert said == ["warning: w"]
    findings.append(doctor.Diagnosis("c", Grade.BAD, "no"))
    with pytest.raises(ContractError, match=r"^no$"):
        doctor.require(said.append)
