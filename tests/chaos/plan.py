"""What a chaos run does and when, from its seed alone. Pure."""

import random
from dataclasses import dataclass
from enum import StrEnum

MODELS = ("writer-a", "writer-b", "writer-c")
DOMAINS = ("documentation", "licences", "readmes")
"""What users ask about. Source code is none: most of it begins with the same blanks, which is kept apart as broken."""
COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server", "postgres", "mlflow", "prometheus", "serving")
TRAINER = "trainer"
TABLES = ("inference", "verdict", "incident", "heartbeat", "champion", "alert_outbox")
"""Tables that somebody locks."""
LOCK_SECONDS = (5.0, 30.0)
"""How long somebody holds a table, and with it whoever needs it."""
READER_SECONDS = (40.0, 120.0)
SILENT_SECONDS = (50.0, 75.0)
"""How long a server accepts connections and answers nobody: longer than a statement may take."""
LOAD_SECONDS = 300.0
"""How long a version takes to load while loads are slow."""
SLOW_SECONDS = (40.0, 60.0)
"""How long loads begin slowly."""
FULL_SECONDS = (10.0, 40.0)
BLOW_SECONDS = (22.0, 40.0)
"""From one blow to the next in a short run, in which each kind is to have its turn."""
SPREAD_SECONDS = (60.0, 110.0)
"""From one blow to the next in a long run: PostgreSQL answers nobody in one minute of nine, and the loop gets on."""
LONG_RUN_SECONDS = 900.0
DEED_SECONDS = (20.0, 60.0)
"""From one deed of a person to the next."""
DEEDS = ("rollback", "pause", "resume", "approve", "resolve")
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
    READ = "reader in a transaction on"
    LOCK = "exclusive lock on"
    SILENCE = "silence of"
    SLOW = "slow loads in"
    FULL = "full disk under"
    DEED = "a person:"


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One deed, so many seconds after the beginning."""

    at: float
    kind: Kind
    victim: str
    """A component, the trainer, a model, a table or a folder; of a person's deed the command, and the model."""
    seconds: float = 0.0
    """How long it lasts."""
    domain: str = ""
    """What a model's users ask about from now on."""

    def __str__(self) -> str:
        more = f" for {self.seconds:.0f} s" if self.seconds else f" to {self.domain}" if self.domain else ""
        return f"{self.kind} {self.victim}{more}"


def plan(minutes: float, seed: int) -> list[Action]:
    """Give the whole run, in order; the same seed gives the same, and every victim has its turn in each round."""
    chance, seconds = random.Random(seed), 60 * minutes
    attacks, drifts = _attacks(seconds, chance), _drifts(seconds, chance)
    return sorted([*attacks, *drifts, *_blows(seconds, chance), *_deeds(seconds, chance)])


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


def _blows(seconds: float, chance: random.Random) -> list[Action]:
    """Hit what all share: each kind of blow has its turn in each round."""
    kinds = {
        Kind.READ: (("inference",), READER_SECONDS),
        Kind.LOCK: (TABLES, LOCK_SECONDS),
        Kind.SILENCE: (("postgres", "mlflow"), SILENT_SECONDS),
        Kind.SLOW: (("serving",), SLOW_SECONDS),
        Kind.FULL: (("artifacts",), FULL_SECONDS),
    }
    actions: list[Action] = []
    apart = SPREAD_SECONDS if seconds >= LONG_RUN_SECONDS else BLOW_SECONDS
    at, waiting, silent = FIRST_SECONDS, list[Kind](), chance.sample(["postgres", "mlflow"], k=2)
    while at < seconds:
        if not waiting:
            waiting = chance.sample([*kinds, Kind.SILENCE], k=len(kinds) + 1)
        kind = waiting.pop()
        victims, lasting = kinds[kind]
        victim = chance.choice(victims)
        if kind is Kind.SILENCE:
            silent = silent or ["postgres", "mlflow"]
            victim = silent.pop()
        actions.append(Action(at, kind, victim, seconds=chance.uniform(*lasting)))
        at += chance.uniform(*apart)
    return actions


def _deeds(seconds: float, chance: random.Random) -> list[Action]:
    """Let a person act at random moments, whatever is going on."""
    actions: list[Action] = []
    at = chance.uniform(*DEED_SECONDS)
    while at < seconds:
        actions.append(Action(at, Kind.DEED, f"{chance.choice(DEEDS)} {chance.choice(MODELS)}"))
        at += chance.uniform(*DEED_SECONDS)
    return actions
