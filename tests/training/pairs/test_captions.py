"""What captions become: clean, redacted, counted, in a language, as token ids."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from datasets_defs.redaction.redact import finders
from datasets_defs.spec.pairs import CaptionsSpec
from tests.training.pairs.made_images import sentence
from training.pairs.caption import Caption, prepare_captions, raw_caption
from training.pairs.content import Lost
from training.pairs.hashes import caption_hash


def one(text: str, **fields: object) -> Caption | Lost:
    """Prepare one caption."""
    spec = CaptionsSpec(**fields)
    (made,) = prepare_captions([text], spec, finders(spec.redact))
    return made


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A   dog\non  the\tlawn", "A dog on the lawn"),
        ("<p>Fish &amp; chips <b>on a plate</b></p>", "Fish & chips on a plate"),
        ("A dog\u200b on\u202e the lawn\x07", "A dog on the lawn"),
        ("A dog on the lawn https://example.org/a.jpg?x=1", "A dog on the lawn"),
        ("Cafe\u0301 in the old town", "Café in the old town"),
        ("Is 3 < 5 and 7 > 5?", "Is 3 < 5 and 7 > 5?"),
    ],
)
def test_cleaning(raw: str, clean: str):
    """Markup, addresses, hidden characters and doubled spaces go; what is written stays."""
    made = one(raw)
    assert isinstance(made, Caption)
    assert made.text == clean


def test_personal_data_is_taken_out_or_the_pair_is():
    """What `redact` finds becomes a mark and a note; with `personal: drop` the pair is lost."""
    text = "A portrait for anna@example.org in the garden"
    made = one(text)
    assert isinstance(made, Caption)
    assert made.text == "A portrait for <email> in the garden"
    assert made.notes == ["without e-mail address"]
    assert one(text, personal="drop") == Lost("personal data in its caption", "e-mail address")


def test_words_are_counted_in_every_script():
    """Scripts without spaces count two letters for a word."""
    for text in ("夕暮れの港に並ぶ小さな漁船", "Ein alter Hund schläft"):
        made = one(text)
        assert isinstance(made, Caption)
        assert made.words >= 3
    assert one("港町").reason == "caption too short"


@pytest.mark.parametrize(
    "name", ["IMG_2041.JPG", "DSC00017", "screenshot 2024-01-01", "holiday.png", "20240101_101010"]
)
def test_file_names_are_no_captions(name: str):
    """What a camera or a person called the file says nothing of the picture."""
    assert one(name, min_words=1) == Lost("caption is a file name", name)


def test_captions_in_json():
    """The field that the YAML names; all else is a reason."""
    spec = CaptionsSpec(source="json", field="text")
    assert raw_caption(json.dumps({"text": "A dog"}).encode(), spec) == "A dog"
    for content, reason in (
        (b'{"text": ', "caption's JSON is broken"),
        (b"[" * 100_000, "caption's JSON is broken"),
        (b'{"caption": "A dog"}', "caption's JSON has no caption"),
        (b'["A dog"]', "caption's JSON has no caption"),
        (b'{"text": 7}', "caption's JSON has no caption"),
    ):
        made = raw_caption(content, spec)
        assert isinstance(made, Lost)
        assert made.reason == reason


def test_encodings():
    """UTF-8 with and without its mark, and UTF-16 with it."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert raw_caption("Ein Café".encode(encoding), CaptionsSpec()) == "Ein Café"


def test_a_tokenizer_of_ones_own(tmp_path: Path):
    """A `tokenizer.json` gives the ids; without one they are UTF-8's bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = [sentence(number) for number in range(200)]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"]))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = one(texts[0], tokenizer=str(tmp_path / "tokenizer.json"))
    assert isinstance(made, Caption)
    assert made.tokens == tokenizer.encode(texts[0]).ids
    assert len(made.tokens) < len(one(texts[0]).tokens)


def test_hashes_of_captions():
    """The same words have the same hash, whatever their case and marks; other captions are far."""

    def digest(text: str) -> int:
        made = one(text)
        assert isinstance(made, Caption)
        return made.hash

    assert digest("A dog on the green lawn") == digest("a dog, on the green lawn!")
    hashes = [caption_hash(sentence(number).lower().split()) for number in range(100)]
    near = sum((a ^ b).bit_count() <= 3 for at, a in enumerate(hashes) for b in hashes[:at])
    assert near == 0
