"""The former champion scores what its successor answered: real models, the registry and the log."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import FromScratch
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.shadow_log import ShadowScore, read_shadow_scores
from training import compare_champions
from training.model.language_model import LanguageModel
from training.registry.registry import Registry

SHAPE = FromScratch(layers=1, width=16, heads=2, vocabulary=300, context=64)
PROMPTS = [f"The cube of {n} is {n**3}, said user {n % 7}." for n in range(40)]
LONG = "a prompt that takes more than one stretch to be scored, " * 30


class Shadowed:
    """A model whose version 2 was promoted over version 1 four windows ago."""

    def __init__(self, db: Engine, home: Path) -> None:
        self.db, self.home, self.name = db, home, f"m-{secrets.token_hex(4)}"
        self.ledger, registry = Ledger(db), Registry(settings().mlflow_url)
        self.spec_is("driftloop")
        self.models = {version: LanguageModel.scratch(SHAPE, PROMPTS, seed=version) for version in (1, 2)}
        for version, model in self.models.items():
            folder = home / f"v{version}"
            model.save(folder)
            key = f"{self.name}|{version}"
            assert registry.register(self.name, folder, key=key, tags={}, params={}, metrics={}) == version
        self.ledger.change_champion(self.name, expected=None, to=1, kind="bootstrap", reason="r", actor="t")
        self.ledger.change_champion(self.name, expected=1, to=2, kind="promote", reason="r", actor="t")
        self.until = datetime.now(UTC)
        grace = timedelta(seconds=settings().sensor_grace_seconds)
        self.newest = Window.last_complete(self.until - grace, settings().window_length)
        with db.begin() as on:
            on.execute(text("UPDATE champion SET since = :at"), {"at": self.newest.before(3).start})

    def spec_is(self, kind: str, *, rows: int = 200) -> None:
        """Write the YAML."""
        (self.home / "models" / f"{self.name}.yaml").write_text(
            f"name: {self.name}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n"
            f"serving: {{kind: {kind}}}\nshadow: {{rows: {rows}}}\n"
        )

    def asked(self, window: Window, prompts: Sequence[str] = PROMPTS, **changes: object) -> None:
        """Log prompts as our serving does after version 2 answered them."""
        rows = []
        for number, (prompt, loss) in enumerate(zip(prompts, self.models[2].losses(prompts), strict=True)):
            row = Inference(
                model=self.name, request_id=f"{window.start:%H}-{number}", at=window.start + timedelta(seconds=number),
                prompt=prompt, model_version=2, prompt_bits_per_byte=loss.bits_per_byte,
                prompt_tokens=len(self.models[2].encode(prompt)), user_id=f"u{number % 7}",
            )  # fmt: skip
            rows.append(replace(row, **changes))
        append(self.db, rows)

    def run(self) -> str:
        """Score."""
        return compare_champions.compare_champions(self.name, until=self.until, db=self.db).reason

    def scores(self) -> list[ShadowScore]:
        """Read what was scored."""
        return read_shadow_scores(self.db, self.name, 2, 1, since=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def shadowed(engine: Engine, home: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Shadowed:
    """Two versions in the registry, the second on top of the first."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    settings.cache_clear()
    return Shadowed(engine, home)


def bits(shadowed: Shadowed, version: int, prompts: Sequence[str] = PROMPTS) -> list[float]:
    return [loss.bits for loss in shadowed.models[version].losses(prompts)]


def test_pairs_are_what_both_pay(shadowed: Shadowed) -> None:
    """The former version's bits by its own weights, the champion's from the log; once per request."""
    shadowed.asked(shadowed.newest)
    assert "scored 40 prompts" in shadowed.run()
    found = sorted(shadowed.scores(), key=lambda each: int(each.request_id.partition("-")[2]))
    assert [each.previous_bits for each in found] == pytest.approx(bits(shadowed, 1), rel=1e-4)
    assert [each.champion_bits for each in found] == pytest.approx(bits(shadowed, 2), rel=1e-4)
    assert [each.bytes for each in found] == [len(prompt.encode()) for prompt in PROMPTS]
    assert {each.user_id for each in found} == {f"u{n}" for n in range(7)}
    assert "nothing new" in shadowed.run()
    assert len(shadowed.scores()) == 40


@pytest.mark.parametrize(
    "changes",
    [{"prompt_bits_per_byte": None}, {"model_version": None, "prompt_bits_per_byte": 99.0}, {"prompt_tokens": None}],
    ids=["none logged", "not said who answered", "not said how long"],
)
def test_what_the_log_does_not_surely_hold_is_scored(shadowed: Shadowed, changes: dict) -> None:
    """The champion scores what it did not log itself."""
    shadowed.asked(shadowed.newest, **changes)
    shadowed.run()
    assert sorted(each.champion_bits for each in shadowed.scores()) == pytest.approx(
        sorted(bits(shadowed, 2)), rel=1e-4
    )


def test_another_servers_figures_are_not_compared_with_ours(shadowed: Shadowed) -> None:
    """Both versions score what an external server answered, whatever it logged."""
    shadowed.spec_is("external")
    shadowed.asked(shadowed.newest, prompt_bits_per_byte=99.0)
    shadowed.run()
    assert sorted(each.champion_bits for each in shadowed.scores()) == pytest.approx(
        sorted(bits(shadowed, 2)), rel=1e-4
    )


def test_long_prompts_are_cut_alike_for_both(shadowed: Shadowed) -> None:
    """A prompt of several stretches is scored by both, since serving reads it in one."""
    shadowed.asked(shadowed.newest, [LONG], prompt_tokens=2000, prompt_bits_per_byte=99.0)
    shadowed.run()
    (found,) = shadowed.scores()
    assert found.champion_bits == pytest.approx(bits(shadowed, 2, [LONG])[0], rel=1e-4)


def test_which_prompts_count(shadowed: Shadowed) -> None:
    """The newest three windows since the promotion, so many of each; not the former champion's, nor empty prompts."""
    shadowed.spec_is("driftloop", rows=10)
    for count in range(5):
        shadowed.asked(shadowed.newest.before(count))
    assert "scored 30 prompts" in shadowed.run()
    assert {each.at.hour for each in shadowed.scores()} == {shadowed.newest.before(n).start.hour for n in range(3)}
    shadowed.spec_is("driftloop")
    others = [("x0", "", 2), ("x1", "by the former", 1)]
    at = shadowed.newest.start
    append(
        shadowed.db,
        [
            Inference(model=shadowed.name, request_id=name, at=at, prompt=prompt, model_version=version)
            for name, prompt, version in others
        ],
    )
    shadowed.run()
    assert {"x0", "x1"} & {each.request_id for each in shadowed.scores()} == set()
    assert len(shadowed.scores()) == 120


def test_the_registry_away_costs_nothing_but_time(shadowed: Shadowed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of half a comparison; when the registry is back, the window is still looked at."""
    shadowed.asked(shadowed.newest)
    with monkeypatch.context() as away:
        away.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:9")
        settings.cache_clear()
        with pytest.raises(TransientError, match="MLflow"):
            shadowed.run()
        assert shadowed.scores() == []
    settings.cache_clear()
    shadowed.run()
    assert len(shadowed.scores()) == 40


def test_a_first_champion_has_nobody_to_be_compared_with(shadowed: Shadowed) -> None:
    """After a rollback, or before the first promotion, nothing is scored."""
    shadowed.asked(shadowed.newest)
    shadowed.ledger.change_champion(shadowed.name, expected=2, to=1, kind="roll_back", reason="r", actor="t")
    assert "no champion that came after another" in shadowed.run()
    assert shadowed.scores() == []
