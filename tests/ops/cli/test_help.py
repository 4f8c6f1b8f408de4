"""What the command line says of itself: panels, examples, version, completion."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from datasets_defs.core.settings import ROOT
from ops.cli.main import app
from ops.cli.shared.panels import Panel

ROOT_COMMAND = typer.main.get_command(app)


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Give each command with its whole name, those of groups, too."""
    for name, command in ROOT_COMMAND.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())
        else:
            yield name, command


COMMANDS = dict(commands())
GROUPS = {"incident": Panel.WATCH, "key": Panel.SERVE}
"""Commands that hold others, and their panel."""


def examples(command: typer.core.TyperCommand) -> list[list[str]]:
    """Give the words of each example, without what the shell takes: variables before it and redirections."""
    lines = re.findall(r"^\[dim\]\$\[/\] (.+)$", command.epilog or "", re.MULTILINE)
    words = [shlex.split(line.partition(" > ")[0]) for line in lines]
    return [line[line.index("driftloop") + 1 :] for line in words]


def test_every_command_has_its_panel() -> None:
    """The first level of the help is sorted into panels, and nothing stands outside of them."""
    panels = {command.rich_help_panel for command in ROOT_COMMAND.commands.values()}  # type: ignore[attr-defined]
    assert panels == set(Panel)
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert [panel for panel in Panel if f"─ {panel} ─" not in help_text] == []


@pytest.mark.parametrize("panel", Panel)
def test_a_panel_is_a_folder(panel: Panel) -> None:
    """The commands of a panel are made in the folder of its name."""
    homes = {
        command.callback.__module__.split(".")[2]
        for name, command in COMMANDS.items()
        if command.rich_help_panel == panel or GROUPS.get(name.split()[0]) is panel
    }
    assert homes == {panel.lower()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_line_that_parses(name: str) -> None:
    """Each command's help ends with examples of that very command, whose arguments and options exist."""
    found = examples(COMMANDS[name])
    assert found
    for words in found:
        length = len(name.split())
        assert words[:length] == name.split()
        COMMANDS[name].make_context(name, words[length:])


def documented() -> Iterator[tuple[str, list[str]]]:
    """Give the command lines that guides, tutorials, README and runbook show, with a word for each placeholder."""
    pages = [*(ROOT / "docs" / "how-to").glob("*.md"), *(ROOT / "docs" / "tutorials").glob("*.md")]
    pages += [ROOT / "README.md", ROOT / "alerts" / "runbook.md", *(ROOT / "docs" / "explanation").glob("*.md")]
    placeholders = {"MODEL": "docs-writer", "ID": "1", "VERSION": "2", "V": "2", "T": "2026-05-01"}
    for page in pages:
        text = page.read_text()
        blocks = "\n".join(re.findall(r"^```(?:[a-z]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        lines = re.findall(r"^(?:driftloop|.* driftloop(?= migrate)) (.+)$", blocks, re.MULTILINE)
        for line in [*lines, *re.findall(r"`driftloop\s([^`]+)`", text)]:
            words = shlex.split(re.sub(r"[\[\]]", "", line).replace("…", "2026-05-01"), comments=True)
            yield page.name, [placeholders.get(word, word) for word in words]


@pytest.mark.parametrize(("page", "words"), [pytest.param(*item, id=" ".join(item[1])) for item in documented()])
def test_every_documented_command_line_parses(page: str, words: list[str]) -> None:
    """A command line in the documents has every argument and option it needs; a command that is only named exists."""
    if words[0].startswith("--"):
        ROOT_COMMAND.make_context("driftloop", words, resilient_parsing=True)
        return
    length = 2 if words[0] in GROUPS and len(words) > 1 else 1
    name = " ".join(words[:length])
    assert name in COMMANDS or name in GROUPS, page
    if words[length:]:
        COMMANDS[name].make_context(name, words[length:])


def test_examples_fit_80_columns() -> None:
    """An example that is broken over lines cannot be copied; those that cannot be shorter are known."""
    long = [
        line
        for command in COMMANDS.values()
        for line in (command.epilog or "").replace("[dim]$[/]", " $").splitlines()
        if len(line) > 78
    ]
    assert [line.split()[2] for line in long if "DRIFTLOOP_OWNER" not in line] == ["init"]


def test_the_version() -> None:
    """`--version` prints the installed one."""
    assert CliRunner().invoke(app, ["--version"]).stdout == f"driftloop {version('driftloop')}\n"


def complete(words: str, home: Path) -> list[str]:
    """Ask as bash does when somebody presses the tabulator at the end of `words`."""
    environment = {
        **os.environ, "_DRIFTLOOP_COMPLETE": "complete_bash", "COMP_WORDS": words, "DRIFTLOOP_MODELS_DIR": str(home),
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }  # fmt: skip
    code = "import sys; sys.argv[0] = 'driftloop'; from ops.cli.main import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return run.stdout.split()


def test_the_shell_completes_commands_and_models(tmp_path: Path) -> None:
    """The tabulator completes a command, and the name of a model from the files."""
    for name in ("docs-writer", "docs-reader", "other"):
        (tmp_path / f"{name}.yaml").write_text("")
    assert complete("driftloop stat", tmp_path) == ["status"]
    assert complete("driftloop check do", tmp_path) == ["docs-reader", "docs-writer"]
