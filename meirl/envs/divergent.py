"""The divergent chain: supplier -> warehouse -> retailers, every node ordering in every period."""

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, model_validator

from ..config import Model, NonNegative, Positive, Probability
from .base import REMEMBERED, Costs, Env, Feature, Flows, Observation, Transition, per_node, per_retailer
from .processes import Capacity, NonNegativeEach, Parameters, PositiveEach
from .scenario import Exogenous

STOCK_PERIODS = 5  # stocks reach a network in units of 5 periods of mean demand, what is due in units of one


class PerNode(Model):
    """The warehouse's value and the retailers'."""

    warehouse: NonNegative
    retailer: NonNegativeEach


class Shelf(Model):
    """Most units a node can keep."""

    warehouse: Positive
    retailer: PositiveEach


class DivergentParameters(Parameters):
    """Parameters of the divergent chain. Retailer values are one number for all, or a list with one each."""

    count: ClassVar[str] = "retailers"
    chain: Literal["divergent"]
    retailers: int = Field(ge=1, le=100, description="number of retailers; the study: 3")
    holding_cost: PerNode = Field(description="per unit on hand and period")
    order_cost: PerNode | None = Field(None, description="of every order that is placed, whatever its size")
    backorder_cost: NonNegativeEach = Field(description="per unit backordered at the end of a period")
    lost_sale_cost: NonNegative = Field(description="per unit of demand lost")
    lost_share: Probability = Field(description="share of unmet demand that is lost, the rest is backordered")
    initial_stock: PerNode = Field(description="units on hand at the start")
    max_inventory: Shelf = Field(description="units a node can keep; arrivals above it are discarded")
    max_backorder: PositiveEach = Field(description="backorders above it are forgotten at no cost, in units")
    max_outstanding: PositiveEach = Field(description="a retailer's outstanding order is cut at it, in units")
    max_in_transit: PositiveEach = Field(description="only normalises the published observation, in units")
    max_order: Positive = Field(description="order at action 1, in units; action -1 orders nothing")
    max_retailer_order: Positive | None = Field(None, description="the same of a retailer; null: as the warehouse's")
    order_cap: Positive = Field(description="orders are clipped to it, in units; the study hard-codes 15 in Env-1")
    rationing: Literal["first retailer", "largest order", "lowest stock"] = Field(
        description="whom a short warehouse serves first, part-filling the last; lowest stock: on hand less backorders"
    )
    ships: Literal["next period", "at once"] = Field("next period", description="when the warehouse ships an order")
    receives: Literal["before shipping", "after shipping"] = Field(
        "before shipping", description="whether what arrives at the warehouse can be shipped in the same period"
    )
    unshipped: Literal["waits", "vanishes"] = Field("waits", description="what becomes of orders that are not shipped")
    supplier_capacity: Capacity | None = Field(None, description="what the supplier ships a period; null: unlimited")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(old := values.get("serve_largest_first"), bool):  # version 1.0
            values = {key: value for key, value in values.items() if key != "serve_largest_first"}
            values["rationing"] = "largest order" if old else "first retailer"
        return values


class DivergentState(NamedTuple):
    """State of a batch of chains, in units. N = 1 + R nodes, upstream first."""

    on_hand: torch.Tensor  # (batch, N)
    backorder: torch.Tensor  # (batch, R)
    in_transit: torch.Tensor  # (batch, 1 + longest lead time, N): slot k arrives k periods after the next receipt
    outstanding: torch.Tensor  # (batch, N): a retailer's order that the warehouse has not shipped; the warehouse's last
    recent_demand: torch.Tensor  # (batch, REMEMBERED, R or N): newest first; N if the warehouse has customers too


class DivergentEnv(Env):
    """The divergent chain of the published study, for any number of retailers.

    Action: ``a`` in [-1, 1]^N, order = (a + 1) / 2 * ``max_order`` (or ``max_retailer_order``), then clipped to
    ``order_cap``.
    """

    parameters: DivergentParameters
    limits: dict[str, torch.Tensor]  #: what each node can keep or owe, in units, and the other constants of a step
    chain, source = "divergent", "supplier"

    def _prepare(self) -> None:
        p, n = self.parameters, self.parameters.retailers
        self.node_names = ["warehouse", *self.names("retailer")]
        self.action_space = spaces.Box(-1.0, 1.0, (1 + n,), np.float32)
        self._scale = self.tensor(per_node(p.max_order, p.max_retailer_order or p.max_order, n)) / 2  # units of action
        self.largest_order = (2 * self._scale).clamp(max=p.order_cap)
        self.holding_cost = self.tensor(per_node(p.holding_cost.warehouse, p.holding_cost.retailer, n))
        self.shortage_cost = self.tensor(per_retailer(p.backorder_cost, n))
        own = [p.demand.average * p.demand.direct] if p.demand.direct else []  # the warehouse's customers, if any
        self.expected_demand = self.tensor([[*own, *per_retailer(p.demand.mean, n)]])
        outstanding = per_retailer(p.max_outstanding, n)
        self.limits = {
            "stock": self.tensor(per_node(p.initial_stock.warehouse, p.initial_stock.retailer, n)),
            "shelf": self.tensor(per_node(p.max_inventory.warehouse, p.max_inventory.retailer, n)),
            "lost_sale": self.tensor([p.lost_sale_cost] * n), "lost_share": self.tensor(p.lost_share),
            "order_cap": self.tensor(p.order_cap), "nothing": self.tensor(0.0),
            "backorder": self.tensor(per_retailer(p.max_backorder, n)),
            "outstanding": self.tensor([np.inf, *outstanding]),
            # the study divides the warehouse's outstanding order by the (first) retailer's limit
            "outstanding_scale": self.tensor([outstanding[0], *outstanding]),
            "in_transit": self.tensor(per_retailer(p.max_in_transit, n)),
            "order": self.tensor(per_node(p.order_cost.warehouse, p.order_cost.retailer, n) if p.order_cost else []),
            "is_retailer": self.tensor([0.0] + [1.0] * n),
        }  # fmt: skip

    def reset(self, episodes: int) -> DivergentState:
        """The initial stock on hand, nothing ordered, nothing owed."""
        zeros = self.tensor(np.zeros((episodes, self.nodes)))
        pipeline = self.tensor(np.zeros((episodes, 1 + self.parameters.lead_time.high, self.nodes)))
        recent = self.expected_demand.expand(episodes, REMEMBERED, -1)
        return DivergentState(zeros + self.limits["stock"], zeros[:, 1:], pipeline, zeros, recent)

    def orders(self, action: torch.Tensor) -> torch.Tensor:
        """Scale actions in [-1, 1] to ``[0, max_order]`` units, ``(batch, N)``; values outside are clipped."""
        return (action.clamp(-1, 1) + 1) * self._scale

    def action(self, orders: torch.Tensor) -> torch.Tensor:
        """Scale units to actions; more than ``max_order`` becomes 1."""
        return (orders * (1 / self._scale) - 1).clamp(-1, 1)

    def step(self, state: DivergentState, orders: torch.Tensor, exogenous: Exogenous) -> Transition:
        """Play one period: the next state, costs and flows. Differentiable in ``state`` and ``orders``.

        1. Receive: shipments due arrive; stock is cut at ``max_inventory``.
        2. The supplier ships the warehouse's order, up to its capacity.
        3. The warehouse ships the orders that retailers placed in earlier periods, from stock and outbound capacity.
        4. Retailers order: a positive order replaces what is outstanding, an order of 0 leaves it.
        5. Demand: the warehouse's own (unmet: gone), then the retailers': backorders first, then demand; of unmet
           demand the lost share is lost, the rest backordered, up to ``max_backorder``.
        6. Cost: holding, backorders, lost sales, and a fixed cost of every order placed, if there is one.

        ``ships: at once`` puts 4 before 3, and ``receives: after shipping`` the warehouse's receipts behind it. Where
        ``unshipped: vanishes``, what 3 leaves is forgotten.
        """
        self.check_orders(orders, len(state.on_hand))
        # Constants are tensors: mixing in Python numbers costs a conversion each, felt when the batch is small.
        limits = self.limits
        orders = torch.minimum(orders, limits["order_cap"])
        stock, shelf, in_transit, outstanding = self._move(state, orders, exogenous)
        # 5. demand
        stock = torch.relu(stock - exogenous.direct_demand)
        net = shelf - state.backorder
        available = torch.relu(net)
        filled = torch.minimum(available, exogenous.demand)
        unmet = exogenous.demand - filled
        lost = unmet * limits["lost_share"]
        owed = unmet - lost + (available - net)
        backorder = torch.minimum(owed, limits["backorder"])
        # 6. cost
        on_hand = torch.cat([stock.unsqueeze(1), available - filled], 1)
        free = torch.zeros_like(stock)
        ordering = free if self.parameters.order_cost is None else (orders > 0).to(self.dtype) @ limits["order"]
        costs = Costs(
            holding=on_hand @ self.holding_cost, shortage=backorder @ self.shortage_cost, ordering=ordering,
            pipeline=free, lost_sales=lost @ limits["lost_sale"],
        )  # fmt: skip
        flows = Flows(exogenous.demand, filled, filled, lost, owed - backorder, backorder, orders)
        asked = exogenous.demand
        if self.parameters.demand.direct:
            asked = torch.cat([exogenous.direct_demand.unsqueeze(1), asked], 1)
        recent = torch.cat([asked.unsqueeze(1), state.recent_demand[:, :-1]], 1)
        return Transition(DivergentState(on_hand, backorder, in_transit, outstanding, recent), costs, flows)

    def _move(
        self, state: DivergentState, orders: torch.Tensor, exogenous: Exogenous
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Events 1 to 4: the warehouse's stock, that of the retailers, in transit and outstanding after them."""
        p, limits, on_hand, waiting = self.parameters, self.limits, state.on_hand, state.outstanding
        if p.ships == "at once":
            waiting = self._placed(waiting, orders)
        # 1. receive
        if p.receives == "before shipping":
            on_hand = torch.minimum(on_hand + state.in_transit[:, 0], limits["shelf"])
        # 2. the supplier ships
        to_warehouse = torch.minimum(orders[:, 0], exogenous.supplier_capacity)
        # 3. the warehouse ships
        stock, shelf = on_hand[:, 0], on_hand[:, 1:]
        can_ship = torch.minimum(stock, exogenous.outbound_capacity)
        to_retailers = self.ration(waiting[:, 1:], can_ship, shelf - state.backorder)
        stock = stock - to_retailers.sum(1)
        shipped = torch.cat([to_warehouse.unsqueeze(1), to_retailers], 1)
        in_transit = self._dispatch(state.in_transit, shipped, exogenous.lead_time)
        if p.receives == "after shipping":
            on_hand = torch.cat([stock.unsqueeze(1), shelf], 1) + state.in_transit[:, 0]
            stock, shelf = torch.minimum(on_hand, limits["shelf"]).split([1, self.retailers], 1)
            stock = stock[:, 0]
        # 4. retailers order (the warehouse's last order is only remembered)
        kept = torch.addcmul(waiting, shipped, limits["is_retailer"], value=-1)
        if p.unshipped == "vanishes":
            kept = kept * (1 - limits["is_retailer"])
        return stock, shelf, in_transit, kept if p.ships == "at once" else self._placed(kept, orders)

    def _placed(self, outstanding: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
        """What is outstanding ``(batch, N)`` once new orders are placed."""
        new = torch.where(orders > self.limits["nothing"], orders, outstanding)
        return torch.minimum(new, self.limits["outstanding"])

    def ration(self, waiting: torch.Tensor, available: torch.Tensor, net: torch.Tensor) -> torch.Tensor:
        """Share what is ``available`` ``(batch,)`` among ``waiting`` orders ``(batch, R)``, one after the other.

        Whose turn it is says ``rationing``; ``net`` is a retailer's stock on hand less backorders, ``(batch, R)``. At
        most one order is filled in part, and those behind it get nothing.
        """
        rationing = self.parameters.rationing
        if rationing == "first retailer":
            return torch.minimum(waiting, torch.relu(available.unsqueeze(1) - waiting.cumsum(1) + waiting))
        rank = (-waiting if rationing == "largest order" else net).argsort(stable=True, dim=1)
        asked = waiting.gather(1, rank)
        left_over = available.unsqueeze(1) - asked.cumsum(1) + asked
        return torch.empty_like(waiting).scatter(1, rank, torch.minimum(asked, torch.relu(left_over)))

    def _dispatch(self, in_transit: torch.Tensor, shipped: torch.Tensor, lead_time: torch.Tensor) -> torch.Tensor:
        """Move the pipeline on by one period and add what was shipped, due after its lead time."""
        if in_transit.shape[1] == 2:  # every lead time is 1: the pipeline is what was just shipped
            return torch.nn.functional.pad(shipped.unsqueeze(1), (0, 0, 0, 1))
        # A slot is the number of periods from now: slot 0 was just received, the last one is still empty.
        later = in_transit.scatter_add(1, lead_time.unsqueeze(1), shipped.unsqueeze(1))
        return torch.nn.functional.pad(later[:, 1:], (0, 0, 0, 1))

    def on_order(self, state: DivergentState) -> torch.Tensor:
        """What is on its way to each node, ``(batch, N)`` units."""
        return state.in_transit.sum(1)

    def features(self, observation: Observation) -> list[Feature]:
        """The published 14 numbers in shares of the limits, or the full set in periods of mean demand."""
        limits, state, period = self.limits, observation.state, self.mean_demand
        if self.observation == "published":
            shares = {
                "on hand": state.on_hand / limits["shelf"], "backorder": state.backorder / limits["backorder"],
                "in transit": state.in_transit[:, :, 1:].sum(1) / limits["in_transit"],
                "outstanding": state.outstanding / limits["outstanding_scale"],
            }  # fmt: skip
            return [self.by_node(fact, share.clamp(-1, 1), -1.0, 1.0) for fact, share in shares.items()]
        due = (f"due in {k}, {node}" for k in range(1, self.parameters.lead_time.high + 1) for node in self.node_names)
        # Limits are far above what a good policy holds, so shares of them are too small to learn from.
        return [
            self.by_node("on hand", state.on_hand / period / STOCK_PERIODS),
            self.by_node("backorder", state.backorder / period[1:] / STOCK_PERIODS),
            self.by_node("outstanding", state.outstanding / period / STOCK_PERIODS),
            Feature(due, (state.in_transit[:, :-1] / period).flatten(1)),
            self.news(observation),
            self.calendar(observation.period, len(state.on_hand)),
        ]
