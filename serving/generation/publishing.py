"""The one seam through which texts are published: a table, files, a webhook; each takes the same text once."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

import httpx
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.generation import FilesPublisher, PublisherSpec, TablePublisher, WebhookPublisher
from datasets_defs.store.artifacts import write_bytes
from datasets_defs.store.published_texts import PublishedText, save_published
from serving.generation.outside import Outside, secret_of
from training.servers.http import asked
from training.servers.webhook import KEY, SIGNATURE, TIME, signature


class TextPublisher(Protocol):
    """A place for texts. Publishing a text that it has changes nothing."""

    def publish(self, texts: Sequence[PublishedText]) -> None:
        """Publish all of them.

        Raises:
            ContractError: the place does not take them.
            TransientError: it is away; some may have been taken.
        """
        ...


class TextTable:
    """Rows of a table."""

    def __init__(self, db: Engine, name: str) -> None:
        self._db, self._name = db, name

    def publish(self, texts: Sequence[PublishedText]) -> None:
        """Insert those that are not there."""
        save_published(self._db, self._name, texts)


class TextFiles:
    """A file for each text."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def publish(self, texts: Sequence[PublishedText]) -> None:
        """Write those that are not there, each whole or not at all."""
        for text in texts:
            try:
                write_bytes(f"{self._url}/{text.key}.json", _json(text), once=True)
            except (OSError, ValueError) as err:
                raise ContractError(f"generate.publish: {self._url} cannot be written: {err}") from err


class TextWebhook:
    """A signed request for each text; the receiver knows one that it has by its Idempotency-Key."""

    def __init__(self, url: str, secret: str, *, seconds: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(seconds, connect=5))
        self._secret = secret

    def publish(self, texts: Sequence[PublishedText]) -> None:
        """Post them one after the other."""
        for text in texts:
            at, body = str(int(time.time())), _json(text)
            signed = {TIME: at, SIGNATURE: signature(self._secret, at, body), KEY: text.key}
            headers = {**signed, "Content-Type": "application/json"}
            asked(self._client, "POST", "", content=body, headers=headers, hint="look at generate.publish")


def publishers(places: Sequence[PublisherSpec], *, db: Engine, outside: Outside) -> list[TextPublisher]:
    """Give the places that a spec names.

    Raises:
        ContractError: a Connection or a secret is missing.
    """
    return [_publisher(place, db, outside) for place in places]


def _publisher(place: PublisherSpec, db: Engine, outside: Outside) -> TextPublisher:
    match place:
        case TablePublisher(connection=connection, table=table):
            return TextTable(outside.database(connection) if connection else db, table)
        case FilesPublisher(url=url):
            return TextFiles(url)
        case WebhookPublisher(url=url, key_env=variable, seconds=seconds):
            return TextWebhook(url, str(secret_of(variable)), seconds=seconds)


def _json(text: PublishedText) -> bytes:
    return json.dumps(asdict(text), ensure_ascii=False, sort_keys=True).encode()
