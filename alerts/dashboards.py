"""The Grafana dashboard as code: `python -m alerts.dashboards` writes `alerts/grafana/driftloop.json`.

A v1 dashboard, as the provisioning of Grafana 11 and 12 reads it. The one file that imports the foundation SDK.
"""

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from alerts.panels import RATE, ROWS, Chart, Kind

FILE = Path(__file__).parent / "grafana" / "driftloop.json"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
STATES = (("OK", "green"), ("WARN", "yellow"), ("BAD", "red"), ("NO_DATA", "text"), ("STALE", "purple"))
COLUMNS = 24


def build() -> str:
    """Give the dashboard's JSON, the same every time."""
    board = (
        dashboard.Dashboard("driftloop")
        .uid("driftloop")
        .description("Models watched by driftloop: how they are judged, served, and what the loop does about it.")
        .tags(["driftloop"])
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_model_variable())
    )
    number, top = 1, 0
    for title, charts in ROWS.items():
        board = board.with_row(dashboard.Row(title).id(number).grid_pos(_place(0, top, COLUMNS, 1)))
        number, top, left, tallest = number + 1, top + 1, 0, 0
        for chart in charts:
            if left + chart.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            panel = _panel(chart).id(number).grid_pos(_place(left, top, chart.width, chart.height))
            board = board.with_panel(panel)
            number, left, tallest = number + 1, left + chart.width, max(tallest, chart.height)
        top += tallest
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"


def queries() -> list[str]:
    """Give every PromQL expression with the dashboard's variables filled in, ready to be run."""
    return [
        expr.replace("$model", ".*").replace(RATE, "5m")
        for charts in ROWS.values()
        for chart in charts
        for expr, _ in chart.queries
    ]


def main() -> None:
    """Write the dashboard's file."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(build(), encoding="utf-8")


def _panel(chart: Chart) -> Any:
    match chart.kind:
        case Kind.FIGURE:
            panel = (
                stat.Panel()
                .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
                .color_mode(common_models.BigValueColorMode.NONE)
                .graph_mode(common_models.BigValueGraphMode.NONE)
                .text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
            )
        case Kind.STATES:
            panel = statetimeline.Panel().mappings([_state_mapping()]).show_value(common_models.VisibilityMode.NEVER)
        case Kind.BARS | Kind.LINES:
            panel = _series(chart)
    panel = panel.title(chart.title).description(chart.description).datasource(SOURCE).unit(chart.unit)
    if chart.minimum is not None:
        panel = panel.min(chart.minimum)
    if chart.maximum is not None:
        panel = panel.max(chart.maximum)
    for index, (expr, legend) in enumerate(chart.queries):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id("ABCDEF"[index]).datasource(SOURCE)
        panel = panel.with_target(query.instant() if chart.kind is Kind.FIGURE else query.range())
    return panel


def _series(chart: Chart) -> Any:
    bars = chart.kind is Kind.BARS
    panel = (
        timeseries.Panel()
        .draw_style(common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE)
        .fill_opacity(60 if bars else 8)
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .placement(common_models.LegendPlacement.BOTTOM)
            .display_mode(common_models.LegendDisplayMode.LIST)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )
    if chart.limit is None:
        return panel
    steps = [models.Threshold(value=None, color="green"), models.Threshold(value=chart.limit, color="red")]
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    style = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
    return panel.thresholds(thresholds).thresholds_style(style)


def _state_mapping() -> models.ValueMap:
    return models.ValueMap(
        options={
            str(rank): models.ValueMappingResult(text=name, color=color, index=rank)
            for rank, (name, color) in enumerate(STATES)
        }
    )


def _model_variable() -> Any:
    return (
        dashboard.QueryVariable("model")
        .label("Model")
        .datasource(SOURCE)
        .query("label_values(driftloop_champion_version, model)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text=["All"], value=["$__all"], selected=True))
    )


def _place(left: int, top: int, width: int, height: int) -> models.GridPos:
    return models.GridPos(x=left, y=top, w=width, h=height)


if __name__ == "__main__":
    main()
