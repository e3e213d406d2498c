"""The parameters of everything random, demand, lead times, capacities; and those that both chains have.

Where locations differ, a parameter is a list with one number each.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from ..config import Days, Factor, Model, NonNegative, Positive, Probability, Weight
from .recorded import Record

MOST = 100_000  # periods times nodes of an episode: a thousand episodes must fit into memory

_one_or_each = Discriminator(lambda value: "each" if isinstance(value, list | tuple) else "one")
PositiveEach = Annotated[Annotated[Positive, Tag("one")] | Annotated[tuple[Positive, ...], Tag("each")], _one_or_each]
NonNegativeEach = Annotated[
    Annotated[NonNegative, Tag("one")] | Annotated[tuple[NonNegative, ...], Tag("each")], _one_or_each
]  # fmt: skip
"""One number for all locations, or a list with one each."""


def _each(model: BaseModel, group: str = "") -> Iterator[tuple[str, Any]]:
    """Key and value of every parameter, nested ones included, that may be a list with one number each."""
    for name, field in type(model).model_fields.items():
        if isinstance(value := getattr(model, name), BaseModel):
            yield from _each(value, f"{group}{name}.")
        elif _one_or_each in field.metadata:
            yield f"{group}{name}", value


class Season(Model):
    """A sine on mean demand: ``mean * (1 + amplitude * sin(2 pi (t + phase) / period))``."""

    amplitude: Weight = Field(description="height of the sine, as a share of mean demand")
    period: Positive = Field(description="length of one season, in periods")
    phase: float = Field(0.0, ge=-1e6, le=1e6, description="periods of the season that are over at the start")


class Shock(Model):
    """A demand surge shared by all retailers; a new one can start only when none is active."""

    probability: Probability = Field(description="chance that a shock starts in a period without one")
    length: tuple[Days, Days] = Field(description="shortest and longest shock, in periods, the first one included")
    factor: tuple[Factor, Factor] = Field(description="range of the uniform multiplier on mean demand")

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
    standard_deviation: NonNegativeEach = Field(0.0, description="scale of the normal terms, in units; may be a list")
    common: Weight = Field(0.0, description="weight of the normal draw shared by all retailers")
    own: Weight = Field(1.0, description="weight of each retailer's own normal draw")

    @model_validator(mode="after")
    def _whole_spread(self) -> Self:
        if self.whole and self.spread % 1:
            raise ValueError(f"whole needs a spread that is a whole number, got {self.spread:g}")
        return self


class Demand(Model):
    """Customer demand per retailer and period.

    The rate is ``max(floor, mean * season) * week * shock + noise``, equation :eq:`eq-demand` of the book. Demand is
    Poisson with that rate (at least ``floor``), or the rate itself, rounded, never below 0 (``distribution: rounded``),
    or the rate times a Gamma variable of mean 1 (``gamma``), or Poisson with *that* rate (``negative binomial``). Where
    retailers differ, season and floor are those of their average, and each has its share of it. A ``record`` takes the
    place of all this: see `meirl.envs.recorded`.
    """

    distribution: Literal["poisson", "rounded", "negative binomial", "gamma", "recorded"] = Field(
        description="of demand, given its rate; recorded: drawn from the record"
    )
    mean: PositiveEach = Field(description="units per retailer and period, before season and shocks; may be a list")
    variation: float = Field(0.0, ge=0, le=10, description="standard deviation of the Gamma variable")
    floor: NonNegative = Field(0.1, description="the mean, and a Poisson rate, never fall below this, in units")
    season: Season | None = None
    week: tuple[Weight, ...] | None = Field(
        None, min_length=2, max_length=31, description="weight of each day of a week, the first one's first"
    )
    shock: Shock | None = None
    noise: Noise = Noise()
    direct: Weight = Field(0.0, description="the warehouse's own Poisson demand, as a share of the mean")
    record: Record | None = Field(None, description="demand by date and location, instead of a formula")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        mixed = self.distribution in ("negative binomial", "gamma")
        if 0 < self.variation < 1e-6:
            raise ValueError(f"variation must be 0 or at least 1e-6, got {self.variation:g}")
        if mixed != (self.variation > 0):
            needs = "needs a variation above 0" if mixed else "takes no variation"
            raise ValueError(f"distribution {self.distribution!r} {needs}, got {self.variation:g}")
        if (self.distribution == "recorded") != (self.record is not None):
            raise ValueError("distribution is recorded if, and only if, there is a record with a file")
        if self.week is not None and not sum(self.week):
            raise ValueError("week needs a weight above 0")
        return self

    @property
    def average(self) -> float:
        """Mean units of a period at a retailer, all of them together."""
        return sum(self.mean) / len(self.mean) if isinstance(self.mean, tuple) else self.mean

    @property
    def day_factors(self) -> np.ndarray:
        """What a day of the week multiplies the mean with, ``(days,)``; their mean is 1; a single 1 without a week."""
        week = np.array(self.week or (1.0,))
        return week / week.mean()

    def shares(self, retailers: int) -> np.ndarray:
        """Mean of each retailer over that of their average, ``(retailers,)``."""
        return np.full(retailers, np.array(self.mean) / self.average)


class LeadTime(Model):
    """Periods until due: ``clip(round(N(mean, sd) + tail_extra * [U < tail_probability]), low, high)``.

    Mean and standard deviation may be lists with one number a node, upstream first.
    """

    mean: PositiveEach = Field(description="periods; may be a list")
    standard_deviation: NonNegativeEach = Field(0.0, description="periods; may be a list")
    tail_probability: Probability = Field(0.0, description="chance of a disruption")
    tail_extra: NonNegative = Field(0.0, description="periods that a disruption adds")
    low: int = Field(1, ge=1, description="shortest lead time, in periods")
    high: int = Field(10, ge=1, le=1_000, description="longest lead time, in periods; sizes the pipeline")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= np.min(self.mean) <= np.max(self.mean) <= self.high:
            raise ValueError(f"need low <= mean <= high, got {self.low}, {self.mean} and {self.high}")
        return self


class Capacity(Model):
    """Units that can leave a node in a period: ``max(0, N(mean, sd))``."""

    mean: Positive = Field(description="units per period")
    standard_deviation: NonNegative = Field(0.0, description="units per period")


class Parameters(Model):
    """Parameters that both chains have."""

    count: ClassVar[str]  #: the key of the number of locations with customers
    locations: tuple[str, ...] | None = Field(None, description="names of the locations with customers, in order")
    horizon: int = Field(ge=1, le=10_000, description="periods (days) in an episode; the study: 500 or, MEIS, 365")
    demand: Demand
    lead_time: LeadTime
    outbound_capacity: Capacity | None = Field(None, description="what the warehouse ships a period; null: unlimited")
    warm_up: int = Field(0, ge=0, description="periods at the start that are played and not counted in any result")
    endless: bool = Field(False, description="the horizon only cuts an endless task: nobody sees the time left")
    cost_per: Literal["episode", "period"] = Field("episode", description="what costs are reported of")
    cost_unit: Positive = Field(1.0, description="reported cost = cost / cost_unit; the study reports MEIS in 10,000s")
    reward_unit: Positive = Field(10_000.0, description="reward = -cost / reward_unit, as in the study")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        places = getattr(self, self.count)
        for name, value in [("locations", self.locations), *_each(self)]:
            expected = places + name.startswith("lead_time.")  # of every node; the others: of every location
            if isinstance(value, tuple) and len(value) != expected:
                raise ValueError(f"{name} lists {len(value)} values, expected {expected} ({places} {self.count})")
        if self.locations and len({*map(str.strip, self.locations)} - {"", "warehouse", "middle", "all"}) < places:
            raise ValueError(f"locations must have names, each its own, not warehouse/middle/all, got {self.locations}")
        if self.horizon * (1 + places) > MOST:
            raise ValueError(f"horizon times nodes must be at most {MOST:,}, got {self.horizon} times {1 + places}")
        if self.warm_up >= self.horizon:
            raise ValueError(f"warm_up must be shorter than the horizon, got {self.warm_up} and {self.horizon}")
        return self
