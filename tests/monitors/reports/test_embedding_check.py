"""The daily look at whole embeddings, on real tables and with a tiny local model."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.verdicts import recent_verdicts
from monitors.reports import embedding_check
from monitors.reports.embedding_check import SIGNAL, compare_day
from tests.monitors.embedding_model import make_model
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny model."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def log(loop: Loop, day: int, prompts: tuple[str, ...], *, user: str | None = None, version: int = 1) -> None:
    """Log a day's requests."""
    rows = [
        Inference(
            model=MODEL, request_id=f"{day}-{version}-{n}", at=DAY + timedelta(days=day, minutes=n), prompt=prompt,
            model_version=version, user_id=user,
        )
        for n, prompt in enumerate(prompts)
    ]  # fmt: skip
    append(loop.db, rows)


def test_a_days_prompts(loop: Loop, model: str) -> None:
    """A day of the reference's kind is OK and a day of another kind a warning; doing it again changes nothing."""
    loop.spec(drift={"embedding": model})
    loop.champion()
    loop.reference(documentation()[:300])
    log(loop, 0, documentation()[300:600])
    log(loop, 0, licences()[:300], version=2)
    log(loop, 1, (*documentation()[600:700], *licences()[:100]))
    said = [compare_day(MODEL, until=DAY + timedelta(days=day + 1, hours=3), db=loop.db) for day in (0, 1, 1)]
    newest = recent_verdicts(loop.db, MODEL, SIGNAL, until=DAY + timedelta(days=9), count=9)
    assert [(each.condition, each.window.start) for each in newest] == [
        (Condition.WARN, DAY + timedelta(days=1)), (Condition.OK, DAY),
    ]  # fmt: skip
    assert [each.reason for each in newest] == [said[2], said[0]]
    assert said[1] == said[2]
    assert newest[0].score == pytest.approx(1 / 201)
    assert newest[1].evidence["rows"] == 300


def test_one_prompt_of_each_user(loop: Loop, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who asks two hundred times counts once, so that the day has too few to be compared."""
    monkeypatch.setattr(embedding_check, "MIN_ROWS", 60)
    loop.spec(drift={"embedding": model})
    loop.champion()
    loop.reference(documentation()[:300])
    log(loop, 0, licences()[:200], user="one")
    assert compare_day(MODEL, until=DAY + timedelta(days=1), db=loop.db).startswith("1 prompts of a side")


def test_nothing_to_compare(loop: Loop, model: str, home: Path) -> None:
    """Without an embedding model, a champion, a reference or prompts, it is said what is missing."""
    until = DAY + timedelta(days=1)
    assert "no embedding model" in compare_day(MODEL, until=until, db=loop.db)
    loop.spec(drift={"embedding": model})
    assert "no champion" in compare_day(MODEL, until=until, db=loop.db)
    loop.champion()
    assert "no reference" in compare_day(MODEL, until=until, db=loop.db)
    loop.reference(documentation()[:300])
    assert "0 prompts of a side on 2026-11-20" in compare_day(MODEL, until=until, db=loop.db)
    assert recent_verdicts(loop.db, MODEL, SIGNAL, until=until, count=1) == []
