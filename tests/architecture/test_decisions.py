"""What DESIGN calls a violation, where a search over the code can tell."""

import ast
import re
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT

PACKAGES = ("datasets_defs", "monitors", "training", "alerts", "serving", "ops", "dags")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def files_with(pattern: str, *, below: str = "") -> set[str]:
    """Give the files in which a pattern occurs."""
    looked = re.compile(pattern, re.MULTILINE)
    names = {str(path.relative_to(ROOT)): path for path in SOURCES}
    return {name for name, path in names.items() if name.startswith(below) and looked.search(path.read_text())}


def calls_itself_pure(path: Path) -> bool:
    """Say whether a module's docstring says that it is pure."""
    return re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or "") is not None


IMPURE = r"^(?:from|import) (?:sqlalchemy|psycopg)\b(?! import sql$)|datetime\.now\(|time\.time\(|\bsettings\(\)"


def test_a_decision_reads_neither_clock_nor_database():
    """3: a module that calls itself pure asks no clock, no setting and no database."""
    pure = [path for path in SOURCES if calls_itself_pure(path)]
    assert len(pure) > 40
    assert [str(path) for path in pure if re.search(IMPURE, path.read_text(), re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        pytest.param(r"\.aliases\(|by_alias\(", {"training/champions/mirror.py", "training/registry/registry.py"},
                     id="5: an alias is read to be mended, and decides nothing"),
        pytest.param(r"^(?:from|import) (?:slack_sdk|airflow\.providers\.slack)", {"alerts/slack.py"},
                     id="7: no step talks to Slack"),
        pytest.param(r"\bTriageEvidence\(", {"monitors/incidents/triage_evidence.py"},
                     id="60: triage's evidence is put together in one place"),
        pytest.param(r"dag_run\.partition_key", {"datasets_defs/assets.py"},
                     id="76: no task reads its run's key itself"),
        pytest.param(r"\bowner_database_url\b", {"datasets_defs/core/settings.py", "ops/cli/stack/local_stack.py"},
                     id="30: no process of the loop gets the owner's address"),
        pytest.param(r"\bHITLOperator\b", {"dags/approve.py", "dags/generate_texts.py"},
                     id="42: Airflow's form is made where a person is asked"),
        pytest.param(r"\bcross_entropy\b", {"training/fit/fine_tune.py", "training/model/language_model.py"},
                     id="9: bits are counted in one place, and learned from in one"),
    ],
)  # fmt: skip
def test_one_home(pattern: str, homes: set[str]):
    """What one place is for is done nowhere else."""
    assert files_with(pattern) == homes


def test_no_decision_reads_a_signals_name():
    """73: what a signal speaks of stands in the YAML; only the kind before the colon is read from a name."""
    names = r'"[a-z_]+" (?:not )?in signal\b|signal\.endswith|signal\.startswith\("(?!(?:label|quality|gpu):")'
    assert files_with(names, below="monitors/incidents") | files_with(names, below="training/limits") == set()


def test_serving_imports_two_wings_of_training():
    """22: the servers know how versions are fetched and how they are run, and nothing else of training.

    What generates texts for publication is no server.
    """
    found = {match for path in (ROOT / "serving").rglob("*.py") if "generat" not in str(path.relative_to(ROOT))
             for match in re.findall(r"(?:from|import) training\.(\w+)", path.read_text())}  # fmt: skip
    assert found == {"registry", "model"}


def test_a_step_that_replaces_a_champion_may_be_killed_at_a_point():
    """38: whoever changes the champion names points; a first one takes nobody's place, and is found as it stands."""
    changing = files_with(r"\.change_champion\(", below="training") - {"training/by_hand/bootstrap.py"}
    assert changing == {"training/promote.py", "training/roll_back.py", "training/champions/drill.py"}
    assert changing <= files_with(r"\breached\(")
