"""The rules of the house that a machine can check."""

import ast
import re
import tomllib

import pytest

from datasets_defs.core.settings import ROOT
from tests.architecture.imports import between_folders, circles, graph_of

PACKAGES = ("datasets_defs", "monitors", "training", "alerts", "serving", "ops")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_no_import_circle():
    """No modules import each other in a circle, lazily or for types alone, and no folders do."""
    graph = graph_of(ROOT, PACKAGES)
    assert circles(graph) == []
    assert circles(between_folders(graph)) == []


def test_a_circle_is_found():
    """The search finds a circle of three, and leaves alone what leads into it and out of it."""
    graph = {"in": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a", "out"}, "out": set()}
    assert circles(graph) == [["a", "b", "c"]]
    assert circles({"p.q": {"r.s"}, "r.s": {"p.t"}, "p.t": set()}) == []
    assert circles(between_folders({"p.q": {"r.s"}, "r.s": {"p.t"}, "p.t": set()})) == [["p", "r"]]


@pytest.mark.parametrize("dag", sorted(path.stem for path in (ROOT / "dags").glob("*.py")))
def test_a_dags_name_leads_to_its_step(dag: str):
    """The step that a DAG runs stands at a package's root under the DAG's name."""
    text = (ROOT / "dags" / f"{dag}.py").read_text()
    assert re.search(rf"^ +from (monitors|training|alerts|serving)\.{dag} import ", text, re.MULTILINE)


def test_every_folder_has_a_caption():
    """A package says in one sentence what it holds, and nothing else: nothing is imported through it."""
    for path in SOURCES:
        if path.name == "__init__.py" and "migrations" not in path.parts:
            (only,) = ast.parse(path.read_text()).body
            assert isinstance(only, ast.Expr), path


def test_every_package_is_installed_and_every_wing_held_to_its_rule():
    """A folder of code is one of the packages that are installed, and a wing is named in the rule about steps."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    folders = {".".join(path.relative_to(ROOT).parent.parts) for path in SOURCES if path.name == "__init__.py"}
    assert set(project["setuptools"]["packages"]) == folders
    (rule,) = (each for each in project["importlinter"]["contracts"] if each["name"].startswith("A wing"))
    wings = {name for name in folders if re.fullmatch(r"(monitors|training)\.\w+", name)} - {"training.by_hand"}
    wings |= {
        "serving.batches",
        "serving.generation",
        "serving.wire",
    }  # the gateway imports modules of its package's root
    assert set(rule["source_modules"]) == wings
    steps = {f"{path.parent.name}.{path.stem}" for path in SOURCES if str(path.parent.parent) == str(ROOT)}
    steps = {name for name in steps if re.match(r"(monitors|training)\.(?!__init__)", name)}
    steps |= {
        f"serving.{path.stem}" for path in (ROOT / "dags").glob("*.py") if (ROOT / "serving" / path.name).exists()
    }
    assert set(rule["forbidden_modules"]) == steps


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("evidently", {"monitors/reports/evidently_report.py"}),
        ("mlflow", {"training/registry/client.py"}),
        ("grafana_foundation_sdk", {"alerts/dashboards.py"}),
        ("supervisor", {"ops/stack/supervision.py"}),
        (
            "kubernetes",
            {
                "datasets_defs/cluster.py",
                "training/trainers/kubernetes.py",
                "training/servers/kubernetes.py",
                "monitors/scaling/kubernetes.py",
            },
        ),
        ("airflow.providers.cncf.kubernetes.hooks", {"datasets_defs/cluster.py"}),
        ("PIL", {"training/pairs/codec.py"}),
    ],
)
def test_one_library_one_file(library: str, home: set[str]):
    """A library's types and names are known to one file."""
    pattern = re.compile(rf"^\s*(from|import) {library}\b", re.MULTILINE)
    found = {str(path.relative_to(ROOT)) for path in SOURCES if pattern.search(path.read_text())}
    assert found <= home


@pytest.mark.parametrize(
    ("table", "homes"),
    [
        ("promotion", {"datasets_defs/ledger/champions.py", "datasets_defs/ledger/promotions.py"}),
        ("evaluation", {"datasets_defs/store/evaluations.py"}),
        (
            "incident",
            {
                "datasets_defs/ledger/ledger.py",
                "datasets_defs/ledger/opening.py",
                "datasets_defs/ledger/routes.py",
                "datasets_defs/store/incidents.py",
            },
        ),
    ],
)
def test_the_record_has_one_home_for_its_sql(table: str, homes: set[str]):
    """A table of the record is named where it is read and written, and nowhere else."""
    pattern = re.compile(rf"\btables\.{table}\b|\b(FROM|JOIN|INTO|UPDATE) {table}\b")
    sources = [path for path in SOURCES if "migrations" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in sources if pattern.search(path.read_text())} == homes


CATCHING_ALL = {
    "datasets_defs/fleet.py": [""],  # one model's bug is told of, and stops no other model
    "datasets_defs/rows/files.py": [
        "",
        "",
    ],  # codecs and remote file systems; it becomes the file's state, or the source's
    "training/pairs/caption.py": [""],  # what tokenizers raises is Exception itself
    "training/pairs/codec.py": ["", ""],  # decoders of strangers' files; it becomes the image's reason, or a note
    "training/judge/metrics.py": [""],  # a user's own metric; it becomes an error with the metric's name
}
"""Handlers of every exception, each with its reason: a second one in a file shows, too."""


def test_nothing_unfinished_is_left_in():
    """No marker of unfinished work, and no handler of everything but where others' code may raise anything."""
    pattern = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|except Exception|except:")
    found = {str(path.relative_to(ROOT)): pattern.findall(path.read_text()) for path in SOURCES}
    assert {name: places for name, places in found.items() if places} == CATCHING_ALL


def test_weights_come_in_by_one_door():
    """Only `training.registry.fetch`, which asks the ledger or is handed the hash, brings weights in."""
    doors = {
        "training/registry/fetch.py",
        "training/registry/reader.py",  # compares, and keeps nothing
    }
    callers = {str(path.relative_to(ROOT)) for path in SOURCES if re.search(r"[a-z)]\.download\(", path.read_text())}
    assert callers == doors
