"""Which server a model has, by its YAML. A kind of server is a file of this wing and a line here."""

import os
from functools import partial
from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.kubernetes_serving import KubernetesServing
from datasets_defs.spec.model import ModelSpec
from training.servers.adapters import VllmAdapters
from training.servers.seam import VersionServer
from training.servers.vllm import Vllm
from training.servers.webhook import Webhook


def servers_of(spec: ModelSpec) -> list[VersionServer]:
    """Give the servers that are told which version to load; none where nobody can be told, or ours follows by itself.

    Raises:
        ContractError: the environment lacks a key that the YAML names.
    """
    serving, seconds = spec.serving, settings().serving_confirm_seconds
    if serving.swap == "weights":
        name, key = serving.served_name or spec.name, _secret(serving.api_key_env, "api_key_env")
        return [Vllm(url, name, seconds=seconds, key=key) for url in serving.replicas]
    if serving.swap == "webhook" and serving.swap_url:
        secret = _secret(serving.swap_key_env, "swap_key_env")
        return [Webhook(serving.swap_url, spec.name, secret or "", seconds=seconds)]
    if serving.swap == "kubernetes" and serving.kubernetes is not None:
        return _of_cluster(spec, serving.kubernetes, seconds)
    return []


def _of_cluster(spec: ModelSpec, place: KubernetesServing, seconds: float) -> list[VersionServer]:
    from training.servers.kubernetes import ClusterServer, Served  # brings Airflow

    serving, root = spec.serving, Path(spec.serving.versions_folder or "") / spec.name
    name, key = serving.served_name or spec.name, _secret(serving.api_key_env, "api_key_env")
    return [
        ClusterServer(
            Served(url=url, workload=workload, model=spec.name, root=root, tolerance=serving.probe_tolerance),
            place,
            ask=partial(Vllm, name=name, seconds=seconds, key=key) if place.probe else None,
        )
        for url, workload in zip(serving.replicas, place.workloads, strict=True)
    ]


def adapter_servers_of(spec: ModelSpec) -> list[VllmAdapters]:
    """Give the servers that hold versions beside each other, each under a name; none where a YAML asks for none.

    Raises:
        ContractError: the environment lacks a key that the YAML names.
    """
    serving, seconds = spec.serving, settings().serving_confirm_seconds
    if serving.swap != "adapters":
        return []
    name, key = serving.served_name or spec.name, _secret(serving.api_key_env, "api_key_env")
    return [VllmAdapters(url, name, seconds=seconds, key=key) for url in serving.replicas]


def _secret(variable: str | None, field: str) -> str | None:
    if variable is None:
        return None
    if not (value := os.environ.get(variable)):
        raise ContractError(f"serving.{field} names {variable}, which this process's environment lacks; set it there")
    return value
