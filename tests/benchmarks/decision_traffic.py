"""Traffic in which nothing happens that needs a retraining, hour by hour from a model's birth: as counts, not rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from math import pi
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

KINDS = 8
"""Known kinds of prompts; new ones come on top."""
COSTS = np.array([0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.25, 1.4])
NEW_SHARE = 0.05
NEW_COST = 1.15
LOSS_SPREAD = 0.3
"""Standard deviation of a prompt's loss within its kind, as a share of the kind's."""
BYTES = 60.0
EDGES = ndtri(np.arange(1, 10) / 10)
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Traffic:
    """What is asked, by hour."""

    starts: list[datetime]
    means: Floats
    """hours x columns, in standard deviations."""
    logits: Floats
    """hours x kinds, new ones last: log of relative shares."""
    within: Floats
    """hours: what a prompt of any kind costs, relative to what it did; 1 but for what kinds do not tell apart."""
    rows: NDArray[np.int64]
    rows_per_user: Floats
    """hours: rows of the user of a random row."""
    icc: float = 0.0
    heavy: bool = False
    """Whether losses have tails of three degrees of freedom."""
    holidays: tuple[date, ...] = ()
    """Those that the model's YAML names."""
    rare: int = 0
    """Rare levels of a category column."""
    new_cost: float = NEW_COST
    added: Floats = field(default_factory=lambda: np.zeros(0))
    """hours: share of rows of a new topic, which costs `added_cost` and of which `found` is recognised as new."""
    added_cost: float = 1.4
    found: float = 0.5

    @property
    def hours(self) -> int:
        return len(self.starts)


def plain(hours: int, columns: int, rng: np.random.Generator, *, rows: int = 300) -> Traffic:
    """Give steady traffic that begins at a random hour of a random week."""
    first = _FIRST + timedelta(hours=int(rng.integers(8760)))
    shares = rng.dirichlet(np.full(KINDS, 4.0)) * (1 - NEW_SHARE)
    return Traffic(
        starts=[first + timedelta(hours=at) for at in range(hours)],
        means=np.zeros((hours, columns)),
        logits=np.tile(np.log(np.append(shares, NEW_SHARE)), (hours, 1)),
        within=np.ones(hours),
        rows=np.full(hours, rows),
        rows_per_user=np.ones(hours),
    )


def add_daily(traffic: Traffic, height: float, rng: np.random.Generator, *, zone: str = "UTC") -> None:
    local = [at.astimezone(ZoneInfo(zone)) for at in traffic.starts]
    at = np.array([each.hour for each in local])[:, None]
    day = np.array([each.toordinal() for each in local])
    wobble = 1 + 0.1 * rng.normal(size=day.max() + 2)[day][:, None]  # no day is like another
    for moved in (traffic.means, traffic.logits):
        np.add(moved, height * wobble * np.sin(2 * pi * (at / 24 + rng.random(moved.shape[1]))), out=moved)


def add_weekly(traffic: Traffic, height: float, rng: np.random.Generator, *, loss: float = 0.0) -> None:
    weekend = np.array([at.weekday() >= 5 for at in traffic.starts])
    traffic.means += height * weekend[:, None] * rng.choice([-1, 1], traffic.means.shape[1])
    traffic.logits += height * weekend[:, None] * rng.choice([-1, 1], KINDS + 1)
    traffic.within *= 1 + loss * weekend


def _volume(traffic: Traffic, least: int, most: int) -> None:
    at = np.array([each.hour for each in traffic.starts])
    wave = (1 - np.cos(2 * pi * (at - 3) / 24)) / 2
    traffic.rows = np.rint(least * (most / least) ** wave).astype(np.int64)


def steady(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    return plain(hours, columns, rng, rows=int(rng.choice([100, 300, 1000])))


def daily(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, float(rng.choice([0.1, 0.4, 0.8, 1.2])), rng)
    return traffic


def weekly(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.3, rng)
    add_weekly(traffic, float(rng.choice([0.1, 0.2, 0.3, 0.4])), rng, loss=float(rng.choice([0.0, 0.04])))
    return traffic


def loss_cycle(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    at = np.array([each.hour for each in traffic.starts])
    traffic.within *= 1 + float(rng.choice([0.03, 0.05, 0.08])) * np.sin(2 * pi * at / 24)
    return traffic


def holidays(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.2, rng)
    days = sorted({at.date() for at in traffic.starts})
    some = [day for day in days if rng.random() < 0.1]
    there = np.array([at.date() in set(some) for at in traffic.starts])
    traffic.means += 0.5 * there[:, None] * rng.choice([-1, 1], columns)
    traffic.logits += 0.5 * there[:, None] * rng.choice([-1, 1], KINDS + 1)
    traffic.within *= 1 + 0.04 * there
    traffic.holidays = tuple(some) if rng.random() < 0.75 else ()
    return traffic


def growth(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.2, rng)
    weeks = np.arange(hours) / 168
    traffic.rows = np.rint(traffic.rows * 1.01**weeks).astype(np.int64)
    traffic.means[:, 0] += 0.0166 * weeks  # 1 % of a length whose spread is 0.6 of its mean
    return traffic


def volume(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.3, rng)
    _volume(traffic, 20, 1000)
    return traffic


def few(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.3, rng)
    add_weekly(traffic, 0.2, rng)
    _volume(traffic, 20, 300)
    return traffic


def users(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.2, rng)
    bursts = rng.random(hours) < 0.01
    traffic.rows_per_user = np.where(bursts, 0.16 * traffic.rows, 15.0 + 10 * rng.random(hours))
    traffic.icc = 0.05
    return traffic


def tenants(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.2, rng)
    for _ in range(4):
        here, at = np.zeros(hours), int(rng.integers(500))
        while at < hours:
            stay = int(rng.exponential(500))
            here[at : at + stay] = 1
            at += stay + int(rng.exponential(500))
        share = float(rng.uniform(0.03, 0.1))
        traffic.means += share * here[:, None] * rng.normal(0, 1, columns)
        traffic.logits += share * here[:, None] * rng.normal(0, 2, KINDS + 1)
    return traffic


def rare_levels(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    return replace(daily(hours, rng, columns), rare=200)


def heavy_tails(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.3, rng)
    return replace(traffic, heavy=True)


def launch(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.2, rng)
    after = np.arange(hours) >= rng.integers(hours // 4, 3 * hours // 4)
    traffic.means[:, :3] += 0.4 * after[:, None]
    traffic.logits += 0.5 * after[:, None] * rng.choice([-1, 1], KINDS + 1)
    traffic.rows = np.where(after, 2 * traffic.rows, traffic.rows)
    return traffic


def summer_time(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, float(rng.choice([0.4, 0.8])), rng, zone="Europe/Berlin")
    return traffic


def outage(hours: int, rng: np.random.Generator, columns: int) -> Traffic:
    traffic = plain(hours, columns, rng)
    add_daily(traffic, 0.4, rng)
    add_weekly(traffic, 0.2, rng)
    at = int(rng.integers(200, hours - 400))
    traffic.rows[at : at + 336] = 0
    return traffic


NULLS: Mapping[str, Callable[[int, np.random.Generator, int], Traffic]] = {
    "iid": steady, "daily": daily, "weekly": weekly, "loss_cycle": loss_cycle, "holidays": holidays, "growth": growth,
    "volume": volume, "few": few, "users": users, "tenants": tenants, "rare_levels": rare_levels,
    "heavy_tails": heavy_tails, "launch": launch, "summer_time": summer_time, "outage": outage,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the hours came to."""

    hits: Floats
    """hours x columns x 10: rows at most at each decile edge, and rows without a value (none)."""
    levels: NDArray[np.int64]
    """hours x levels of a category column."""
    kind_rows: Floats
    """hours x kinds."""
    sums: Floats
    """hours x 6 x kinds: the sums of `Moments`."""


def draw(traffic: Traffic, rng: np.random.Generator) -> Drawn:
    """Draw the hours."""
    rows = traffic.rows
    effect = 1 + (traffic.rows_per_user - 1) * traffic.icc
    cells = np.diff(ndtr(EDGES - traffic.means[..., None]), prepend=0.0, append=1.0)
    counts = _counts(cells, rows, effect, rng)
    hits = np.concatenate([np.cumsum(counts, axis=-1)[..., :-1], np.zeros((*counts.shape[:2], 1))], axis=-1)
    levels = 1 / np.arange(1, (traffic.rare or 8) + 1)
    levels = _counts(np.tile(levels / levels.sum(), (len(rows), 1, 1)), rows, effect, rng)[:, 0]
    shares = np.exp(traffic.logits)
    shares /= shares.sum(axis=1, keepdims=True)
    added = traffic.added if traffic.added.size else np.zeros(len(rows))
    known = np.append(np.full(KINDS, (1 - traffic.found) / KINDS), traffic.found)
    old = _counts((shares)[:, None], np.rint(rows * (1 - added)).astype(np.int64), effect, rng)[:, 0]
    new = rng.multinomial(np.rint(rows * added).astype(np.int64), known)
    costs = np.append(COSTS, traffic.new_cost) * traffic.within[:, None]
    sums = _sums(old, costs, effect, traffic, rng) + _sums(
        new, np.full((len(rows), KINDS + 1), traffic.added_cost), effect, traffic, rng
    )
    return Drawn(hits, levels, (old + new).astype(np.float64), sums)


def _sums(
    counts: NDArray[np.int64], costs: Floats, effect: Floats, traffic: Traffic, rng: np.random.Generator
) -> Floats:
    there = counts > 0
    many = np.maximum(counts, 1)
    noise = rng.standard_t(3, counts.shape) / np.sqrt(3) if traffic.heavy else rng.normal(size=counts.shape)
    spread = LOSS_SPREAD * costs
    mean = np.maximum(costs + spread * np.sqrt(effect[:, None] / many) * noise, 0.05)
    squares = spread**2 * rng.chisquare(np.maximum(many - 1, 1)) * (many > 1)
    m = np.where(there, counts, 0).astype(np.float64)
    second = m * mean**2 + np.where(there, squares, 0.0)
    parts = (m, BYTES * m, BYTES * m * mean, BYTES**2 * m, BYTES**2 * m * mean, BYTES**2 * second)
    return np.stack(parts, axis=1)


def _counts(shares: Floats, rows: NDArray[np.int64], effect: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw counts whose variance is `effect` times that of independent rows (a Dirichlet-multinomial)."""
    if (effect > 1).any():
        size = np.maximum((rows - effect) / np.maximum(effect - 1, 1e-9), 1e-3)
        gammas = rng.standard_gamma(np.maximum(shares * size[:, None, None], 1e-9))
        shares = gammas / np.maximum(gammas.sum(axis=-1, keepdims=True), 1e-300)
    return rng.multinomial(rows[:, None], shares)
