"""Secrets, e-mail addresses and other personal data, taken out of texts.

The only file that imports detect-secrets and, if `driftloop[pii]` is installed, Presidio. Found are secrets of known
shapes, private keys and passwords in addresses; not found are passwords in plain sentences. Presidio finds cards,
IBANs, IP addresses, telephone and social security numbers by their patterns and checksums; names and postal addresses
would need a language model, and are not found.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import accumulate

from datasets_defs.errors import ContractError

Redact = Callable[[str], str]
_DOMAIN = re.compile(r"@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
_NAME = re.compile(r"[\w.+%-]{1,64}\Z")
_KEY_BLOCK = re.compile(
    r"-----BEGIN (?:[A-Z0-9 ]{1,40} )?PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{1,60}-----|\Z)", re.DOTALL
)
_PLUGINS = (
    "aws.AWSKeyDetector",
    "azure_storage_key.AzureStorageKeyDetector",
    "basic_auth.BasicAuthDetector",
    "discord.DiscordBotTokenDetector",
    "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector",
    "jwt.JwtTokenDetector",
    "mailchimp.MailchimpDetector",
    "npm.NpmDetector",
    "openai.OpenAIDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector",
    "twilio.TwilioKeyDetector",
)
"""Of detect-secrets, those that know a secret by a shape that nothing else has."""
_MARKERS = {
    "AWS Access Key": ("aws", "AWS", "Aws"),
    "Mailchimp Access Key": ("-us",),
    "Slack Token": ("xox", "XOX", "hooks.slack.com"),
    "Stripe Access Key": ("k_live_",),
    "Telegram Bot Token": (":AA",),
}
"""One of these stands in every secret of the type; looked for first, where the pattern itself is slow."""
_SLOW = {"Mailchimp Access Key", "Stripe Access Key", "Telegram Bot Token"}
"""Types whose patterns are slow though they mind case."""
_RECOGNIZERS = {
    "CreditCardRecognizer": "CREDIT_CARD",
    "IbanRecognizer": "IBAN_CODE",
    "IpRecognizer": "IP_ADDRESS",
    "PhoneRecognizer": "PHONE_NUMBER",
    "UsSsnRecognizer": "US_SSN",
    "CryptoRecognizer": "CRYPTO",
}
_SURE = 0.4
"""Presidio's own score from which a find counts."""


@dataclass(frozen=True, slots=True)
class Finder:
    """One kind of thing that is taken out."""

    reason: str
    """What is counted."""
    mark: str
    """What stands in its place."""
    places: Callable[[str], Iterator[int]]
    """Gives quickly, of many texts in a row, places where there may be one."""
    cut: Callable[[str, str], str]
    """Gives the text with the mark in the place of each find."""


def finders(kinds: Iterable[str]) -> tuple[Finder, ...]:
    """Give what finds these kinds: `secrets`, `emails`, `pii`.

    Raises:
        ContractError: `pii` is asked for, and Presidio is not installed.
    """
    wanted = set(kinds)
    found: tuple[Finder, ...] = ()
    if "secrets" in wanted:
        found += _secrets()
    if "pii" in wanted:
        found += (_presidio(),)
    if "emails" in wanted:
        found += (Finder("e-mail address", "<email>", _of_any(("@",)), _cut_emails),)
    return found


def redact(texts: Sequence[tuple[str, ...]], finders: Sequence[Finder]) -> dict[int, tuple[tuple[str, ...], list[str]]]:
    """Give the redacted fields of those texts that held something, by number, and what it was."""
    changed: dict[int, tuple[tuple[str, ...], list[str]]] = {}
    rows = ["\n".join(fields) for fields in texts]
    ends = list(accumulate(len(row) + 1 for row in rows))
    joined = "\n".join(rows)
    for finder in finders:
        for number in dict.fromkeys(bisect_right(ends, place) for place in finder.places(joined)):
            fields, reasons = changed.get(number, (texts[number], []))
            clean = tuple(finder.cut(field, finder.mark) for field in fields)
            if clean != fields:
                changed[number] = (clean, [*reasons, finder.reason])
    return changed


def _by_regex(regex: re.Pattern[str]) -> Callable[[str, str], str]:
    return lambda text, mark: regex.sub(mark, text)


def _cut_emails(text: str, mark: str) -> str:
    """Look for the domain first, and from there for the name before it: few texts have an @."""
    pieces: list[str] = []
    at = 0
    for domain in _DOMAIN.finditer(text):
        name = _NAME.search(text, max(at, domain.start() - 64), domain.start())
        if name is not None:
            pieces += [text[at : name.start()], mark]
            at = domain.end()
    return "".join([*pieces, text[at:]])


@cache
def _secrets() -> tuple[Finder, ...]:
    from importlib import import_module

    found = [Finder("secret (Private Key)", "<secret>", _of_any(("PRIVATE KEY",)), _by_regex(_KEY_BLOCK))]
    for name in _PLUGINS:
        module, plugin = name.split(".")
        detector = getattr(import_module(f"detect_secrets.plugins.{module}"), plugin)
        found += [
            Finder(
                f"secret ({detector.secret_type})",
                "<secret>",
                _places(regex, detector.secret_type),
                _by_regex(regex),
            )
            for regex in detector.denylist
        ]
    return tuple(found)


def _places(regex: re.Pattern[str], kind: str) -> Callable[[str], Iterator[int]]:
    if kind in _SLOW or (kind in _MARKERS and regex.flags & re.IGNORECASE):
        return _of_any(_MARKERS[kind])
    return _of_regex(regex)


def _of_regex(regex: re.Pattern[str]) -> Callable[[str], Iterator[int]]:
    return lambda text: (found.start() for found in regex.finditer(text))


def _of_any(markers: tuple[str, ...]) -> Callable[[str], Iterator[int]]:
    def places(text: str) -> Iterator[int]:
        for marker in markers:
            at = text.find(marker)
            while at >= 0:
                yield at
                at = text.find(marker, at + len(marker))

    return places


@cache
def _presidio() -> Finder:
    if find_spec("presidio_analyzer") is None:
        raise ContractError("data.redact asks for pii, and Presidio is not installed: pip install 'driftloop[pii]'")
    from presidio_analyzer import predefined_recognizers

    recognizers = [(getattr(predefined_recognizers, name)(), entity) for name, entity in _RECOGNIZERS.items()]

    def cut(text: str, mark: str) -> str:
        spans = [
            (found.start, found.end)
            for recognizer, entity in recognizers
            for found in recognizer.analyze(text, [entity], None) or []
            if found.score >= _SURE
        ]
        for start, end in _merged(spans):
            text = text[:start] + mark + text[end:]
        return text

    return Finder("personal data", "<personal>", _of_regex(re.compile(r"\d+")), cut)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that overlap; the last comes first, so that cutting one leaves the places of the others."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined[::-1]
