"""What a start of the local stack is to run: settings, ports and connections gathered, and written where it is read."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import SLOW_AT
from datasets_defs.core.settings import Settings, settings
from ops.stack import ports, prometheus_binary
from ops.stack.components import AIRFLOW_USER, Component, Stack, components
from ops.stack.layout import DEMO_MODELS, Layout, defined, write_private
from ops.stack.privacy import PRIVACY
from ops.stack.prometheus_config import prometheus_config
from ops.stack.warm_airflow import fingerprint

PASSED_ON = ("DRIFTLOOP_MODELS_DIR", "DRIFTLOOP_ARTIFACT_ROOT", "DRIFTLOOP_DCGM_URL", "DRIFTLOOP_EXPORTERS")
"""Settings that stay with the stack once given; all others go back to their defaults at the next `up`."""
MANAGED = ("AIRFLOW_", "MLFLOW_", "DRIFTLOOP_", "PG", "PYTHON", "VIRTUAL_ENV")
"""Variables of the caller that components must not inherit: they would contradict the stack's own."""

Progress = Callable[[str], None]
Choice = Callable[[list[Component]], list[Component]]
"""Gives those of the stack's components that are to run, as they are to run."""


def choose_ports(layout: Layout, progress: Progress) -> None:
    """Find free ports for a stopped stack and remember them; tell of those that had to change."""
    chosen, changes = ports.choose(ports.remembered(layout.ports))
    for change in changes:
        progress(change)
    write_private(layout.ports, json.dumps(chosen, indent=1))


def define(
    layout: Layout, overrides: Mapping[str, str] | None, progress: Progress, choose: Choice = list
) -> tuple[Stack, list[Component]]:
    """Work out what is to run from the environment, the overrides, and what earlier starts left to be kept.

    Raises:
        ContractError: a setting is wrong, or Prometheus is not to be had.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("DRIFTLOOP_")}
    kept = {name: value for name, value in layout.load_settings().items() if name in PASSED_ON}
    if kept.get("DRIFTLOOP_MODELS_DIR") == str(layout.home / DEMO_MODELS):
        kept.pop("DRIFTLOOP_MODELS_DIR")  # of a demo that is over
    chosen = {**kept, **given, **(overrides or {}), "DRIFTLOOP_HOME": str(layout.home)}
    chosen.setdefault("DRIFTLOOP_ARTIFACT_ROOT", f"file://{layout.home / 'artifacts'}")
    stack = Stack(
        layout=layout,
        credentials=layout.load_credentials(),
        ports=_ports(layout),
        settings=chosen,
        connections=_connections(layout),
        prometheus=_prometheus(progress),
        dcgm_url=chosen.get("DRIFTLOOP_DCGM_URL") or None,
        sources=fingerprint(),
    )
    config = prometheus_config(
        stack.ports,
        window_seconds=_window_seconds(chosen),
        dcgm_url=stack.dcgm_url,
        exporters=chosen.get("DRIFTLOOP_EXPORTERS", ""),
    )
    return stack, choose(components(stack, config))


def _ports(layout: Layout) -> Mapping[str, int]:
    """Give the remembered ports, with one for each component that an earlier release did not have."""
    known = ports.remembered(layout.ports)
    return known if set(ports.PREFERRED) <= set(known) else {**ports.choose({})[0], **known}


def _window_seconds(chosen: Mapping[str, str]) -> float:
    """Give the window of the chosen settings, checked whole before anything is written: no command reads wrong ones."""
    known = {name.removeprefix("DRIFTLOOP_").lower(): value for name, value in chosen.items()}
    fields: dict[str, Any] = {name: value for name, value in known.items() if name in Settings.model_fields}
    try:
        return Settings(**fields).sensor_interval_seconds
    except ValidationError as err:
        mistakes = [
            f"DRIFTLOOP_{str(item['loc'][0]).upper()} is {item['input']!r}: {item['msg']}" for item in err.errors()
        ]
        raise ContractError("; ".join(mistakes)) from err


def _connections(layout: Layout) -> dict[str, str]:
    """Give the user's Airflow connections: those of the environment, and those that an earlier start was given.

    An empty value forgets one.
    """
    own = ("AIRFLOW_CONN_DRIFTLOOP_DB", "AIRFLOW_CONN_PROMETHEUS_DEFAULT", "AIRFLOW_CONN_AIRFLOW_API")
    before = defined(layout).get("scheduler", {}).get("environment", {})
    both = {**before, **os.environ}
    return {
        name: value for name, value in both.items() if name.startswith("AIRFLOW_CONN_") and value and name not in own
    }


def _prometheus(progress: Progress) -> Path:
    if not prometheus_binary.CACHE.exists():
        progress("looking for Prometheus")
    return prometheus_binary.ensure()


def changed(layout: Layout, wanted: list[Component]) -> list[str]:
    """Name the components whose definition is another than the last start's."""
    before = defined(layout)
    return [name for name, definition in json.loads(_definitions(wanted)).items() if definition != before.get(name)]


def write(stack: Stack, wanted: list[Component]) -> None:
    """Write the files that components and commands read."""
    layout = stack.layout
    layout.save_settings(stack.addresses())
    settings.cache_clear()
    for prometheus in (item for item in wanted if item.name == "prometheus"):
        write_private(layout.home / "prometheus.yml", prometheus.depends)
    airflow = layout.home / "airflow"
    airflow.mkdir(mode=0o700, exist_ok=True)
    write_private(airflow / "passwords.json", json.dumps({AIRFLOW_USER: stack.credentials.airflow_password}))
    write_private(layout.components, _definitions(wanted))


def _definitions(wanted: list[Component]) -> str:
    return json.dumps({item.name: asdict(item) for item in wanted}, indent=1)


def environment() -> dict[str, str]:
    """Give the caller's environment without what would contradict the stack's own."""
    seam = {SLOW_AT}  # tests slow a component down by it
    kept = {name: value for name, value in os.environ.items() if name in seam or not name.startswith(MANAGED)}
    direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost"]))
    return {**kept, **PRIVACY, "NO_PROXY": direct, "no_proxy": direct, "PYTHONUNBUFFERED": "1"}
