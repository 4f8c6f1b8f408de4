"""A template is quarantined by name, accepted by a person, and refused again; nothing of it is trained on."""

import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.windows import Window
from datasets_defs.store.documents import read_documents
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.verdicts import newest_verdicts
from monitors.breaks.accepted import accept, refuse
from monitors.watch_drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

OLD = documentation()
TEMPLATED = tuple(f"You are a helpful assistant. Be brief.\n\n{text}" for text in OLD[500:600])


def judged(loop: Loop, number: int) -> tuple[str, str, str]:
    """Judge a window; give the condition of its data, of its drift, and the names of what is broken."""
    watch(MODEL, until=loop.until(number), db=loop.db, actor="test")
    verdicts = {each.signal: each for each in newest_verdicts(loop.db, MODEL, now=loop.until(number))}
    names = ",".join(each["kind"] for each in verdicts["data"].evidence.get("breaks", ()))
    return str(verdicts["data"].condition), str(verdicts["drift"].condition), names


def test_a_template_is_quarantined_accepted_and_refused(loop: Loop):
    """Broken windows are judged for nothing else and give no document; accepting is recorded once, undoing too."""
    loop.champion()
    loop.reference(OLD[:400])
    champion = loop.ledger.champion(MODEL)
    assert champion is not None
    loop.traffic(1, TEMPLATED)
    add_feedback(loop.db, MODEL, "1-1-3", reference="an answer")
    hour = Window(loop.window(1).start, loop.window(1).end)
    assert len(read_documents(loop.db, MODEL, hour, limit=10)) == 1
    assert judged(loop, 1) == (Condition.BAD, Condition.NO_DATA, "template")
    newest = newest_verdicts(loop.db, MODEL, now=loop.until(1))
    (data,) = [verdict for verdict in newest if verdict.signal == "data"]
    assert data.reason.endswith(f"If this is the new normal: driftloop accept {MODEL} --what template")
    assert read_documents(loop.db, MODEL, hour, limit=10) == []

    with pytest.raises(ContractError, match="no window of the last 168 shows `cut`; there are: template"):
        accept(loop.ledger, champion, "cut", key=None, now=loop.until(1), actor="ann")
    told = accept(loop.ledger, champion, "template", key=None, now=loop.until(1), actor="ann")
    assert "accepted as normal from the next window on" in told
    assert "accepted already" in accept(loop.ledger, champion, "template", key=None, now=loop.until(1), actor="ann")
    assert len(loop.ledger.events_of(MODEL, EventKind.BREAK_ACCEPTED)) == 1
    loop.traffic(2, TEMPLATED)
    data, drift, names = judged(loop, 2)
    assert (data, names) == (Condition.OK, "")
    assert drift != Condition.NO_DATA

    assert "no longer accepted" in refuse(loop.ledger, champion, "template", key=None, actor="ann")
    assert "not accepted" in refuse(loop.ledger, champion, "template", key=None, actor="ann")
    loop.traffic(3, TEMPLATED)
    assert judged(loop, 3) == (Condition.BAD, Condition.NO_DATA, "template")
