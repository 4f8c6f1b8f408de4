"""The `serving` section: which addresses are one, and the name by which a server knows a version."""

import pytest
from pydantic import ValidationError

from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.serving import ServingSpec


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gpu1:8000", "is no address of a server"),
        ("ftp://gpu1", "is no address of a server"),
        ("http://", "is no address of a server"),
        ("http://gpu1:eight", "is no address"),
        ("http://u:p@gpu1", "holds a user"),
        ("http://gpu1?x=1", "holds a user, a query"),
        ("http://gpu1:8000/v1/", "ends in /v1"),
    ],
)
def test_what_is_no_address(address: str, said: str) -> None:
    """What cannot be a replica's address is refused, and the sentence says what to write."""
    with pytest.raises(ValidationError, match=said):
        ServingSpec(kind="external", replicas=(address,))


def test_addresses_are_told_apart() -> None:
    """A slash at the end makes no other address, and one address twice is a mistake."""
    assert ServingSpec(replicas=("http://a:1/", "https://b/llm")).replicas == ("http://a:1", "https://b/llm")
    with pytest.raises(ValidationError, match="http://a:1 stands there twice"):
        ServingSpec(replicas=("http://a:1", "http://a:1/"))


@pytest.mark.parametrize(
    ("served_name", "version", "name"),
    [("", 7, "bot"), ("", None, "bot"), ("llama", 7, "llama"), ("bot-v{version}", 7, "bot-v7"),
     ("bot-v{version}", None, None)],
)  # fmt: skip
def test_name_at_the_server(served_name: str, version: int | None, name: str | None) -> None:
    """The server's name of a version: the model's, a fixed one, or one that holds the version's number."""
    assert ServingSpec(served_name=served_name).name_at_server("bot", version) == name


@pytest.mark.parametrize("served_name", ["{v}", "a{version}{version}", "a{", "}"])
def test_only_the_version_is_filled_in(served_name: str) -> None:
    """Braces that are not `{version}`, once, are a mistake."""
    with pytest.raises(ValidationError, match="served_name"):
        ServingSpec(served_name=served_name)


_SHARED = "/srv/versions"
_CLUSTER = {"workloads": ["deployment/a"], "namespace": "models"}
_IN_CLUSTER = {"swap": "kubernetes", "replicas": ["http://a:1"], "versions_folder": _SHARED, "kubernetes": _CLUSTER}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"swap": "weights"}, "swap: weights needs replicas, versions_folder"),
        ({"swap": "weights", "replicas": ["http://a:1"], "versions_folder": "versions"}, "versions_folder"),
        ({"swap": "webhook", "versions_folder": _SHARED}, "swap: webhook needs swap_key_env, swap_url"),
        (
            {"swap": "weights", "replicas": ["http://a:1"], "versions_folder": _SHARED, "served_name": "b-{version}"},
            "keeps one name for all versions",
        ),
        ({"swap": "kubernetes", "versions_folder": _SHARED}, "swap: kubernetes needs kubernetes, replicas"),
        ({"kubernetes": _CLUSTER}, "kubernetes is for `swap: kubernetes`"),
        ({**_IN_CLUSTER, "replicas": ["http://a:1", "http://b:1"]}, "workloads names 1 and replicas 2"),
        ({**_IN_CLUSTER, "kubernetes": {**_CLUSTER, "workloads": ["pod/a"]}}, "workloads"),
        ({**_IN_CLUSTER, "kubernetes": {**_CLUSTER, "workloads": ["deployment/a"] * 2}}, "stands there twice"),
        ({**_IN_CLUSTER, "kubernetes": {**_CLUSTER, "address": "/srv/newest"}}, "is the same for all versions"),
        ({**_IN_CLUSTER, "kubernetes": {**_CLUSTER, "workloads": ["inferenceservice/a"]}}, "such as pvc://CLAIM"),
        (
            {"kind": "driftloop", "swap": "weights", "replicas": ["http://a:1"], "versions_folder": _SHARED},
            "follows by itself",
        ),
    ],
)
def test_a_way_of_swapping_is_whole(section: dict, said: str) -> None:
    """What a way of swapping lacks, or cannot be with, is named."""
    with pytest.raises(ValidationError, match=said):
        ServingSpec(**{"kind": "external", **section})


@pytest.mark.parametrize(
    ("section", "can_say"),
    [
        ({"kind": "driftloop"}, True),
        ({"kind": "external"}, False),
        ({"kind": "external", "swap": "weights", "replicas": ["http://a:1"], "versions_folder": _SHARED}, True),
        ({"kind": "external", **_IN_CLUSTER}, True),
    ],
)
def test_who_can_say_what_it_serves(section: dict, can_say: bool) -> None:  # noqa: FBT001 parametrized
    """A server that nobody can tell, nobody can ask either."""
    assert ServingSpec(**section).can_say is can_say


@pytest.mark.parametrize(("count", "said"), [(1, "`kubernetes` with two `replicas` or more"), (2, None)])
def test_steps_need_two_workloads(count: int, said: str | None) -> None:
    """One workload has one version at a time, so its users cannot be divided; two can."""
    serving = {
        **_IN_CLUSTER, "kind": "external", "replicas": [f"http://a:{number}" for number in range(1, count + 1)],
        "kubernetes": {**_CLUSTER, "workloads": [f"deployment/a{number}" for number in range(count)]},
    }  # fmt: skip
    content = {"name": "m", "base_model": {}, "training_text": "builtin:python-docs", "serving": serving, "rollout": {}}
    if said is None:
        assert ModelSpec.model_validate(content).steps is not None
        return
    with pytest.raises(ValidationError, match=said):
        ModelSpec.model_validate(content)
