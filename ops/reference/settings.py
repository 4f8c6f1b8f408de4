"""The page on settings: each `DRIFTLOOP_*` variable with its sentence, default and limits."""

from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from datasets_defs.core.settings import ROOT, OwnerSettings, Settings
from ops.reference.docstrings import members
from ops.reference.markdown import code, page, table

OF_THE_LOCAL_STACK = {
    "DRIFTLOOP_DCGM_URL": "Address of a real `dcgm-exporter` that the local Prometheus scrapes, "
    "`http://host:9400/metrics`. `driftloop up` keeps it until another is given; without one a simulated exporter "
    "stands in.",
    "DRIFTLOOP_EXPORTERS": "Exporters of your own servers that the local Prometheus scrapes: `JOB=URL` parted by "
    "spaces, such as `vllm=http://host:8000/metrics tgi=http://host:8080/metrics#model=NAME`; the fragment becomes a "
    "label. `driftloop up` keeps them until others are given.",
}
"""Variables that only `driftloop up` reads."""
INTERNAL = {
    "DRIFTLOOP_BESIDE": "Folder by which the containers of a team's pod talk: pipes, and files that say begin and end.",
    "DRIFTLOOP_CHECKPOINTS": "Folder of a GPU job, or of a team's own trainer, that lasts for all its tries.",
    "DRIFTLOOP_COMPONENT": "Name of the component that a process belongs to; `driftloop down` finds processes by it.",
    "DRIFTLOOP_GPUS": "Number of GPUs that a GPU job, or a team's own trainer, has.",
    "DRIFTLOOP_JOB": "Key of the training or GPU job that a process works on; the next run finds it by that.",
    "DRIFTLOOP_KILL_AT": "Point at which a step kills itself; tests set it, to try every place where a step may die.",
    "DRIFTLOOP_LEASH": "Tells a process of a training group that it ends when its launcher's pipe closes.",
    "DRIFTLOOP_OWN_TRAINER": "Key of the training that a team's own command works on, in each of its processes.",
    "DRIFTLOOP_RETURN": "File in which a GPU job may leave JSON for the tasks that follow.",
    "DRIFTLOOP_SLOW_AT": "File with a point and seconds: who passes the point takes so long there; tests set it.",
    "DRIFTLOOP_WORK": "Folder in which a training group finds its work and writes its result.",
}
"""Variables that the loop's processes set for each other; nobody sets them by hand."""
LEAD = (
    "The environment says where things are and how often the loop looks. `driftloop up` writes the local stack's "
    "values to `HOME/driftloop.env`, which every command reads; a variable of the environment wins. What is watched, "
    "trained and promoted stands in the [model's YAML](model-yaml.md). Secrets stand in Airflow Connections: "
    "`driftloop_db`, `prometheus_default`, `slack_default`, `airflow_api`, `kubernetes_default`."
)


def write() -> str:
    """Write the page."""
    header = ("variable", "default", "limits", "meaning")
    rows = [_row(kind, name) for kind in (Settings, OwnerSettings) for name in kind.model_fields]
    stack = table(("variable", "meaning"), [(code(name), text) for name, text in OF_THE_LOCAL_STACK.items()])
    inside = table(("variable", "meaning"), [(code(name), text) for name, text in INTERNAL.items()])
    return page(
        "Settings",
        LEAD,
        f"## Of every process\n\n{table(header, rows)}",
        f"## Of the local stack\n\n{stack}",
        f"## Set by the loop itself\n\n{inside}",
    )


def names() -> set[str]:
    """Give every variable that the page lists."""
    fields = {f"DRIFTLOOP_{name.upper()}" for kind in (Settings, OwnerSettings) for name in kind.model_fields}
    return fields | set(OF_THE_LOCAL_STACK) | set(INTERNAL)


def _row(kind: type[Settings] | type[OwnerSettings], name: str) -> tuple[str, str, str, str]:
    field = kind.model_fields[name]
    limits = ", ".join(
        f"{sign} {getattr(rule, attribute)}"
        for rule in field.metadata
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(rule, attribute)
    )
    return code(f"DRIFTLOOP_{name.upper()}"), _default(field.default), limits, members(kind)[name]


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return code(text.replace(str(ROOT), "CHECKOUT") if isinstance(value, str | Path) else text)
