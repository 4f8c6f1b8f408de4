"""What people are told about each event, and what they are spared."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.messages import clean, cut, escape, message_for
from alerts.topics import Severity
from datasets_defs.core.incidents import Incident, State
from datasets_defs.ledger.events import Event

AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def event(kind="moved", frm=None, to=None, reason="drift share 0.83 is at or above 0.50", evidence=None, incident=7):
    return Event(
        model="docs-writer",
        seq=3,
        incident_id=incident,
        at=AT,
        kind=kind,
        from_state=frm,
        state=to,
        actor="watch_drift:scheduled__1",
        reason=reason,
        evidence=evidence or {},
        prev_hash="0" * 64,
    )


def incident(**changes):
    values = {"id": 7, "model": "docs-writer", "state": State.OPEN, "signal": "drift", **changes}
    return Incident(**values, opened_at=AT, updated_at=AT, degraded_since=AT)


def shown(message):
    return json.dumps(message.blocks, ensure_ascii=False)


CASES = {
    "opened": (event("opened", to="open"), "warning", "docs-writer is degraded: incident 7 opened"),
    "quarantined": (event(frm="open", to="quarantined"), "critical", "docs-writer: data quarantined"),
    "escalated": (event(frm="open", to="escalated"), "critical", "docs-writer: a person has to decide"),
    "registered": (
        event("progress", "retraining", "retraining"),
        "info",
        "docs-writer: challenger version 2 trained",
    ),
    "accepted": (event(frm="evaluating", to="approving"), "info", "docs-writer: challenger version 2 accepted"),
    "rejected": (event(frm="evaluating", to="rejected"), "warning", "docs-writer: challenger version 2 rejected"),
    "inconclusive": (event(frm="evaluating", to="open"), "info", "docs-writer: evaluation inconclusive"),
    "open again": (event(frm="probation", to="open"), "warning", "docs-writer: incident 7 is open again"),
    "promoted": (
        event("champion", evidence={"change": "promote", "from_version": 1, "to_version": 2}),
        "info",
        "docs-writer: version 2 replaces version 1",
    ),
    "rolled back": (
        event("champion", evidence={"change": "roll_back", "from_version": 2, "to_version": 1}),
        "critical",
        "docs-writer: rolled back from version 2 to version 1",
    ),
    "a drill": (
        event("champion", evidence={"change": "drill", "from_version": 2, "to_version": 1}, incident=None),
        "info",
        "docs-writer: drill: version 1 serves for a moment",
    ),
    "a drill is over": (
        event("champion", evidence={"change": "drill_end", "from_version": 1, "to_version": 2}, incident=None),
        "info",
        "docs-writer: drill over: version 2 serves again",
    ),
    "reverted": (
        event("champion", evidence={"change": "revert", "from_version": 2, "to_version": 1}),
        "critical",
        "docs-writer: promotion of version 2 reverted",
    ),
    "first": (
        event("champion", evidence={"change": "bootstrap", "from_version": None, "to_version": 1}, incident=None),
        "info",
        "docs-writer: version 1 is the first champion",
    ),
    "resolved": (event(frm="probation", to="resolved"), "info", "docs-writer is good again: incident 7 resolved"),
    "ended": (event(frm="probation", to="rolled_back"), "info", "docs-writer: incident 7 ended by rollback"),
    "blind": (
        event("blind", evidence={"signal": "quality:error_share"}, incident=None),
        "warning",
        "docs-writer: quality:error_share cannot be judged",
    ),
    "waiting": (
        event("progress", "open", "open", evidence={"retrain": "waits"}),
        "warning",
        "docs-writer: the retrain of incident 7 waits",
    ),
    "paused": (event("paused", incident=None), "info", "docs-writer is paused"),
    "resumed": (event("resumed", incident=None), "info", "docs-writer is no longer paused"),
    "sighted": (event("sighted", evidence={"signal": "drift"}), "info", "docs-writer: drift can be judged again"),
}


@pytest.mark.parametrize(("given_event", "severity", "title"), CASES.values(), ids=CASES)
def test_told(given_event, severity, title):
    """Each message has its severity, title, the reason with its figures, what is next, and who did it."""
    message = message_for(given_event, incident(challenger_version=2))

    assert message.severity == severity
    assert message.text == f"{title}. {given_event.reason}"
    assert message.blocks[0]["text"]["text"] == title
    texts = shown(message)
    assert "Why: drift share 0.83 is at or above 0.50" in texts
    assert "Next: " in texts
    assert "watch_drift:scheduled__1 · 2026-05-01 12:30:00Z" in texts
    assert "?" not in title


@pytest.mark.parametrize(
    "quiet",
    [
        event("claimed", "open", "retraining"),
        event(frm="open", to="retraining"),
        event(frm="rejected", to="open"),
        event("progress", "open", "open", reason="cool-down until 12:00"),
        event("evidence", to="open"),
        event("note"),
        event("champion", evidence={"change": "something new"}),
    ],
    ids=lambda e: f"{e.kind} {e.from_state} {e.state}",
)
def test_spared(quiet):
    """Steps that need nobody are not told."""
    assert message_for(quiet, incident(challenger_version=2)) is None


@pytest.mark.parametrize(
    ("given", "severity", "title"),
    [
        (event("opened", to="open"), "info", "docs-writer: a version is offered"),
        (
            event(frm="evaluating", to="approving", evidence={"forced_by": "cli:ann"}),
            "warning",
            "docs-writer: challenger version 2 goes ahead although the gate rejected it",
        ),
        (
            event(frm="evaluating", to="open", evidence={"offered_by": "cli:ann"}),
            "info",
            "docs-writer: challenger version 2, offered by hand, is not promoted",
        ),
        (event(frm="open", to="resolved"), "info", "docs-writer: incident 7, opened by hand, has ended"),
    ],
    ids=["offered", "forced", "not taken", "over"],
)
def test_a_persons_offer(given, severity, title):
    """What a person began is not told as a degradation, and going against the gate is told louder."""
    message = message_for(given, incident(challenger_version=2, signal="by_hand", evidence={"by_hand": {}}))
    assert (message.severity, message.text) == (severity, f"{title}. {given.reason}")


def test_commands():
    """What undoes or decides a thing stands in its message, ready to be copied."""
    asked = incident(state=State.APPROVING, challenger_version=2)
    approval = message_for(event(frm="evaluating", to="approving"), asked)
    assert "`driftloop approve docs-writer`" in shown(approval)
    assert "`driftloop rollback docs-writer" in shown(message_for(CASES["promoted"][0], None))
    assert "`driftloop incident resolve 7 --reason" in shown(message_for(CASES["opened"][0], incident()))
    assert "`driftloop incident show 7`" in shown(message_for(CASES["escalated"][0], incident()))


@pytest.mark.parametrize(
    ("state", "approved", "words"),
    [
        (State.APPROVING, False, "waits for your approval"),
        (State.APPROVING, True, "accepted"),
        (State.ESCALATED, False, "accepted"),
    ],
    ids=["asked", "automatic", "over before it was told"],
)
def test_approval(state, approved, words):
    """A person is asked for approval only while the answer still matters."""
    accepted = event(frm="evaluating", to="approving")
    message = message_for(accepted, incident(state=state, challenger_version=2, approved=approved))
    assert words in message.text


def test_over_before_it_was_told():
    """An incident that ended by hand goes through `escalated`; nobody is called for it."""
    assert message_for(CASES["escalated"][0], incident(state=State.RESOLVED)) is None


def test_forgotten_challenger():
    """A challenger whose version the incident has let go of is told without it."""
    assert message_for(CASES["rejected"][0], incident()).text.startswith("docs-writer: challenger rejected. ")


def test_figures():
    """Plain values of the evidence are shown, floats with four digits; nested ones are left to the command line."""
    evidence = {"drift_share": 0.8333333, "rows": 60, "columns": {"a": 1}, "note": "x"}
    fields = message_for(event("opened", evidence=evidence), incident()).blocks[2]["fields"]
    assert [f["text"] for f in fields] == ["drift share: 0.8333", "rows: 60", "note: x"]


def test_hostile_data_is_inert():
    """Mentions, links and markup in data reach plain_text only; direction marks and control characters are gone."""
    bad = "<!channel> <http://evil|ok> *bold* `x` \u202egnp.exe\x1b[31m"
    message = message_for(event("opened", reason=bad, evidence={bad: bad}), incident())
    for block in message.blocks:
        for text in [block.get("text"), *block.get("fields", []), *block.get("elements", [])]:
            if text and "evil" in text["text"]:
                assert text["type"] == "plain_text"
                assert text["emoji"] is False
    assert "\u202e" not in shown(message)
    assert "\x1b" not in message.text
    assert escape("<!channel> & co") == "&lt;!channel&gt; &amp; co"


@given(reason=st.text(max_size=5000), names=st.dictionaries(st.text(max_size=300), st.text(max_size=3000), max_size=60))
def test_limits(reason, names):
    """Whatever the event says, the message keeps within Slack's limits."""
    message = message_for(event("opened", reason=reason, evidence=names), incident())
    assert len(message.blocks) <= 50
    assert len(message.text) <= 4000
    for block in message.blocks:
        limit = 150 if block["type"] == "header" else 3000
        assert len(block.get("fields", [])) <= 10
        for text in [block.get("text"), *block.get("fields", []), *block.get("elements", [])]:
            assert text is None or 1 <= len(text["text"]) <= limit


def test_small_parts():
    """Cutting marks the cut; cleaning keeps line ends; severities are the three of the style guide."""
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"
    assert clean("a\nb\tc") == "a\nb c"
    assert [s.value for s in Severity] == ["info", "warning", "critical"]
