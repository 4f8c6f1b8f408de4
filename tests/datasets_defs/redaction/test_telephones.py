"""Telephone numbers in texts: every country's are found as they are written abroad, and real texts stay whole."""

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pydoc_data.topics import topics

import phonenumbers
import pytest

from datasets_defs.redaction.hints import column, hinted
from datasets_defs.redaction.redact import finders, redact
from datasets_defs.redaction.telephones import _WITH_TRUNK_ZERO, HINTS, telephones
from tests.monitors.texts import licences

MOST_FALSE_PER_MILLION = 1.0
"""Finds in a million characters of text that holds next to no number; all of them are counted as wrong."""
MILLION = 1_000_000


def cut(text: str) -> str:
    """Give a text as the usual policy leaves it."""
    changed = redact([(text,)], finders(("telephones",)))
    return changed[0][0][0] if changed else text


def examples(style: int, regions: frozenset[str] | set[str]) -> list[str]:
    """Give each country's mobile and fixed example of a number, in a style."""
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    numbers = [phonenumbers.example_number_for_type(region, kind) for region in sorted(regions) for kind in kinds]
    return [phonenumbers.format_number(number, style) for number in numbers if number is not None]


@pytest.mark.parametrize("style", ["INTERNATIONAL", "E164", "RFC3966"])
def test_every_country(style: str):
    """A number with its country's code is replaced, whichever country it is of."""
    written = examples(getattr(phonenumbers.PhoneNumberFormat, style), phonenumbers.SUPPORTED_REGIONS)
    assert len(written) > 480
    left = [number for number in written if "<telephone>" not in cut(f"Please ring {number} today.")]
    assert left == []


def test_numbers_without_a_code():
    """Of numbers as the listed countries write them at home, nine in ten are found."""
    regions = {*_WITH_TRUNK_ZERO, "US", "CA"} - {"BR", "CN", "IT"}  # examples of these begin without the 0
    written = examples(phonenumbers.PhoneNumberFormat.NATIONAL, regions)
    found = sum(cut(f"Please ring {number} today.") == "Please ring <telephone> today." for number in written)
    assert found >= 0.9 * len(written)


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("(+41 44 668 18 00)", "(<telephone>)"),
        ("Fax: 030/1234567.", "Fax: <telephone>."),
        ("06 12 34 56 78 ou 0041 44 668 18 00", "<telephone> ou <telephone>"),
        ("call (212) 555-0134, or 1-800-555-0199!", "call <telephone>, or <telephone>!"),
        ("tel:+1-415-555-2671", "tel:<telephone>"),
        ("\uff0b\uff14\uff11 44 668 18 00", "<telephone>"),
        ("+41 44 668 18 00 +41 44 668 18 01", "<telephone> <telephone>"),
        ("044 668 18 00, 044 668 18 01", "<telephone>, <telephone>"),
        ("+41.44.668.18.00", "<telephone>"),
    ],
)
def test_as_people_write_them(said: str, clean: str):
    """The number goes, and what stands around it stays."""
    assert cut(said) == clean


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-02 10:20:30, 01/02/2024, 02.03.2024 04:05",
        "Boston, MA 02110-1301, USA",
        "visa 4111 1111 1111 1111, ISBN 978-3-16-148410-0",
        "torch-2.13.0+41446681800, 1.2.3+4567890123, 1e+4155512345",
        "192.168.100.100, 00-14-22-01-23-45, 123-45-6789",
        "x = a[0:4] + 44 * 2079460958; y = +0.4838270",
        "order 2125550134, row 0446681800",
    ],
)
def test_what_is_none(text: str):
    """Dates, postal codes, cards, versions, addresses of machines, code and ids stay."""
    assert cut(text) == text


def test_real_texts():
    """In code, documentation and licences less than one find in a million characters; the hints miss none of them."""
    code = [path.read_text(errors="replace") for path in sorted(Path(uuid.__file__).parent.glob("*.py"))]
    texts = [*code, *topics.values(), *licences()]
    found = [(number, text[begin:end]) for number, text in enumerate(texts) for begin, end in telephones(text)]
    told = {name for _, name in found if "718" not in name}  # the one number that packages' licences hold
    size = sum(map(len, texts))
    assert size > 4 * MILLION
    assert len(told) <= MOST_FALSE_PER_MILLION * size / MILLION, told
    assert {number for number, _ in found} <= set(hinted(column(texts), *HINTS))


def _date(rng: random.Random) -> str:
    at = datetime(1990, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**9))
    styles = ("%Y-%m-%d %H:%M:%S", "%d/%m/%Y", "%d.%m.%Y %H:%M", "%Y%m%d%H%M%S", "%m-%d-%Y", "%H:%M:%S.%f")
    return at.strftime(rng.choice(styles))


MADE: dict[str, Callable[[random.Random], str]] = {
    "dates": _date,
    "versions": lambda rng: ".".join(str(rng.randrange(100)) for _ in range(rng.randint(2, 4))) + "-0ubuntu1",
    "uuids": lambda rng: str(uuid.UUID(int=rng.getrandbits(128))),
    "digits": lambda rng: str(rng.randrange(10 ** rng.randint(3, 15))),
    "decimals": lambda rng: f"{rng.uniform(-1000, 1000):+.9f}",
    "addresses": lambda rng: ".".join(str(rng.randrange(256)) for _ in range(4)),
    "cards": lambda rng: " ".join(f"{rng.randrange(10_000):04}" for _ in range(4)),
    "orders": lambda rng: f"ORD-{rng.randrange(10**4):04}-{rng.randrange(10**6):06}",
    "hex": lambda rng: rng.randbytes(8).hex(" "),
}


@pytest.mark.parametrize("kind", MADE)
def test_made_numbers(kind: str):
    """Of two thousand of each kind that telephones are mistaken for, at most four are replaced."""
    rng = random.Random(7)
    wrong = [text for text in (MADE[kind](rng) for _ in range(2000)) if cut(f"see {text} there") != f"see {text} there"]
    assert len(wrong) <= 4, wrong
