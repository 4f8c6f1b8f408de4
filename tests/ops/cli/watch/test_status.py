"""`driftloop status` in its short and in its wide form."""

import copy
from typing import Any

import pytest
from rich.cells import cell_len

from ops.cli.shared import tables
from ops.cli.watch.status import show, worst_signal

LONG = "the champion's bits per byte of prompts are 1.31 times the reference's, surely more than the limit of 1.02"


def signal(condition: str, reason: str = LONG) -> dict[str, Any]:
    return {"condition": condition, "reason": reason, "score": None, "limit": None, "window_end": "2026-05-01T12:00Z"}


def model(conditions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "champion_version": 12, "previous_version": 11, "since": "2026-05-01T11:00:00+00:00", "conditions": conditions,
        "incident": None, "next": {"action": "judge the next window", "at": "2026-05-01T13:00:00+00:00", "why": "w"},
        "paused_until": None, "problems": [], **more,
    }  # fmt: skip


REPORT = {
    "home": "/somewhere",
    "components": {
        name: {"state": "RUNNING", "healthy": name != "serving", "detail": "http://127.0.0.1:8000/healthz answers 503: "
               "docs-writer version 3 does not load: its weights are not whole"}
        for name in ("postgres", "dag-processor", "api-server", "serving")
    },
    "urls": {"api-server": "http://127.0.0.1:8080", "serving": "http://127.0.0.1:8000"},
    "models": {
        "docs-writer": model({"drift": signal("OK"), "loss": signal("BAD"), "data": signal("BAD", "other")},
                             incident={"id": 123, "state": "quarantined"}),
        "quiet": model({"drift": signal("OK"), "loss": signal("OK")}),
        "a-family-of-models-with-long-names-for-germany": model({"drift": signal("NO_DATA"), "loss": signal("WARN")}),
        "a-family-of-models-with-long-names-for-austria": model({}, champion_version=None, since=None),
    },
    "alerts_unsent": 1,
    "alerts": [{"at": "2026-05-01T12:00:00+00:00", "model": "m", "severity": "page", "text": LONG, "last_error": None}],
    "retention": {"feedback": {"holds": "references and scores", "kept": "90 days after they came", "days": 90}},
    "problems": [],
}  # fmt: skip


@pytest.fixture(params=[80, 100, 140])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Widths of terminals."""
    monkeypatch.setattr(tables.console, "width", request.param)
    return int(request.param)


def printed(capsys: pytest.CaptureFixture[str], *, wide: bool = False) -> list[str]:
    show(copy.deepcopy(REPORT), wide=wide)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_the_short_form_fits_the_terminal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line fits, each component and each model has one line, and every word is whole."""
    lines = printed(capsys)
    assert [line for line in lines if cell_len(line) > width] == []
    assert len(lines) == 1 + len(REPORT["components"]) + 1 + len(REPORT["models"]) + 1 + 2
    known = set(f"{REPORT}".replace("'", " ").replace(",", " ").split()) | set(LONG.split())
    for line in lines[6:10]:
        reason = line.split(": ", 1)[1].split(" …")[0] if ": " in line and " …" in line else ""
        assert [word for word in reason.split() if word not in known] == []


def test_a_models_line_shows_its_worst_signal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The worst condition leads, with its first signal and how many more share it; names differ at their ends."""
    lines = printed(capsys)
    docs, quiet, germany, austria = lines[6:10]
    assert docs.split()[:6] == ["docs-writer", "v12", "BAD", "loss", "(+1):", "the"]
    assert docs.endswith("123 quarantined")
    assert quiet.split()[1:] == ["v12", "OK", "2", "signals", "none"]
    assert germany.split()[2] == "NO_DATA"
    assert germany.split()[0] != austria.split()[0]
    assert "nothing judged yet" in austria
    assert "docs-writer: next: judge the next window" in lines[10]


def test_the_wide_form_shows_every_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All signals that are not OK are there with their whole reasons, and so is every answer of a component."""
    monkeypatch.setattr(tables.console, "width", 400)
    text = "\n".join(printed(capsys, wide=True))
    assert text.count(LONG) == 4  # three signals and the message
    assert text.count("its weights are not whole") == 4
    assert "a-family-of-models-with-long-names-for-germany" in text


@pytest.mark.parametrize(
    ("conditions", "worst"),
    [
        ({}, ("", "nothing judged yet")),
        ({"a": signal("OK")}, ("OK", "1 signal")),
        ({"a": signal("WARN", "w"), "b": signal("NO_DATA", "n"), "c": signal("OK")}, ("NO_DATA", "b: n")),
        ({"a": signal("NO_DATA", "n"), "b": signal("STALE", "s")}, ("STALE", "b: s")),
        ({"a": signal("STALE", "s"), "b": signal("BAD", "x"), "c": signal("BAD", "y")}, ("BAD", "b (+1): x")),
    ],
)
def test_the_worst_signal(conditions: dict[str, Any], worst: tuple[str, str]) -> None:
    """What is unknown is worse than a warning, and never hidden by signals that are fine."""
    assert worst_signal(conditions) == worst


def test_the_wide_form_says_for_how_long_things_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Each place that holds users' texts or grows has a line with its limit; the short form has none."""
    assert any("feedback" in line and "90 days after they came" in line for line in printed(capsys, wide=True))
    assert not any("90 days" in line for line in printed(capsys))
