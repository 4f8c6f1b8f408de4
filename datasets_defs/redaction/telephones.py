"""Telephone numbers in texts: written like one, and valid by a country's plan. The only file with phonenumbers.

Found are international numbers, `+` or `00` and a country's code, and national ones as people write them: with the 0
before the area and groups, or in North America's form. Dates, versions, ids and code are no valid numbers, or are not
grouped so. Not found are national numbers of digits alone, since every id looks like one, and a code with one point
after it, which is a decimal.
"""

import re
from collections.abc import Iterator

import phonenumbers

HINTS = (r"[+\x{ff0b}][ (]?\pN", r"(?:^|[^\w.+/-])\(?0\d{1,5}\)?[ /-]{1,3}\d\d", r"\d{3}\)?[ -]\d{3}[-. ]\d{4}")
"""One of them matches, in RE2's words, in every text that holds a number."""
_WITH_CODE = re.compile(r"(?<![\w+.])(?!\+\d+\.\d+(?!\d|[ .-]\d))[+\uff0b][ (]?\d")
_WITH_ZERO = re.compile(
    r"(?<![\w.+/-])(?<!\d )(?!\d{5}-\d{4}(?!\d))\(?0\d{1,5}\)?(?:[ /-]{1,3}\d{2,8}){1,6}(?![\w/-]|\.\d)", re.ASCII
)
"""A card's groups follow other groups; 02110-1301 is a postal code of the United States, which licences hold."""
_AMERICAN = re.compile(r"(?<![\w.+/-])(?<!\d )(?:1[ -])?(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4}(?![\w/-]|\.\d)", re.ASCII)
_LONGEST = 40
"""Characters of a number with its code, spaces and extension."""
_FEWEST_DIGITS = 9
"""Of a national number with its 0: shorter ones are dates and counts."""
_WITH_TRUNK_ZERO = (
    "DE", "GB", "FR", "AT", "CH", "NL", "BE", "SE", "FI", "IE", "RO", "BG", "RS", "UA", "TR", "IL", "ZA", "NG", "KE",
    "EG", "IN", "PK", "BD", "CN", "TW", "JP", "KR", "TH", "MY", "ID", "PH", "VN", "AU", "NZ", "BR", "AR", "IT",
)  # fmt: skip
"""Countries where a national number begins with 0; one of them decides."""


def telephones(text: str) -> Iterator[tuple[int, int]]:
    """Give where numbers stand in a text; two of them may overlap."""
    for begins in _WITH_CODE.finditer(text):
        near = text[begins.start() : begins.start() + _LONGEST]
        for whole in phonenumbers.PhoneNumberMatcher(near, None):
            if whole.start == 0:
                yield begins.start(), begins.start() + whole.end
    for match in _WITH_ZERO.finditer(text):
        digits = sum(letter.isdigit() for letter in match[0])
        if digits >= _FEWEST_DIGITS and any(_is_valid(match[0], region) for region in _WITH_TRUNK_ZERO):
            yield match.span()
    for match in _AMERICAN.finditer(text):
        if _is_valid(match[0], "US"):
            yield match.span()


def _is_valid(text: str, region: str) -> bool:
    """Say whether a text is a number as one country writes its own, in groups that the country has."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    if not phonenumbers.is_valid_number(number):  # what takes long is looking at the groups
        return False
    matcher = phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.STRICT_GROUPING)
    return any((match.start, match.end) == (0, len(text)) for match in matcher)
