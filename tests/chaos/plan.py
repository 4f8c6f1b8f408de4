"""What a chaos run does and when, from its seed alone. Pure."""

import random
from dataclasses import dataclass
from enum import StrEnum

MODELS = ("writer-a", "writer-b", "writer-c")
DOMAINS = ("documentation", "licences", "source code", "readmes")
COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server", "postgres", "mlflow", "prometheus", "serving")
TRAINER = "trainer"
FIRST_SECONDS = 15.0
PAUSE_SECONDS = (12.0, 30.0)
"""From one attack to the next; a scheduler that is killed needs about twenty to work again."""
STOP_SECONDS = (5.0, 40.0)
DRIFT_SECONDS = 480.0
"""From one drift of a model to its next, about: a loop takes three to five minutes."""


class Kind(StrEnum):
    """What is done to whom."""

    KILL = "kill -9"
    CRASH = "immediate stop"
    STOP = "SIGSTOP"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One deed, so many seconds after the beginning."""

    at: float
    kind: Kind
    victim: str
    """A component, the trainer, or a model."""
    seconds: float = 0.0
    """How long it stays stopped."""
    domain: str = ""
    """What a model's users ask about from now on."""

    def __str__(self) -> str:
        more = f" for {self.seconds:.0f} s" if self.kind is Kind.STOP else f" to {self.domain}" if self.domain else ""
        return f"{self.kind} {self.victim}{more}"


def plan(minutes: float, seed: int) -> list[Action]:
    """Give the whole run, in order; the same seed gives the same, and every victim has its turn in each round."""
    chance = random.Random(seed)
    return sorted([*_attacks(60 * minutes, chance), *_drifts(60 * minutes, chance)])


def _attacks(seconds: float, chance: random.Random) -> list[Action]:
    actions: list[Action] = []
    at, waiting = FIRST_SECONDS, list[str]()
    while at < seconds:
        if not waiting:
            waiting = chance.sample([*COMPONENTS, TRAINER], k=len(COMPONENTS) + 1)
        victim = waiting.pop()
        if chance.random() < 1 / 3:
            actions.append(Action(at, Kind.STOP, victim, seconds=chance.uniform(*STOP_SECONDS)))
        else:
            actions.append(Action(at, Kind.CRASH if victim == "postgres" else Kind.KILL, victim))
        at += chance.uniform(*PAUSE_SECONDS)
    return actions


def _drifts(seconds: float, chance: random.Random) -> list[Action]:
    actions: list[Action] = []
    for model in MODELS:
        domain, at = DOMAINS[0], chance.uniform(0.1, 0.5) * min(seconds, DRIFT_SECONDS)
        while at < seconds:
            domain = chance.choice([each for each in DOMAINS if each != domain])
            actions.append(Action(at, Kind.DRIFT, model, domain=domain))
            at += chance.uniform(0.8, 1.4) * DRIFT_SECONDS
    return actions
