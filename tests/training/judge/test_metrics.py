"""What completions are worth beside their bits, rules in MLflow's words, slices, former champions, and the card."""

import importlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_metric_name

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.promotions import ChampionChange
from datasets_defs.spec.gate import EvaluationSpec, GateSpec, RuleSpec, SliceSpec
from datasets_defs.store.evaluations import Evaluation
from training.judge import metrics
from training.judge.frozen_rows import Rows, clusters, overlap, slices
from training.judge.gate import GateEvidence, decide
from training.judge.likeness import closest
from training.judge.metrics import Answer, Scores, compared, repetition
from training.judge.paired import Pair
from training.judge.score_table import as_markdown, as_metrics
from training.judge.scoring import Measured
from training.judge.self_tests import SelfTests
from training.judge.trial import Trial
from training.registry import card
from training.registry.card import CardFacts
from training.registry.client import broken_rules
from training.registry.registry import WARNING

ODD_VALUES = ("a/../b", "..", "/", "ß 字", "", "x" * 300, "a//b", "./a", "emoji \U0001f600")
REFERENCES = [f"the quick brown fox number {i} jumps over the lazy dog" for i in range(12)]


def answers(completions: list[str]) -> list[Answer]:
    return [
        Answer(prompt="p", reference=reference, completion=text, tokens=10, seconds=0.5)
        for reference, text in zip(REFERENCES, completions, strict=True)
    ]


def test_metrics_see_what_they_are_for():
    """What people wrote scores 100 and matches exactly; loops, refusals and blocked phrases are counted."""
    spec = EvaluationSpec(blocked_phrases=("Secret Word",))
    bad = ["I'm sorry, but no"] * 4 + ["again and again and again and again and"] * 4 + ["the SECRET word", "", "", ""]
    found = compared(answers(bad), answers(REFERENCES), spec)
    assert found["bleu"].challenger == pytest.approx(100)
    assert found["chrf"].challenger == pytest.approx(100)
    assert found["bleu"].champion < 5
    assert found["bleu"].p_value < 0.01
    champion = {name: round(each.champion, 3) for name, each in found.items()}
    challenger = {name: round(each.challenger, 3) for name, each in found.items()}
    assert (champion["exact_match"], challenger["exact_match"]) == (0, 1)
    assert (champion["refusal_share"], challenger["refusal_share"]) == (0.333, 0)
    assert (champion["blocked_share"], challenger["blocked_share"]) == (0.083, 0)
    assert (champion["empty_share"], challenger["empty_share"]) == (0.25, 0)
    assert champion["repetition_share"] > 0.1 > challenger["repetition_share"] == 0
    assert champion["tokens_per_second"] == 20
    assert champion["latency_p95_seconds"] == 0.5
    assert found["exact_match"].low == found["exact_match"].high == 1
    assert compared([], [], spec) == {}


def test_repetition():
    """A loop repeats nearly all of its 4-grams; short and ordinary texts none."""
    assert repetition("a b c d " * 50) > 0.9
    assert repetition("each word of this sentence comes once") == repetition("too short") == 0


OF_MINE = """
def share_of_foxes(prompts, references, completions):
    return sum("fox" in text for text in completions) / len(completions)

def fails(prompts, references, completions):
    return 1 / 0
"""


def install(site: Path, function: str) -> None:
    """Put a package into a folder of packages whose metric `mine` is this function, as pip would."""
    (site / "metrics_of_mine.py").write_text(OF_MINE)
    about = site / "mine-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{metrics.GROUP}]\nmine = metrics_of_mine:{function}\n")
    importlib.invalidate_caches()


def test_metrics_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An installed package's entry point becomes a metric; one that is absent or fails is said by name."""
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "share_of_foxes")
    spec = EvaluationSpec(metrics=("mine",))
    found = compared(answers(["no"] * 12), answers(REFERENCES), spec)["mine"]
    assert found == Scores(champion=0.0, challenger=1.0)
    with pytest.raises(ContractError, match=r"'other' is not installed.*installed: mine"):
        compared(answers(REFERENCES), answers(REFERENCES), EvaluationSpec(metrics=("other",)))
    install(tmp_path, "fails")
    with pytest.raises(ContractError, match="'mine' failed: ZeroDivisionError"):
        compared(answers(REFERENCES), answers(REFERENCES), spec)


@pytest.mark.parametrize(
    ("rule", "champion", "challenger", "holds"),
    [
        ({"threshold": 10, "greater_is_better": True}, 50, 10, True),
        ({"threshold": 10, "greater_is_better": True}, 50, 9.9, False),
        ({"threshold": 0.1, "greater_is_better": False}, 0, 0.11, False),
        ({"min_absolute_change": 2, "greater_is_better": True}, 10, 12, True),
        ({"min_absolute_change": 2, "greater_is_better": True}, 10, 11, False),
        ({"min_relative_change": 0.1, "greater_is_better": False}, 10, 9, True),
        ({"min_relative_change": 0.1, "greater_is_better": False}, 10, 9.5, False),
        ({"min_relative_change": 0.1, "greater_is_better": True}, 0, 0.001, True),
        ({"threshold": 10, "greater_is_better": True}, 10, float("nan"), False),
    ],
)
def test_rules(rule: dict, champion: float, challenger: float, *, holds: bool):
    """Rules mean what MLflow means by them; what is no number keeps none."""
    said = broken_rules({"m": RuleSpec(**rule)}, {"m": challenger}, {"m": champion})
    assert (said == []) is holds
    assert all(sentence.startswith("rule m: champion") for sentence in said)


@pytest.mark.parametrize("fields", [{"greater_is_better": True}, {"threshold": 1}])
def test_a_rule_that_says_nothing_is_refused(fields: dict):
    """A rule without a limit, or without a direction, is an error of the file."""
    with pytest.raises(ValueError, match=r"needs threshold|greater_is_better"):
        RuleSpec(**fields)


def row(number: int, **rest) -> dict:
    base = {"slice": "recent", "request_id": f"r{number}", "prompt": f"prompt {number} ", "reference": "text"}
    return {**base, "user_id": None, "source": None, "attributes": None, **rest}


def test_slices_by_attribute():
    """Values with enough rows are slices, the rest are one; named values are slices whatever comes."""
    rows = [row(i, attributes='{"language": "%s"}' % ("de" if i < 40 else f"x{i}")) for i in range(60)] + [row(99)]
    found = slices(rows, [SliceSpec(attribute="language")])
    assert [(each.name, len(each.numbers), each.required) for each in found] == [
        ("slice:language=de", 40, False),
        ("slice:language=other", 20, False),
    ]
    named = slices(rows, [SliceSpec(attribute="language", values=("de", "fr"))])
    assert [(each.name, len(each.numbers), each.required) for each in named] == [
        ("slice:language=de", 40, True),
        ("slice:language=fr", 0, True),
    ]


def test_clusters_are_sources_or_users():
    """Ten sources are clusters, else five users; with fewer, each row stands alone."""
    users = [row(i, user_id=f"u{i % 12}", source=f"s{i % 3}") for i in range(60)]
    assert clusters(users) == [f"u{i % 12}" for i in range(60)]
    assert set(clusters([replaced | {"source": f"s{i % 10}"} for i, replaced in enumerate(users)])) == {
        f"s{i}" for i in range(10)
    }
    assert set(clusters([row(i, user_id=f"u{i % 4}") for i in range(60)])) == {None}
    assert clusters([{"prompt": "of an older snapshot"}]) == [None]


def test_overlap_is_counted():
    """Texts that were trained on are found though case and white space differ; those held out are not counted."""
    snapshot = [{**row(1), "part": "holdout"}, {**row(2), "part": "train"}, {**row(3), "part": "replay"}]
    copied = row(3) | {"prompt": "PROMPT  3\n"}
    assert overlap(Rows("", "", [row(1)]), snapshot) == 0
    assert overlap(Rows("", "", [row(1), row(2), copied]), snapshot) == 2


def test_the_former_champion_that_fits():
    """The one whose traffic uses the same words is chosen; none without any."""
    recent = ["permission is hereby granted free of charge"] * 3
    profiles = {1: ["def function returns a list of values"], 2: ["permission granted to any person"], 3: []}
    assert closest(recent, profiles) == 2
    assert closest(recent, {}) is None


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def facts() -> CardFacts:
    scores = {
        "recent": {"documents": 100, "champion": 4.0, "challenger": 3.0, "change": -0.25, "low": -0.3, "high": -0.2},
        "metrics": {"bleu": {"champion": 1.0, "challenger": 2.0}},
    }
    return CardFacts(
        model="docs",
        version=3,
        description="Writes <script>alert(1)</script> | pipes",
        created_at=NOW,
        tags={"snapshot_sha256": "ab" * 32, "incident": "7"},
        params={"learning_rate": "0.003", "rows_train": "200"},
        metrics={"loss": 2.5},
        lineage=[2, 1],
        evaluations=[
            Evaluation(
                incident_id=7,
                at=NOW,
                attempt=1,
                model="m",
                champion_version=2,
                challenger_version=3,
                decision="accept",
                reason="better",
                scores=scores,
                rows_uri="file:///r",
                rows_sha256="c",
            )
        ],
        changes=[
            ChampionChange(
                model="m",
                incident_id=7,
                token=2,
                at=NOW,
                kind="promote",
                from_version=2,
                to_version=3,
                actor="cli:ann",
                reason="yes",
                confirmed_at=NOW,
            )
        ],
        events=[],
        curves={"loss": [(1, 5.0), (2, 4.0)]},
    )


def test_the_card_says_it_all():
    """Data, parameters, scores, gate, who let it serve, its parents; plots in the HTML; markup stays text."""
    text = card.markdown(facts())
    for said in ("version 2 ← version 1", "rows to train | 200", "ab" * 32, "learning\\_rate", "-25.0%",
                 "accept", "cli:ann", "champion since 2026-05-01 12:00Z", "bleu"):  # fmt: skip
        assert said in text
    page = card.html(facts(), text)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert page == card.html(facts(), card.markdown(facts()))


def test_a_card_begins_with_what_is_wrong():
    """A version's warning stands before anything else that is said of it."""
    warned = replace(facts(), tags={WARNING: "version 1 is barely trained"})
    assert card.markdown(warned).index("**Warning:** version 1 is barely trained") < 100


def test_a_card_without_much_to_say():
    """A first champion's card says that nobody judged it; a long card is cut at a line for MLflow."""
    few = replace(facts(), evaluations=[], changes=[], curves={}, lineage=[], params={})
    text = card.markdown(few)
    assert "not judged" in text
    assert "never served" in text
    assert "base64" not in card.html(few, text)
    long = text + "a line of words\n" * 1000
    cut = card.shortened(long)
    assert len(cut) < 5000
    assert cut.splitlines()[-3] == "a line of words"
    assert card.shortened(text) == text


def test_the_table_and_the_figures():
    """An evaluation is a table by slice for people and finite names and figures for MLflow."""
    pairs = [Pair(1000 + i, 800 + i, 400) for i in range(200)]
    evidence = GateEvidence(
        recent=pairs, old=[replace(pair, challenger_bits=pair.champion_bits) for pair in pairs], champion_version=1
    )
    measured = Measured(
        pairs=pairs,
        prompts=[],
        self_tests=SelfTests(again=pairs, damaged=pairs, same_weights=False, overlap=0),
        archived=None,
        metrics={"bleu": Scores(champion=1, challenger=2, low=1.5, high=2.5, p_value=0.01)},
        documents_per_second=100,
    )
    judged = Trial(decision=decide(evidence, GateSpec()), measured=measured)
    text = as_markdown(judged, champion=1, challenger=2)
    assert "| recent | 200 |" in text
    assert "| bleu | 1 | 2 | 1.5 to 2.5 | 0.010 |" in text
    odd = replace(judged.decision, protected={f"tenant={value}": judged.decision.recent for value in ODD_VALUES})
    names = as_metrics(replace(judged, decision=odd))
    for name in names:
        _validate_metric_name(name)
    figures = as_metrics(judged)
    assert figures["evaluation/bleu/challenger"] == 2
    assert figures["evaluation/recent/change"] == pytest.approx(-0.18, abs=0.01)
    assert set(judged.scores) == {"recent", "old", "metrics"}
