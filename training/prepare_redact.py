"""Secrets, e-mail addresses and other personal data, taken out of texts.

The only file that imports detect-secrets and, if `driftloop[pii]` is installed, Presidio. Found are secrets of known
shapes, private keys and passwords in addresses; not found are passwords in plain sentences. Presidio finds cards,
IBANs, IP addresses, telephone and social security numbers by their patterns and checksums; names and postal addresses
would need a language model, and are not found.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from datasets_defs.errors import ContractError

Redact = Callable[[str], str]
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
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
    "Mailchimp Access Key": r"-us\d",
    "Slack Token": r"xox|XOX|hooks\.slack\.com",
    "Stripe Access Key": r"k_live_",
    "Telegram Bot Token": r":AA",
}
"""One of these stands in every secret of the type; looked for first, where the pattern itself is slow."""
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
    may_hold: Callable[[str], Any]
    """Says quickly, of one text or of many in a row, whether there is any; may say yes too often."""
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
        found += (Finder("e-mail address", "<email>", lambda text: "@" in text, _EMAIL_CUT),)
    return found


def redact(texts: Sequence[tuple[str, ...]], finders: Sequence[Finder]) -> dict[int, tuple[tuple[str, ...], list[str]]]:
    """Give the redacted fields of those texts that held something, by number, and what it was."""
    changed: dict[int, tuple[tuple[str, ...], list[str]]] = {}
    joined = "\n".join("\n".join(fields) for fields in texts)
    for finder in finders:
        if not finder.may_hold(joined):
            continue
        for number, original in enumerate(texts):
            fields, reasons = changed.get(number, (original, []))
            if not any(finder.may_hold(field) for field in fields):
                continue
            clean = tuple(finder.cut(field, finder.mark) for field in fields)
            if clean != fields:
                changed[number] = (clean, [*reasons, finder.reason])
    return changed


def _by_regex(regex: re.Pattern[str]) -> Callable[[str, str], str]:
    return lambda text, mark: regex.sub(mark, text)


_EMAIL_CUT = _by_regex(_EMAIL)


@cache
def _secrets() -> tuple[Finder, ...]:
    from importlib import import_module

    found = [Finder("secret (Private Key)", "<secret>", lambda text: "PRIVATE KEY" in text, _by_regex(_KEY_BLOCK))]
    for name in _PLUGINS:
        module, plugin = name.split(".")
        detector = getattr(import_module(f"detect_secrets.plugins.{module}"), plugin)
        found += [
            Finder(
                f"secret ({detector.secret_type})",
                "<secret>",
                _search(regex, _MARKERS.get(detector.secret_type)),
                _by_regex(regex),
            )
            for regex in detector.denylist
        ]
    return tuple(found)


def _search(regex: re.Pattern[str], marker: str | None) -> Callable[[str], Any]:
    if marker is None:
        return regex.search
    marked = re.compile(marker)
    return lambda text: marked.search(text) and regex.search(text)


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

    return Finder("personal data", "<personal>", lambda text: any(map(str.isdigit, text)), cut)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that overlap; the last comes first, so that cutting one leaves the places of the others."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined[::-1]
