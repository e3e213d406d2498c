"""The exogenous processes: everything random, drawn before the episode starts.

Demand, lead times and capacities are drawn first, as a `Scenario`, and an environment is a pure function of state,
orders and scenario. Two policies that play the same scenario meet the same luck (common random numbers).

Episode ``i`` of seed ``s`` always gets the same draws, whatever the batch size or the device: they are made on the CPU
by NumPy, in blocks of `BLOCK` episodes, each block with its own child of ``SeedSequence(s)``.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from ..config import Model, NonNegative, Positive, Probability

BLOCK = 32  # episodes drawn together; part of the definition of a seed, so never change it
FIRST_RESERVED_SEED = 2_000_000_000
"""Streams are disjoint because their seeds differ: training and tuning stay below it, held-out sets begin there."""


class Season(Model):
    """A sine on mean demand: ``mean * (1 + amplitude * sin(2 pi t / period))``."""

    amplitude: NonNegative = Field(description="height of the sine, as a share of mean demand")
    period: Positive = Field(description="length of one season, in periods")


class Shock(Model):
    """A demand surge shared by all retailers; a new one can start only when none is active."""

    probability: Probability = Field(description="chance that a shock starts in a period without one")
    length: tuple[int, int] = Field(description="shortest and longest shock, in periods, the first one included")
    factor: tuple[Positive, Positive] = Field(description="range of the uniform multiplier on mean demand")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 1 <= self.length[0] <= self.length[1]:
            raise ValueError(f"length must be 1 <= shortest <= longest, got {self.length}")
        if self.factor[0] > self.factor[1]:
            raise ValueError(f"factor must be lowest <= highest, got {self.factor}")
        return self


class Noise(Model):
    """What is added to mean demand: ``spread * U(-1, 1)`` and ``sd * (common * z + own * e_i)``, z shared by all."""

    spread: NonNegative = Field(0.0, description="half-width of a uniform term, in units")
    whole: bool = Field(False, description="the uniform term is a whole number, each of them equally likely")
    standard_deviation: NonNegative = Field(0.0, description="scale of the normal terms, in units")
    common: NonNegative = Field(0.0, description="weight of the normal draw shared by all retailers")
    own: NonNegative = Field(1.0, description="weight of each retailer's own normal draw")

    @model_validator(mode="after")
    def _whole_spread(self) -> Self:
        if self.whole and self.spread % 1:
            raise ValueError(f"whole needs a spread that is a whole number, got {self.spread:g}")
        return self


class Demand(Model):
    """Customer demand per retailer and period.

    The rate is ``max(floor, mean * season) * shock + noise``, equation :eq:`eq-demand` of the book. Demand is Poisson
    with that rate (at least ``floor``), or the rate itself, rounded, never below 0 (``distribution: rounded``).
    """

    distribution: Literal["poisson", "rounded"] = Field(description="of demand, given its rate")
    mean: Positive = Field(description="units per retailer and period, before season and shocks")
    floor: NonNegative = Field(0.1, description="the mean, and a Poisson rate, never fall below this, in units")
    season: Season | None = None
    shock: Shock | None = None
    noise: Noise = Noise()
    direct: NonNegative = Field(0.0, description="the warehouse's own Poisson demand, as a share of the mean")


class LeadTime(Model):
    """Periods until due: ``clip(round(N(mean, sd) + tail_extra * [U < tail_probability]), low, high)``."""

    mean: Positive = Field(description="periods")
    standard_deviation: NonNegative = Field(0.0, description="periods")
    tail_probability: Probability = Field(0.0, description="chance of a disruption")
    tail_extra: NonNegative = Field(0.0, description="periods that a disruption adds")
    low: int = Field(1, ge=1, description="shortest lead time, in periods")
    high: int = Field(10, ge=1, description="longest lead time, in periods; sizes the pipeline")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} > {self.high}")
        return self


class Capacity(Model):
    """Units that can leave a node in a period: ``max(0, N(mean, sd))``."""

    mean: Positive = Field(description="units per period")
    standard_deviation: NonNegative = Field(0.0, description="units per period")


class Exogenous(NamedTuple):
    """What nature does in one period. R retailers (or leaves), N = 1 + R nodes, upstream first."""

    demand: torch.Tensor  # (batch, R) units
    direct_demand: torch.Tensor  # (batch,) units asked of the warehouse itself
    supplier_capacity: torch.Tensor  # (batch,) units, inf if unlimited
    outbound_capacity: torch.Tensor  # (batch,) units the warehouse can ship, inf if unlimited
    lead_time: torch.Tensor  # (batch, N) periods, of what is shipped (or ordered) to that node now
    shock: torch.Tensor  # (batch,) multiplier, 1 if none; for pictures and tests, no dynamics read it


class Scenario(NamedTuple):
    """A batch of episodes' worth of `Exogenous`, each field with a period axis after the batch axis."""

    demand: torch.Tensor  # (batch, period, R)
    direct_demand: torch.Tensor  # (batch, period)
    supplier_capacity: torch.Tensor  # (batch, period)
    outbound_capacity: torch.Tensor  # (batch, period)
    lead_time: torch.Tensor  # (batch, period, N)
    shock: torch.Tensor  # (batch, period)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return self.demand.shape[0]

    @property
    def horizon(self) -> int:
        """Number of periods."""
        return self.demand.shape[1]

    def periods(self) -> Iterator[Exogenous]:
        """Iterate over the periods, first to last."""
        return (Exogenous(*fields) for fields in zip(*(field.unbind(1) for field in self), strict=True))

    def at(self, period: int) -> Exogenous:
        """Return one period."""
        return Exogenous(*(field[:, period] for field in self))

    def __getitem__(self, index: Any) -> Any:
        """Select episodes with a slice or an index tensor; an int selects a field, as in any tuple."""
        if isinstance(index, int):
            return tuple.__getitem__(self, index)
        return Scenario(*(field[index] for field in self))

    def repeat(self, times: int) -> Self:
        """Stack ``times`` copies along the batch axis: copy 0 of every episode first, then copy 1, ..."""
        return type(self)(*(field.repeat(times, *[1] * (field.ndim - 1)) for field in self))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move to a device; lead times stay integers."""
        moved = (f.to(device, torch.long if name == "lead_time" else dtype) for name, f in self._asdict().items())
        return type(self)(*moved)


Processes = tuple[Demand, LeadTime, Capacity | None, Capacity | None]
"""Demand, lead times, the supplier's capacity and the warehouse's outbound capacity; None: unlimited."""


def sample_scenario(processes: Processes, size: tuple[int, int], episodes: int, seed: int, first: int = 0) -> Scenario:
    """Draw episodes ``first`` to ``first + episodes - 1`` of a seed, on the CPU, in float64.

    Args:
        processes: what is drawn; lead times are independent over nodes and periods.
        size: number of retailers (or leaves), number of periods.
        episodes: how many.
        seed: non-negative seed of the stream.
        first: index of the first episode within the stream.

    Returns:
        A `Scenario` of that many episodes; how a set is split into calls changes nothing.

    Raises:
        ValueError: if ``episodes`` is not positive, or ``seed`` or ``first`` is negative.
    """
    if episodes < 1 or seed < 0 or first < 0:
        raise ValueError(f"need episodes >= 1, seed >= 0 and first >= 0, got {episodes}, {seed} and {first}")
    blocks = range(first // BLOCK, (first + episodes - 1) // BLOCK + 1)
    drawn = [_draw_block(processes, *size, seed, block) for block in blocks]
    skip = first - blocks[0] * BLOCK
    whole = (np.concatenate(parts)[skip : skip + episodes] for parts in zip(*drawn, strict=True))
    return Scenario(*(torch.from_numpy(np.ascontiguousarray(field)) for field in whole))


def seasonal_mean(demand: Demand, horizon: int) -> np.ndarray:
    """Mean demand per retailer in each period before shocks and noise, shape ``(horizon,)``, in units."""
    if demand.season is None:
        return np.full(horizon, demand.mean)
    wave = np.sin(2 * np.pi * np.arange(horizon) / demand.season.period)
    return np.maximum(demand.floor, demand.mean * (1 + demand.season.amplitude * wave))


def _draw_block(processes: Processes, retailers: int, horizon: int, seed: int, block: int) -> tuple[np.ndarray, ...]:
    """Draw one block of `BLOCK` episodes; the fields are those of `Scenario`."""
    demand, lead_time, supplier, outbound = processes
    # One child stream a process: switching one stressor off leaves the draws of all others as they were.
    streams = np.random.SeedSequence(seed, spawn_key=(block,)).spawn(5)
    shocks, rates, leads, supply, outflow = (np.random.default_rng(stream) for stream in streams)
    factor = _draw_shocks(demand.shock, horizon, shocks)
    mean = seasonal_mean(demand, horizon) * factor  # (block, period)
    units, direct = _draw_demand(demand, mean, retailers, rates)
    lead = _draw_lead_times(lead_time, (BLOCK, horizon, 1 + retailers), leads)
    capacities = (_draw_capacity(c, (BLOCK, horizon), g) for c, g in ((supplier, supply), (outbound, outflow)))
    return units, direct, *capacities, lead, factor


def _draw_shocks(shock: Shock | None, horizon: int, generator: np.random.Generator) -> np.ndarray:
    """Multiplier of mean demand, shape ``(BLOCK, horizon)``: an alternating renewal process."""
    factor = np.ones((BLOCK, horizon))
    if shock is None or shock.probability == 0:
        return factor
    shortest, longest = shock.length
    most = horizon // shortest + 1  # a renewal takes at least `shortest` periods
    gap = generator.geometric(shock.probability, (BLOCK, most)) - 1  # quiet periods before each shock
    length = generator.integers(shortest, longest, (BLOCK, most), endpoint=True)
    size = generator.uniform(*shock.factor, (BLOCK, most))
    start = np.cumsum(gap + length, axis=1) - length
    period = start[..., None] + np.arange(longest)  # (block, shock, period of the shock)
    hit = (np.arange(longest) < length[..., None]) & (period < horizon)
    row, which, _ = np.nonzero(hit)
    factor[row, period[hit]] = size[row, which]
    return factor


def _draw_demand(
    demand: Demand, mean: np.ndarray, retailers: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Demand of the retailers ``(BLOCK, horizon, retailers)`` and of the warehouse ``(BLOCK, horizon)``."""
    noise, shape = demand.noise, (*mean.shape, retailers)
    rate = np.repeat(mean[..., None], retailers, axis=-1)
    if noise.spread and noise.whole:
        rate = rate + generator.integers(-int(noise.spread), int(noise.spread), shape, endpoint=True)
    elif noise.spread:
        rate = rate + generator.uniform(-noise.spread, noise.spread, shape)
    if noise.standard_deviation:
        shared, own = generator.standard_normal((*mean.shape, 1)), generator.standard_normal(shape)
        rate = rate + noise.standard_deviation * (noise.common * shared + noise.own * own)
    if demand.distribution == "poisson":
        units = generator.poisson(np.maximum(demand.floor, rate)).astype(float)
    else:
        units = np.maximum(0.0, np.round(rate))
    direct = np.zeros_like(mean)
    if demand.direct:
        direct = generator.poisson(np.maximum(demand.floor, demand.direct * mean)).astype(float)
    return units, direct


def _draw_lead_times(lead: LeadTime, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    days = np.full(shape, lead.mean)
    if lead.standard_deviation:
        days = generator.normal(lead.mean, lead.standard_deviation, shape)
    if lead.tail_probability:
        days = days + lead.tail_extra * (generator.random(shape) < lead.tail_probability)
    return np.clip(np.round(days), lead.low, lead.high).astype(np.int64)


def _draw_capacity(capacity: Capacity | None, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if capacity is None:
        return np.full(shape, np.inf)
    return np.maximum(0.0, generator.normal(capacity.mean, capacity.standard_deviation, shape))
