"""The reference is written from the code, and nothing that a user can name is missing in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from alerts.topics import CHOOSERS, SILENT
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TRANSITIONS
from datasets_defs.core.settings import ROOT
from datasets_defs.spec.json_schema import json_schema
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.presets import PRESETS
from datasets_defs.store.tables import metadata
from ops.cli.main import app
from ops.reference import model_yaml
from ops.reference.dag_files import read_dags
from ops.reference.pages import pages
from tests.dags.test_graph import CONSUMES, EMITS

PACKAGES = ("dags", "datasets_defs", "monitors", "training", "alerts", "serving", "ops")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text()


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages()


def test_every_page_is_the_codes(written: dict[str, str]):
    """`make reference` was run after the last change, and no page is left over from something that is gone."""
    assert {name: (ROOT / name).read_text() == content for name, content in written.items()} == dict.fromkeys(
        written, True
    )
    there = {f"docs/reference/{path.name}" for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert there == {name for name in written if name.startswith("docs/")}


def specs(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Give every section that pydantic finds below one, through lists, mappings and choices."""
    yield kind
    pending: list[Any] = [field.annotation for field in kind.model_fields.values()]
    pending += [rule for field in kind.model_fields.values() for rule in field.metadata]
    while pending:
        each = pending.pop()
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield from specs(each)
        pending += getattr(each, "__args__", ())


def test_every_field_of_the_yaml_is_there_with_its_sentence():
    """Whatever pydantic accepts stands in the page, and none of it without a meaning."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", page("model-yaml"), re.MULTILINE)
    assert {field for kind in specs(ModelSpec) for field in kind.model_fields} <= {name for name, _ in rows}
    assert [name for name, meaning in rows if not meaning.strip()] == []
    assert [(owner, name) for owner, name, sentence in model_yaml.fields(json_schema()) if not sentence] == []


def test_every_variable_of_the_environment_is_there():
    """Whatever variable the code names stands in the page, and the page names no other."""
    pattern = re.compile(r"(?<![A-Z_])DRIFTLOOP_[A-Z_]+\b")
    named = {name for path in SOURCES for name in pattern.findall(path.read_text())} - {
        "DRIFTLOOP_PORT",  # Kubernetes would set it for a Service called driftloop; the pod refuses it
    }
    listed = set(re.findall(r"^\| `(DRIFTLOOP_\w+)` \|", page("settings"), re.MULTILINE))
    assert named <= listed


def test_every_command_is_there():
    """Whatever `driftloop --help` lists stands in the page, and each option of each command."""
    text = page("commands")
    runner = CliRunner()
    shown = runner.invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    names = re.findall(r"^│ ([a-z][a-z-]+)  ", shown, re.MULTILINE)
    assert len(names) > 20
    assert [name for name in names if f"### driftloop {name}" not in text] == []
    for name in names:
        helped = runner.invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        options = set(re.findall(r"(--[a-z][a-z-]+)\b", helped.split("Examples")[0])) - {"--help"}
        part = text.split(f"### driftloop {name}", 1)[1].split("\n### ", 1)[0]
        assert {option for option in options if option not in part} == set(), name


def test_every_metric_that_is_asked_for_is_there():
    """Whatever metric of ours a rule, a panel or a preset reads stands in the page."""
    read = [(ROOT / "alerts" / "rules" / "driftloop.yml").read_text()]
    read += [(ROOT / "alerts" / "grafana" / "driftloop.json").read_text(), json.dumps(PRESETS["quality"]["driftloop"])]
    names = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for text in read
        for name in re.findall(r"\b(driftloop_[a-z0-9_]+)(?=[{\[ )!=]|\\n|$)", text)
    }
    listed = set(re.findall(r"^\| `(driftloop_\w+)` \|", page("metrics"), re.MULTILINE))
    assert len(names) > 20
    assert names - listed == set()


def test_every_kind_of_event_and_every_table_is_there():
    """Whatever can happen, and whatever is stored, stands in its page."""
    listed = set(re.findall(r"^\| `(\w+)` \|", page("events"), re.MULTILINE))
    assert listed == {kind.value for kind in EventKind} == {str(kind) for kind in (*CHOOSERS, *SILENT)}
    assert re.findall(r"^## (\w+)$", page("tables"), re.MULTILINE) == list(metadata.tables)


def test_every_route_is_there():
    """Whatever route the two applications declare in their source stands in the page."""
    pattern = re.compile(r'@app\.(?:get|post)\("([^"]+)"')
    for path in (ROOT / "serving" / "app.py", ROOT / "ops" / "page" / "app.py"):
        declared = pattern.findall(path.read_text())
        assert declared
        assert [route for route in declared if f"{route}`" not in page("routes")] == []


def test_the_diagram_has_the_real_transitions():
    """The state diagram has exactly the moves of the table."""
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", page("states"), re.MULTILINE))
    assert drawn == {(frm.value, to.value) for frm, targets in TRANSITIONS.items() for to in targets}


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_every_dag_leads_to_its_step(path: Path):
    """A DAG's section names the function that it runs, from the file whose name is the DAG's."""
    section = page("dags").split(f"## {path.stem}\n", 1)[1].split("\n## ", 1)[0]
    assert re.search(rf"`[^`]*\b(monitors|training|alerts|serving)\.{path.stem}\.\w+", section)


def test_the_files_of_the_dags_are_read_as_airflow_reads_them():
    """Who rings whom is here what Airflow makes of the same files, which a test of the DAGs asks it for."""
    dags = read_dags()
    rung = {dag.name: {asset for task in dag.tasks for asset in task.rings} for dag in dags}
    assert {name: assets for name, assets in rung.items() if assets} == EMITS
    assert {dag.name: set(dag.waits_for) for dag in dags if dag.waits_for} == CONSUMES
