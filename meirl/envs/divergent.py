"""The divergent chain: supplier -> warehouse -> retailers, every node ordering in every period."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, model_validator

from .base import Costs, Env, Flows, Observation, Parameters, Transition, per_node
from .scenario import Capacity, Exogenous, Model, NonNegative, Positive, Probability

PerRetailer = NonNegative | tuple[NonNegative, ...]
LimitPerRetailer = Positive | tuple[Positive, ...]


class Holding(Model):
    """Holding cost per unit and period."""

    warehouse: NonNegative
    retailer: PerRetailer


class Stock(Model):
    """Units on hand at the start."""

    warehouse: NonNegative
    retailer: PerRetailer


class Shelf(Model):
    """Most units a node can keep; arrivals above it are discarded."""

    warehouse: Positive
    retailer: LimitPerRetailer


class DivergentParameters(Parameters):
    """Parameters of the divergent chain. Retailer values are one number for all, or a list with one each."""

    chain: Literal["divergent"]
    retailers: int = Field(ge=1, description="number of retailers; the study: 3")
    holding_cost: Holding
    backorder_cost: PerRetailer = Field(description="per unit backordered at the end of a period")
    lost_sale_cost: NonNegative = Field(description="per unit of demand lost")
    lost_share: Probability = Field(description="share of unmet demand that is lost, the rest is backordered")
    initial_stock: Stock
    max_inventory: Shelf
    max_backorder: LimitPerRetailer = Field(description="backorders above it are forgotten at no cost, in units")
    max_outstanding: LimitPerRetailer = Field(description="a retailer's outstanding order is cut at it, in units")
    max_in_transit: LimitPerRetailer = Field(description="only normalises the published observation, in units")
    max_order: Positive = Field(description="order at action 1, in units; action -1 orders nothing")
    order_cap: Positive = Field(description="orders are clipped to it, in units; the study hard-codes 15 in Env-1")
    serve_largest_first: bool = Field(description="serve the largest outstanding order first, else in index order")
    supplier_capacity: Capacity | None = Field(None, description="what the supplier ships a period; null: unlimited")

    @model_validator(mode="after")
    def _one_value_per_retailer(self) -> DivergentParameters:
        lists = {name: getattr(self, name) for name in type(self).model_fields}
        for group in ("holding_cost", "initial_stock", "max_inventory"):
            lists[f"{group}.retailer"] = lists[group].retailer
        for name, value in lists.items():
            if isinstance(value, tuple) and len(value) != self.retailers:
                raise ValueError(f"{name} lists {len(value)} values for {self.retailers} retailers")
        return self


class DivergentState(NamedTuple):
    """State of a batch of chains, in units. N = 1 + R nodes, upstream first."""

    on_hand: torch.Tensor  # (batch, N)
    backorder: torch.Tensor  # (batch, R)
    in_transit: torch.Tensor  # (batch, 1 + longest lead time, N): slot k arrives k periods after the next receipt
    outstanding: torch.Tensor  # (batch, N): a retailer's order that the warehouse has not shipped; the warehouse's last


class DivergentEnv(Env):
    """The divergent chain of the published study, for any number of retailers.

    Action: ``a`` in [-1, 1]^N, order = (a + 1) / 2 * ``max_order``, then clipped to ``order_cap``.
    """

    parameters: DivergentParameters
    chain = "divergent"

    @property
    def retailers(self) -> int:
        """Number of retailers."""
        return self.parameters.retailers

    @property
    def node_names(self) -> list[str]:
        """Warehouse, then retailers from 1."""
        return ["warehouse", *(f"retailer {i + 1}" for i in range(self.retailers))]

    @cached_property
    def action_space(self) -> spaces.Box:  # type: ignore[override]
        """One number in [-1, 1] for each node."""
        return spaces.Box(-1.0, 1.0, (self.nodes,), np.float32)

    @cached_property
    def _limits(self) -> dict[str, torch.Tensor]:
        """Constants of the step, as tensors ``(N,)`` or ``(R,)``."""
        p, n = self.parameters, self.retailers
        shelf, holding, stock = p.max_inventory, p.holding_cost, p.initial_stock
        outstanding = per_node(0, p.max_outstanding, n)[1:]
        return {
            "holding": self.tensor(per_node(holding.warehouse, holding.retailer, n)),
            "stock": self.tensor(per_node(stock.warehouse, stock.retailer, n)),
            "shelf": self.tensor(per_node(shelf.warehouse, shelf.retailer, n)),
            "shortage": self.tensor(per_node(0, p.backorder_cost, n)[1:]),
            "lost_sale": self.tensor([p.lost_sale_cost] * n),
            "lost_share": self.tensor(p.lost_share),
            "order_cap": self.tensor(p.order_cap),
            "backorder": self.tensor(per_node(0, p.max_backorder, n)[1:]),
            "outstanding": self.tensor([np.inf, *outstanding]),
            # the study divides the warehouse's outstanding order by the (first) retailer's limit
            "outstanding_scale": self.tensor([outstanding[0], *outstanding]),
            "in_transit": self.tensor(per_node(0, p.max_in_transit, n)[1:]),
            "mean_demand": self.tensor(per_node(p.demand.mean * n, p.demand.mean, n)),
            "is_retailer": self.tensor([0.0] + [1.0] * n),
            "nothing": self.tensor(0.0),
        }

    def reset(self, episodes: int) -> DivergentState:
        """Full shelves, nothing ordered, nothing owed."""
        zeros = self.tensor(np.zeros((episodes, self.nodes)))
        pipeline = self.tensor(np.zeros((episodes, 1 + self.parameters.lead_time.high, self.nodes)))
        return DivergentState(zeros + self._limits["stock"], zeros[:, 1:], pipeline, zeros)

    def orders(self, action: torch.Tensor) -> torch.Tensor:
        """Scale actions in [-1, 1] to ``[0, max_order]`` units, ``(batch, N)``; values outside are clipped."""
        return (action.clamp(-1, 1) + 1) * (self.parameters.max_order / 2)

    def action(self, orders: torch.Tensor) -> torch.Tensor:
        """Scale units to actions; more than ``max_order`` becomes 1."""
        return (orders * (2 / self.parameters.max_order) - 1).clamp(-1, 1)

    def step(self, state: DivergentState, orders: torch.Tensor, exogenous: Exogenous) -> Transition:
        """Play one period. Differentiable in ``state`` and ``orders``.

        1. Receive: shipments due arrive; stock is cut at ``max_inventory``.
        2. The supplier ships the warehouse's order, up to its capacity.
        3. The warehouse ships the orders that retailers placed in earlier periods, from stock and outbound capacity.
        4. Retailers order: a positive order replaces what is outstanding, an order of 0 leaves it.
        5. Demand: the warehouse's own (unmet: gone), then the retailers': backorders first, then demand; of unmet
           demand the lost share is lost, the rest backordered, up to ``max_backorder``.
        6. Cost: holding, backorders, lost sales.

        Args:
            state: state before the period.
            orders: order quantities, ``(batch, N)`` units, upstream first.
            exogenous: what nature does in the period.

        Returns:
            The next state, the costs and the flows.

        Raises:
            ValueError: if ``orders`` has the wrong shape, a negative value or NaN.
        """
        self.check_orders(orders)
        # Constants are tensors: mixing in Python numbers costs a conversion each, felt when the batch is small.
        limits, nothing = self._limits, self._limits["nothing"]
        orders = torch.minimum(orders, limits["order_cap"])

        # 1. receive
        on_hand = torch.minimum(state.on_hand + state.in_transit[:, 0], limits["shelf"])
        stock, shelf = on_hand[:, 0], on_hand[:, 1:]
        # 2. the supplier ships
        to_warehouse = torch.minimum(orders[:, 0], exogenous.supplier_capacity)
        # 3. the warehouse ships what was outstanding
        to_retailers = self._ration(state.outstanding[:, 1:], torch.minimum(stock, exogenous.outbound_capacity))
        stock = stock - to_retailers.sum(1)
        shipped = torch.cat([to_warehouse.unsqueeze(1), to_retailers], 1)
        in_transit = self._dispatch(state.in_transit, shipped, exogenous.lead_time)
        # 4. retailers order (the warehouse's last order is only remembered)
        kept = torch.addcmul(state.outstanding, shipped, limits["is_retailer"], value=-1)
        outstanding = torch.minimum(torch.where(orders > nothing, orders, kept), limits["outstanding"])
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
        costs = Costs(
            holding=on_hand @ limits["holding"],
            shortage=backorder @ limits["shortage"],
            ordering=free,
            pipeline=free,
            lost_sales=lost @ limits["lost_sale"],
        )
        flows = Flows(exogenous.demand, filled, filled, lost, owed - backorder, backorder, orders)
        return Transition(DivergentState(on_hand, backorder, in_transit, outstanding), costs, flows)

    def _ration(self, waiting: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
        """Share ``available`` ``(batch,)`` among the ``waiting`` orders ``(batch, R)``, first come first served."""
        if not self.parameters.serve_largest_first:
            left = available.unsqueeze(1) - waiting.cumsum(1) + waiting
            return torch.minimum(waiting, torch.relu(left))
        largest, rank = waiting.sort(dim=1, descending=True, stable=True)
        left = available.unsqueeze(1) - largest.cumsum(1) + largest
        return torch.empty_like(waiting).scatter(1, rank, torch.minimum(largest, torch.relu(left)))

    def _dispatch(self, in_transit: torch.Tensor, shipped: torch.Tensor, lead_time: torch.Tensor) -> torch.Tensor:
        """Move the pipeline on by one period and add what was shipped, due after its lead time."""
        if in_transit.shape[1] == 2:  # every lead time is 1: the pipeline is what was just shipped
            return torch.nn.functional.pad(shipped.unsqueeze(1), (0, 0, 0, 1))
        # A slot is the number of periods from now: slot 0 was just received, the last one is still empty.
        later = in_transit.scatter_add(1, lead_time.unsqueeze(1), shipped.unsqueeze(1))
        return torch.nn.functional.pad(later[:, 1:], (0, 0, 0, 1))

    def legend(self) -> list[str]:
        """Name of every number in the observation vector."""
        retailers = self.node_names[1:]
        names = ["on hand, warehouse", *(f"on hand, {r}" for r in retailers), *(f"backorder, {r}" for r in retailers)]
        if self.observation == "published":
            names += [f"in transit, {r}" for r in retailers]
        names += [f"outstanding, {n}" for n in self.node_names]
        if self.observation == "full":
            slots = range(1, self.parameters.lead_time.high + 1)
            names += [f"due in {k}, {n}" for k in slots for n in self.node_names]
            names += ["season, sine", "season, cosine"][: self._calendar.shape[1]]
        return names

    def vector(self, observation: Observation) -> torch.Tensor:
        """The published 14 numbers in shares of the limits, or the full set in periods of mean demand."""
        limits, state = self._limits, observation.state
        if self.observation == "published":
            outstanding = state.outstanding / limits["outstanding_scale"]
            on_the_way = state.in_transit[:, :, 1:].sum(1) / limits["in_transit"]
            seen = [state.on_hand / limits["shelf"], state.backorder / limits["backorder"], on_the_way, outstanding]
            return torch.cat(seen, 1).clamp(-1, 1)
        # Limits are far above what a good policy holds, so shares of them are too small to learn from.
        period = limits["mean_demand"]
        stocks = torch.cat([state.on_hand / period, state.backorder / period[1:], state.outstanding / period], 1) / 5
        pipeline = (state.in_transit[:, :-1] / period).flatten(1)
        return torch.cat([stocks, pipeline, self.calendar(observation.period, len(pipeline))], 1)
