"""What a run needs of the world outside, by name, and where the API of a section is."""

import os
from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Engine

from datasets_defs.core.addresses import ApiAddress
from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.generation import ApiSpec
from datasets_defs.spec.model import ModelSpec


class Outside(Protocol):
    """Connections, Variables and Assets; in a task Airflow has them."""

    def api(self, connection: str) -> ApiAddress:
        """Give the API that a Connection names."""
        ...

    def variable(self, name: str) -> str:
        """Give a Variable."""
        ...

    def database(self, connection: str) -> Engine:
        """Give the PostgreSQL that a Connection names."""
        ...

    def asset_url(self, name: str) -> str:
        """Give the file that an Asset's newest event names."""
        ...


def address_of(api: ApiSpec, spec: ModelSpec, outside: Outside) -> ApiAddress:
    """Give where an API is: by Connection, by address, or the model's own server.

    Raises:
        ContractError: a Connection or a key is missing, or the model's server has no address.
    """
    if api.connection is not None:
        return outside.api(api.connection)
    if api.url is not None:
        return ApiAddress(api.url.rstrip("/").removesuffix("/v1"), secret_of(api.key_env))
    if spec.serving.kind == "driftloop":
        return ApiAddress(settings().serving_url.rstrip("/"))
    if not spec.serving.replicas:
        raise ContractError(f"{spec.name}: `api` names no server, and serving.replicas none; give `api: {{url: …}}`")
    return ApiAddress(spec.serving.replicas[0], secret_of(spec.serving.api_key_env))


def secret_of(variable: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Read a secret from the environment.

    Raises:
        ContractError: the variable is not set.
    """
    if variable is None:
        return None
    if not (value := environment.get(variable, "")):
        raise ContractError(f"the environment variable {variable} is not set where the loop's tasks run; set it there")
    return value


def name_at_api(api: ApiSpec, spec: ModelSpec, version: int | None, outside: Outside) -> str:
    """Give the model's name at an API: a Variable's value, the section's, or the name of our own model."""
    if api.model_variable is not None:
        return outside.variable(api.model_variable)
    if api.model is not None:
        return api.model
    return (spec.serving.name_at_server(spec.name, version) if api.is_own else None) or spec.name


def endpoint_of(api: ApiSpec) -> str:
    """Give which of the API's two endpoints is asked."""
    if api.endpoint != "auto":
        return api.endpoint
    return "completions" if api.is_own else "chat"
