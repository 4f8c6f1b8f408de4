"""The wheel, installed elsewhere: every module is in it, the schema is made from it, and the DAG files load with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from datasets_defs.core.settings import ROOT
from ops.stack.postgres import LOOP_ROLE, Cluster

pytestmark = pytest.mark.slow
PACKAGES = ("alerts", "datasets_defs", "monitors", "ops", "serving", "training")
FROM_THE_CHECKOUT = {
    "alerts/grafana/driftloop.json",
    "alerts/rules/driftloop.yml",
    "alerts/runbook.md",
    "datasets_defs/migrations/script.py.mako",
}
"""Given to Grafana, Prometheus and people; and what Alembic makes a new migration's file of."""
HEAD = """
import importlib, pkgutil, runpy, sys
from pathlib import Path
installed = Path({target!r})
sys.path.insert(0, str(installed))
"""
EVERY_MODULE = """
def failed(name):
    raise
names = []
for package in {packages}:
    names += [each.name for each in pkgutil.walk_packages([str(installed / package)], package + ".", failed)]
for name in names:
    if not name.endswith("__main__") and name != "datasets_defs.migrations.env":  # Alembic runs that one
        module = importlib.import_module(name)
        assert Path(module.__file__).is_relative_to(installed), module.__file__
print(len(names))
"""
SCHEMA = """
from datasets_defs.store import schema
assert Path(schema.__file__).is_relative_to(installed)
schema.migrate({url!r}, {role!r})
"""
DAGS = """
for file in sorted(Path({dags!r}).glob("*.py")):
    runpy.run_path(str(file))
assert Path(sys.modules["datasets_defs"].__file__).is_relative_to(installed)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel's content."""
    work = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    for name in tracked:
        if name.startswith(PACKAGES) or name in ("pyproject.toml", "README.md", "LICENSE"):
            (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, work / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "wheel"), "."]
    subprocess.run(wheel, cwd=work / "source", check=True)
    (made,) = (work / "wheel").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(work / "there"), str(made)], check=True)
    return work / "there"


def run_there(installed: Path, code: str, tmp_path: Path) -> str:
    """Run code with the wheel's packages before any others, in a folder that holds none; give what it printed."""
    environment = {**os.environ, "DRIFTLOOP_HOME": str(tmp_path), "DRIFTLOOP_MODELS_DIR": str(tmp_path)}
    command = [sys.executable, "-I", "-c", HEAD.format(target=str(installed)) + code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_module_is_in_it(installed: Path, tmp_path: Path) -> None:
    """Each is imported from the wheel alone, and none of the checkout's is missing."""
    said = run_there(installed, EVERY_MODULE.format(packages=PACKAGES), tmp_path)
    there = {str(path.relative_to(installed)) for package in PACKAGES for path in (installed / package).rglob("*.py")}
    here = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert (here - there, int(said.split()[-1]) > 300) == (set(), True)


def test_what_is_no_module_is_in_it(installed: Path) -> None:
    """Templates and styles that the packages read come along; what people copy from the checkout does not."""
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert {name for name in files if not (installed / name).exists()} == FROM_THE_CHECKOUT


def test_the_schema_is_made(installed: Path, cluster: Cluster, tmp_path: Path) -> None:
    """An empty database gets the loop's tables, by the migrations that the wheel holds."""
    cluster.ensure_databases(["from_wheel"])
    cluster.ensure_role(LOOP_ROLE, "loop")
    url = cluster.url("from_wheel")
    run_there(installed, SCHEMA.format(url=url, role=LOOP_ROLE), tmp_path)
    with psycopg.connect(url.replace("+psycopg", "")) as on:
        tables = on.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables is not None
    assert tables[0] > 20


def test_the_dags_load(installed: Path, tmp_path: Path) -> None:
    """Each DAG file runs with what the wheel holds, as Airflow's bundle would run it."""
    shutil.copytree(ROOT / "dags", tmp_path / "bundle")
    run_there(installed, DAGS.format(dags=str(tmp_path / "bundle")), tmp_path)
