"""What both chains share: the result of a step, and the parts of `Env` that never differ."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from gymnasium import spaces

from ..config import first_line
from . import recorded
from .processes import Parameters
from .scenario import FIRST_RESERVED_SEED, VALIDATION_SEED, Scenario, sample_scenario, seasonal_mean

ObservationSet = Literal["published", "full"]
OBSERVATION_SETS: tuple[str, ...] = get_args(ObservationSet)
SEASON = ["season, sine", "season, cosine"]
CLOCK = ["time left", "the end is near"]
NEAR = 30  # periods: "the end is near" is exp(-time left / NEAR), which tells the last weeks of an episode apart
REMEMBERED = 5  # periods of demand that a planner looks back on: shocks last 3 to 7
LARGEST = float(np.finfo(np.float32).max)
NEWS_PERIODS = 50  # recent demand reaches a network in units of 50 periods of the mean: noise, until it learns to look


class Costs(NamedTuple):
    """Cost of one period by part, each ``(batch,)``, positive, lower is better."""

    holding: torch.Tensor
    shortage: torch.Tensor
    ordering: torch.Tensor
    pipeline: torch.Tensor
    lost_sales: torch.Tensor  # demand lost (divergent chain) or withdrawn (MEIS)

    @property
    def total(self) -> torch.Tensor:
        """Cost of the period, ``(batch,)``."""
        return self.holding + self.shortage + self.ordering + self.pipeline + self.lost_sales


class Flows(NamedTuple):
    """What moved in one period, in units, each ``(batch, R)`` but ``ordered`` ``(batch, N)``."""

    demand: torch.Tensor  # asked for by customers
    filled: torch.Tensor  # filled at once from stock on hand
    filled_same_period: torch.Tensor  # filled by the end of the period, late deliveries included
    lost: torch.Tensor  # lost (divergent chain) or withdrawn after waiting too long (MEIS)
    forgotten: torch.Tensor  # backorders above the cap, dropped at no cost
    backlog: torch.Tensor  # waiting at the end of the period
    ordered: torch.Tensor  # order quantities that the system accepted


class Transition(NamedTuple):
    """Result of a step: the next state, what the period cost and what moved in it."""

    state: Any
    costs: Costs
    flows: Flows


class Feature(NamedTuple):
    """Numbers of an observation that belong together.

    Stocks and backlogs are never negative; demand, and so they, have no largest value.
    """

    names: Iterable[str]  # made only if somebody asks: networks do not
    values: torch.Tensor  # (batch, number of names), scaled for a network
    low: float = 0.0
    high: float = LARGEST


class Observation(NamedTuple):
    """What a policy may look at: the state and the calendar, never the scenario.

    Networks read `vector`; heuristics read the state's fields by name, in units.
    """

    env: "Env"
    state: Any
    period: int  # the period about to start

    def vector(self) -> torch.Tensor:
        """The numbers of the environment's observation set, ``(batch, len(env.legend()))``."""
        return torch.cat([feature.values for feature in self.env.features(self)], 1)

    def named(self) -> dict[str, torch.Tensor]:
        """The same numbers by name, each ``(batch,)``."""
        names = [name for feature in self.env.features(self) for name in feature.names]
        return dict(zip(names, self.vector().unbind(1), strict=True))


class Env(ABC):
    """An inventory system as pure functions over batches of episodes. N = 1 + R nodes, upstream first."""

    chain: ClassVar[str]  #: name of the kind of chain
    source: ClassVar[str]  #: what the upstream node orders from
    node_names: list[str]  #: of all nodes
    action_space: spaces.Space  #: Gymnasium space of one episode's action
    options: int | None = None  #: number of discrete actions, each one node's order; None: all order in every period
    largest_order: torch.Tensor  #: most that each node can order in a period, ``(N,)`` units
    holding_cost: torch.Tensor  #: of a unit on hand for a period at each node, ``(N,)``
    shortage_cost: torch.Tensor  #: of a customer's unit that waits for a period at each retailer, ``(R,)``
    expected_demand: torch.Tensor  #: mean demand of a period at each location that has customers, ``(1, locations)``

    def __init__(
        self, name: str, parameters: Parameters, observation: ObservationSet = "full",
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        if observation not in OBSERVATION_SETS:
            raise ValueError(f"observation must be one of {', '.join(OBSERVATION_SETS)}, got {observation!r}")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.name: str = name  #: what `meirl.make` was asked for
        self.parameters: Parameters = parameters  #: validated
        self.observation: ObservationSet = observation  #: the observation set, ``published`` or ``full``
        self.dtype: torch.dtype = dtype  #: floating type of states and scenarios
        try:
            self.device: torch.device = torch.device(device)  #: where states and scenarios live
            self.tensor(0)
        except (RuntimeError, AssertionError, TypeError) as error:  # PyTorch's, by the kind of device
            raise ValueError(f"device {str(device)!r} cannot be used: {first_line(error)}") from error
        self.horizon: int = parameters.horizon  #: periods of an episode
        #: whether the observation shows the time left: only then may a learner take the horizon as the end
        self.sees_end = observation == "full" and not parameters.endless
        counted = self.horizon - parameters.warm_up if parameters.cost_per == "period" else 1
        #: reported cost = cost of the periods after the warm-up / this
        self.cost_unit: float = parameters.cost_unit * counted
        demand = parameters.demand
        self.retailers: int = getattr(parameters, parameters.count)  #: number of nodes that face customers, R
        #: mean demand of each retailer over that of their average, ``(R,)``
        self.demand_shares = self.tensor(demand.shares(self.retailers))
        #: mean demand of a period that each node serves, ``(N,)`` units
        self.mean_demand = self.tensor(per_node(demand.average * self.retailers, demand.mean, self.retailers))
        #: what draws demand from a record, if there is one
        self.record = recorded.Sampler(demand.record, parameters.locations, self.horizon) if demand.record else None
        self._prepare()
        self.nodes: int = len(self.node_names)  #: number of all nodes, N

    @abstractmethod
    def _prepare(self) -> None:
        """Set what follows from the parameters: nodes, spaces, and the constants of a step as tensors."""

    def sample(self, episodes: int, seed: int, first: int = 0) -> Scenario:
        """Draw episodes ``first .. first + episodes - 1`` of a seed; see `sample_scenario`.

        >>> import meirl
        >>> meirl.make("meis-stationary").sample(2, seed=7).demand.shape  # (batch, period, leaf)
        torch.Size([2, 365, 2])
        """
        drawn = sample_scenario(self.parameters, episodes, seed, first)
        if self.record is not None:
            later = seed >= FIRST_RESERVED_SEED and seed != VALIDATION_SEED  # what chooses sees the past only
            demand = self.record.draw(later, seed, range(first, first + episodes))
            drawn = drawn._replace(demand=torch.from_numpy(demand))
        return drawn.to(self.device, self.dtype)

    def names(self, kind: str) -> list[str]:
        """Names of the locations with customers; numbered, if the parameters do not have them."""
        return list(self.parameters.locations or (f"{kind} {i + 1}" for i in range(self.retailers)))

    @abstractmethod
    def reset(self, episodes: int) -> Any:
        """Return the state at the start of that many episodes."""

    @abstractmethod
    def step(self, state: Any, orders: torch.Tensor, exogenous: Any) -> Transition:
        """Play one period with order quantities ``(batch, N)`` in units; the subclass lists the order of events.

        Raises:
            ValueError: if ``orders`` has the wrong shape, a negative value or NaN.
        """

    @abstractmethod
    def orders(self, action: torch.Tensor) -> torch.Tensor:
        """Turn an agent's action into order quantities, ``(batch, N)`` units."""

    @abstractmethod
    def action(self, orders: torch.Tensor) -> torch.Tensor:
        """Turn order quantities into the nearest action: the inverse of `orders`."""

    def observe(self, state: Any, period: int) -> Observation:
        """Pair a state with the calendar."""
        return Observation(self, state, period)

    @abstractmethod
    def on_order(self, state: Any) -> torch.Tensor:
        """What is on its way to each node, ``(batch, N)`` units."""

    @abstractmethod
    def features(self, observation: Observation) -> list[Feature]:
        """The numbers that a network sees, with their names, in order."""

    def legend(self) -> list[str]:
        """Name of every number in the observation vector, in order."""
        return list(self.observe(self.reset(1), 0).named())

    @cached_property
    def observation_space(self) -> spaces.Box:
        """Gymnasium space of one episode's observation vector."""
        features = self.features(self.observe(self.reset(1), 0))
        low, high = np.array([feature[2:] for feature in features for _ in feature.names], np.float32).T
        return spaces.Box(low, high, dtype=np.float32)

    def tensor(self, value: Any) -> torch.Tensor:
        """A constant on the environment's device, in its floating type."""
        with torch.inference_mode(False):  # constants are cached: one first used in a rollout must serve gradients too
            return torch.as_tensor(value, dtype=self.dtype, device=self.device)

    @cached_property
    def seasonal_mean(self) -> torch.Tensor:
        """Mean demand per retailer by period, shocks and noise aside, ``(horizon,)`` units."""
        return self.tensor(seasonal_mean(self.parameters.demand, self.horizon))

    @cached_property
    def expected_recent(self) -> torch.Tensor:
        """What the last demands were expected to be, ``(horizon + 1, REMEMBERED)``; the mean before the start."""
        back = np.arange(self.horizon + 1)[:, None] - np.arange(1, REMEMBERED + 1)
        before, mean = torch.as_tensor(back < 0, device=self.device), self.parameters.demand.average
        return torch.where(before, mean, self.seasonal_mean[np.maximum(back, 0)])

    @cached_property
    def week_ahead(self) -> torch.Tensor:
        """By how much the days that an order covers are above the week's mean, by period, ``(horizon + 1,)``, a share.

        An order covers the periods until the next one is there: the mean lead time and two.
        """
        covered = 2 + round(float(np.mean(self.parameters.lead_time.mean)))
        factors = self.parameters.demand.day_factors
        days = np.add.outer(np.arange(self.horizon + 1), np.arange(covered)) % len(factors)
        return self.tensor(factors[days].mean(1) - 1)

    @cached_property
    def _calendar(self) -> tuple[list[str], torch.Tensor]:
        now, season = np.arange(self.horizon + 1), self.parameters.demand.season
        left, phase = self.horizon - now, 2 * np.pi * now / (season.period if season else 1)
        columns = dict(zip(SEASON, (np.sin(phase), np.cos(phase)), strict=True)) if season else {}
        if not self.parameters.endless:
            columns |= zip(CLOCK, (left / self.horizon, np.exp(-left / NEAR)), strict=True)
        week = len(self.parameters.demand.week or ())
        columns |= {f"day {day + 1} of the week": now % week == day for day in range(week)}
        return list(columns), self.tensor(np.stack([*columns.values()], 1) if columns else np.empty((len(now), 0)))

    def calendar(self, period: int, episodes: int) -> Feature:
        """What the date says: `SEASON` if there is one, `CLOCK` unless the task is endless, the day if there is a week.

        Sine and cosine of the season; share of the horizon that is left, and ``exp(-time left / NEAR)``; a 1 for the
        day of the week, 0 for the others. ``(episodes, numbers)``.
        """
        names, values = self._calendar
        # With a season the bounds are its own, for all: those of the clock and the week are within them.
        return Feature(names, values[period].expand(episodes, -1), -1.0 if self.parameters.demand.season else 0.0, 1.0)

    def by_node(self, fact: str, values: torch.Tensor, *limits: float) -> Feature:
        """A fact of the nodes ``(batch, N)``, or of those that face customers ``(batch, R)``."""
        return Feature((f"{fact}, {node}" for node in self.node_names[-values.shape[1] :]), values, *limits)

    @cached_property
    def _recent(self) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        """Names of the demands that a state remembers; their unit; and what the season led to expect, by period."""
        nodes = self.node_names[-self.expected_demand.shape[1] :]
        names = [f"demand {k} ago, {node}" for k in range(1, REMEMBERED + 1) for node in nodes]
        expected = (self.expected_recent / self.parameters.demand.average).repeat_interleave(len(nodes), 1)
        return names, self.expected_demand * NEWS_PERIODS, expected / NEWS_PERIODS

    def news(self, observation: Observation) -> Feature:
        """Recent demand less what the season led to expect, ``(batch, REMEMBERED * locations)``, newest period first.

        In units of `NEWS_PERIODS` periods of mean demand; above 0 while a shock is on, which nothing else shows.
        """
        (names, unit, expected), recent = self._recent, observation.state.recent_demand
        return Feature(names, (recent / unit).flatten(1) - expected[observation.period], -LARGEST)

    def check_orders(self, orders: torch.Tensor, episodes: int) -> None:
        """Refuse orders of the wrong shape and what is no finite number >= 0, by a ValueError with what it is."""
        if orders.shape != (episodes, self.nodes):
            expected = f"({episodes}, {self.nodes}) for {', '.join(self.node_names)}"
            raise ValueError(f"{self.name}: orders must be {expected}, got {tuple(orders.shape)}")
        for extreme in torch.aminmax(orders):  # NaN spreads through both and fails any comparison
            if not 0 <= (bad := extreme.item()) < math.inf:
                raise ValueError(f"{self.name}: orders must be finite numbers >= 0, got {bad}")


def per_node(warehouse: float, retailer: float | tuple[float, ...], retailers: int) -> list[float]:
    """One value a node, upstream first; the retailers' is one for all, or one each."""
    return [warehouse, *per_retailer(retailer, retailers)]


def per_retailer(value: float | tuple[float, ...], retailers: int) -> tuple[float, ...]:
    """One value a retailer: each has its own, or all have the same."""
    return value if isinstance(value, tuple) else (value,) * retailers
