"""What both chains share: parameters with sources, the result of a step, and the parts of `Env` that never differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field

from .scenario import Capacity, Demand, LeadTime, Model, Positive, Scenario, sample_scenario, seasonal_mean

ObservationSet = Literal["published", "full"]
OBSERVATION_SETS: tuple[str, ...] = get_args(ObservationSet)


class Parameters(Model):
    """Parameters that both chains have."""

    horizon: int = Field(ge=1, description="periods (days) in an episode; the study: 500 divergent, 365 MEIS")
    demand: Demand
    lead_time: LeadTime
    outbound_capacity: Capacity | None = Field(
        None, description="what the warehouse can ship a period; null: unlimited"
    )
    cost_unit: Positive = Field(1.0, description="reported cost = cost / cost_unit; the study reports MEIS in 10,000s")
    reward_unit: Positive = Field(10_000.0, description="reward = -cost / reward_unit, as in the study")


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


class Observation(NamedTuple):
    """What a policy may look at: the state and the calendar, never the scenario.

    Networks read `vector`; heuristics read the state's fields by name, in units.
    """

    env: Env
    state: Any
    period: int | torch.Tensor  # the period about to start; ``(batch,)`` if episodes are at different periods

    def vector(self) -> torch.Tensor:
        """The numbers of the environment's observation set, ``(batch, len(env.legend()))``."""
        return self.env.vector(self)


class Env(ABC):
    """An inventory system as pure functions over batches of episodes.

    Attributes:
        name: what `meirl.make` was asked for.
        parameters: the validated parameters.
        observation: the observation set, ``published`` or ``full``.
        device: where states and scenarios live.
        dtype: floating type of states and scenarios.
    """

    parameters: Parameters
    action_space: spaces.Space
    chain: ClassVar[str]

    def __init__(
        self,
        name: str,
        parameters: Parameters,
        observation: ObservationSet = "full",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if observation not in OBSERVATION_SETS:
            raise ValueError(f"observation must be one of {', '.join(OBSERVATION_SETS)}, got {observation!r}")
        self.name, self.parameters, self.observation = name, parameters, observation
        self.device, self.dtype = torch.device(device), dtype

    @property
    def horizon(self) -> int:
        """Number of periods in an episode."""
        return self.parameters.horizon

    @property
    def nodes(self) -> int:
        """Number of stocking nodes, the warehouse (middle) included."""
        return 1 + self.retailers

    @property
    @abstractmethod
    def retailers(self) -> int:
        """Number of nodes that face customers."""

    @property
    @abstractmethod
    def node_names(self) -> list[str]:
        """Names of the nodes, upstream first."""

    def sample(self, episodes: int, seed: int, first: int = 0) -> Scenario:
        """Draw episodes ``first .. first + episodes - 1`` of a seed; see `sample_scenario`."""
        p = self.parameters
        supplier = getattr(p, "supplier_capacity", None)
        drawn = sample_scenario(
            p.demand, p.lead_time, supplier, p.outbound_capacity,
            retailers=self.retailers, horizon=p.horizon, episodes=episodes, seed=seed, first=first,
        )  # fmt: skip
        return drawn.to(self.device, self.dtype)

    @abstractmethod
    def reset(self, episodes: int) -> Any:
        """Return the state at the start of that many episodes."""

    @abstractmethod
    def step(self, state: Any, orders: torch.Tensor, exogenous: Any) -> Transition:
        """Play one period; the subclass lists the order of events."""

    @abstractmethod
    def orders(self, action: torch.Tensor) -> torch.Tensor:
        """Turn an agent's action into order quantities, ``(batch, N)`` units."""

    @abstractmethod
    def action(self, orders: torch.Tensor) -> torch.Tensor:
        """Turn order quantities into the nearest action: the inverse of `orders`."""

    def observe(self, state: Any, period: int | torch.Tensor) -> Observation:
        """Pair a state with the calendar."""
        return Observation(self, state, period)

    @abstractmethod
    def vector(self, observation: Observation) -> torch.Tensor:
        """The numbers that a network sees; `legend` names each."""

    @abstractmethod
    def legend(self) -> list[str]:
        """Name of every number in the observation vector, in order."""

    @cached_property
    def observation_space(self) -> spaces.Box:
        """Gymnasium space of one episode's observation vector."""
        if self.chain == "divergent" and self.observation == "published":
            return spaces.Box(-1.0, 1.0, (len(self.legend()),), np.float32)
        season = np.array([name.startswith("season") for name in self.legend()])
        # Stocks and backlogs are never negative; demand, and so they, have no largest value.
        low, high = np.where(season, -1.0, 0.0), np.where(season, 1.0, np.finfo(np.float32).max)
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def tensor(self, value: Any) -> torch.Tensor:
        """A constant on the environment's device, in its floating type."""
        with torch.inference_mode(False):  # constants are cached: one first used in a rollout must serve gradients too
            return torch.as_tensor(value, dtype=self.dtype, device=self.device)

    @cached_property
    def seasonal_mean(self) -> torch.Tensor:
        """Mean demand per retailer by period, shocks and noise aside, ``(horizon,)`` units."""
        return self.tensor(seasonal_mean(self.parameters.demand, self.horizon))

    @cached_property
    def _calendar(self) -> torch.Tensor:
        """Sine and cosine of the season by period, ``(horizon + 1, 2)``; no columns without a season."""
        season = self.parameters.demand.season
        if season is None:
            return self.tensor(np.empty((self.horizon + 1, 0)))
        phase = 2 * np.pi * np.arange(self.horizon + 1) / season.period
        return self.tensor(np.stack([np.sin(phase), np.cos(phase)], axis=1))

    def calendar(self, period: int | torch.Tensor, episodes: int) -> torch.Tensor:
        """Sine and cosine of the season, ``(episodes, 2)``, or ``(episodes, 0)`` without a season."""
        now = self._calendar[period]
        return now.expand(episodes, -1) if isinstance(period, int) else now

    def check_orders(self, orders: torch.Tensor) -> None:
        """Refuse orders of the wrong shape, negative ones and NaN.

        Raises:
            ValueError: with the offending shape or value.
        """
        if orders.ndim != 2 or orders.shape[1] != self.nodes:
            names = ", ".join(self.node_names)
            raise ValueError(
                f"{self.name}: orders must be (batch, {self.nodes}) for {names}, got {tuple(orders.shape)}"
            )
        # NaN spreads through min and fails any comparison, so one reduction finds both.
        if not orders.min().item() >= 0:
            bad = orders[~(orders >= 0)][0].item()
            raise ValueError(f"{self.name}: orders must be numbers >= 0, got {bad}")


def per_node(warehouse: float, retailer: float | tuple[float, ...], retailers: int) -> list[float]:
    """One value a node, upstream first, from the warehouse's and the retailers' (one for all, or one each)."""
    each = retailer if isinstance(retailer, tuple) else (retailer,) * retailers
    return [warehouse, *each]
