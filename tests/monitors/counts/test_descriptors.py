"""Text descriptors, vocabulary and language."""

import numpy as np
import pytest

from datasets_defs.core.languages import languages
from monitors.counts.descriptors import Vocabulary, describe
from tests.monitors.texts import documentation


def columns(texts: tuple[str, ...], vocabulary: Vocabulary, *, own: bool = False) -> dict[str, np.ndarray]:
    """Describe texts as the drift monitor does."""
    return {**describe(texts), **vocabulary.describe(texts, own=own)}


def test_known_text() -> None:
    """Each column is what its name says."""
    found = {name: values[0] for name, values in describe(["Ab 12. cd Cd!\nab"]).items()}
    assert found["length_characters"] == 16
    assert found["words"] == 5
    assert found["sentences"] == 3
    assert found["mean_word_length"] == pytest.approx(10 / 5)
    assert found["upper_share"] == pytest.approx(2 / 8)
    assert found["digit_share"] == pytest.approx(2 / 16)
    assert found["non_letter_share"] == pytest.approx(8 / 16)
    assert found["line_break_share"] == pytest.approx(1 / 16)
    assert found["repetition_share"] == 0
    assert describe(["a a a b"])["repetition_share"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        ("...", 1),
        ("no stop", 1),
        ("one. two? three!", 3),
        ("one... two?! three", 3),
        ("version 3.11 of it.\nNext", 2),
        ("これは。それは。", 2),
        ("なに\uff1f\uff01", 1),
        ("end.  \n ", 1),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    """A stop with a space behind it ends a sentence, one of a script without spaces always; a rest counts as one."""
    assert describe(["x.", text, "y"])["sentences"].tolist() == [1, sentences, 1]


@pytest.mark.slow
def test_batches_change_nothing() -> None:
    """Texts that are described together, in several batches or alone give the same numbers, in their order."""
    texts = ["Ab 12. cd Cd!\nab", "x " * 150_000, "日本語。", "", *("y. Z\n" * 40_000,) * 9, "last one"]
    vocabulary = Vocabulary.of(["ab x", "z last", "one y"])
    for describing in (describe, vocabulary.describe):
        for name, values in describing(texts).items():
            assert values.tolist() == [describing([text])[name][0] for text in texts], name


LANGUAGES = {
    "en": "Please tell me how I can change the address of my account, because we are moving next month.",
    "de": "Bitte sagen Sie mir, wie ich die Adresse meines Kontos ändern kann, denn wir ziehen bald um.",
    "fr": "Pouvez-vous me dire comment changer l'adresse de mon compte, car nous allons déménager ?",
    "es": "Por favor, dígame cómo puedo cambiar la dirección de mi cuenta, porque nos mudamos pronto.",
    "ru": "Скажите, пожалуйста, как мне изменить адрес моей учётной записи, потому что мы переезжаем.",
    "ja": "来月引っ越すので、アカウントの住所を変更する方法を教えてください。",
    "zh": "请告诉我如何更改我的账户地址\uff0c因为我们下个月要搬家。",
    "ar": "من فضلك أخبرني كيف يمكنني تغيير عنوان حسابي لأننا سننتقل الشهر المقبل",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_language(language: str) -> None:
    """A sentence or two are enough to name a language, offline, whatever figures stand before and behind them."""
    text = LANGUAGES[language]
    assert languages([text, text + " " + "0123 " * 1000, "# 17\n" + text]) == [language] * 3


@pytest.mark.parametrize("text", ["", " ", "ok", "12345 !!! 67890 ??? 4711 ###", "\x00\ud800\udfff" * 30, "}{" * 99])
def test_no_language(text: str) -> None:
    """What is too short, broken or no language at all is not guessed at."""
    assert languages([text])[0] in ("und", "zxx")


def test_language_of_real_texts() -> None:
    """Passages of English documentation, however full of code, are English or not said to be anything."""
    found = languages(documentation()[:500])
    assert found.count("en") > 0.85 * len(found)
    assert found.count("en") + found.count("und") + found.count("zxx") > 0.98 * len(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n" * 50,
        "\x00\ud800\udfff",
        "日本語。これは。",
        "👩‍👩‍👧‍👦" * 10,
        "a" * 1_000_000,
        "x " * 500_000,
        "\u0301" * 99,
    ],
)
def test_any_text(text: str) -> None:
    """Empty, huge, broken and foreign texts all give finite numbers."""
    vocabulary = Vocabulary.of([text, "a b"])
    for values in columns((text,), vocabulary).values():
        assert np.isfinite(values).all()


def test_no_texts() -> None:
    """No texts give empty columns, not errors."""
    for columns in (describe([]), Vocabulary.of(["a"]).describe([])):
        assert {len(values) for values in columns.values()} == {0}
    assert languages([]) == []


def test_vocabulary_is_fair() -> None:
    """The reference does not know its own words better than new text of its kind does."""
    passages = documentation()
    vocabulary = Vocabulary.of(passages[:400])
    own, new = vocabulary.describe(passages[:400], own=True), vocabulary.describe(passages[400:800])
    for name, values in own.items():
        assert new[name].mean() == pytest.approx(values.mean(), rel=0.05), name


def test_vocabulary_of_known_words() -> None:
    """Unknown and common words are counted as said; a text's own words do not count for itself."""
    vocabulary = Vocabulary.of(["a b", "a c", "a d"])
    found = vocabulary.describe(["a b x y"])
    assert found["oov_share"][0] == pytest.approx(2 / 4)
    assert found["common_share"][0] == pytest.approx(2 / 4)
    own = vocabulary.describe(["a b", "a c", "a d"], own=True)
    assert own["oov_share"].tolist() == [0.5, 0.5, 0.5]
