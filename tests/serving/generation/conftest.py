"""A model that writes texts for publication, with an API that is simulated and a PostgreSQL that is real."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text

from datasets_defs.core.addresses import ApiAddress
from datasets_defs.core.requests import Request
from serving import generate_texts

SPEC: dict[str, Any] = {
    "name": "writer",
    "base_model": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "context": 64},
    "training_text": "builtin:python-docs",
    "quality": [],
}
PACE = {"back_off_seconds": 0.01, "longest_wait_seconds": 5, "concurrency": 4, "batch_prompts": 10, "tries": 3}


@dataclass
class World:
    """What a run has of the world outside."""

    addresses: dict[str, ApiAddress] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    databases: dict[str, Engine] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    def api(self, connection: str) -> ApiAddress:
        return self.addresses[connection]

    def variable(self, name: str) -> str:
        return self.variables[name]

    def database(self, connection: str) -> Engine:
        return self.databases[connection]

    def asset_url(self, name: str) -> str:
        return self.urls[name]


@dataclass
class Writer:
    """The model's runs, as the DAG's tasks would make them."""

    db: Engine
    home: Path
    world: World = field(default_factory=World)

    def topics(self, count: int) -> None:
        rows = [json.dumps({"topic": f"topic {number}"}) for number in range(count)]
        (self.home / "topics.jsonl").write_text("\n".join(rows))

    def spec(self, url: str, **generate: Any) -> None:
        given = {
            "topics": {"file": str(self.home / "topics.jsonl")},
            "template": "Write about {{ topic }}.",
            "api": {"url": url, "seconds": 2, "connect_seconds": 2},
            **generate,
            "pace": {**PACE, **generate.get("pace", {})},
        }
        (self.home / "models" / "writer.yaml").write_text(yaml.safe_dump({**SPEC, "generate": given}))

    def plan(self, run: str = "generate_texts:1", key: str | None = "writer|texts|1") -> list[dict[str, Any]] | str:
        asked = Request.of(key, "somebody", {"model": "writer"})
        return generate_texts.plan(asked, run, db=self.db, outside=self.world)

    def ask(self, batches: Sequence[dict[str, Any]]) -> list[str]:
        return [generate_texts.ask(batch, db=self.db, outside=self.world) for batch in batches]

    def publish(self, run: str = "generate_texts:1") -> str:
        return generate_texts.publish(run, db=self.db, outside=self.world).reason

    def run(self, run: str = "generate_texts:1") -> str:
        """Run all of it but the forms, and give the report's sentence."""
        batches = self.plan(run)
        assert isinstance(batches, list), batches
        self.ask(batches)
        self.publish(run)
        return generate_texts.report(run, db=self.db)

    def rows(self, columns: str, of: str = "generated_text", order: str = "prompt") -> list[tuple[Any, ...]]:
        with self.db.connect() as on:
            return [tuple(row) for row in on.execute(text(f"SELECT {columns} FROM {of} ORDER BY {order}"))]

    def states(self) -> dict[str, int]:
        return dict(self.rows("state, count(*)", "generated_text GROUP BY state", "state"))


@pytest.fixture
def writer(engine: Engine, home: Path) -> Writer:
    """A model without topics or a section yet."""
    return Writer(engine, home)


@pytest.fixture
def answers() -> Callable[[str], str]:
    """Give a text that passes every check."""
    return lambda prompt: f"A fine text. It speaks about one thing: {prompt}"
