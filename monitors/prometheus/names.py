"""Which models and metrics there are on a Prometheus that has none of those asked for, and what to write then."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from datasets_defs.spec.preset_servers import NIM_NAMES, SGLANG_NAMES, TGI_NAMES, TRITON_NAMES, VLLM_NAMES
from monitors.prometheus.client import PrometheusClient, Sample
from monitors.prometheus.promql import selectors

SHOWN = 4
"""Names that a sentence holds at most."""
SERVERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "vllm": VLLM_NAMES, "sglang": SGLANG_NAMES, "tgi": TGI_NAMES, "triton": TRITON_NAMES, "nim": NIM_NAMES,
}  # fmt: skip
"""Names of metrics by the server's preset."""
DEVICES: Mapping[str, str] = {
    "`gpu: amd`": "(amd_)?gpu_(gfx_activity|(junction|edge)_temperature|(used|total)_vram)",
    "`gpu: nvidia_smi`": "nvidia_smi_.+",
    "`gpu: gaudi`": "habanalabs_.+",
    "`gpu: xpu`": "xpum_.+|hw_(gpu_info|gpu_utilization_ratio|memory_size_bytes)",
    "`gpu: ray`": "ray_node_(gpus_utilization|gram_.+)",
    "`gpu: triton`": "nv_gpu_.+",
    "`gpu: dcgm`": "DCGM_FI_.+",
}
"""Names of metrics by the preset that reads them."""
OTHER_DEVICES: Mapping[str, str] = {
    "an old dcgm-exporter": "dcgm_.+",
}
"""Names of metrics by the exporter that writes them; no preset reads these."""
_NAME = re.compile(r"[a-zA-Z_:][\w:]*")
_ENDS = re.compile(r"(_seconds|_perc)?(_bucket|_total|_count|_sum)?$")
_MODEL_LABELS = ("model_name", "model")
_COVERED = tuple(f"exported_{label}" for label in _MODEL_LABELS)
"""Where Prometheus puts a label of the server's that the scrape has one of the same name for."""
_WHAT = ", ".join(("__name__", *_MODEL_LABELS, *_COVERED))


def seen_instead(kind: str, promql: str, *, served: str, prometheus: PrometheusClient, at: datetime) -> str:
    """Say what there is instead of a query's series, and what to write.

    Raises:
        ContractError: Prometheus refuses the question.
        TransientError: Prometheus is away.
    """
    wanted = [name[0] for selector in selectors(promql) if (name := _NAME.match(selector))]
    if there := _named(wanted, prometheus, at):
        return _of_another_model(there, served)
    known = _servers(wanted, prometheus, at) if kind == "quality" else _devices(prometheus, at)
    alike = _alike(wanted, prometheus, at)
    if known or alike:
        return "; ".join(words for words in (known, alike) if words)
    return _targets(prometheus.query("sum by (job) (up)", at=at))


def _alike(wanted: Sequence[str], prometheus: PrometheusClient, at: datetime) -> str | None:
    """Say which names hold the same words; a native histogram has no `_bucket`, and collectors add endings."""
    if not wanted:
        return None
    stems = sorted({re.escape(_ENDS.sub("", name.rpartition(":")[2])) for name in wanted})
    alike = _names(prometheus.query(f'count by (__name__) ({{__name__=~".*({"|".join(stems)}).*"}})', at=at))
    if not alike:
        return None
    return f"names that look like it: {_listed(alike)}; a signal of your own may read them (`promql`)"


def _named(names: Sequence[str], prometheus: PrometheusClient, at: datetime) -> list[Sample]:
    """Find the metrics by their names alone, whatever model they are about."""
    if not names:
        return []
    return prometheus.query(f'count by ({_WHAT}) ({{__name__=~"{"|".join(names)}"}})', at=at)


def _of_another_model(there: Sequence[Sample], served: str) -> str:
    """Say of which models the metrics are."""
    models, names = _models(there), _listed(_names(there))
    if covered := next((label for label in _COVERED for sample in there if sample.labels.get(label) == served), None):
        return (
            f"{names} is there with {served} in `{covered}`, since the scrape brings a label "
            f"{covered.removeprefix('exported_')} of its own; scrape with `honor_labels: true` (`honorLabels` in a "
            "ServiceMonitor)"
        )
    if served in models:
        return f"{names} is there for {served}, but not with all that the query asks for"
    if not models:
        return f"{names} is there, but names no model in {' or '.join(_MODEL_LABELS)}"
    write = f"`serving: {{kind: external, served_name: {json.dumps(min(models), ensure_ascii=False)}}}`"
    return (
        f"{names} is there for {_listed(models)}, not for {served}: write {write} and the preset's name under "
        f"`quality`, or start the server as {served} (vLLM, SGLang: --served-model-name)"
    )


def _servers(wanted: Sequence[str], prometheus: PrometheusClient, at: datetime) -> str | None:
    """Say which servers' metrics there are, the wanted server's before others."""
    by_name = {name: preset for preset, table in SERVERS.items() for names in table.values() for name in names}
    there = prometheus.query(f'count by ({_WHAT}) ({{__name__=~"{"|".join(by_name)}"}})', at=at)
    presets = {by_name[sample.labels["__name__"]] for sample in there}
    if not presets:
        return None
    models = _models(there)
    what = f"there are {_listed(_names(there))}" + (f" for {_listed(models)}" if models else "")
    if presets & {by_name.get(name) for name in wanted}:
        return f"this server does not write it, though {what}; `{{remove: NAME}}` takes the signal out"
    return f"none of its names is there, but {what}: `serving: {min(presets)}` reads them"


def _devices(prometheus: PrometheusClient, at: datetime) -> str | None:
    """Say which other exporters of devices there are."""
    patterns = {**DEVICES, **OTHER_DEVICES}
    there = prometheus.query(f'count by (__name__) ({{__name__=~"{"|".join(patterns.values())}"}})', at=at)
    names = _names(there)
    writers = [writer for writer, pattern in patterns.items() if any(re.fullmatch(pattern, name) for name in names)]
    if presets := [writer for writer in writers if writer in DEVICES]:
        return f"there are {_listed(names)}: {' and '.join(presets)} reads them"
    if not writers:
        return None
    return (
        f"there are metrics of {_listed(writers)} ({_listed(names)}), which no preset reads: write signals of your own "
        "(`promql`), or scrape dcgm-exporter"
    )


def _targets(jobs: Sequence[Sample]) -> str:
    up = sorted(f"{sample.labels.get('job', '?')} ({sample.value:.0f} up)" for sample in jobs)
    if not up:
        return "nothing like it is there, and no target at all; does this Prometheus scrape the server?"
    return f"nothing like it is there; targets by job: {_listed(up)}; is the server one of them?"


def _names(samples: Iterable[Sample]) -> list[str]:
    return sorted({sample.labels["__name__"] for sample in samples})


def _models(samples: Iterable[Sample]) -> list[str]:
    return sorted({sample.labels[label] for sample in samples for label in _MODEL_LABELS if sample.labels.get(label)})


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
