"""The page's answers on a real database: what it says, what it never says, and who gets it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, insert, text, update
from sqlalchemy.exc import DBAPIError

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.database import engine_for
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.verdicts import save_verdict
from monitors.similar.index import keep_up
from monitors.verdicts.conclude import judged_window
from ops.page.app import METHODS, POLICY, make_app
from ops.page.reading import SHOWN_WINDOWS, read_overview, snapshot
from ops.page.state import ServedChange
from ops.page.strip import Axis
from ops.stack.ports import free_port
from tests.ops.page.page_data import SIGNALS, Past, describe, fill, hostile

PAYLOAD = (
    "</title></script><script>window.ran=1</script><img src=x onerror=window.ran=1>\"'`{{919*919}}<svg onload=ran=1>"
)
NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Drawn:
    """A strip as it is drawn."""

    tones: list[str]
    """Of each window, the oldest first."""
    places: list[tuple[float, float]]
    """Where each window begins and ends, in per cent of the width."""
    titles: list[str]
    marks: list[tuple[str, float]]
    """Kind and place of each change of champion."""


def strips_of(page: str) -> list[Drawn]:
    """Read the strips of a page, in their order."""
    drawn = []
    for svg in re.findall(r'<svg class="strip".*?</svg>', page, re.DOTALL):
        root = ET.fromstring(svg)  # noqa: S314  # our own page
        cells = root.findall("rect")
        places = [(percent(cell, "x"), percent(cell, "x") + percent(cell, "width")) for cell in cells]
        titles = [cell.findtext("title") or "" for cell in cells]
        marks = [(line.attrib["class"], percent(line, "x1")) for line in root.findall("line")]
        drawn.append(Drawn([cell.attrib["class"] for cell in cells], places, titles, marks))
    return drawn


def percent(element: ET.Element, name: str) -> float:
    return float(element.attrib[name].removesuffix("%"))


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words += [data.strip()] if data.strip() else []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def client_of(engine: Engine, user=lambda: "somebody", now: datetime | None = None) -> TestClient:
    app = make_app(user, lambda: engine, lambda: now or datetime.now(UTC))
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def now() -> datetime:
    """The time of all pages of a test: no hour ends while it runs."""
    return datetime.now(UTC)


@pytest.fixture
def client(home: Path, engine: Engine, now: datetime) -> TestClient:
    return client_of(engine, now=now)


def rows_of(page: str) -> list[str]:
    """Give the text of the rows of the overview's table, in their order."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [Seen(row).text for row in body.split("<tr>")[1:]]


def test_nobody_gets_anything_without_login(home, engine):
    """Every route with every method, and whatever is no route, is a 401 that holds no data and runs nothing."""
    fill(engine, home / "models")

    def nobody():
        raise HTTPException(401, "Not authenticated")

    client = client_of(engine, nobody)
    paths = {route.path for route in client.app.routes}
    assert {"/", "/models/{name}", "/models/{name}/report", "/models/{name}/similar", "/static/{name}"} < paths
    for path in [*paths, "/openapi.json", "/docs", "/redoc", "/x/y", "/models/", "//"]:
        for method in METHODS:
            answer = client.request(method, path.replace("{name}", "docs-writer").replace("{_:path}", "else"))
            assert answer.status_code == 401, (method, path)
            assert "docs-writer" not in answer.text
            assert answer.headers["content-security-policy"] == POLICY


def test_the_overview_shows_all_models_the_urgent_ones_first(client, engine, home, now):
    """Condition, signals, champion, incident and next action of each; what is paused and unsent; times in UTC."""
    numbers = fill(engine, home / "models", now=now)
    answer = client.get("/")
    rows = rows_of(answer.text)
    assert [row.split()[0] for row in rows] == ["support-replies", "captions", "code-review", "docs-writer"]
    retraining, blind, rolled_back, healthy = rows
    for words in (
        "BAD",
        "drift, loss",
        "v3",
        f"{numbers['support-replies']} retraining",
        "train a challenger under way",
    ):
        assert words in retraining
    assert "STALE gpu:temperature_celsius and 6 NO DATA" in blind
    assert "OK 7 signals" not in blind
    assert "paused" in rolled_back
    assert "v5" in rolled_back
    assert "OK 7 signals" in healthy
    assert "judge the next window" in healthy
    seen = Seen(answer.text).text
    for words in ("4 models", "1 open incident ", "1 paused", "2 messages unsent", "all times in UTC", "reconcile"):
        assert words in seen
    assert answer.headers["refresh"] == "60"


def test_one_model_s_page_tells_its_past(client, engine, home, now):
    """Lineage with gate scores and where they came from, incidents, the verified history, the pause, the marks."""
    numbers = fill(engine, home / "models", now=now)
    page = client.get("/models/code-review").text
    seen = Seen(page).text
    for words in (
        "Paused by cli:anna", "the new tokenizer is being rolled out", "rolled back after v6", "promoted after v5",
        "recent 3.912 → 2.874 -28.1 to -24.9 %", "old 2.583 → 2.571", "9f2c41d07b", "51ce0aa4d9",
        f"the fresh rows of incident {numbers['code-review']}", "regression after promotion, roll back",
        "chain of 5 verified", "probation → rolled_back",
        "No incident is open.", "nothing to roll back to", "quality: latency_p95_seconds", "v5 in MLflow",
    ):  # fmt: skip
        assert words in seen, words
    (span,) = re.findall(r'<rect class="rolled_back".*?<title>(.*?)</title>', page)
    assert f"incident {numbers['code-review']} (loss)" in span


def test_a_strip_shows_each_window_where_it_lies(client, engine, home, now):
    """Each window of each signal has its verdict's look and words at its hour, and a rollback stands on its hour."""
    describe(home / "models", "m", "x")
    past = Past(engine, "m", now)
    conditions = ("OK", "WARN", "BAD", "NO_DATA", "STALE", None)
    order = list(SIGNALS)

    def looks(signal: str, ago: int) -> str | None:
        return conditions[(ago * ago + order.index(signal)) % len(conditions)]

    past.verdicts(looks)
    past.change("roll_back", 30, 1, 2)
    tones = {"OK": "ok", "WARN": "warn", "BAD": "bad", "NO_DATA": "nodata", "STALE": "stale", None: "none"}
    page = client.get("/models/m").text
    names = [Seen(cell).text.replace(": ", ":") for cell in re.findall(r'<th scope="row".*?</th>', page, re.DOTALL)]
    strips = dict(zip(names, strips_of(page), strict=True))
    assert set(strips) == set(SIGNALS)
    for signal, strip in strips.items():
        assert strip.tones == [tones[looks(signal, ago)] for ago in reversed(range(SHOWN_WINDOWS))]
        for number, (left, right) in enumerate(strip.places):
            slot = 100 * number / SHOWN_WINDOWS, 100 * (number + 1) / SHOWN_WINDOWS
            assert slot[0] < left < right < slot[1]
        window = past.last.before(30)
        assert strip.titles[-31].startswith(f"{window.start:%Y-%m-%d %H:%M:%S} to {window.end:%H:%M:%S} UTC: ")
        ((kind, place),) = strip.marks
        at = past.last.start + HOUR - (SHOWN_WINDOWS - SHOWN_WINDOWS * place / 100) * HOUR
        assert (kind, abs(at - (past.now - 30 * HOUR)) < timedelta(minutes=1)) == ("roll_back", True)


def test_one_model_s_page_tells_what_goes_on(client, engine, home, now):
    """The open incident with its next action, who is at it, the messages not sent, and the report in its frame."""
    numbers = fill(engine, home / "models", now=now)
    page = client.get("/models/support-replies").text
    seen = Seen(page)
    for words in (
        f"{numbers['support-replies']} retraining", "input shift, retrain", "1 of 3", "train a challenger under way",
        "retrain__asset_triggered__1 is at work; if it dies, it is begun again by", "Slack answered 503",
        "6 of 9 columns drifted", "drift 6.67 against a limit of 4.94", "6.669 / 4.94",
    ):  # fmt: skip
        assert words in seen.text, words
    assert ("sandbox", "allow-scripts") in seen.attributes
    assert ("src", "/models/support-replies/report") in seen.attributes


def test_what_is_missing_says_so(client, engine, home):
    """A model of which nothing is known is NO DATA, and every part of its page says what is missing."""
    describe(home / "models", "fresh", "just described")
    (row,) = rows_of(client.get("/").text)
    for words in ("NO DATA", "nothing judged yet", "none yet"):
        assert words in row
    page = client.get("/models/fresh").text
    seen = Seen(page).text
    for words in (
        "No incident is open.", "No champion yet: driftloop bootstrap fresh makes one.", "never judged",
        "No champion was ever recorded.", "None was ever opened.", "Nothing has happened to this model yet.",
        "There is none: no window was reported on",
    ):  # fmt: skip
        assert words in seen, words
    assert 'class="chip ok"' not in page
    assert [strip.tones for strip in strips_of(page)] == [["none"] * SHOWN_WINDOWS] * len(SIGNALS)


def test_an_empty_loop_says_so(client):
    """No models, no heartbeats: sentences, not an empty table."""
    seen = Seen(client.get("/").text).text
    assert "No models are known." in seen
    assert "no part of the loop has reported yet" in seen


def test_a_signal_that_only_waits_is_told_apart(client, engine, home, now):
    """A verdict that waits for rows is neither NO_DATA nor OK: no part of the condition, with a look of its own."""
    describe(home / "models", "m", "x")
    past = Past(engine, "m", now)
    past.verdicts(lambda *_: "OK")
    waits = Verdict(
        model="m", signal="loss", window=past.last, condition=Condition.NO_DATA, reason="12 rows; 200 are needed",
        method="m", evidence={"waits": True},
    )  # fmt: skip
    save_verdict(engine, waits)
    (model,) = read_overview(engine).models
    assert (model.condition, "loss" in model.signals_in(Condition.OK)) == (Condition.OK, False)
    page = client.get("/models/m").text
    assert '<span class="chip waits">waits</span>' in page
    assert "12 rows; 200 are needed" in page


def test_a_model_without_its_file_is_shown_with_its_trouble(client, engine, home, now):
    """One that only the ledger knows, and one whose file is wrong: no next action is promised, and why is said."""
    past = Past(engine, "gone", now)
    past.champion(4, 10)
    past.incident("open", 3)
    (home / "models" / "wrong.yaml").write_text("name: [\n")
    rows = rows_of(client.get("/").text)
    assert [row.split()[0] for row in rows] == ["gone", "wrong"]
    assert "the model is not watched" in rows[0]
    assert "missing or wrong" in client.get("/models/gone").text
    assert "not readable as YAML" in rows[1]
    assert client.get("/models/wrong").status_code == 200


def test_nothing_in_the_data_becomes_markup(client, engine, home, now):
    """Scripts in names, reasons, actors, signals, messages, pauses and descriptions are words on every page."""
    hostile(engine, home / "models", PAYLOAD, now)
    for path in ("/", "/models/hostile", f"/models/{PAYLOAD}", "/models/%3Cscript%3E1%3C%2Fscript%3E"):
        answer = client.get(path)
        seen = Seen(answer.text)
        assert set(seen.tags).isdisjoint({"script", "img", "object", "embed", "base"}), path
        assert [value for name, value in seen.attributes if name == "action"] in ([], ["/models/hostile/similar"])
        assert seen.tags.count("form") <= 1
        names = [name for name, _ in seen.attributes]
        assert not [name for name in names if name.startswith("on") or name == "style"], path
        assert not [value for name, value in seen.attributes if name in ("href", "src") and ":" in (value or "")[:12]
                    and not value.startswith("http://127.0.0.1:")], path  # fmt: skip
        assert "844561" not in seen.text, "nor a template's"
        if path in ("/", "/models/hostile"):
            assert "<script>window.ran=1</script>" in seen.text
    assert Seen(client.get("/models/hostile").text).text.count("window.ran=1") > 20


def test_every_answer_forbids_scripts_and_foreign_frames(client, engine, home, now):
    """Also errors: no script, no foreign source, no caching, framed by Airflow alone."""
    fill(engine, home / "models", now=now)
    for path in ("/", "/models/captions", "/nothing", "/models/nobody", "/static/page.css", "/static/icon.svg"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["cache-control"] == "no-store"
    assert "script-src" not in POLICY
    assert "unsafe" not in POLICY


def test_similar_prompts_are_asked_by_the_page(client, engine, home, now):
    """The form leads to what users asked, redacted and as text; a blank question asks for one, a long one is cut."""
    fill(engine, home / "models", now=now)
    at = now - 3 * HOUR
    for number, prompt in enumerate((f"refund for ann@example.com {PAYLOAD}", "how are tuples sorted?")):
        append(engine, [Inference(model="docs-writer", request_id=f"r{number}", at=at, prompt=prompt)])
    keep_up(engine, spec_of("docs-writer"), until=judged_window(now).end)
    page = client.get("/models/docs-writer").text
    assert 'action="/models/docs-writer/similar"' in page
    found = client.get("/models/docs-writer/similar", params={"text": "refund please"})
    assert found.status_code == 200
    seen = Seen(found.text)
    assert "refund for" in seen.text
    assert "ann@example.com" not in found.text
    assert "script" not in seen.tags
    assert "the nearest of 2 indexed prompts" in seen.text
    assert "Give a prompt" in client.get("/models/docs-writer/similar").text
    assert "Give a prompt" in client.get("/models/docs-writer/similar?text=%20").text
    long = client.get("/models/docs-writer/similar", params={"text": "x" * 5_000})
    assert long.status_code == 200
    assert "x" * 401 not in long.text
    nobody = client.get("/models/nobody/similar?text=a")
    assert (nobody.status_code, "nobody" in nobody.text) == (404, True)


def test_the_report_stands_alone(client, engine, home, now):
    """It has a policy of its own that takes away origin and network, wherever it is opened."""
    fill(engine, home / "models", now=now)
    answer = client.get("/models/support-replies/report")
    policy = answer.headers["content-security-policy"]
    assert "its own script ran" in answer.text
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    for forbidden in ("allow-same-origin", "connect-src", "'self' ", "http"):
        assert forbidden not in policy
    assert client.get("/models/docs-writer/report").status_code == 404


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "{root}/reports/../../secret", "{root}/snapshots/x", "{root}/reports/gone.html"]
)
def test_no_other_file_is_served_as_a_report(client, engine, home, url, now):
    """A verdict that names another file, or one that is gone, is a 404."""
    (home / "secret").write_text("the password")
    (home / "artifacts" / "reports").mkdir(parents=True)
    window = judged_window(now)
    verdict = Verdict(
        model="m", signal="drift_report", window=window, condition=Condition.OK, reason="r", method="m",
        evidence={"report_html": url.format(root=settings().artifact_root)},
    )  # fmt: skip
    save_verdict(engine, verdict)
    answer = client.get("/models/m/report")
    assert answer.status_code == 404
    assert "password" not in answer.text
    assert "root:" not in answer.text


def test_a_broken_chain_is_shown(client, engine, home, owner, now):
    """A history that was altered by the tables' owner is marked, with the sentence that says where."""
    fill(engine, home / "models", now=now)
    with owner.begin() as on:
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER USER"))
        on.execute(
            update(tables.incident_event)
            .where(tables.incident_event.c.model == "code-review", tables.incident_event.c.seq == 2)
            .values(reason="nothing happened")
        )
    seen = Seen(client.get("/models/code-review").text).text
    assert "chain broken" in seen
    assert "code-review event 2: content does not match its hash; it was altered" in seen
    assert "verified" not in seen


def test_a_long_history_costs_a_page_no_more(client, engine, home, now):
    """The newest events are shown and their chain is checked; the page says that there are more, and where."""
    fill(engine, home / "models", now=now)
    ledger = Ledger(engine)
    for number in range(70):
        ledger.note("docs-writer", EventKind.NOTE, f"note {number}", {}, actor="t")
    head = ledger.head("docs-writer")
    seen = Seen(client.get("/models/docs-writer").text).text
    assert "chain of the newest 60 verified" in seen
    assert f"The newest 60 of {head.seq}; all of them: driftloop history docs-writer" in seen
    assert ("note 69" in seen, "note 10" in seen, "note 9 " in seen) == (True, True, False)


def test_a_database_that_is_away_is_a_clear_page(home, engine):
    """503, what is wrong, and that it tries again; when the database is back, so is the page."""
    away = engine_for(f"postgresql+psycopg://x@127.0.0.1:{free_port()}/x")
    used = [away]
    client = TestClient(make_app(lambda: "me", lambda: used[0]))
    for path in ("/", "/models/docs-writer", "/models/docs-writer/report"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.headers["refresh"] == "15"
        assert "PostgreSQL is not reachable" in answer.text
        assert "not known from here" in answer.text
    used[0] = engine
    assert client.get("/").status_code == 200


def test_a_database_without_tables_is_a_clear_page(home, cluster):
    """An empty database is no page of healthy models."""
    empty = engine_for(cluster.url("postgres"))
    answer = client_of(empty).get("/")
    empty.dispose()
    assert answer.status_code == 503
    assert "run `driftloop migrate`" in Seen(answer.text).text


def test_the_page_cannot_write(engine):
    """Its transactions refuse to."""
    with pytest.raises(DBAPIError, match="read-only transaction"), snapshot(engine) as on:
        on.execute(insert(tables.heartbeat).values(component="x"))


def test_a_hundred_models_take_as_many_queries_as_one(engine, home):
    """One query per kind, and a hundred rows on the page."""
    counts = []
    for number in (1, 100):
        for place in range(number):
            describe(home / "models", f"model-{place}", "x")
        asked: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *given, asked=asked: asked.append(given[2]))
        answer = client_of(engine).get("/")
        assert len(rows_of(answer.text)) == number
        counts.append(len(asked))
    assert counts[1] == counts[0]
    assert counts[0] < 20


# --- strips ----------------------------------------------------------------------------------------------------------

AXIS = Axis(NOW.replace(minute=0), HOUR, 72)


def verdict_on(end: datetime, condition: Condition = Condition.BAD) -> Verdict:
    return Verdict(
        model="m", signal="loss", window=Window(end - HOUR, end), condition=condition, reason="because", method="m"
    )


def test_each_window_has_its_place():
    """The newest is the last cell, the oldest shown the first; older and newer ones have none."""
    last = AXIS.last_end
    assert [AXIS.slot(last - ago * HOUR) for ago in (0, 71, 72, -1)] == [71, 0, None, None]
    cells = AXIS.verdicts([verdict_on(last), verdict_on(last - 3 * HOUR, Condition.WARN), verdict_on(last - 90 * HOUR)])
    assert [cell.tone for cell in cells[66:]] == ["none", "none", "warn", "none", "none", "bad"]
    assert {cell.tone for cell in cells[:66]} == {"none"}
    assert cells[71].title == "2026-05-01 11:00:00 to 12:00:00 UTC: BAD: because"
    assert cells[0].title.endswith("not judged")


def test_conditions_are_told_apart_without_colour():
    """OK is low, WARN higher, BAD full; what is not known is as high as what is bad, and drawn otherwise."""
    cells = AXIS.worst({AXIS.last_end - ago * HOUR: each for ago, each in enumerate([*Condition, None])})
    heights = {cell.tone: cell.height for cell in cells}
    assert heights == {
        "ok": "38%", "warn": "68%", "bad": "100%", "nodata": "100%", "stale": "100%", "waits": "38%", "none": "100%",
    }  # fmt: skip


def test_incidents_and_changes_stand_where_they_happened():
    """An incident spans its life, cut at the edge; one that ended before is not there; an open one reaches to now."""

    def incident(number: int, state: State, opened: float, closed: float | None) -> Incident:
        at = AXIS.last_end - opened * HOUR
        ended = AXIS.last_end - closed * HOUR if closed is not None else None
        return Incident(
            id=number, model="m", state=state, signal="loss", opened_at=at, updated_at=at, degraded_since=at,
            closed_at=ended,
        )  # fmt: skip

    spans = AXIS.spans(
        [
            incident(4, State.RETRAINING, 18, None), incident(3, State.ROLLED_BACK, 54, 36),
            incident(2, State.RESOLVED, 200, 63), incident(1, State.RESOLVED, 200, 100),
        ],
        NOW,
    )  # fmt: skip
    assert [(each.incident_id, each.x, each.width, each.tone) for each in spans] == [
        (4, "75.000%", "25.000%", "open"), (3, "25.000%", "25.000%", "rolled_back"),
        (2, "0.000%", "12.500%", "resolved"),
    ]  # fmt: skip
    change = {"from_version": 1, "to_version": 2, "token": 2, "incident_id": 3, "confirmed_at": None, "reason": "r"}
    change |= {"actor": "a", "decision": None, "gate_reason": None, "scores": {}, "rows_sha256": None, "source": None}
    change |= {"reference_sha256": None}
    marks = AXIS.marks(
        [
            ServedChange(kind="roll_back", at=AXIS.last_end - 36 * HOUR, **change),
            ServedChange(kind="promote", at=AXIS.last_end - 80 * HOUR, **change),
        ]
    )
    assert [(each.x, each.glyph) for each in marks] == [("50.000%", "▼")]


@pytest.mark.parametrize(
    ("length", "texts"),
    [
        (HOUR, ["00:00", "12:00", "Apr 30", "12:00", "May 01", "12:00"]),
        (timedelta(seconds=20), ["11:40", "11:45", "11:50", "11:55", "12:00"]),
    ],
)
def test_the_axis_has_round_times(length, texts):
    """Midnights by their date; few enough to be read, for hours as for the demo's windows."""
    said = [tick.text for tick in Axis(NOW.replace(minute=0), length, 72).ticks()]
    assert said[-len(texts) + 1 :] == texts[1:]
    assert len(said) <= 9
