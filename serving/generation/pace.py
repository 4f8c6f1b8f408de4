"""When a prompt is asked again, and when no further one may be asked. Pure."""

from dataclasses import dataclass

from datasets_defs.spec.generation import ApiSpec, PaceSpec
from serving.generation.replies import AGAIN, ApiReply, ReplyFault


@dataclass(frozen=True, slots=True)
class NextTry:
    """Whether a prompt is asked again in this run."""

    wait: float | None
    """Seconds until then; None: not in this run."""
    reason: str


def next_try(reply: ApiReply, tries: int, pace: PaceSpec, *, chance: float) -> NextTry:
    """Say when a prompt is asked again after a fault; `chance` is a random share that spreads the waits.

    Waits double from `back_off_seconds` on, vary between half and whole, and are never shorter than what the server
    asks for in Retry-After.
    """
    fault = reply.fault
    if fault is None or fault not in AGAIN:
        return NextTry(None, f"{fault} does not pass by itself")
    if tries >= pace.tries:
        return NextTry(None, f"asked {tries} times")
    own = min(pace.back_off_seconds * 2.0 ** min(tries - 1, 30), pace.longest_wait_seconds) * (0.5 + chance / 2)
    asked = reply.retry_after or 0.0
    if asked > pace.longest_wait_seconds:
        return NextTry(None, f"the server asks to wait {asked:.0f} s, over {pace.longest_wait_seconds:.0f} s")
    return NextTry(max(own, asked), f"{fault}: again")


def holds_all(reply: ApiReply, in_a_row: int, concurrency: int) -> bool:
    """Say whether a refusal is everybody's: as many in a row as are asked at once, and not one answer between."""
    return reply.fault is ReplyFault.RATE_LIMITED and in_a_row >= concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has taken."""

    tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(tokens=self.tokens + other.tokens, cost=self.cost + other.cost)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(tokens=self.tokens - other.tokens, cost=self.cost - other.cost)


def cost_of(prompt_tokens: int, completion_tokens: int, api: ApiSpec) -> float:
    """Give what an answer costs by the API's prices."""
    return (prompt_tokens * api.prompt_price + completion_tokens * api.completion_price) / 1_000_000


def why_no_more(spent: Spent, on_their_way: Spent, pace: PaceSpec) -> str | None:
    """Say why no further prompt may be asked; None: one may. What is on its way counts at its most."""
    tokens = spent.tokens + on_their_way.tokens
    if pace.most_tokens is not None and tokens > pace.most_tokens:
        return f"the run's limit of {pace.most_tokens} tokens (`pace.most_tokens`) is reached: {spent.tokens} are taken"
    cost = spent.cost + on_their_way.cost
    if pace.most_cost is not None and cost > pace.most_cost:
        return f"the run's limit of {pace.most_cost:g} (`pace.most_cost`) is reached: {spent.cost:.4g} is spent"
    return None


BYTES_A_TOKEN = 3
"""Of a text whose tokens the API does not count."""


def guessed_tokens(text: str) -> int:
    """Guess how many tokens a text has, where the API does not say."""
    return -(-len(text.encode()) // BYTES_A_TOKEN)


def tokens_of(reply: ApiReply, guessed: int) -> tuple[int, int]:
    """Give the tokens of a prompt and of its answer: as the API counts them, or guessed where it does not."""
    if reply.text is None:
        return reply.prompt_tokens or 0, reply.completion_tokens or 0
    asked = guessed if reply.prompt_tokens is None else reply.prompt_tokens
    return asked, guessed_tokens(reply.text) if reply.completion_tokens is None else reply.completion_tokens
