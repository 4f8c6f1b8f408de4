"""The Grafana dashboard: what is committed is what the code says, and it reads well."""

import json
import re
import subprocess
from itertools import combinations

import pytest
import yaml

from alerts.dashboards import FILE, build, queries
from alerts.panels import ROWS
from ops.stack.prometheus_binary import ensure
from serving.metrics import ServingMetrics

BOARD = json.loads(build())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def test_regenerated_equals_committed():
    """`python -m alerts.dashboards` changes nothing."""
    assert FILE.read_text() == build(), "run `python -m alerts.dashboards` and commit the result"


def test_identity():
    """Panel ids are unique, titles are unique, and the dashboard has a fixed uid."""
    assert BOARD["uid"] == "driftloop"
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS) == sum(map(len, ROWS.values()))


def test_no_overlap():
    """No two panels cover each other, and none sticks out."""
    for panel in BOARD["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for a, b in combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel(panel):
    """Each panel has a unit, a description, the data source of the variable, and a legend for each query."""
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["legendFormat"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_variables():
    """The data source and the models are chosen by whoever looks."""
    source, model = BOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (model["name"], model["multi"], model["includeAll"]) == ("model", True, True)


def test_queries_are_promql(tmp_path):
    """Every query, its variables filled in, is PromQL."""
    assert not [query for query in queries() if "$" in query]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    result = subprocess.run(
        [ensure() / "promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_serving_metrics_exist():
    """What is asked of serving is what serving says."""
    registry = ServingMetrics(["a"]).registry
    said = {sample.name for family in registry.collect() for sample in family.samples}
    asked = {name for query in queries() for name in re.findall(r"driftloop_serving_\w+", query)}
    assert asked <= said
