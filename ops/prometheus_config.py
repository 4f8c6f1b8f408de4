"""The local Prometheus' configuration. Pure."""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import yaml

from datasets_defs.errors import ContractError
from datasets_defs.settings import ROOT

RULES = ROOT / "alerts" / "rules"


def scrape_seconds(window_seconds: float) -> int:
    """Give the scrape interval: 15 s, or short enough for five samples in a window."""
    return max(1, int(min(15.0, window_seconds / 5)))


def prometheus_config(ports: Mapping[str, int], *, window_seconds: float, dcgm_url: str | None) -> str:
    """Give `prometheus.yml`: serving, the loop's exporter, and the GPU exporter (the real one, or the simulator)."""
    interval = f"{scrape_seconds(window_seconds)}s"
    jobs = [
        _job("driftloop-serving", f"http://127.0.0.1:{ports['serving']}/metrics"),
        _job("driftloop-exporter", f"http://127.0.0.1:{ports['exporter']}/metrics"),
        _job("dcgm", dcgm_url or f"http://127.0.0.1:{ports['gpu-simulator']}/metrics"),
    ]
    content = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yml"))],
        "scrape_configs": jobs,
    }
    return yaml.safe_dump(content, sort_keys=False)


def _job(name: str, url: str) -> dict[str, object]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ContractError(
            f"DRIFTLOOP_DCGM_URL is {url!r}; it has to be the address of an exporter, e.g. http://gpu-host:9400/metrics"
        )
    job: dict[str, object] = {
        "job_name": name,
        "scheme": parts.scheme,
        "metrics_path": parts.path or "/metrics",
        "static_configs": [{"targets": [parts.netloc.rpartition("@")[2]]}],
    }
    if parts.username is not None:  # as part of the target it would stand on Prometheus' pages and in its labels
        job["basic_auth"] = {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    return job
