"""The local Prometheus' configuration. Pure."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT

RULES = ROOT / "alerts" / "rules"


def scrape_seconds(window_seconds: float) -> int:
    """Give the scrape interval: 15 s, or short enough for five samples in a window."""
    return max(1, int(min(15.0, window_seconds / 5)))


def prometheus_config(
    ports: Mapping[str, int], *, window_seconds: float, dcgm_url: str | None, exporters: str = ""
) -> str:
    """Give `prometheus.yml`: serving, the loop's exporter, the GPU exporter (the real one, or the simulator), and more.

    `exporters` are the user's own, `JOB=URL` separated by spaces; a fragment of a URL is a label of its series:
    `vllm=http://gpu-host:8000/metrics tgi=http://gpu-host:8080/metrics#model=my-model`.

    Raises:
        ContractError: an address is none; says which setting holds it.
    """
    interval = f"{scrape_seconds(window_seconds)}s"
    jobs = [
        _job("driftloop-serving", f"http://127.0.0.1:{ports['serving']}/metrics"),
        _job("driftloop-exporter", f"http://127.0.0.1:{ports['exporter']}/metrics"),
        _job("dcgm", dcgm_url or f"http://127.0.0.1:{ports['gpu-simulator']}/metrics", "DRIFTLOOP_DCGM_URL"),
        *_own_jobs(exporters),
    ]
    names = [str(job["job_name"]) for job in jobs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ContractError(f"DRIFTLOOP_EXPORTERS: the job name {min(twice)!r} is taken; each job needs its own")
    content = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yml"))],
        "scrape_configs": jobs,
    }
    return yaml.safe_dump(content, sort_keys=False)


def _own_jobs(exporters: str) -> list[dict[str, object]]:
    jobs = []
    for entry in exporters.split():
        name, _, url = entry.partition("=")
        jobs.append(_job(name, url, "DRIFTLOOP_EXPORTERS"))
    return jobs


def _job(name: str, url: str, setting: str = "") -> dict[str, object]:
    parts = urlsplit(url)
    if not name or parts.scheme not in ("http", "https") or not parts.netloc:
        example = (
            "http://gpu-host:9400/metrics" if setting == "DRIFTLOOP_DCGM_URL" else "vllm=http://gpu-host:8000/metrics"
        )
        raise ContractError(f"{setting} has {url or name!r}; it takes the address of an exporter, e.g. {example}")
    static: dict[str, object] = {"targets": [parts.netloc.rpartition("@")[2]]}
    if labels := dict(parse_qsl(parts.fragment)):
        static["labels"] = labels
    job: dict[str, object] = {
        "job_name": name,
        "scheme": parts.scheme,
        "metrics_path": parts.path or "/metrics",
        "static_configs": [static],
    }
    if parts.username is not None:  # as part of the target it would stand on Prometheus' pages and in its labels
        job["basic_auth"] = {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    return job
