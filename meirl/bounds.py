"""Hindsight lower bounds: what no policy can beat, since even one that knew every draw could not.

A `Scenario` fixes all randomness of an episode. What is left is a deterministic planning problem, and a *relaxation* of
it is one that every trajectory of every policy satisfies, at the same cost or less. So its smallest cost is a lower
bound, and the mean over episodes bounds the mean cost of any policy, whatever it observes.

`hindsight_bound` relaxes both chains to sparse linear programs, each a fraction of a second. `lagrangian_bound` is
tighter and takes seconds; it is for the divergent chain where lead times are certain and no demand is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.lib.stride_tricks import sliding_window_view
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from .envs import DivergentParameters, Env, MeisParameters, Scenario
from .envs.base import per_node

Array = np.ndarray
Term = tuple[Array, Any]  # indices of variables and their factors, broadcast together


class Draws(NamedTuple):
    """One episode of a `Scenario`, as arrays: the same fields without the batch axis."""

    demand: Array  # (T, R)
    direct_demand: Array  # (T,)
    supplier_capacity: Array  # (T,)
    outbound_capacity: Array  # (T,)
    lead_time: Array  # (T, N)
    shock: Array  # (T,)


def hindsight_bound(env: Env, scenario: Scenario, jobs: int = -1) -> Array:
    """Bound the cost of every episode from below by a linear program; valid for any policy.

    Args:
        env: the environment.
        scenario: the episodes.
        jobs: episodes at once; -1: one a core.

    Returns:
        One bound an episode, ``(batch,)``, in units of ``cost_unit``.

    Raises:
        ValueError: if the chain is unknown.
        RuntimeError: if the solver does not find the optimum.
    """
    programs: dict[str, Any] = {"divergent": divergent_program, "meis": meis_program}
    if env.chain not in programs:
        raise ValueError(f"{env.name}: chain: expected one of {', '.join(programs)}, got {env.chain!r}")
    return _each_episode(lambda episode: programs[env.chain](env.parameters, episode).solve(), env, scenario, jobs)


def _each_episode(bound: Callable[[Draws], float], env: Env, scenario: Scenario, jobs: int) -> Array:
    arrays = (field.numpy() for field in scenario.to("cpu", torch.float64))
    episodes = (Draws(*fields) for fields in zip(*arrays, strict=True))
    found = Parallel(n_jobs=jobs)(delayed(bound)(episode) for episode in episodes)
    return np.array(found) / env.parameters.cost_unit


class Program:
    """A sparse linear program that grows by blocks: minimise ``cost @ x`` within bounds of variables and of rows."""

    def __init__(self) -> None:
        self._variables: list[tuple[Array, ...]] = []  # lowest, highest value and cost
        self._rows: list[tuple[Array, ...]] = []  # lowest and highest value
        self._entries: list[tuple[Array, ...]] = []  # row, variable, factor
        self._width = self._height = 0

    def add(self, *shape: int, low: Any = 0.0, high: Any = np.inf, cost: Any = 0.0) -> Array:
        """Add variables and return their indices, an array of that shape; the arguments broadcast to it."""
        self._variables.append(tuple(np.broadcast_to(v, shape).ravel().astype(float) for v in (low, high, cost)))
        first, self._width = self._width, self._width + int(np.prod(shape))
        return np.arange(first, self._width).reshape(shape)

    def require(self, terms: Sequence[Term], low: Any = -np.inf, high: Any = np.inf) -> None:
        """Require ``low <= sum of index's variable * factor <= high``, element by element of the broadcast shape."""
        shape = np.broadcast_shapes(*(np.shape(part) for term in terms for part in term))
        first, self._height = self._height, self._height + int(np.prod(shape))
        rows = np.arange(first, self._height).reshape(shape)
        for index, factor in terms:
            self._entries.append(tuple(np.broadcast_to(part, shape).ravel() for part in (rows, index, factor)))
        self._rows.append(tuple(np.broadcast_to(side, shape).ravel() for side in (low, high)))

    def stock(self, start: Any, moves: Sequence[Term], shape: tuple[int, ...], cost: Any, known: Any = 0) -> Array:
        """Add a stock at the end of every period: what it was before, and the ``moves``, and the ``known`` changes."""
        level = self.add(*shape, cost=cost)
        self.require([(level, 1), (self.before(level, start), -1), *((i, -f) for i, f in moves)], known, known)
        return level

    def before(self, level: Array, start: Any) -> Array:
        """The stock at the end of the period before, given that it started at ``start``."""
        first = self.add(1, *level.shape[1:], low=start, high=start)
        return np.concatenate([first, level[:-1]])

    def arrivals(self, sent: Array, lead_time: Array) -> Array:
        """Add what arrives in every period of what was sent ``(period, node)``; what is due after the end does not."""
        arrived = self.add(*sent.shape)
        due = np.arange(len(sent))[:, None] + lead_time
        node = np.broadcast_to(np.arange(sent.shape[1]), sent.shape)
        inside = due < len(sent)
        row = self._height + due[inside] * sent.shape[1] + node[inside]
        self._entries.append((row, sent[inside], np.full(len(row), -1.0)))
        self.require([(arrived, 1)], 0, 0)
        return arrived

    def solve(self) -> float:
        """Smallest cost.

        Raises:
            RuntimeError: if the solver does not prove its solution optimal: only then is it a bound.
        """
        row, column, factor = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        matrix = sparse.csr_array((factor.astype(float), (row, column)), shape=(self._height, self._width))
        lowest, highest, cost = (np.concatenate(parts) for parts in zip(*self._variables, strict=True))
        sides = (np.concatenate(parts) for parts in zip(*self._rows, strict=True))
        # HiGHS without whole numbers: `milp`, unlike `linprog`, takes rows that are bounded on both sides.
        result = milp(cost, bounds=Bounds(lowest, highest), constraints=LinearConstraint(matrix, *sides))
        if not result.success:
            raise RuntimeError(f"the linear program was not solved: {result.message}")
        return float(result.fun)


def divergent_program(p: DivergentParameters, episode: Draws) -> Program:
    """The divergent chain in hindsight.

    Orders are left out: what the supplier and the warehouse *ship* is chosen freely, up to the caps and capacities.
    That relaxes the rules of outstanding orders (replaced, kept, cut) and of who is served first, for under every one
    of them a retailer is shipped at most its outstanding order, so at most ``order_cap``. Four rules are yes-or-no; for
    each the program has linear consequences only:

    - *Shelf.* Arrivals that do not fit are discarded. Here any arrival may be discarded, but nothing that was there
      before: that never exceeds the shelf.
    - *Direct demand* D takes min(stock, D). Of stock z at most ``shelf`` then max(0, z - D) is left, which is at least
      z - D and, being convex in z, at most its chord z * max(0, 1 - D / shelf).
    - *Backorders first.* Stock and backorders are never both positive, so r / shelf + b / cap <= 1. What stays owed is
      at most what was owed before.
    - *Backorder cap.* Demand is forgotten only when b = cap, and never more than is backordered of the period's demand
      D: so f <= kept * D * b / cap.

    Args:
        p: parameters of the chain.
        episode: the draws, without a batch axis.

    Returns:
        The program; its optimum is at most the cost of any policy's trajectory.
    """
    lp, T, R = Program(), len(episode.demand), p.retailers
    holding, start, shelf = (
        np.array(per_node(group.warehouse, group.retailer, R))
        for group in (p.holding_cost, p.initial_stock, p.max_inventory)
    )
    most = np.minimum(p.order_cap, per_node(0, p.max_outstanding, R)[1:])
    supplied = lp.add(T, 1, high=np.minimum(p.order_cap, episode.supplier_capacity)[:, None])
    shipped = lp.add(T, R, high=most * (np.arange(T) > 0)[:, None])  # nothing was ordered before period 0
    lp.require([(i, 1) for i in shipped.T], high=episode.outbound_capacity)
    arrived = lp.arrivals(np.concatenate([supplied, shipped], 1), episode.lead_time)
    wasted = lp.add(T, 1 + R)
    lp.require([(wasted, 1), (arrived, -1)], high=0)

    stock = lp.add(T, cost=holding[0])
    received = [(lp.before(stock, start[0]), 1), (arrived[:, 0], 1), (wasted[:, 0], -1)]
    left = lp.add(T)  # after shipping
    lp.require([(left, -1), *received, *((i, -1) for i in shipped.T)], 0, 0)
    lp.require(received, high=shelf[0])
    lp.require([(stock, 1), (left, -1)], low=-episode.direct_demand)
    lp.require([(stock, 1), (left, -np.maximum(0, 1 - episode.direct_demand / shelf[0]))], high=0)
    _retailers(lp, p, episode.demand, arrived[:, 1:], wasted[:, 1:], start[1:], shelf[1:], holding[1:])
    return lp


def _retailers(
    lp: Program, p: DivergentParameters, demand: Array, arrived: Array, wasted: Array,
    start: Array, shelf: Array, holding: Array,
) -> None:  # fmt: skip
    """Add the retailers of the divergent chain: stock, backorders, lost and forgotten demand, all ``(T, R)``."""
    shortage, cap = (np.array(per_node(0, value, p.retailers)[1:]) for value in (p.backorder_cost, p.max_backorder))
    stock = lp.add(*demand.shape, cost=holding)
    owed = lp.add(*demand.shape, high=cap, cost=shortage)
    unmet = lp.add(*demand.shape, high=demand, cost=p.lost_share * p.lost_sale_cost)
    available, still_owed, forgotten = (lp.add(*demand.shape) for _ in range(3))
    stock_before, owed_before = lp.before(stock, start), lp.before(owed, 0)
    received = [(stock_before, 1), (arrived, 1), (wasted, -1)]
    lp.require(received, high=shelf)
    lp.require([(available, -1), (still_owed, 1), (owed_before, -1), *received], 0, 0)
    lp.require([(still_owed, 1), (owed_before, -1)], high=0)
    lp.require([(stock, 1), (available, -1), (unmet, -1)], -demand, -demand)
    kept = 1 - p.lost_share
    lp.require([(owed, 1), (still_owed, -1), (unmet, -kept), (forgotten, 1)], 0, 0)
    lp.require([(forgotten, 1), (owed, -kept * demand / cap)], high=0)
    lp.require([(stock, 1 / shelf), (owed, 1 / cap)], high=1)


def meis_program(p: MeisParameters, episode: Draws) -> Program:
    """The MEIS system in hindsight.

    Every order option of every day is a variable between 0 and 1, at its own quantity and cost, all of a day together
    at most 1: the one order a day, relaxed to fractions. What the middle sends to the leaves is chosen freely within
    its stock, its outbound capacity and what is due or overdue: that relaxes the order of service. Which customer is
    served is chosen freely too, but for one consequence of waiting: those who withdraw arrived ``max_backlog_duration``
    days before, so are at most that day's demand, and have been waiting on all the days between.

    Args and result: as in `divergent_program`.
    """
    lp, T, R, days = Program(), len(episode.demand), p.leaves, p.max_backlog_duration
    on_the_way = np.minimum(episode.lead_time, T - np.arange(T)[:, None])  # days until due, or the end
    ordered, chosen = lp.add(T, 1 + R), []
    for node in range(1 + R):
        quantity = np.array(p.order_options.leaf if node else p.order_options.middle)
        leaf_cost = np.maximum(p.order_cost.leaf.least, p.order_cost.leaf.per_unit * quantity)
        cost = (leaf_cost if node else p.order_cost.middle) + p.pipeline_cost * quantity * on_the_way[:, [node]]
        option = lp.add(T, len(quantity), high=1, cost=cost)
        lp.require([(ordered[:, node], -1), *zip(option.T, quantity, strict=True)], 0, 0)
        chosen += [(i, 1) for i in option.T]
    lp.require(chosen, high=1)
    due = lp.arrivals(ordered, episode.lead_time)

    sent, served = lp.add(T, R), lp.add(T, R)
    lp.require([(i, 1) for i in sent.T], high=episode.outbound_capacity)
    from_factory = [(due[:, 0], 1), *((i, -1) for i in sent.T)]
    lp.stock(p.initial_stock.middle, from_factory, (T,), p.holding_cost.middle)
    lp.stock(0, [(due[:, 1:], 1), (sent, -1)], (T, R), p.pipeline_cost)  # overdue
    lp.stock(p.initial_stock.leaf, [(sent, 1), (served, -1)], (T, R), p.holding_cost.leaf)
    arrived_then = np.concatenate([np.zeros((days, R)), episode.demand])[:T]
    withdrawn = lp.add(T, R, high=arrived_then, cost=p.withdrawal_cost)
    moves = [(served, -1), (withdrawn, -1)]
    waiting = lp.stock(0, moves, (T, R), p.shortage_cost, known=episode.demand)
    none = lp.add(days, R, high=0)
    later = np.concatenate([withdrawn, none])
    lp.require([(waiting, 1), *((later[k : k + T], -1) for k in range(1, days + 1))], low=0)
    return lp


def lagrangian_bound(env: Env, scenario: Scenario, iterations: int = 40, jobs: int = -1) -> Array:
    """Bound every episode of the divergent chain more tightly: put prices on what the warehouse ships.

    What holds the chain together is that retailers receive what the warehouse ships. Drop that rule, but charge every
    unit that is received a price for its period of shipment and pay the warehouse the same for every unit shipped: a
    plan that keeps the rule costs what it did. So for *any* prices >= 0, the warehouse's smallest cost plus every
    retailer's, each on its own, is a lower bound. Each has one stock, so dynamic programming finds it exactly, with the
    backorder cap, discards and direct demand as they are. Supergradient steps raise the prices' bound; the largest seen
    counts. Whole units lose nothing: all data are whole, and piecewise linear costs with whole break points have a
    whole optimum.

    Args:
        env: a divergent chain with certain lead times, no lost sales and unlimited capacities.
        scenario: the episodes.
        iterations: steps of the prices; each takes a fraction of a second an episode.
        jobs: episodes at once; -1: one a core.

    Returns:
        One bound an episode, ``(batch,)``, in units of ``cost_unit``.

    Raises:
        ValueError: if the environment is another one.

    Source: Fisher (1981), The Lagrangian relaxation method for solving integer programming problems.
    """
    p: Any = env.parameters
    fits = (
        env.chain == "divergent" and p.lost_share == 0 and p.supplier_capacity is None and p.outbound_capacity is None
    )
    if not (fits and p.lead_time.low == p.lead_time.high):
        raise ValueError(
            f"{env.name}: expected a divergent chain with certain lead times, no lost sales and unlimited capacities"
        )
    return _each_episode(lambda episode: _Dual(p, episode).climb(iterations), env, scenario, jobs)


class _Dual:
    """The Lagrangian dual of one episode: from prices ``(T,)`` to a bound and its supergradient."""

    def __init__(self, p: DivergentParameters, episode: Draws) -> None:
        R, self.horizon, self.lead = p.retailers, len(episode.demand), p.lead_time.low
        self.demand, self.direct = episode.demand.astype(int), episode.direct_demand.astype(int)
        group = (p.holding_cost, p.initial_stock, p.max_inventory)
        holding, start, shelf = (np.array(per_node(g.warehouse, g.retailer, R)) for g in group)
        shortage, cap = (np.array(per_node(0, value, R)[1:]) for value in (p.backorder_cost, p.max_backorder))
        outstanding = per_node(0, p.max_outstanding, R)[1:]
        limits = [*start, *shelf, *cap, *outstanding, p.order_cap]
        if not np.equal(limits, np.round(limits)).all():
            raise ValueError(f"stocks, shelves and caps must be whole numbers of units, got {limits}")
        self.batch = int(min(p.order_cap, max(outstanding)))  # most units of one shipment
        self.supply = int(p.order_cap)
        self.start, self.shelf, self.cap = start.astype(int), shelf.astype(int), int(cap.max())
        # A retailer's state is stock minus backorders; one grid for all, index 0 is the largest cap.
        net = np.arange(-self.cap, self.shelf[1:].max() + 1)
        self.lowest, self.highest = self.cap - cap[:, None].astype(int), self.cap + self.shelf[1:, None]
        self.cost = np.where(net > 0, holding[1:, None] * net, -shortage[:, None] * net)
        self.stock_cost = holding[0] * np.arange(self.shelf[0] + 1)
        self.price = float((shortage * cap).max() / p.demand.mean)  # of a unit that lifts a retailer off its cap

    def climb(self, iterations: int) -> float:
        """Raise the prices along the supergradient, with Adam's steps; return the highest bound seen."""
        left = np.arange(self.horizon)[::-1] * self.price / 30  # a unit is worth little shortly before the end
        prices = torch.from_numpy(np.minimum(0.9 * self.price, left)).requires_grad_()
        optimiser = torch.optim.Adam([prices], lr=self.price / 10, betas=(0.9, 0.99), maximize=True)
        best = -np.inf
        for k in range(iterations):
            optimiser.param_groups[0]["lr"] = self.price / 10 * (1 - k / iterations)
            bound, supergradient = self.bound(prices.detach().numpy())
            best = max(best, bound)
            prices.grad = torch.from_numpy(supergradient)
            optimiser.step()
            prices.data.clamp_(min=0)
        return best

    def bound(self, prices: Array) -> tuple[float, Array]:
        """Bound at these prices, and by how many units more are received than shipped in every period, ``(T,)``."""
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
                value = options.min(2)
        each, net, total = np.arange(len(value)), self.start[1:] + self.cap, np.zeros(self.horizon)
        cost = float(value[each, net].sum())
        for t in range(self.horizon):
            units = bought[t, each, net]
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
            left = np.maximum(grid - self.direct[t], 0)
            value = (self.stock_cost + value)[left]
            if t >= 1:
                behind = np.pad(value, (most, 0), constant_values=np.inf)
                options = sliding_window_view(behind, most + 1)[:, ::-1] - prices[t] * np.arange(most + 1)
                sold[t], value = options.argmin(1), options.min(1)
            if t >= self.lead:
                options = sliding_window_view(np.pad(value, (0, self.supply), mode="edge"), self.supply + 1)
                ordered[t], value = options.argmin(1), options.min(1)
        stock, units, cost = self.start[0], np.zeros(self.horizon), float(value[self.start[0]])
        for t in range(self.horizon):
            stock = min(stock + ordered[t, stock], self.shelf[0])
            units[t] = sold[t, stock]
            stock = max(stock - sold[t, stock] - self.direct[t], 0)
        return cost, units
