"""How a training's pod stands, in words: read from what the API says of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from datasets_defs.spec.trainers import PodPlace
from training.trainers.contract import Ending, Look, Phase
from training.trainers.pod import CONTAINER

TROUBLE_SECONDS = 900
"""A container that could not be made for so long, on a node that took it, will not be made."""
BROKEN = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Kubernetes' words for a container that people have to help: its image, its Secret, its volumes."""
KUEUE = "kueue.x-k8s.io/"
MOST_WORDS = 600


@dataclass(frozen=True, slots=True)
class PodStanding:
    """What a pod's state means."""

    look: Look
    hopeless: str | None = None
    """Why trying again would end the same, and what to do; None: it might not."""
    ending: Ending = Ending.CONTRACT
    """What a hopeless one ends as."""


def judge(pod: Mapping[str, Any], trainer: PodPlace, now: datetime) -> PodStanding:
    """Say how the trainer's own container stands; another one beside it, such as a mesh's, decides nothing."""
    status, state = pod.get("status") or {}, _own_state(pod)
    if status.get("reason") == "DeadlineExceeded":
        words = "the pod took longer than `retrain.max_seconds` and the six hours for all else, and was ended"
        return PodStanding(Look(Phase.ENDED, words), f"{words}; its log says what it waited for")
    if (ended := state.get("terminated")) is not None:
        return _ended(ended, trainer)
    if status.get("phase") in ("Failed", "Succeeded"):  # and no word on the container: it never ran, or is lost
        words = ": ".join(filter(None, [status.get("reason") or status["phase"], status.get("message")]))
        return PodStanding(Look(Phase.ENDED, f"the pod ended: {short(words)}"))
    if "deletionTimestamp" in pod["metadata"]:
        return PodStanding(
            Look(Phase.RUNNING, "the pod is being taken away: by a person, Kueue, or a node that is drained")
        )
    if "running" in state:
        return PodStanding(_running(pod, status, state["running"]))
    return _waiting(pod, status, state.get("waiting") or {}, trainer, now)


def _own_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((status.get("state") or {} for status in statuses if status["name"] == CONTAINER), {})


def _ended(ended: Mapping[str, Any], trainer: PodPlace) -> PodStanding:
    code, reason = ended.get("exitCode"), ended.get("reason")
    if reason == "OOMKilled":
        words = f"the pod used more than its {trainer.memory} of memory and was killed"
        return PodStanding(
            Look(Phase.ENDED, words),
            f"{words}: raise `trainer.memory`, lower `retrain.forward_tokens`, or set `retrain.gradient_checkpointing`",
            Ending.OUT_OF_MEMORY,
        )
    if code == 0:
        return PodStanding(Look(Phase.ENDED, "the pod ended"))
    message = (ended.get("message") or "").strip()
    return PodStanding(
        Look(Phase.ENDED, f"the pod ended with code {code} ({reason}){f': {short(message)}' if message else ''}")
    )


def _running(pod: Mapping[str, Any], status: Mapping[str, Any], state: Mapping[str, Any]) -> Look:
    node = (pod.get("spec") or {}).get("nodeName")
    lost = next(
        (condition for condition in _conditions(status) if condition.get("reason") == "NodeStatusUnknown"), None
    )
    if status.get("phase") == "Unknown" or lost is not None:
        return Look(Phase.RUNNING, f"node {node} says nothing any more; the pod may still train there")
    return Look(Phase.RUNNING, f"the pod runs{f' on node {node}' if node else ''} since {state.get('startedAt')}")


def _waiting(
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    state: Mapping[str, Any],
    trainer: PodPlace,
    now: datetime,
) -> PodStanding:
    placed = next((condition for condition in _conditions(status) if condition.get("type") == "PodScheduled"), {})
    if placed.get("status") == "True":
        return _being_made(status, state, now)
    words = _why_no_node(pod, placed, trainer)
    look = Look(Phase.WAITING, words)
    waited = seconds(pod["metadata"].get("creationTimestamp"), now)
    if waited <= trainer.queue_seconds:
        return PodStanding(look)
    return PodStanding(
        look, f"the pod found no node in {waited:.0f} s: {words}; free some, ask for less, or raise `queue_seconds`"
    )


def _why_no_node(pod: Mapping[str, Any], placed: Mapping[str, Any], trainer: PodPlace) -> str:
    gates = [entry["name"] for entry in (pod.get("spec") or {}).get("schedulingGates") or []]
    if any(gate.startswith(KUEUE) for gate in gates):
        return f"the pod stands in Kueue's queue {trainer.queue or '(the default one)'}"
    if gates:
        return f"the pod is held back by {', '.join(gates)}"
    if placed.get("reason") == "Unschedulable":
        return f"no node takes the pod: {short(placed.get('message') or 'the scheduler does not say why')}"
    return "the pod waits for the scheduler"


def _being_made(status: Mapping[str, Any], state: Mapping[str, Any], now: datetime) -> PodStanding:
    reason = state.get("reason")
    if reason not in BROKEN:
        return PodStanding(Look(Phase.WAITING, f"the pod's container is being made ({reason or 'Pending'})"))
    words = (
        f"the pod's container cannot be made: {reason}{': ' + short(state['message']) if state.get('message') else ''}"
    )
    look = Look(Phase.WAITING, words)
    hopeless = seconds(status.get("startTime"), now) > TROUBLE_SECONDS
    return PodStanding(look, f"{words}; see to `trainer.image`, `secret` and `claim`" if hopeless else None)


def _conditions(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return status.get("conditions") or []


def seconds(since: str | None, now: datetime) -> float:
    """Give how long ago a time was, as Kubernetes writes times; 0 where there is none."""
    return (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0


def short(words: str) -> str:
    """Keep the end of long words: a log's last lines say most."""
    return words if len(words) <= MOST_WORDS else f"… {words[-MOST_WORDS:]}"
