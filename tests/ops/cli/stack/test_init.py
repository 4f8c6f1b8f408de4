"""`driftloop init` and `driftloop schema`."""

import itertools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.spec.files import load, parse
from datasets_defs.spec.json_schema import json_schema
from ops.cli.main import app
from ops.cli.stack.new_model import OWN_SIGNAL, SERVERS, NewModel, yaml_of


@pytest.fixture
def folder(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, with a database and without Prometheus."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_URL", "http://127.0.0.1:1")
    settings.cache_clear()
    return home / "models"


def driftloop(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_model_served_elsewhere(folder: Path) -> None:
    """The options become a file that is accepted; the first check names what is missing, each with a reason."""
    result = driftloop(
        "init", "bot", "--serving", "vllm", "--base-model", "/models/bot", "--training-text", "faq.jsonl",
        "--gpu", "dcgm", "--promotion", "approve", "--description", 'Answers: "what" & why # not a comment',
    )  # fmt: skip
    assert result.exit_code == 0, result.output or result.exception
    spec = load(folder / "bot.yaml")
    assert (spec.serving.kind, spec.promotion, spec.base_model) == ("external", "approve", "/models/bot")
    assert spec.description == 'Answers: "what" & why # not a comment'
    assert {signal.name for signal in spec.quality} >= {"first_token_p95_seconds", "kv_cache_used_share"}
    assert "temperature_celsius" in {signal.name for signal in spec.gpu}
    assert (folder / "bot.yaml").read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert json.loads((folder / "schema.json").read_text()) == json_schema()
    said = " ".join(result.stdout.split())
    assert "First check: what is still missing" in said
    for sentence in (
        "base_model: /models/bot does not exist",
        "training_text: the file faq.jsonl does not exist",
        "`driftloop bootstrap bot` makes the first one",
        "gpu:temperature_celsius:",
    ):
        assert sentence in said
    assert driftloop("check-models").exit_code == 0


def test_a_built_in_model_without_a_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has its files lacks only the stack, and is told how to start one."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", "postgresql+psycopg://x@127.0.0.1:1/x")
    settings.cache_clear()
    result = driftloop(
        "init", "small", "--serving", "driftloop", "--base-model", "scratch", "--training-text", "builtin:python-docs"
    )
    assert result.exit_code == 0, result.output or result.exception
    assert [signal.name for signal in load(folder / "small.yaml").quality] == [
        "prompt_loss", "latency_p95_seconds", "error_share",
    ]  # fmt: skip
    lacks = [line for line in result.stdout.splitlines() if line.startswith("  - ")]
    assert len(lacks) == 1
    assert "PostgreSQL is not reachable" in lacks[0]
    assert "`driftloop up` starts the local stack" in lacks[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--serving is missing"),
        (("--serving", "driftloop"), "--base-model is missing"),
        (("--serving", "driftloop", "--base-model", "scratch"), "--training-text is missing"),
        (("--serving", "tritton"), "there are driftloop, vllm, tgi, sglang, nim, triton, external"),
        (("--serving", "vllm", "--base-model", " ", "--training-text", "t"), "--base-model is empty"),
        (("--serving", "vllm", "--base-model", "b", "--training-text", "t", "--gpu", "rocm"), "field gpu"),
        (("--serving", "vllm", "--base-model", "b", "--training-text", "t", "--promotion", "ask"), "field promotion"),
    ],
)
def test_what_is_missing_or_impossible_is_named(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    """Without a terminal nothing is asked, and nothing is written."""
    result = driftloop("init", "bot", *arguments)
    assert isinstance(result.exception, ContractError)
    assert says in str(result.exception)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["Bot", "../bot", "a_b", "-a", "x" * 64])
def test_a_name_that_cannot_be(folder: Path, name: str) -> None:
    """A name becomes a file and a label, so it is checked before anything is asked."""
    result = driftloop("init", "--serving", "driftloop", "--", name)
    assert isinstance(result.exception, ContractError)
    assert "is no name of a model" in str(result.exception)


def test_nothing_is_overwritten(folder: Path) -> None:
    """A file that is there stays as it is, and so does a schema."""
    (folder / "bot.yaml").write_text("mine")
    (folder / "schema.json").write_text("mine, too")
    options = ("--serving", "driftloop", "--base-model", "scratch", "--training-text", "builtin:python-docs")
    result = driftloop("init", "bot", *options)
    assert "exists already" in str(result.exception)
    assert driftloop("init", "other", *options).exit_code == 0
    assert [(folder / name).read_text() for name in ("bot.yaml", "schema.json")] == ["mine", "mine, too"]


@pytest.mark.parametrize(
    ("serving", "quality", "gpu", "promotion"),
    list(itertools.product(SERVERS, [(), ("vllm",), ("tgi",), ("driftloop",)], [(), ("dcgm",)], ["auto", "approve"])),
)
def test_every_answer_makes_a_file_that_is_accepted(
    serving: str, quality: tuple[str, ...], gpu: tuple[str, ...], promotion: str
) -> None:
    """Both by the reader of models and by the schema, and its commented signal of one's own is one."""
    text = yaml_of(
        NewModel(
            name="m", description="ä: 'x'", serving=serving, base_model="org/name", training_text="a b.txt",
            quality=quality, gpu=gpu, promotion=promotion,
        )
    )  # fmt: skip
    assert parse(text, Path("m.yaml")).promotion == promotion
    Draft202012Validator(json_schema()).validate(yaml.safe_load(text))
    if not quality:
        own = text.replace("quality: []", f"quality:\n  - {OWN_SIGNAL}")
        assert [signal.name for signal in parse(own, Path("m.yaml")).quality] == ["error_share"]


def test_on_a_terminal_it_asks(folder: Path) -> None:
    """Questions have suggestions that Enter takes; the answers are in the file."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ops.cli.main", "init", "asked"]
    environment = {**os.environ, "DRIFTLOOP_MODELS_DIR": str(folder), "COLUMNS": "200"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environment) as process:
        os.close(slave)
        os.write(master, b"tgi\norg/base\nbuiltin:python-docs\n\ndcgm\n")
        said = b""
        try:
            while chunk := os.read(master, 4096):
                said += chunk
        except OSError:  # a terminal's end, once nobody writes to it
            pass
    os.close(master)
    assert process.returncode == 0, said.decode()
    spec = load(folder / "asked.yaml")
    assert (spec.base_model, spec.training_text, spec.serving.kind) == ("org/base", "builtin:python-docs", "external")
    assert [bool(spec.quality), bool(spec.gpu)] == [True, True]
    assert b"org/base is no folder here, so it will be fetched" in said


def test_the_schema_is_printed() -> None:
    """`driftloop schema` prints what the file holds."""
    assert json.loads(driftloop("schema").stdout) == json_schema()
