"""A model's surroundings for a test: its spec, champion, reference, traffic and verdicts, written as the loop does."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sqlalchemy import Engine, text

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import artifact_url, write_rows
from datasets_defs.store.database import engine_for
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.references import ReferenceProfile, save_reference
from datasets_defs.store.verdicts import save_verdict
from ops.stack.postgres import USER

MODEL = "writer"


@dataclass
class Loop:
    """One model in one database; windows are counted from `start`."""

    db: Engine
    home: Path

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.db)

    @property
    def length(self) -> timedelta:
        """Length of a window."""
        return settings().window_length

    def spec(self, **fields: Any) -> ModelSpec:
        """Write the model's YAML."""
        content = {
            "name": MODEL, "base_model": {}, "training_text": "builtin:python-docs", "blind_after_windows": 2,
            "drift": {"min_rows": 60, "burn_in_windows": 0}, "probation_windows": 2, "retrain": {"max_attempts": 2},
            **fields,
        }  # fmt: skip
        content["drift"] = {"season": "none", **content["drift"]}
        (self.home / "models" / f"{MODEL}.yaml").write_text(yaml.safe_dump(content))
        return spec_of(MODEL)

    def window(self, number: int) -> Window:
        """Give window `number`; window 0 is the first whole one after a fixed time."""
        start = EPOCH + ((datetime(2026, 11, 20, tzinfo=UTC) - EPOCH) // self.length + number) * self.length
        return Window(start, start + self.length)

    def until(self, number: int) -> datetime:
        """Give a time at which window `number` is the newest to be judged."""
        return self.window(number).end + timedelta(seconds=settings().sensor_grace_seconds + 1)

    def champion(self, version: int = 1, *, since: datetime | None = None, kind: str = "bootstrap") -> None:
        """Make a version the champion, from window 0 on unless said otherwise."""
        present = self.ledger.champion(MODEL)
        self.ledger.change_champion(
            MODEL,
            expected=present.version if present else None,
            to=version,
            kind=kind,
            reason="test",
            actor="test",
            incident=self.ledger.open_of(MODEL),
        )
        with self.db.begin() as on:
            on.execute(text("UPDATE champion SET since = :at"), {"at": since or self.window(0).start})

    def served_since(self, version: int, at: datetime) -> None:
        """Move a promotion to another time, which only the tables' owner can; tests' time is not the clock's."""
        owner = engine_for(self.db.url.set(username=USER, password="test").render_as_string(hide_password=False))
        with owner.begin() as on:
            on.execute(
                text("UPDATE promotion SET at = :at WHERE to_version = :version"), {"at": at, "version": version}
            )
        owner.dispose()

    def reference(
        self, prompts: tuple[str, ...], *, version: int = 1, loss: float | None = 2.5, role: str = "recent"
    ) -> None:
        """Give a version its reference rows."""
        url = artifact_url("references", MODEL, f"v{version}.parquet")
        rows = [
            {"request_id": f"r{n}", "prompt": p, "reference": None, "prompt_bits_per_byte": _loss(n, loss),
             "role": role}
            for n, p in enumerate(prompts)
        ]  # fmt: skip
        sha256 = write_rows(url, [*rows, {**rows[0], "role": "anchor", "prompt": "never compared with"}])
        save_reference(
            self.db,
            ReferenceProfile(model=MODEL, version=version, uri=url, sha256=sha256, rows=len(rows), source="test"),
        )

    def traffic(
        self, number: int, prompts: tuple[str, ...], *, version: int | None = 1, loss: float | None = 2.5
    ) -> None:
        """Log a window's requests."""
        window = self.window(number)
        append(
            self.db,
            [
                Inference(
                    model=MODEL,
                    request_id=f"{number}-{version}-{n}",
                    at=window.start + (n + 0.5) / len(prompts) * window.length,
                    prompt=prompt,
                    model_version=version,
                    prompt_bits_per_byte=_loss(n, loss),
                )
                for n, prompt in enumerate(prompts)
            ],
        )

    def verdict(self, number: int, signal: str, condition: Condition, *, version: int = 1, **more: Any) -> Verdict:
        """Save a verdict."""
        verdict = Verdict(
            model=MODEL,
            signal=signal,
            window=self.window(number),
            condition=condition,
            reason=f"{signal} is {condition}",
            method="test",
            champion_version=version,
            **more,
        )
        save_verdict(self.db, verdict)
        return verdict

    def kinds(self) -> list[str]:
        """Give the kinds of the model's events but the champion's."""
        return [event.kind for event in self.ledger.events(MODEL) if event.kind != "champion"]


def _loss(number: int, mean: float | None) -> float | None:
    return None if mean is None else mean + 0.2 * float(np.random.default_rng(number).normal())
