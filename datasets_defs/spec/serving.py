"""The `serving` section of the YAML: who answers requests, and how the gateway reaches them. Pure."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from datasets_defs.spec.fields import Section, Share
from datasets_defs.spec.kubernetes_serving import KubernetesServing
from datasets_defs.spec.presets import PRESETS

VERSION = "{version}"
"""Stands in `served_name` for the number of the version that serves."""


def _address(url: str) -> str:
    """Check the address of a replica, and take the slash off its end.

    Raises:
        ValueError: it is no http address, or holds what the gateway puts there itself.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # a port that is no number is found when it is read
    except ValueError as err:
        raise ValueError(f"{url!r} is no address: {err}; write http://HOST:PORT") from err
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a server; write http://HOST:PORT")
    if parts.username or parts.query or parts.fragment:
        raise ValueError(f"{url!r} holds a user, a query or a fragment; write http://HOST:PORT, a key by `api_key_env`")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError(f"{url!r} ends in /v1, which the gateway adds itself; leave it out")
    return url.rstrip("/")


class ServingSpec(Section):
    """Who answers requests."""

    kind: Literal["driftloop", "external"] = "driftloop"
    """`external`: vLLM, TGI, Triton …; unless `swap` says how, nobody can say which version it has loaded."""
    max_completion_tokens: int = Field(default=256, ge=1)
    """Tokens that one request may ask for at most, of driftloop's own server."""
    replicas: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    """Addresses of the server's processes, `http://HOST:PORT` each; the gateway spreads requests over them."""
    served_name: str = Field(default="", pattern=r"^[^{}]*(\{version\}[^{}]*)?$")
    """The model's name at the server; `{version}` stands for the version that serves. Left out: the model's name."""
    api_key_env: str | None = None
    """Environment variable of the gateway that holds the server's key; none: the caller's header is passed on."""
    swap: Literal["none", "weights", "adapters", "kubernetes", "webhook"] = "none"
    """How the replicas get another version; `none`: nobody tells the server, and its versions stay *unconfirmed*.

    `weights`: vLLM reloads whole weights in place, replica by replica. `adapters`: vLLM loads LoRA adapters beside one
    base, each under a name of its own, and the gateway names one. `kubernetes`: a Deployment, or one of KServe's
    objects, is changed, and its pods are waited for. `webhook`: a service of yours does it.
    """
    kubernetes: KubernetesServing | None = None
    """With `swap: kubernetes`: which objects of the cluster stand behind `replicas`."""
    versions_folder: str | None = Field(default=None, pattern=r"^/")
    """Folder that the loop's workers and the replicas see under one path; each version gets one of its own in it."""
    swap_url: str | None = None
    """With `swap: webhook`: the address that is told to load a version, and asked which is loaded."""
    swap_key_env: str | None = None
    """Environment variable of the loop's workers that holds the webhook's secret; requests are signed with it."""
    untie: bool = False
    """Give versions that share their embedding's weights an output layer of their own in `versions_folder`. vLLM's CPU
    build needs that, and to be started on such a folder. Its reload leaves the old layer in place otherwise."""
    probe_tolerance: float = Field(default=0.1, gt=0)
    """Nats a token by which a replica's log-probabilities may differ from the version's own, on average."""
    connect_seconds: float = Field(default=3, gt=0)
    """How long the gateway tries to reach a replica before it asks another one."""
    silence_seconds: float = Field(default=300, gt=0)
    """How long a replica may say nothing, before its first byte and between two."""
    total_seconds: float = Field(default=900, gt=0)
    """How long one answer may take in all."""
    stream_usage: bool = True
    """Ask the server to count the tokens of streams (`stream_options`); callers see the count if they asked, too."""
    prompt_loss_share: Share = 0.0
    """Share of requests that are not streamed whose prompt's loss the gateway asks for (`prompt_logprobs`, vLLM's)."""

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS["quality"]:
            raise ValueError(f"no server of that name; there are {', '.join(PRESETS['quality'])}, or write `kind`")
        return {"kind": "driftloop" if value == "driftloop" else "external"}

    @model_validator(mode="after")
    def _replicas_once(self) -> "ServingSpec":
        twice = sorted({url for url in self.replicas if self.replicas.count(url) > 1})
        if twice:
            raise ValueError(f"replicas: {', '.join(twice)} stands there twice")
        return self

    @model_validator(mode="after")
    def _swap_is_whole(self) -> "ServingSpec":
        """Refuse a way of swapping that lacks what it needs.

        Raises:
            ValueError: it does; the message names the field.
        """
        if self.swap == "none":
            return self
        needed = {"versions_folder": self.versions_folder}
        if self.swap == "webhook":
            needed |= {"swap_url": self.swap_url, "swap_key_env": self.swap_key_env}
        else:
            needed["replicas"] = "given" if self.replicas else None
        if self.swap == "kubernetes":
            needed["kubernetes"] = "given" if self.kubernetes else None
        if lacking := sorted(name for name, value in needed.items() if not value):
            raise ValueError(f"swap: {self.swap} needs {', '.join(lacking)}")
        if self.kind != "external":
            raise ValueError(f"swap: {self.swap} is for `kind: external`; driftloop's own server follows by itself")
        if self.swap != "webhook" and VERSION in self.served_name:
            of_all = "names each version by itself" if self.swap == "adapters" else "keeps one name for all versions"
            raise ValueError(f"swap: {self.swap} {of_all}; take {{version}} out of `served_name`")
        return self

    @model_validator(mode="after")
    def _one_workload_for_each(self) -> "ServingSpec":
        """Refuse objects of a cluster that stand behind no address, or the other way round.

        Raises:
            ValueError: their numbers differ, or nothing asks for them.
        """
        if self.kubernetes is None:
            return self
        if self.swap != "kubernetes":
            raise ValueError(f"kubernetes is for `swap: kubernetes`, found swap: {self.swap}; take it out")
        if len(self.kubernetes.workloads) != len(self.replicas):
            raise ValueError(
                f"kubernetes.workloads names {len(self.kubernetes.workloads)} and replicas {len(self.replicas)}; "
                "give the address of each, in the same order"
            )
        return self

    @model_validator(mode="after")
    def _beside_one_base(self) -> "ServingSpec":
        """Refuse what makes no sense, or harms, where adapters stand beside one base.

        Raises:
            ValueError: it is asked for.
        """
        if self.swap != "adapters":
            return self
        if self.untie:
            raise ValueError("swap: adapters reloads no weights, so `untie` is not needed; take it out")
        if self.prompt_loss_share:
            raise ValueError(
                "swap: adapters: `prompt_loss_share` asks for `prompt_logprobs`, which has ended vLLM's process where "
                "adapters are enabled (0.32.0); take it out"
            )
        return self

    @property
    def can_say(self) -> bool:
        """Whether the server can be asked which version it has loaded; if not, none is ever confirmed."""
        return self.kind == "driftloop" or self.swap != "none"

    def name_at_server(self, model: str, version: int | None, *, adapter: str | None = None) -> str | None:
        """Give the name by which the server knows a version; None: it needs a version, and none serves.

        `adapter` is the label of a version that is an adapter: with `swap: adapters` that is its name.
        """
        if self.swap == "adapters" and adapter is not None:
            return adapter
        if VERSION not in self.served_name:
            return self.served_name or model
        return self.served_name.replace(VERSION, str(version)) if version is not None else None
