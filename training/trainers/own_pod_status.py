"""How the pod of a team's own image stands: what its other containers decide, before driftloop's own does. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from datasets_defs.spec.trainers import PodPlace
from training.own.beside import FETCH
from training.trainers.contract import Ending, Look, Phase
from training.trainers.own_pod import TRAIN
from training.trainers.pod import CONTAINER
from training.trainers.pod_status import BROKEN, TROUBLE_SECONDS, PodStanding, judge, seconds, short

LAG_SECONDS = 300
"""How long driftloop's container may take to notice that the team's ended badly."""
CANNOT_START = frozenset({"ContainerCannotRun", "StartError"})
"""Kubernetes' words for a container whose first program is not there."""


def judge_own(pod: Mapping[str, Any], place: PodPlace, now: datetime) -> PodStanding:
    """Say how the pod stands, by whichever of its three containers decides."""
    team, base = _state(pod, "containerStatuses", TRAIN), _state(pod, "containerStatuses", CONTAINER)
    first = _state(pod, "initContainerStatuses", FETCH)
    ended = team.get("terminated")
    if ended is not None and ended.get("exitCode") != 0:
        ending = _ended_badly(ended, place, now, is_heard="running" not in base)
        if ending is not None:
            return ending
    if "terminated" not in base:
        for what, state in (("trainer.pod.carrier", first), ("trainer.pod.image", team)):
            if (state.get("waiting") or {}).get("reason") in BROKEN:
                return _not_made(state["waiting"], what, _since(pod, first), now)
        if "running" in first:
            return PodStanding(Look(Phase.RUNNING, "the pod's first container brings the rows and the champion"))
        if (first.get("terminated") or {}).get("exitCode"):
            return PodStanding(Look(Phase.ENDED, _words("the container that brings the rows", first["terminated"])))
    return judge(pod, place, now)


def image_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """Give the team's image with its digest, as the node resolved it; nothing before it was fetched. Pure."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status["name"] == TRAIN and status.get("imageID"):
            return {"image": str(status.get("image", "")), "image_digest": str(status["imageID"])}
    return {}


def _state(pod: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get(kind) or []
    return next((status.get("state") or {} for status in statuses if status["name"] == name), {})


def _ended_badly(ended: Mapping[str, Any], place: PodPlace, now: datetime, *, is_heard: bool) -> PodStanding | None:
    """Say what only Kubernetes knows of the end; None: driftloop's container says what it means."""
    reason = ended.get("reason")
    words = _words("your container", ended)
    if reason == "OOMKilled":
        why = f"your container used more than its {place.memory} of memory and was killed"
        return PodStanding(
            Look(Phase.ENDED, why),
            f"{why}: raise `trainer.pod.memory`, or let the command take smaller batches or shorter rows",
            Ending.OUT_OF_MEMORY,
        )
    if reason in CANNOT_START:
        return PodStanding(
            Look(Phase.ENDED, words),
            f"{words}; `trainer.pod.image` needs `/bin/sh`, and `trainer.directory` to be there",
        )
    if not is_heard and seconds(ended.get("finishedAt"), now) > LAG_SECONDS:
        return PodStanding(Look(Phase.ENDED, f"{words}, and driftloop's container beside it did not notice"))
    return None


def _not_made(waiting: Mapping[str, Any], what: str, since: str | None, now: datetime) -> PodStanding:
    message = waiting.get("message")
    words = f"the image of `{what}` cannot be run: {waiting['reason']}{': ' + short(message) if message else ''}"
    hopeless = seconds(since, now) > TROUBLE_SECONDS
    advice = f"{words}; see to `{what}`, `image_pull_secret`, `secret` and `claim`"
    return PodStanding(Look(Phase.WAITING, words), advice if hopeless else None)


def _since(pod: Mapping[str, Any], first: Mapping[str, Any]) -> str | None:
    """Say since when the container could have been there: after the first one had ended, or from the beginning."""
    finished = (first.get("terminated") or {}).get("finishedAt")
    return finished or (pod.get("status") or {}).get("startTime")


def _words(who: str, ended: Mapping[str, Any]) -> str:
    message = (ended.get("message") or "").strip()
    words = f": {short(message)}" if message else ""
    return f"{who} ended with code {ended.get('exitCode')} ({ended.get('reason')}){words}"
