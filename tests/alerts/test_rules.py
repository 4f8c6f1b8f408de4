"""The Prometheus rules: checked and tested by promtool, and led to the runbook."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ops.stack.prometheus_binary import ensure

ROOT = Path(__file__).parents[2]
RULES = ROOT / "alerts" / "rules" / "driftloop.yml"
CASES = Path(__file__).with_name("rules_test.yml")
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "alerts" / "runbook.md").read_text()


def promtool(*arguments):
    command = [ensure() / "promtool", *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_rules_are_sound():
    """Promtool finds no error and nothing to complain about."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_edges():
    """Each alert fires beyond its edge and not before it."""
    promtool("test", "rules", CASES)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_is_complete(alert):
    """Each alert says how bad and what it is, and leads to a heading of the runbook that says what to do."""
    name = alert["alert"]
    assert name.startswith("Driftloop")
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"].endswith(f"/alerts/runbook.md#{name.lower()}")
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert "**Do:**" in section.group(1)
    assert CASES.read_text().count(f'alertname="{name}",alertstate="firing"}}') >= 2, "a case on each side of its edge"


def test_no_heading_without_alert():
    """The runbook has a heading for nothing else."""
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == [alert["alert"] for alert in ALERTS]
