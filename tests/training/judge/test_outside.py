"""When a challenger that the gate accepts goes to a person: its improvement rests on words from outside."""

import pytest

from datasets_defs.spec.gate import GateSpec
from datasets_defs.spec.trust import TrustSpec
from training.judge.gate import GateDecision
from training.judge.outside import OutsideEvidence, by_contributor, reasons_to_ask
from training.judge.paired import Pair

BETTER, SAME = Pair(100, 70, 100), Pair(100, 100, 100)


def evidence(rows: list[tuple[str | None, Pair]], *, golden: bool = True, **trained: int) -> OutsideEvidence:
    return OutsideEvidence(
        contributors=[name for name, _ in rows],
        pairs=[pair for _, pair in rows],
        trained={f"key:{name}": count for name, count in trained.items()},
        has_golden=golden,
    )


def asked(given: OutsideEvidence, **trust: object) -> str:
    return "; ".join(reasons_to_ask(given, TrustSpec(**trust), GateSpec()))


def test_the_operators_own_words_ask_nobody():
    """Ingested rows, rows kept before contributors were, and trusted keys need neither golden set nor numbers."""
    own = [(None, BETTER), ("ingest:ann", BETTER), ("key:ours", BETTER)]
    assert asked(evidence(own, golden=False, ours=40), contributors=("ours",)) == ""
    assert asked(evidence([("anonymous", BETTER)] * 20, golden=False), anonymous=True) == ""


def test_a_golden_set_is_asked_for_when_words_come_from_outside():
    """Rows from outside that only taught are enough to ask for a judge that nobody outside can write."""
    assert "no golden set judges" in asked(evidence([(None, BETTER)] * 20, golden=False, a=30))
    assert asked(evidence([(None, BETTER)] * 20, golden=True, a=30)) == ""


@pytest.mark.parametrize(("names", "words"), [("aab", "written by 2 from outside"), ("abc", "")])
def test_a_few_from_outside_do_not_decide(names: str, words: str):
    """Fewer contributors than `trust.min_contributors` leave the decision to a person."""
    said = asked(evidence([(f"key:{name}", BETTER) for name in names * 9]))
    assert (words in said) if words else said == ""


def test_an_improvement_that_one_contributor_carries():
    """Without the rows of one key nothing is better: its author taught and judged."""
    rows = [("key:a", BETTER)] * 20 + [("key:b", SAME)] * 20 + [("key:c", SAME)] * 20
    assert "without the rows of key:a the improvement is gone (+0.0% on 40 documents)" in asked(evidence(rows))
    assert by_contributor(evidence(rows))["key:a"] == {"documents": 20, "change": pytest.approx(-0.3)}


def test_only_an_accepting_decision_asks():
    """A rejected challenger needs no person; an accepted one keeps its figures and says why it waits."""
    no = GateDecision(decision="reject", reason="worse")
    assert no.asking(["why"]) is no
    yes = GateDecision(decision="accept", reason="better").asking(["why"])
    assert (yes.decision, yes.ask, yes.reason) == ("accept", ("why",), "better; a person has to decide: why")
