"""MEIS: factory -> middle -> leaves, at most one order a day in the whole system."""

from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, model_validator

from ..config import Model, NonNegative, Positive
from .base import REMEMBERED, Costs, Env, Feature, Flows, Observation, Transition, per_node, per_retailer
from .processes import Parameters
from .scenario import Exogenous

QUANTITY = 10_000  # units; what a network sees of a stock, an order or, as published, an age is a share of it
ROUNDING = 0.01  # units; in float32 less than this may be left of an order that was delivered in parts


class Pair(Model):
    """One value for the middle, one for every leaf."""

    middle: NonNegative
    leaf: NonNegative


class Options(Model):
    """Order quantities to choose from, in units."""

    middle: tuple[Positive, ...] = Field(min_length=1, description="what the middle may order")
    leaf: tuple[Positive, ...] = Field(min_length=1, description="what a leaf may order")


class LeafOrderCost(Model):
    """Cost of a leaf's order: ``max(least, per_unit * quantity)``."""

    least: NonNegative = Field(description="per order, at least")
    per_unit: NonNegative = Field(description="per unit ordered, if that is more")


class OrderCost(Model):
    """Cost of placing an order."""

    middle: NonNegative = Field(description="per order")
    leaf: LeafOrderCost


class MeisParameters(Parameters):
    """Parameters of the MEIS chain."""

    count: ClassVar[str] = "leaves"
    chain: Literal["meis"]
    leaves: int = Field(ge=1, le=100, description="number of leaves; the study: 2")
    initial_stock: Pair = Field(description="units on hand at the start; the factory never runs out")
    order_options: Options
    order_cost: OrderCost
    holding_cost: Pair = Field(description="per unit on hand and day")
    pipeline_cost: NonNegative = Field(description="per unit on open order and day, at every node")
    shortage_cost: NonNegative = Field(description="per backlogged unit and day")
    max_backlog_duration: int = Field(ge=1, le=1_000, description="days after which a waiting customer withdraws")
    withdrawal_cost: NonNegative = Field(description="per unit withdrawn")

    @model_validator(mode="after")
    def _no_direct_demand(self) -> Self:
        if self.demand.direct:
            raise ValueError(f"demand.direct must be 0: the middle has no customers, got {self.demand.direct}")
        return self


class OrderBook(NamedTuple):
    """Open orders one by one, newest first: only the published observation needs them. Grows with the oldest."""

    quantity: torch.Tensor  # (batch, age, N) units still undelivered
    due_in: torch.Tensor  # (batch, age, N) days until due, 0 or less if overdue


class MeisState(NamedTuple):
    """State of a batch of systems, in units. N = 1 + leaves nodes, upstream first."""

    on_hand: torch.Tensor  # (batch, N)
    backlog: torch.Tensor  # (batch, age, leaves): oldest first, the last one day old
    on_order: torch.Tensor  # (batch, 1 + longest lead time, N): slot k is due in k days; overdue orders are in slot 0
    recent_demand: torch.Tensor  # (batch, REMEMBERED, leaves): newest first
    book: OrderBook | None  # None unless the observation set is ``published``


class MeisEnv(Env):
    """The MEIS system of the published study, for any number of leaves.

    Action: 0 orders nothing; then come the middle's options, then each leaf's in turn.
    """

    parameters: MeisParameters
    chain, source = "meis", "factory"

    def _prepare(self) -> None:
        p, n = self.parameters, self.parameters.leaves
        self.node_names = ["middle", *self.names("leaf")]
        quantities = [p.order_options.middle, *[p.order_options.leaf] * n]
        rows = np.repeat(np.eye(1 + n), [len(each) for each in quantities], 0) * np.concatenate(quantities)[:, None]
        self._table = self.tensor(np.pad(rows, ((1, 0), (0, 0))))  # quantities by action, (actions, N); first nothing
        self.options, self.action_space = len(self._table), spaces.Discrete(len(self._table))
        self.largest_order = self._table.amax(0)
        self.holding_cost = self.tensor(per_node(p.holding_cost.middle, p.holding_cost.leaf, n))
        self.shortage_cost = self.tensor([p.shortage_cost] * n)
        self.expected_demand = self.tensor([per_retailer(p.demand.mean, n)])
        self._constants = {
            "stock": self.tensor(per_node(p.initial_stock.middle, p.initial_stock.leaf, n)),
            "order_least": self.tensor(per_node(p.order_cost.middle, p.order_cost.leaf.least, n)),
            "order_per_unit": self.tensor(per_node(0.0, p.order_cost.leaf.per_unit, n)),
            "pipeline": self.tensor([p.pipeline_cost] * ((1 + p.lead_time.high) * (1 + n))),
            "withdrawal": self.tensor([p.withdrawal_cost] * n),
        }

    def reset(self, episodes: int) -> MeisState:
        """Stock on hand, no open orders, nobody waiting."""
        p = self.parameters
        on_hand = self._constants["stock"].expand(episodes, -1)
        backlog = self.tensor(np.zeros((episodes, p.max_backlog_duration, self.retailers)))
        on_order = self.tensor(np.zeros((episodes, 1 + p.lead_time.high, self.nodes)))
        empty = on_order[:, :0]
        book = OrderBook(empty, empty) if self.observation == "published" else None
        recent = self.expected_demand.expand(episodes, REMEMBERED, -1)
        return MeisState(on_hand, backlog, on_order, recent, book)

    def orders(self, action: torch.Tensor) -> torch.Tensor:
        """Look up the quantities ``(batch, N)`` of discrete actions ``(batch,)``; ValueError if there is none."""
        if action.dtype.is_floating_point or action.ndim != 1:
            shape = tuple(action.shape)
            raise ValueError(f"{self.name}: actions must be whole numbers (batch,), got {action.dtype} {shape}")
        action = action.long()  # others would select as a mask, or not at all
        for extreme in torch.aminmax(action):
            if not 0 <= (bad := extreme.item()) < len(self._table):
                raise ValueError(f"{self.name}: actions are 0 .. {len(self._table) - 1}, got {bad}")
        return self._table[action]

    def action(self, orders: torch.Tensor) -> torch.Tensor:
        """The action whose quantities are nearest to ``orders`` ``(batch, N)``."""
        return (orders[:, None] - self._table).square().sum(2).argmin(1)

    def step(self, state: MeisState, orders: torch.Tensor, exogenous: Exogenous) -> Transition:
        """Play one day: the next state, costs and flows.

        1. Order: it is opened, due after its lead time; the order cost is paid now.
        2. Demand at the leaves, from stock; the shortage joins the backlog.
        3. Deliveries: the middle's from the factory in full; the leaves' from the middle's stock and outbound capacity,
           first leaf first; what is missing becomes due tomorrow.
        4. Backlog: leaf stock fills it, oldest first; the rest ages by a day; what is too old is withdrawn.
        5. Cost: shortage, holding, pipeline, ordering, withdrawals.
        """
        self.check_orders(orders, len(state.on_hand))
        # Constants are tensors: mixing in Python numbers costs a conversion each, felt when the batch is small.
        constants = self._constants
        # 1. order: a slot of the pipeline is the number of days from today; the last one is still empty
        pipeline = state.on_order.scatter_add(1, exogenous.lead_time.unsqueeze(1), orders.unsqueeze(1))
        due = pipeline[:, 0]
        ordering = torch.maximum(constants["order_least"], constants["order_per_unit"] * orders) * orders.sign()
        # 2. demand
        leaf = state.on_hand[:, 1:]
        filled = torch.minimum(leaf, exogenous.demand)
        # 3. deliveries
        middle = state.on_hand[:, 0] + due[:, 0]
        asked = due[:, 1:]
        left = torch.minimum(middle, exogenous.outbound_capacity).unsqueeze(1) - asked.cumsum(1) + asked
        sent = torch.minimum(asked, torch.relu(left))
        middle = torch.relu(middle - sent.sum(1))  # rounding may leave less than nothing
        on_order = torch.nn.functional.pad(pipeline[:, 1:], (0, 0, 0, 1))  # a day later
        missing = asked - sent
        on_order[:, 0, 1:] += missing
        # 4. backlog: with `owed` cumulated from the oldest, stock leaves relu(owed - stock) waiting
        leaf = leaf - filled + sent
        queue = torch.cat([state.backlog, (exogenous.demand - filled).unsqueeze(1)], 1)
        owed = queue.cumsum(1)
        waiting = torch.relu(owed - leaf.unsqueeze(1))
        withdrawn, backlog = waiting[:, 0], waiting[:, 1:] - waiting[:, :-1]
        leaf = torch.relu(leaf - owed[:, -1])
        # 5. cost
        on_hand = torch.cat([middle.unsqueeze(1), leaf], 1)
        total_backlog = waiting[:, -1] - withdrawn
        costs = Costs(
            holding=on_hand @ self.holding_cost, shortage=total_backlog @ self.shortage_cost, ordering=ordering.sum(1),
            pipeline=on_order.flatten(1) @ constants["pipeline"], lost_sales=withdrawn @ constants["withdrawal"],
        )  # fmt: skip
        same_day = exogenous.demand - backlog[:, -1]
        forgotten = torch.zeros_like(same_day)
        flows = Flows(exogenous.demand, filled, same_day, withdrawn, forgotten, total_backlog, orders)
        book = state.book
        if book is not None:
            book = self._update(book, orders, exogenous.lead_time, torch.nn.functional.pad(missing, (1, 0)))
        recent = torch.cat([exogenous.demand.unsqueeze(1), state.recent_demand[:, :-1]], 1)
        return Transition(MeisState(on_hand, backlog, on_order, recent, book), costs, flows)

    @staticmethod
    def _update(book: OrderBook, orders: torch.Tensor, lead_time: torch.Tensor, missing: torch.Tensor) -> OrderBook:
        """Open the new orders, let a day pass, take deliveries: oldest first, so the newest due are missing."""
        quantity = torch.cat([orders[:, None], book.quantity], 1)
        # the order opened today is not due before tomorrow: every lead time is at least 1
        due_in = torch.cat([lead_time[:, None].to(quantity.dtype), book.due_in], 1)
        due = quantity * (due_in <= 0)
        newer = due.cumsum(1) - due  # units due that were ordered after this order
        quantity = quantity - due + torch.minimum(due, torch.relu(missing.unsqueeze(1) - newer))
        while quantity.shape[1] and not (quantity[:, -1] > ROUNDING).any():
            quantity, due_in = quantity[:, :-1], due_in[:, : quantity.shape[1] - 1]
        return OrderBook(quantity, due_in - 1)

    def oldest_order(self, book: OrderBook) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantity and age in days ``(batch, N)`` of the open order placed first; 0 and 0 if there is none."""
        ages = book.quantity.shape[1]
        if not ages:
            return (none := book.quantity.new_zeros(book.quantity.shape[0], self.nodes)), none
        age = torch.arange(1, ages + 1, device=self.device)[:, None] * (book.quantity > ROUNDING)
        oldest = age.amax(1)
        quantity = book.quantity.gather(1, (oldest - 1).clamp(min=0)[:, None])[:, 0]
        return quantity, oldest.to(self.dtype)

    def on_order(self, state: MeisState) -> torch.Tensor:
        """What is on its way to each node, overdue or not, ``(batch, N)`` units."""
        return state.on_order.sum(1)

    def features(self, observation: Observation) -> list[Feature]:
        """The published 12 numbers, or the full set; quantities (and, as published, ages) in units of 10,000."""
        p, state, nodes = self.parameters, observation.state, self.node_names
        if self.observation == "published":
            facts = ("on hand", "quantity of the oldest order", "age of the oldest order", "on order")
            values = (state.on_hand, *self.oldest_order(state.book), self.on_order(state))
            names = (f"{fact}, {node}" for node in nodes for fact in facts)
            return [Feature(names, torch.stack(values, 2).flatten(1) / QUANTITY)]
        waiting = (f"waiting {k} days, {node}" for k in range(p.max_backlog_duration, 0, -1) for node in nodes[1:])
        due = (f"due in {k}, {node}" for k in range(p.lead_time.high) for node in nodes)
        return [
            self.by_node("on hand", state.on_hand / QUANTITY),
            Feature(waiting, state.backlog.flatten(1) / QUANTITY),
            Feature(due, state.on_order[:, :-1].flatten(1) / QUANTITY),
            self.news(observation),
            self.calendar(observation.period, len(state.on_hand)),
        ]
