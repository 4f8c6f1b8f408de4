"""Secrets, e-mail addresses, telephone numbers and other personal data, taken out of texts.

The only file that imports detect-secrets and, if `driftloop[pii]` is installed, Presidio. Found are secrets of known
shapes, private keys and passwords in addresses; not found are passwords in plain sentences. Presidio finds cards,
IBANs, IP addresses, telephone and social security numbers by their patterns and checksums; names and postal addresses
would need a language model, and are not found.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.hints import column, hinted
from datasets_defs.redaction.secret_shapes import SHAPES
from datasets_defs.redaction.telephones import HINTS as TELEPHONE_HINTS
from datasets_defs.redaction.telephones import telephones

_LABELS = r"(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}\b"
_DOMAIN = re.compile(rf"@(?:{_LABELS}|\[\d{{1,3}}(?:\.\d{{1,3}}){{3}}\])")
_DISGUISED_AT = (r"\x{ff20}", "%40", r"\((?i:at)\)", r"\[(?i:at)\]")
_DOT = r"(?:\.| ?[(\[](?i:dot)[)\]] ?)"
_DISGUISED = re.compile(rf"(?:\uff20|%40| \((?i:at)\) ?| ?\[(?i:at)\] ?)(?:[\w-]{{1,63}}{_DOT})+[^\W\d_]{{2,24}}\b")
_BACKWARDS = re.compile(r"[\w.+%-]+")
_KEY_BLOCK = re.compile(
    r"-{4,5} ?BEGIN (?:[A-Z0-9 ]{1,40} )?PRIVATE KEY(?: BLOCK)? ?-{4,5}"
    r"(?:.{0,20000}?-{4,5} ?END [A-Z0-9 ]{1,60}-{4,5}|[A-Za-z0-9+/=\\\s:,<>|#*\"'-]*)"
    r"|PuTTY-User-Key-File-\d:.*?(?:Private-MAC: ?[0-9a-f]+|\Z)",
    re.DOTALL,
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
_HINTS = {
    "AWS Access Key": r"A(?:3T[A-Z0-9]|BIA|CCA|KIA|SIA)[0-9A-Z]{4}|(?i:aws)[^\n]{0,20}(?i:key|pwd|pw|pass|token)",
    "Azure Storage Account access key": r"AccountKey=",
    "Basic Auth Credentials": r"://[^:/?#\[\]@!$&'()*+,;=\s]+:[^:/?#\[\]@!$&'()*+,;=\s]+@",
    "Discord Bot Token": r"\.[A-Za-z\d_-]{6}\.[A-Za-z\d_-]{20}",
    "GitHub Token": r"gh[pousr]_[A-Za-z0-9_]{4}",
    "GitLab Token": r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-|GR1348941",
    "JSON Web Token": r"eyJ[A-Za-z0-9_=-]+\.",
    "Mailchimp Access Key": r"[0-9a-z]-us[0-9]",
    "NPM tokens": r":_authToken=",
    "OpenAI Token": r"T3BlbkFJ",
    "PyPI Token": r"pypi-AgE",
    "SendGrid API Key": r"SG\.[a-zA-Z0-9_-]{8}",
    "Slack Token": r"(?i:xox[aboprs]-|hooks\.slack\.com)",
    "Square OAuth Secret": r"sq0csp-",
    "Stripe Access Key": r"[rs]k_live_",
    "Telegram Bot Token": r"\d:[0-9A-Za-z_-]{12}",
    "Twilio API Key": r"(?:AC|SK)[a-z0-9]{8}",
}
"""What stands in every secret of a type, as RE2 reads it."""
_EVERYTHING = ""
_RARE = (r"\.", "://")
"""How hints begin that are passes of their own."""
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
    """What takes something out of texts."""

    hints: tuple[str, ...]
    """One of them matches in every text that holds something; see `datasets_defs.redaction.hints`."""
    cut: Callable[[str], tuple[str, list[str]]]
    """Gives the text with marks in the places of what was found, and what that was."""


def finders(kinds: Iterable[str]) -> tuple[Finder, ...]:
    """Give what finds these kinds: `secrets`, `emails`, `telephones`, `pii`.

    Raises:
        ContractError: `pii` is asked for, and Presidio is not installed.
    """
    wanted = set(kinds)
    chosen: tuple[Finder, ...] = ()
    if "secrets" in wanted:
        chosen += (_secrets(),)
    if "pii" in wanted:
        chosen += (_presidio(),)
    if "emails" in wanted:
        chosen += (
            Finder(("@",), partial(_cut_emails, _DOMAIN)),
            Finder(_DISGUISED_AT, partial(_cut_emails, _DISGUISED)),
        )
    if "telephones" in wanted:
        chosen += (Finder(TELEPHONE_HINTS, _cut_telephones),)
    return chosen


def redact(texts: Sequence[tuple[str, ...]], finders: Sequence[Finder]) -> dict[int, tuple[tuple[str, ...], list[str]]]:
    """Give the redacted fields of those texts that held something, by number, and what it was."""
    changed: dict[int, tuple[tuple[str, ...], list[str]]] = {}
    rows = column(["\n".join(filter(None, fields)) for fields in texts])
    for finder in finders:
        for number in hinted(rows, *finder.hints):
            fields, reasons = changed.get(number, (texts[number], []))
            cut = [finder.cut(field) for field in fields]
            if new_reasons := [reason for _, of_field in cut for reason in of_field]:
                changed[number] = (tuple(text for text, _ in cut), list(dict.fromkeys([*reasons, *new_reasons])))
    return changed


def _cut_emails(domains: re.Pattern[str], text: str) -> tuple[str, list[str]]:
    """Look for the domain first, and from there for the name before it: few texts have an @."""
    pieces: list[str] = []
    at = 0
    for domain in domains.finditer(text):
        name = _BACKWARDS.match(text[max(at, domain.start() - 64) : domain.start()][::-1])
        if name is not None:
            pieces += [text[at : domain.start() - name.end()], "<email>"]
            at = domain.end()
    return "".join([*pieces, text[at:]]), ["e-mail address"] if pieces else []


def _cut_telephones(text: str) -> tuple[str, list[str]]:
    spans = list(telephones(text))
    return _without(text, spans, "<telephone>"), ["telephone number"] if spans else []


def known_secrets() -> list[tuple[str, str, str]]:
    """Give the patterns of detect-secrets: type, hint, and the pattern."""
    return [(kind, _HINTS.get(kind, _EVERYTHING), regex.pattern) for kind, regex in _detectors()]


@cache
def _detectors() -> tuple[tuple[str, re.Pattern[str]], ...]:
    from importlib import import_module

    patterns = []
    for name in _PLUGINS:
        module, plugin = name.split(".")
        detector = getattr(import_module(f"detect_secrets.plugins.{module}"), plugin)
        patterns += [(detector.secret_type, regex) for regex in detector.denylist]
    return tuple(patterns)


@cache
def _secrets() -> Finder:
    own = [(kind, re.compile(pattern, re.ASCII)) for kind, _, pattern in SHAPES]
    patterns = [("Private Key", _KEY_BLOCK), *own, *_detectors()]
    hints = ["PRIVATE KEY|PuTTY-User-Key-File-", *(hint for _, hint, _ in SHAPES)]
    hints += dict.fromkeys(_HINTS.get(kind, _EVERYTHING) for kind, _ in _detectors())

    def cut(text: str) -> tuple[str, list[str]]:
        reasons = []
        for kind, regex in patterns:
            text, count = regex.subn("<secret>", text)
            if count:
                reasons.append(f"secret ({kind})")
        return text, reasons

    rare = tuple(hint for hint in hints if hint.startswith(_RARE))
    return Finder((*rare, "|".join(hint for hint in hints if hint not in rare)), cut)


@cache
def _presidio() -> Finder:
    if find_spec("presidio_analyzer") is None:
        raise ContractError("data.redact asks for pii, and Presidio is not installed: pip install 'driftloop[pii]'")
    from presidio_analyzer import predefined_recognizers

    recognizers = [(getattr(predefined_recognizers, name)(), entity) for name, entity in _RECOGNIZERS.items()]

    def cut(text: str) -> tuple[str, list[str]]:
        spans = [
            (result.start, result.end)
            for recognizer, entity in recognizers
            for result in recognizer.analyze(text, [entity], None) or []
            if result.score >= _SURE
        ]
        return _without(text, spans, "<personal>"), ["personal data"] if spans else []

    return Finder((r"\pN",), cut)


def _without(text: str, spans: list[tuple[int, int]], mark: str) -> str:
    """Give a text with a mark in the place of each span."""
    for start, end in _merged(spans):
        text = text[:start] + mark + text[end:]
    return text


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that overlap; the last comes first, so that cutting one leaves the places of the others."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined[::-1]
