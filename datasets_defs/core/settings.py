"""Where things are and how often the loop looks: the `DRIFTLOOP_*` environment."""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from datasets_defs.core.schedule import cron_every

ROOT = Path(__file__).resolve().parents[2]
LEAST_SECRET = 16


class Settings(BaseSettings):
    """Read once per process from the environment and, for commands typed by hand, from the stack's own file."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLOOP_", extra="ignore")

    home: Path = ROOT / ".state"
    """Folder of the local stack's state: databases, logs, credentials, artifacts."""
    models_dir: Path = ROOT / "models"
    """Folder of the model specs, one YAML per model."""
    database_url: str = "postgresql+psycopg://driftloop@127.0.0.1:5432/driftloop"
    """The loop's own database; inside Airflow the Connection `driftloop_db` holds the same address."""
    mlflow_url: str = "http://127.0.0.1:5000"
    """Address of MLflow, which keeps the versions' files."""
    mlflow_webhook_secret: SecretStr = SecretStr("")
    """Secret of MLflow's webhook, for Airflow's api-server alone; without it no webhook is believed."""
    prometheus_url: str = "http://127.0.0.1:9090"
    """For commands; inside Airflow the Connection `prometheus_default` holds the same address."""
    prometheus_options: SecretStr = SecretStr("")
    """For commands: what the extra of the Connection holds, as JSON, such as `{"bearer_file": "/run/token"}`.

    A user and a password stand in the address: `https://USER:PASSWORD@HOST`.
    """
    serving_url: str = "http://127.0.0.1:8000"
    """Address of the reference server, for commands and for the confirmation of a promotion."""
    gateway_url: str = "http://127.0.0.1:8001"
    """Address of the gateway before all models' servers; the demo's users ask it."""
    airflow_url: str = "http://127.0.0.1:8080"
    """Address of Airflow's API server, for commands."""
    artifact_root: str = Field(default=f"file://{ROOT / '.state' / 'artifacts'}")
    """URL (fsspec) under which snapshots, reports, reference rows and checkpoints live."""
    sensor_interval_seconds: float = Field(default=3600, ge=5)
    """Length of one window, and how often the sensors judge one. One "hour" of the loop."""
    sensor_grace_seconds: float = Field(default=60, ge=0)
    """How long after a window's end it is judged, so that the last rows are in the log."""
    reconcile_interval_seconds: float = Field(default=600, ge=5)
    """How often `reconcile` looks for work that nobody is doing."""
    alert_interval_seconds: float = Field(default=60, ge=5)
    """How often waiting messages are sent."""
    lease_seconds: float = Field(default=300, ge=5)
    """How long a claim on an incident lasts unless its holder renews it."""
    serving_confirm_seconds: float = Field(default=180, ge=5)
    """How long a promotion waits for serving to report the new version before it is reverted."""
    training_queue: str | None = None
    """Queue of Airflow's executor in which trainings run, such as Celery's for workers with GPUs; none: the default."""
    gpu_hours_per_week: float | None = Field(default=None, gt=0)
    """GPU-hours that trainings, GPU jobs and added capacity may take together in 168 windows; none: no limit."""
    gpu_devices: str = ""
    """This machine's GPUs that are leased, as `CUDA_VISIBLE_DEVICES` names them: `0,1`; none: trainings use all."""

    retention_days: int = Field(default=90, ge=2)
    """How long the inference log is kept, with the feedback on it and the counts of its windows."""
    report_retention_days: int = Field(default=7, ge=1)
    """How long drift reports are kept; one is about 4 MB."""
    quarantine_retention_days: int = Field(default=30, ge=1)
    """How long rows that could not be read are kept."""
    mail_to: str | None = None
    """Who gets a mail when a task of a DAG has failed for good, parted by commas; by the Connection `smtp_default`."""
    message_retention_days: int = Field(default=90, ge=1)
    """How long messages that were sent are kept."""
    verdict_retention_days: int = Field(default=400, ge=2)
    """How long verdicts are kept, and what trainings took from the budget; no shorter than the inference log."""
    training_retention_days: int = Field(default=180, ge=2)
    """How long the rows are kept that versions out of use were trained on and judged by."""
    task_log_retention_days: int = Field(default=30, ge=1)
    """How long the local stack keeps the logs of Airflow's tasks."""

    airflow_retention_days: int = Field(default=60, ge=14)
    """How long Airflow's database keeps runs of DAGs, where the Connection `airflow_metadata` says where it is."""

    @field_validator("sensor_interval_seconds", "reconcile_interval_seconds", "alert_interval_seconds")
    @classmethod
    def _fits_the_clock(cls, seconds: float) -> float:
        cron_every(seconds)
        return seconds

    @field_validator("mlflow_webhook_secret")
    @classmethod
    def _cannot_be_guessed(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value()) < LEAST_SECRET:
            raise ValueError(f"a secret of fewer than {LEAST_SECRET} characters can be guessed; `openssl rand -hex 32`")
        return secret

    @field_validator("gpu_devices")
    @classmethod
    def _names_each_once(cls, given: str) -> str:
        devices = [device.strip() for device in given.split(",")] if given.strip() else []
        if not all(devices) or len(set(devices)) < len(devices):
            raise ValueError(f"{given!r} does not name each GPU once; write ids with commas, such as 0,1")
        return ",".join(devices)

    @model_validator(mode="after")
    def _verdicts_outlive_rows(self) -> Self:
        """Refuse verdicts that go before the rows they are about: rows of broken windows would be trained on."""
        if self.verdict_retention_days < self.retention_days:
            raise ValueError(
                f"DRIFTLOOP_VERDICT_RETENTION_DAYS is {self.verdict_retention_days}, the log is kept for "
                f"{self.retention_days} days: give verdicts at least as many"
            )
        return self

    @property
    def window_length(self) -> timedelta:
        """Length of one window."""
        return timedelta(seconds=self.sensor_interval_seconds)

    @property
    def devices(self) -> tuple[str, ...]:
        """Ids of this machine's GPUs, in order."""
        return tuple(self.gpu_devices.split(",")) if self.gpu_devices else ()

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts unless renewed."""
        return timedelta(seconds=self.lease_seconds)


class OwnerSettings(BaseSettings):
    """What only `driftloop migrate` needs to know, and no process of the loop reads."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLOOP_", extra="ignore")

    owner_database_url: str | None = None
    """The loop's database, as the role that owns its schema; without it the loop's own role migrates."""


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Give the process's settings; the stack's `HOME/driftloop.env` fills in what the environment leaves out."""
    home = Settings().home
    return Settings(_env_file=home / "driftloop.env")  # type: ignore[call-arg]  # a documented argument of pydantic-settings
