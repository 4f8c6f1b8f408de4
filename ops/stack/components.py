"""What the local stack consists of: each component's command and environment. Pure, but for the paths it names."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets_defs.core.settings import ROOT
from ops.stack.layout import Credentials, Layout
from ops.stack.postgres import LOOP_ROLE, USER, Cluster
from ops.stack.privacy import PRIVACY
from ops.stack.warm_airflow import PARTS

DATABASES = ("airflow", "mlflow", "driftloop")
AIRFLOW_USER = "driftloop"
AIRFLOW_COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_AIRFLOW_PACE: dict[str, dict[str, object]] = {
    "scheduler": {
        "scheduler_idle_sleep_time": 0.3,
        "task_instance_heartbeat_timeout": 90,  # a killed worker's task is tried again soon
        "orphaned_tasks_check_interval": 30,
    },
    "workers": {
        "max_failed_heartbeats": 30,  # a restart of the api-server must not end a training run
        "execution_api_timeout": 20,
    },
    "dag_processor": {"parsing_processes": 1, "min_file_process_interval": 60, "refresh_interval": 60},
}
"""How often Airflow's processes look, and how long they wait for each other; in seconds where it is a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One supervised process."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    depends: str = ""
    """What it reads at its start, or a hash of it; when that changes, it is restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything that the components' definitions follow from."""

    layout: Layout
    credentials: Credentials
    ports: Mapping[str, int]
    settings: Mapping[str, str]
    """`DRIFTLOOP_*` that the user or the demo chose, such as the sensors' interval."""
    connections: Mapping[str, str] = field(default_factory=dict)
    """`AIRFLOW_CONN_*` from the user's environment, such as Slack's."""
    prometheus: Path = Path("/usr/bin")
    """Folder of the Prometheus program."""
    dcgm_url: str | None = None
    """Real GPU metrics; without them a simulated exporter runs."""
    sources: str = ""
    """Hash of our sources: what holds them in memory is started again where they are others."""

    @property
    def cluster(self) -> Cluster:
        """The stack's PostgreSQL."""
        return Cluster(self.layout.home / "postgres", self.ports["postgres"], self.credentials.postgres_password)

    @property
    def loop_url(self) -> str:
        """The loop's database, as the loop's own role."""
        return self.cluster.url_of(LOOP_ROLE, self.credentials.loop_password, "driftloop")

    def url(self, component: str) -> str:
        """Give the address of a component."""
        return f"http://127.0.0.1:{self.ports[component]}"

    def addresses(self) -> dict[str, str]:
        """Give the settings by which everything of ours finds the stack."""
        return {
            **self.settings,
            "DRIFTLOOP_DATABASE_URL": self.loop_url,
            "DRIFTLOOP_MLFLOW_URL": self.url("mlflow"),
            "DRIFTLOOP_PROMETHEUS_URL": self.url("prometheus"),
            "DRIFTLOOP_SERVING_URL": self.url("serving"),
            "DRIFTLOOP_GATEWAY_URL": self.url("gateway"),
            "DRIFTLOOP_AIRFLOW_URL": self.url("api-server"),
        }


def components(stack: Stack, prometheus_config: str) -> list[Component]:
    """List the components in their order of start."""
    ours = {**PRIVACY, **stack.addresses(), "HF_HUB_OFFLINE": "1"}
    airflow = {**ours, **_airflow(stack)}
    listed = [
        Component(name="postgres", command=tuple(stack.cluster.foreground)),
        _prometheus(stack, prometheus_config),
        _mlflow(stack),
        *(_airflow_component(name, airflow, stack.sources) for name in AIRFLOW_COMPONENTS),
        _ours("serving", "serving", stack, ours),
        _ours("gateway", "serving.gateway", stack, ours, "--host", "127.0.0.1"),
        _ours("exporter", "monitors.exporter", stack, ours),
    ]
    if not stack.dcgm_url:
        listed.append(_ours("gpu-simulator", "ops.stack.simulated_dcgm", stack, ours))
    return listed


def _ours(name: str, module: str, stack: Stack, environment: dict[str, str], *more: str) -> Component:
    command = (sys.executable, "-m", module, "--port", str(stack.ports[name]), *more)
    return Component(name=name, command=command, environment=environment)


def _prometheus(stack: Stack, config: str) -> Component:
    home = stack.layout.home
    command = (
        str(stack.prometheus / "prometheus"),
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'prometheus'}",
        "--storage.tsdb.retention.time=30d",
        f"--web.listen-address=127.0.0.1:{stack.ports['prometheus']}",
    )
    return Component(name="prometheus", command=command, depends=config)


def _mlflow(stack: Stack) -> Component:
    command = (
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(stack.ports["mlflow"]),
        "--workers", "1", "--serve-artifacts", "--artifacts-destination", str(stack.layout.home / "mlflow-artifacts"),
    )  # fmt: skip
    environment = {
        **PRIVACY,
        "MLFLOW_BACKEND_STORE_URI": stack.cluster.url("mlflow"),  # not on the command line: it holds the password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    return Component(name="mlflow", command=command, environment=environment)


def _airflow_component(name: str, environment: dict[str, str], sources: str) -> Component:
    is_warm = name in PARTS
    command = [sys.executable, "-m", "ops.stack.warm_airflow" if is_warm else "airflow", name]
    if name in ("scheduler", "triggerer"):
        command.append("--skip-serve-logs")  # that server binds every interface; the api-server reads the files itself
    return Component(name=name, command=tuple(command), environment=environment, depends=sources if is_warm else "")


def _airflow(stack: Stack) -> dict[str, str]:
    """Give the environment of Airflow's processes: its configuration, and the connections of the loop's tasks."""
    environment = {
        f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
        for section, values in _airflow_configuration(stack).items()
        for key, value in values.items()
    }
    return {
        **environment,
        **stack.connections,
        "AIRFLOW_HOME": str(stack.layout.home / "airflow"),
        **{name: json.dumps(connection) for name, connection in _airflow_connections(stack).items()},
        "SPT_NOENV": "1",  # task titles must not overwrite the environment by which leftovers are found
    }


def _airflow_configuration(stack: Stack) -> dict[str, dict[str, object]]:
    """Give what differs from Airflow's own defaults, by section and key."""
    home, secret = stack.layout.home / "airflow", stack.credentials
    url = stack.url("api-server")
    database = f"{USER}:{secret.postgres_password}@127.0.0.1:{stack.ports['postgres']}/airflow"
    return {
        "core": {
            "executor": "LocalExecutor",
            "dags_folder": ROOT / "dags",
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "parallelism": 8,
            "max_active_tasks_per_dag": 8,
            "fernet_key": secret.fernet_key,
            "execution_api_server_url": f"{url}/execution/",
            "simple_auth_manager_users": f"{AIRFLOW_USER}:admin",
            "simple_auth_manager_passwords_file": home / "passwords.json",
        },
        "database": {
            "sql_alchemy_conn": f"postgresql+psycopg2://{database}",
            "sql_alchemy_conn_async": f"postgresql+asyncpg://{database}",
            "load_default_connections": False,
        },
        "logging": {"base_log_folder": stack.layout.logs / "tasks"},
        "api": {
            "host": "127.0.0.1", "port": stack.ports["api-server"], "base_url": url, "workers": 1,
            "secret_key": secret.api_secret_key,
        },
        "api_auth": {"jwt_secret": secret.jwt_secret},
        **_AIRFLOW_PACE,
    }  # fmt: skip


def _airflow_connections(stack: Stack) -> dict[str, dict[str, object]]:
    """Give the connections that the loop's tasks use, by the variable that Airflow reads each from."""
    secret, here = stack.credentials, "127.0.0.1"
    return {
        "AIRFLOW_CONN_DRIFTLOOP_DB": {
            "conn_type": "postgres",
            "host": here,
            "port": stack.ports["postgres"],
            "login": LOOP_ROLE,
            "password": secret.loop_password,
            "schema": "driftloop",
        },
        "AIRFLOW_CONN_AIRFLOW_METADATA": {
            "conn_type": "postgres",
            "host": here,
            "port": stack.ports["postgres"],
            "login": USER,
            "password": secret.postgres_password,
            "schema": "airflow",
        },
        "AIRFLOW_CONN_PROMETHEUS_DEFAULT": {
            "conn_type": "prometheus",
            "schema": "http",
            "host": here,
            "port": stack.ports["prometheus"],
        },
        "AIRFLOW_CONN_AIRFLOW_API": {
            "conn_type": "http",
            "schema": "http",
            "host": here,
            "port": stack.ports["api-server"],
            "login": AIRFLOW_USER,
            "password": secret.airflow_password,
        },
    }
