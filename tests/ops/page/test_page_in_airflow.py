"""The page in a real Airflow: behind its login, in its navigation, in a real Chromium."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from datasets_defs.store.schema import migrate
from ops.stack.postgres import LOOP_ROLE, Cluster
from tests.airflow_server import PASSWORD, USER, Server, airflow_server, temporary_home
from tests.browser import Browser, Refused, browser, waited
from tests.ops.page.page_data import fill, hostile
from tests.ops.page.test_hooks import EVENT, SECRET, signed

pytestmark = pytest.mark.timeout(900)
PAYLOAD = "</title></script><script>top.ran=1;parent.ran=1;window.ran=1</script><img src=x onerror=top.ran=1>\"'"
INSIDE = "document.querySelector('iframe').contentDocument"
LINK = "[...document.querySelectorAll('a')].find(a => a.getAttribute('href').endsWith('plugin/driftloop'))"
"""The page's place in Airflow's navigation."""


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    """An api-server beside a loop with four models in trouble and one of hostile words."""
    cluster.ensure_databases(["page_airflow", "page_loop"])
    cluster.ensure_role(LOOP_ROLE, "loop")
    migrate(cluster.url("page_loop"), LOOP_ROLE)
    loop = cluster.url_of(LOOP_ROLE, "loop", "page_loop")
    with temporary_home() as home, pytest.MonkeyPatch.context() as patch:
        folder = home / "models"
        folder.mkdir()
        known = {
            "DRIFTLOOP_HOME": str(home),
            "DRIFTLOOP_MODELS_DIR": str(folder),
            "DRIFTLOOP_ARTIFACT_ROOT": f"file://{home}/artifacts",
            "DRIFTLOOP_DATABASE_URL": loop,
            "DRIFTLOOP_MLFLOW_WEBHOOK_SECRET": SECRET,
        }
        for name, value in known.items():
            patch.setenv(name, value)
        settings.cache_clear()
        engine = engine_for(loop)
        fill(engine, folder)
        hostile(engine, folder, PAYLOAD, datetime.now(UTC))
        engine.dispose()
        with airflow_server(home / "airflow", cluster.url("page_airflow"), known) as running:
            yield running
    settings.cache_clear()


@pytest.fixture
def tab() -> Iterator[Browser]:
    """A fresh browser."""
    with browser() as fresh:
        fresh.look()
        yield fresh


def log_in(tab: Browser, server: Server) -> None:
    """Log in as a person does."""
    tab.open(f"{server.url}/")
    tab.until("document.querySelector('button[type=submit]') !== null")
    for name, value in (("username", USER), ("password", PASSWORD)):
        tab.evaluate(f"document.querySelector('input[name={name}]').focus()")
        tab.type(value)
    tab.evaluate("document.querySelector('button[type=submit]').click()")


PATHS = ("/", "/models/docs-writer", "/models/support-replies/report", "/static/page.css", "/static/icon.svg", "/else")


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_airflow_s_login_stands_in_front(server, path):
    """Without it, or with a token that is none, no route answers; with the cookie of the UI, or a bearer, all do."""
    url = f"{server.url}/driftloop{path}"
    assert httpx.get(url, trust_env=False, timeout=60).status_code == 401
    assert httpx.post(url, trust_env=False, timeout=60).status_code == 401
    assert httpx.get(url, cookies={"_token": "x.y.z"}, trust_env=False, timeout=60).status_code in (401, 403)
    expected = 404 if path == "/else" else 200
    token = server.token()
    assert httpx.get(url, cookies={"_token": token}, trust_env=False, timeout=60).status_code == expected
    assert (
        httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60).status_code
        == expected
    )


@pytest.mark.slow
def test_a_person_finds_the_page_and_reads_it(server, tab, tmp_path):
    """From the login through the navigation to a model; nothing of the data ran, and no policy had to refuse."""
    log_in(tab, server)
    tab.until(f"{LINK} !== undefined")
    tab.evaluate(f"{LINK}.click()")
    tab.until(f"{INSIDE}.querySelector('table.models') !== null")
    rows = tab.evaluate(f"[...{INSIDE}.querySelectorAll('tbody tr')].map(row => row.innerText)")
    assert len(rows) == 6
    shown = "\n".join(rows)
    for words in ("support-replies", "train a challenger", "code-review", "captions", "docs-writer", "<script>"):
        assert words in shown
    assert tab.evaluate(f"{INSIDE}.querySelector('.strip rect.bad').getBoundingClientRect().width") > 3
    assert tab.evaluate("getComputedStyle(document.querySelector('iframe')).height") > "400px"
    for model in ("hostile", "support-replies"):
        tab.evaluate(f"{INSIDE}.querySelector('.home').click()")
        find = f"[...{INSIDE}.querySelectorAll('tbody a')].find(a => a.textContent === '{model}')"
        tab.until(f"{find} !== undefined")
        tab.evaluate(f"{find}.click()")
        tab.until(f"{INSIDE}.querySelector('h1').innerText.startsWith('{model}')")
        tab.until(f"location.pathname.endsWith('/driftloop/models/{model}')")
    assert tab.evaluate(f"[window.ran, {INSIDE}.defaultView.ran]") == [None, None]
    tab.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert [said for said in tab.complaints() if "driftloop" in said] == []


@pytest.mark.slow
def test_the_report_is_shut_in(server, tab):
    """It runs in its frame, and reaches neither the page around it, nor cookies, nor the network."""
    host = {"name": "_token", "value": server.token(), "url": server.url}
    tab.tab("Network.setCookie", **host)
    tab.open(f"{server.url}/driftloop/models/support-replies")
    tab.until("document.querySelector('details') !== null")
    assert tab.evaluate("document.querySelector('iframe').getAttribute('sandbox')") == "allow-scripts"
    tab.evaluate("document.querySelector('details').open = true; document.querySelector('iframe').scrollIntoView()")

    def told() -> str:
        try:
            return " ".join(str(said) for said in tab.in_frames("document.body ? document.body.innerText : ''"))
        except Refused:  # the frame is just being loaded
            return ""

    waited(lambda: "network: refused" in told(), "the report says what it could not do")
    for words in ("its own script ran", "parent: refused", "cookies: refused"):
        assert words in told()
    assert tab.evaluate("document.body.id") == ""


@pytest.mark.slow
def test_the_plugin_stands_as_airflow_reads_it(server):
    """Airflow's own list of plugins has it, with no error, from the package's entry point."""
    headers = {"Authorization": f"Bearer {server.token()}"}
    found = httpx.get(f"{server.url}/api/v2/plugins", headers=headers, trust_env=False, timeout=60).json()["plugins"]
    (ours,) = [plugin for plugin in found if plugin["name"] == "driftloop"]
    assert "ops.page.plugin:DriftloopPlugin" in ours["source"]
    (view,) = ours["external_views"]
    assert (view["href"], view["url_route"], view["destination"]) == ("/driftloop/", "driftloop", "nav")
    errors = httpx.get(f"{server.url}/api/v2/plugins/importErrors", headers=headers, trust_env=False, timeout=60).json()
    assert errors["total_entries"] == 0, json.dumps(errors)
    assert Path(server.log).exists()


@pytest.mark.slow
def test_mlflow_s_webhook_needs_a_signature_and_no_login(server):
    """Signed, it reaches Airflow's own database, which knows no DAG here; unsigned, nothing of the loop answers."""
    url = f"{server.url}/driftloop-hooks/mlflow"
    asked = settings().models_dir / "writer.yaml"
    asked.write_text("name: writer\nbase_model: {}\ntraining_text: builtin:python-docs\noffers: [registry]\n")
    try:
        headers, body = signed(EVENT, at=datetime.now(UTC))
        said = httpx.post(url, headers=headers, content=body, trust_env=False, timeout=60)
        assert (said.status_code, said.json()) == (503, {"error": "reconcile cannot be begun now: DagNotFound"})
        refused = httpx.post(url, content=body, trust_env=False, timeout=60)
        assert (refused.status_code, "MLflow signs" in refused.text) == (401, True)
        assert httpx.get(f"{server.url}/driftloop-hooks/else", trust_env=False, timeout=60).status_code == 404
    finally:
        asked.unlink()
