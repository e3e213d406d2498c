"""The exogenous processes: everything random, drawn before the episode starts.

Demand, lead times and capacities are drawn first, as a `Scenario`, and an environment is a pure function of state,
orders and scenario. Two policies that play the same scenario meet the same luck (common random numbers).

Episode ``i`` of seed ``s`` always gets the same draws, whatever the batch size or the device: they are made on the CPU
by NumPy, in blocks of `BLOCK` episodes, each block with its own child of ``SeedSequence(s)``.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from .processes import Capacity, Demand, LeadTime, Parameters, Shock

BLOCK = 32  # episodes drawn together; part of the definition of a seed, so never change it
MOST_DRAWS = 100_000_000  # episodes * periods * locations of one set: about 11 GB
FIRST_RESERVED_SEED = 2_000_000_000
"""Streams are disjoint because their seeds differ: training and tuning stay below it, held-out sets begin there."""
VALIDATION_SEED = FIRST_RESERVED_SEED + 1  # chooses checkpoints and re-scores tuned parameters: of a record, the past
MOST_POISSON = 1e18  # units: what a Poisson distribution can draw at most


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


def sample_scenario(p: Parameters, episodes: int, seed: int, first: int = 0) -> Scenario:
    """Draw episodes ``first`` to ``first + episodes - 1`` of a seed, on the CPU, in float64.

    How a set is split into calls changes nothing. Lead times are independent over nodes and periods.

    Raises:
        ValueError: if ``episodes`` is not positive or too many, or ``seed`` or ``first`` is negative.
    """
    if episodes < 1 or seed < 0 or first < 0:
        raise ValueError(f"need episodes >= 1, seed >= 0 and first >= 0, got {episodes}, {seed} and {first}")
    locations = getattr(p, p.count)
    if episodes * p.horizon * locations > MOST_DRAWS:
        number = f"{episodes:,} episodes of {p.horizon:,} periods at {locations} locations"
        raise ValueError(f"{number} do not fit in memory: at most {MOST_DRAWS:,} in all")
    blocks = range(first // BLOCK, (first + episodes - 1) // BLOCK + 1)
    drawn = [_draw_block(p, seed, block) for block in blocks]
    skip = first - blocks[0] * BLOCK
    whole = (np.concatenate(parts)[skip : skip + episodes] for parts in zip(*drawn, strict=True))
    return Scenario(*(torch.from_numpy(np.ascontiguousarray(field)) for field in whole))


def seasonal_mean(demand: Demand, horizon: int) -> np.ndarray:
    """Mean demand per retailer in each period before shocks and noise, shape ``(horizon,)``, in units.

    Where retailers differ, that of their average.
    """
    now, mean = np.arange(horizon), np.full(horizon, demand.average)
    if demand.season is not None:
        wave = np.sin(2 * np.pi * (now + demand.season.phase) / demand.season.period)
        mean = np.maximum(demand.floor, mean * (1 + demand.season.amplitude * wave))
    return mean * demand.day_factors[now % len(demand.day_factors)]


@lru_cache(maxsize=1)  # who takes a few episodes at a time, as a learner does, comes back for the rest of a block
def _draw_block(p: Parameters, seed: int, block: int) -> tuple[np.ndarray, ...]:
    """Draw one block of `BLOCK` episodes; the fields are those of `Scenario`."""
    demand, horizon, retailers = p.demand, p.horizon, getattr(p, p.count)
    # One child stream a process: switching one stressor off leaves the draws of all others as they were.
    streams = np.random.SeedSequence(seed, spawn_key=(block,)).spawn(5)
    shocks, rates, leads, supply, outflow = (np.random.default_rng(stream) for stream in streams)
    factor = _draw_shocks(demand.shock, horizon, shocks)
    mean = seasonal_mean(demand, horizon) * factor  # (block, period)
    units, direct = _draw_demand(demand, mean, retailers, rates)
    lead = _draw_lead_times(p.lead_time, (BLOCK, horizon, 1 + retailers), leads)
    supplier = _draw_capacity(getattr(p, "supplier_capacity", None), (BLOCK, horizon), supply)  # a factory has none
    outbound = _draw_capacity(p.outbound_capacity, (BLOCK, horizon), outflow)
    return units, direct, supplier, outbound, lead, factor


def _draw_shocks(shock: Shock | None, horizon: int, generator: np.random.Generator) -> np.ndarray:
    """Multiplier of mean demand, shape ``(BLOCK, horizon)``: an alternating renewal process."""
    factor = np.ones((BLOCK, horizon))
    if shock is None or shock.probability == 0:
        return factor
    shortest, longest = shock.length
    most = horizon // shortest + 1  # a renewal takes at least `shortest` periods
    gap = np.minimum(generator.geometric(shock.probability, (BLOCK, most)) - 1, horizon)  # quiet periods before each
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
    rate = mean[..., None] * demand.shares(retailers)
    if noise.spread and noise.whole:
        rate = rate + generator.integers(-int(noise.spread), int(noise.spread), shape, endpoint=True)
    elif noise.spread:
        rate = rate + generator.uniform(-noise.spread, noise.spread, shape)
    if np.any(noise.standard_deviation):
        shared, own = generator.standard_normal((*mean.shape, 1)), generator.standard_normal(shape)
        rate = rate + np.array(noise.standard_deviation) * (noise.common * shared + noise.own * own)
    if demand.distribution == "rounded":
        units = np.maximum(0.0, np.round(rate))
    else:
        units = np.maximum(demand.floor, rate)
        if demand.variation:
            units = np.minimum(units * generator.gamma(demand.variation**-2, demand.variation**2, shape), MOST_POISSON)
        if demand.distribution != "gamma":
            units = generator.poisson(units).astype(float)
    direct = np.zeros_like(mean)
    if demand.direct:
        direct = generator.poisson(np.maximum(demand.floor, demand.direct * mean)).astype(float)
    return units, direct


def _draw_lead_times(lead: LeadTime, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    days = np.full(shape, lead.mean)
    if np.any(lead.standard_deviation):
        days = generator.normal(lead.mean, lead.standard_deviation, shape)
    if lead.tail_probability:
        days = days + lead.tail_extra * (generator.random(shape) < lead.tail_probability)
    return np.clip(np.round(days), lead.low, lead.high).astype(np.int64)


def _draw_capacity(capacity: Capacity | None, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if capacity is None:
        return np.full(shape, np.inf)
    return np.maximum(0.0, generator.normal(capacity.mean, capacity.standard_deviation, shape))
