"""How Prometheus lets one in: a real one behind TLS, a client's certificate and a password; tokens and headers."""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError, DriftloopError, TransientError
from datasets_defs.core.settings import settings
from monitors.prometheus.access import Access, access_of
from monitors.prometheus.client import PrometheusClient
from monitors.prometheus.hook import PrometheusHook
from monitors.prometheus.of_settings import client_of_settings
from ops.page.words import links
from ops.stack.doctor import Grade
from ops.stack.doctor import prometheus_server as examined
from ops.stack.ports import free_port
from tests.certificates import Certificates, certificates
from tests.prometheus_answers import answering
from tests.prometheus_server import PrometheusServer, prometheus_server

GUARD = """
tls_server_config:
  cert_file: {folder}/server.pem
  key_file: {folder}/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {folder}/authority.pem
basic_auth_users:
  reader: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay
"""
"""Who asks needs a certificate of the authority's, and the user `reader` with the password `test`."""


@pytest.fixture(scope="module")
def papers() -> Iterator[Certificates]:
    """Certificates of an authority that this machine does not trust."""
    with tempfile.TemporaryDirectory(prefix="driftloop-test-certificates-") as folder:
        yield certificates(Path(folder))


@pytest.fixture(scope="module")
def guarded(papers: Certificates) -> Iterator[PrometheusServer]:
    """A real Prometheus that lets in nobody without a certificate and a password."""
    access = Access(
        ca_file=papers.file("authority.pem"), client_cert=papers.file("client.pem"),
        client_key=papers.file("client.key"), auth=("reader", "test"),
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="driftloop-test-guarded-") as folder,
        prometheus_server(Path(folder), guard=GUARD.format(folder=papers.folder), access=access) as server,
    ):
        yield server


def options(papers: Certificates, **changes: object) -> dict[str, object]:
    """Give the options that let one in."""
    files = {"ca_file": "authority.pem", "client_cert": "client.pem", "client_key": "client.key"}
    given: dict[str, object] = {**{name: papers.file(file) for name, file in files.items()}, **changes}
    return {name: value for name, value in given.items() if value is not None}


def connect(monkeypatch: pytest.MonkeyPatch, server: PrometheusServer, extra: object, **fields: object) -> None:
    """Set the default Connection as an environment would."""
    port = int(server.url.rpartition(":")[2])
    connection = {"conn_type": "prometheus", "schema": "https", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS_DEFAULT", json.dumps({**connection, **fields}))


def test_a_connection_lets_the_sensors_in(
    guarded: PrometheusServer, papers: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates in the extra, the password in its field; without any of them the sentence says what happened."""
    user = {"login": "reader", "password": "test"}
    connect(monkeypatch, guarded, options(papers), **user)
    assert PrometheusHook().test_connection() == (True, f"Prometheus at {guarded.url} answers queries")
    connect(monkeypatch, guarded, options(papers, ca_file=None, verify="false"), **user)
    assert PrometheusHook().test_connection()[0]
    for extra, password, said in (
        (options(papers), "tset", r"HTTP 401: Unauthorized"),
        (options(papers, ca_file=None), "test", "CERTIFICATE_VERIFY_FAILED"),
        (options(papers, client_cert=None, client_key=None), "test", "not reachable"),
    ):
        connect(monkeypatch, guarded, extra, login="reader", password=password)
        fine, message = PrometheusHook().test_connection()
        assert not fine
        assert said in message, message


def test_settings_let_commands_in(
    guarded: PrometheusServer, papers: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Commands send what the sensors send; the password is in no sentence and in no link; doctor tells."""
    address = guarded.url.replace("https://", "https://reader:test@")
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_URL", address)
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_OPTIONS", json.dumps(options(papers)))
    settings.cache_clear()
    assert [sample.value for sample in client_of_settings().query("vector(7)", at=datetime.now(UTC))] == [7]
    assert examined(tmp_path).grade is Grade.OK
    assert "test@" not in str(links("m", 1, settings())) + examined(tmp_path).sentence
    assert "authority.pem" not in repr(settings())
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_URL", address.replace("test@", "tset@"))
    settings.cache_clear()
    found = examined(tmp_path)
    assert found.grade is Grade.WARN
    assert "HTTP 401: Unauthorized" in found.sentence
    assert "tset" not in found.sentence


def test_doctor_knows_a_stopped_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody listens before the first start, which is no problem."""
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_URL", f"http://127.0.0.1:{free_port()}")
    settings.cache_clear()
    assert examined(tmp_path).grade is Grade.OK


def test_a_renewed_certificate_is_read(guarded: PrometheusServer, tmp_path: Path) -> None:
    """A certificate that is renewed in its file counts from the next client on."""
    assert guarded.access.client_cert is not None
    other, own = certificates(tmp_path), Path(guarded.access.client_cert)
    kept = own.read_bytes(), own.with_suffix(".key").read_bytes()
    try:
        own.write_bytes(Path(other.file("client.pem")).read_bytes())
        own.with_suffix(".key").write_bytes(Path(other.file("client.key")).read_bytes())
        with pytest.raises(TransientError, match="not reachable"):
            guarded.client.query("vector(1)", at=datetime.now(UTC))
    finally:
        own.write_bytes(kept[0])
        own.with_suffix(".key").write_bytes(kept[1])
    assert guarded.client.query("vector(1)", at=datetime.now(UTC))


def test_tokens_and_headers(tmp_path: Path) -> None:
    """A bearer is sent, one in a file as it is now, and headers as they are."""
    token = tmp_path / "token"
    for content in ("first\n", "second\n"):
        token.write_text(content)
        with answering() as answers:
            access = access_of("x", {"bearer_file": str(token), "headers": {"X-Scope-OrgID": "ml"}})
            PrometheusClient(answers.url, access).query("up", at=datetime.now(UTC))
            assert answers.headers["Authorization"] == f"Bearer {content.strip()}"
            assert answers.headers["X-Scope-OrgID"] == "ml"
    with answering() as answers:
        PrometheusClient(answers.url, access_of("x", {"bearer": "third"})).query("up", at=datetime.now(UTC))
        assert answers.headers["Authorization"] == "Bearer third"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cert": "/x"}, "unknown option cert; there are headers, bearer"),
        ({"verify": "/etc/ca.pem"}, "'verify' is '/etc/ca.pem'; needed: true or false"),
        ({"bearer": "a", "headers": {"authorization": "b"}}, "a bearer and a header Authorization say who asks"),
        ({"bearer": "a", "bearer_file": "b"}, "give one of them"),
        ({"bearer_file": "/nowhere"}, "/nowhere cannot be read"),
        ({"ca_file": "/nowhere"}, "/nowhere cannot be read"),
        ({"ca_file": __file__}, "PEM files are needed"),
        ({"client_key": "/k"}, "'client_key' needs 'client_cert'"),
        ({"ca_file": "/c", "verify": False}, "leave one out"),
        ({"ca_file": 7}, "'ca_file' is 7; needed: a file's path"),
    ],
)
def test_options_that_cannot_be(given: dict[str, object], said: str) -> None:
    """What is unknown, contradicts itself or cannot be read is said; nothing is passed over."""
    with pytest.raises(ContractError, match=said):
        PrometheusClient("https://127.0.0.1:1", access_of("x", given))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OPTIONS", "{bearer", "DRIFTLOOP_PROMETHEUS_OPTIONS is no JSON"),
        ("OPTIONS", "[1]", "holds a list"),
        ("OPTIONS", '{"tls": 1}', "unknown option tls"),
        ("URL", "prometheus:9090", "DRIFTLOOP_PROMETHEUS_URL is 'prometheus:9090'; needed"),
    ],
)
def test_settings_that_cannot_be(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong settings are one sentence."""
    monkeypatch.setenv(f"DRIFTLOOP_PROMETHEUS_{name}", value)
    settings.cache_clear()
    with pytest.raises(DriftloopError, match=said):
        client_of_settings()
