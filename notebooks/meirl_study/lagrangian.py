"""A tighter hindsight bound for the divergent chain: put prices on what the warehouse ships.

What holds the chain together is that retailers receive what the warehouse ships. Drop that rule, but charge every unit
that is received a price for its period of shipment and pay the warehouse the same for every unit shipped: a plan that
keeps the rule costs what it did. So for *any* prices >= 0, the warehouse's smallest cost plus every retailer's, each on
its own, is a lower bound: equation :eq:`eq-dual` of the book. Each has one stock, so dynamic programming finds it
exactly, with the backorder cap, discards and direct demand as they are. Supergradient steps raise the bound; the
largest seen counts. Whole units lose nothing: all data are whole, and piecewise linear costs with whole break points
have a whole optimum.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view

from meirl.envs import DivergentParameters, Env, Scenario
from meirl.envs.base import per_node, per_retailer

from .bounds import Array, Draws, each_episode
from .statistics import bootstrap

# Any prices give a bound; these only decide how soon a good one is found: others that were tried moved it by 1 % or so.
# Prices are measured by the one that lifts a retailer off its cap: no retailer pays more.
FIRST_PRICE = 0.9  # share of that price at which they start
LAST_PERIODS = 30  # a unit is worth less shortly before the end: at the start its price falls to 0 over so many periods
STEPS_TO_PRICE = 10  # Adam's first steps are a tenth of that price; later ones are shorter, down to 0
BETAS = (0.9, 0.99)  # of Adam; with tens of steps its usual 0.999 would remember the first ones to the end


def lagrangian_bound(env: Env, scenario: Scenario, iterations: int = 40, jobs: int = -1) -> Array:
    """Bound the cost of every episode from below: the largest Lagrangian bound that is found in some steps.

    Args and errors: as of `dual_curves`.

    Returns:
        One bound an episode, ``(batch,)``, in units of ``cost_unit``: where its curve ends.
    """
    return dual_curves(env, scenario, iterations, jobs)[:, -1]


def dual_curves(env: Env, scenario: Scenario, iterations: int = 40, jobs: int = -1) -> Array:
    """Follow the prices up: the largest bound of every episode so far, step by step.

    Args:
        env: a divergent chain with certain lead times, no lost sales and unlimited capacities, whose warehouse ships in
            the next period what it received before.
        scenario: the episodes.
        iterations: steps of the prices; each takes a fraction of a second an episode.
        jobs: episodes at once; -1: one a core.

    Returns:
        ``(batch, iterations)``, in units of ``cost_unit``; every number is a lower bound.

    Raises:
        ValueError: if the environment is another one, or stocks, limits and demand are not whole numbers of units.

    Source: Fisher (1981), The Lagrangian relaxation method for solving integer programming problems; equation
    :eq:`eq-dual` of the book.
    """
    p = env.parameters
    if not (isinstance(p, DivergentParameters) and _fits(p)):
        raise ValueError(
            f"{env.name}: expected a divergent chain with certain lead times, no lost sales, unlimited capacities, "
            "and a warehouse that receives before shipping and ships in the next period"
        )
    return each_episode(lambda episode: _Dual(p, episode).climb(iterations), env, scenario, jobs)


def climbed(curves: Array, cost: Array) -> pd.DataFrame:
    """Bounds as the prices climb, in percent of a policy's cost on the same episodes, one row a step from 1.

    Args:
        curves: of `dual_curves`, ``(batch, steps)``.
        cost: of the policy, ``(batch,)``.

    Returns:
        ``value``, ``low``, ``high``: 95 % intervals over episodes.
    """
    rows = {}
    for step, bound in enumerate(curves.T, 1):
        low, high = bootstrap(_share, bound[None], cost[None])
        rows[step] = {"value": _share(bound, cost), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _share(bound: Array, cost: Array) -> float:
    return 100 * bound.mean() / cost.mean()


def _fits(p: DivergentParameters) -> bool:
    unlimited = p.supplier_capacity is None and p.outbound_capacity is None
    plain = p.order_cost is None and p.warm_up == 0
    # The programs below know one order of events: the first shipment leaves in period 1, and receipts can be shipped.
    usual = p.ships == "next period" and p.receives == "before shipping"
    return unlimited and plain and usual and p.lost_share == 0 and p.lead_time.low == p.lead_time.high


class _Dual:
    """The Lagrangian dual of one episode: from prices ``(T,)`` to a bound and its supergradient.

    All quantities are whole units, all costs in the environment's own unit (not yet in ``cost_unit``).
    """

    def __init__(self, p: DivergentParameters, episode: Draws) -> None:
        R, self.horizon, self.lead = p.retailers, len(episode.demand), p.lead_time.low
        self.demand, self.direct = episode.demand.astype(int), episode.direct_demand.astype(int)
        group = (p.holding_cost, p.initial_stock, p.max_inventory)
        holding, start, shelf = (np.array(per_node(g.warehouse, g.retailer, R)) for g in group)
        shortage, cap = (np.array(per_retailer(value, R)) for value in (p.backorder_cost, p.max_backorder))
        outstanding = per_retailer(p.max_outstanding, R)
        limits = [*start, *shelf, *cap, *outstanding, p.order_cap]
        if not np.equal(limits, np.round(limits)).all():
            raise ValueError(f"stocks, shelves and caps must be whole numbers of units, got {limits}")
        if any((units % 1).any() for units in (episode.demand, episode.direct_demand)):
            raise ValueError("demand must be whole numbers of units: parts of one would be cut off")
        self.batch = int(min(p.order_cap, max(outstanding)))  # most units of one shipment
        self.supply = int(p.order_cap)
        self.start, self.shelf, self.cap = start.astype(int), shelf.astype(int), int(cap.max())
        # A retailer's state is stock minus backorders; one grid for all, index 0 is the largest cap.
        net = np.arange(-self.cap, self.shelf[1:].max() + 1)
        self.lowest, self.highest = self.cap - cap[:, None].astype(int), self.cap + self.shelf[1:, None]
        self.cost = np.where(net > 0, holding[1:, None] * net, -shortage[:, None] * net)
        self.stock_cost = holding[0] * np.arange(self.shelf[0] + 1)
        self.price = float((shortage * cap).max() / p.demand.average)  # of a unit that lifts a retailer off its cap

    def climb(self, iterations: int) -> Array:
        """Raise the prices along the supergradient, with Adam's steps; the highest bound so far, ``(iterations,)``."""
        near_the_end = np.arange(self.horizon)[::-1] * self.price / LAST_PERIODS
        prices = torch.from_numpy(np.minimum(FIRST_PRICE * self.price, near_the_end)).requires_grad_()
        optimiser = torch.optim.Adam([prices], lr=self.price / STEPS_TO_PRICE, betas=BETAS, maximize=True)
        bounds = np.empty(iterations)
        for k in range(iterations):
            optimiser.param_groups[0]["lr"] = self.price / STEPS_TO_PRICE * (1 - k / iterations)
            bounds[k], supergradient = self.bound(prices.detach().numpy())
            prices.grad = torch.from_numpy(supergradient)
            optimiser.step()
            prices.data.clamp_(min=0)
        return np.maximum.accumulate(bounds)

    def bound(self, prices: Array) -> tuple[float, Array]:
        """Evaluate the dual.

        Args:
            prices: of a unit shipped in each period, ``(T,)``, at least 0.

        Returns:
            The bound at these prices, and its supergradient: by how many units more are received than shipped in every
            period, ``(T,)``.
        """
        cost_of_retailers, received = self._retailers(prices)
        cost_of_warehouse, shipped = self._warehouse(prices)
        return cost_of_retailers + cost_of_warehouse, received - shipped

    def _retailers(self, prices: Array) -> tuple[float, Array]:
        """Every retailer buys what it needs: smallest total cost, and units bought in every period."""
        states, grid = self.cost.shape[1], np.arange(self.cost.shape[1])
        value, bought = np.zeros(self.cost.shape), np.zeros((self.horizon, *self.cost.shape), int)
        first = 1 + self.lead  # the first shipment leaves in period 1
        for t in reversed(range(self.horizon)):
            after = np.maximum(np.minimum(grid, self.highest) - self.demand[t][:, None], self.lowest)
            value = np.take_along_axis(self.cost + value, after, 1)
            if t >= first:
                buy = prices[t - self.lead] * np.arange(self.batch + 1)
                ahead = np.pad(value, ((0, 0), (0, self.batch)), mode="edge")
                options = sliding_window_view(ahead, self.batch + 1, axis=1) + buy
                bought[t] = options.argmin(2)
                value = np.take_along_axis(options, bought[t][..., None], 2)[..., 0]
        each, net, total = np.arange(len(value)), self.start[1:] + self.cap, np.zeros(self.horizon)
        cost = float(value[each, net].sum())
        for t in range(self.horizon):
            units = bought[t, each, net]
            if t >= first:
                total[t - self.lead] += units.sum()
            net = np.minimum(np.minimum(net + units, states - 1), self.highest[:, 0])
            net = np.maximum(net - self.demand[t], self.lowest[:, 0])
        return cost, total

    def _warehouse(self, prices: Array) -> tuple[float, Array]:
        """The warehouse sells what it can: smallest cost less proceeds, and units sold in every period."""
        most = self.batch * len(self.demand[0])
        grid, value = np.arange(self.shelf[0] + 1), np.zeros(self.shelf[0] + 1)
        sold, ordered = (np.zeros((self.horizon, len(grid)), int) for _ in range(2))
        for t in reversed(range(self.horizon)):
            value = (self.stock_cost + value)[np.maximum(grid - self.direct[t], 0)]
            if t >= 1:
                behind = np.pad(value, (most, 0), constant_values=np.inf)
                options = sliding_window_view(behind, most + 1)[:, ::-1] - prices[t] * np.arange(most + 1)
                sold[t] = options.argmin(1)
                value = options[grid, sold[t]]
            if t >= self.lead:
                options = sliding_window_view(np.pad(value, (0, self.supply), mode="edge"), self.supply + 1)
                ordered[t] = options.argmin(1)
                value = options[grid, ordered[t]]
        stock, units, cost = self.start[0], np.zeros(self.horizon), float(value[self.start[0]])
        for t in range(self.horizon):
            stock = min(stock + ordered[t, stock], self.shelf[0])
            units[t] = sold[t, stock]
            stock = max(stock - sold[t, stock] - self.direct[t], 0)
        return cost, units
