"""Problems whose optimum is known: value iteration for lost sales, a bound that the best rule attains for two echelons.

All of it is exact up to the precision of a sum, and independent of the simulator: it knows the order of events and
shares no code. So it tries simulator, rules and learners at once.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from meirl.envs import DivergentEnv, Observation, make
from meirl.envs.scenario import Demand
from meirl.rollout import Policy

Array = np.ndarray
PENALTIES = (4, 9, 19, 39)
PUBLISHED = pd.DataFrame(
    {2: [4.40, 6.09, 7.66, 9.11], 3: [4.60, 6.53, 8.36, 10.04], 4: [4.73, 6.84, 8.89, 10.79]}, PENALTIES
).rename_axis(index="penalty", columns="periods")
"""Optimal cost a period with Poisson(5) demand, by penalty and by periods until an order is usable.

Source: Zipkin (2008), Old and new methods for lost-sales inventory systems, table 3.
"""
PRECISION = 1e-7  # of a cost a period, where value iteration stops
TAIL = 1e-12  # probability of demand that is left out


class Optimum(NamedTuple):
    """The best policy of a lost-sales problem."""

    cost: float  #: mean of a period, the smallest there is
    orders: Array  #: what to order, by units usable now and by what arrives in the next periods, soonest first


def lost_sales(periods: int = 4, penalty: float = 4) -> DivergentEnv:
    """The control ``lost-sales`` with another time until an order is usable (2 or more) and another penalty."""
    lead = periods - 1  # it is shipped in the next period
    changes: dict[str, Any] = {"lead_time": {"mean": lead, "low": lead, "high": lead}, "lost_sale_cost": penalty}
    changes["initial_stock"] = {"retailer": 6 + 5 * periods}
    return make("lost-sales", **changes)  # type: ignore[return-value]


@cache
def optimal_lost_sales(
    mean: float = 5, penalty: float = 4, periods: int = 4, most_stock: int = 30, most_order: int = 10
) -> Optimum:
    """Average-cost value iteration for one node that loses what it cannot serve; a holding cost of 1.

    Order q, usable ``periods`` later; then demand D of the units x that are usable now, at the cost
    ``(x - D)+ + penalty * (D - x)+``. A state is x and what arrives in each of the next ``periods - 1`` periods.

    Args:
        mean: of Poisson demand in a period.
        penalty: of a lost unit.
        periods: between an order and its use.
        most_stock: states go so far; what would be above is cut off. Too small, it shows in the cost.
        most_order: the largest order; likewise.

    Source: Zipkin (2008), Old and new methods for lost-sales inventory systems.

    >>> round(optimal_lost_sales(periods=2).cost, 3)
    4.395
    """
    demand = np.arange(stats.poisson.isf(TAIL, mean) + 1)
    chance = stats.poisson.pmf(demand, mean)
    x = np.arange(most_stock + 1)
    left = np.maximum(x[:, None] - demand, 0).astype(int)
    cost = (left + penalty * np.maximum(demand - x[:, None], 0)) @ chance
    after = np.stack([np.bincount(row, chance, len(x)) for row in left])  # chance of what is left, by x
    next_x = np.minimum(x[:, None] + np.arange(most_order + 1), most_stock)  # by what is left and what arrives
    value = np.zeros((len(x), *[most_order + 1] * (periods - 1)))
    while True:
        future = value[next_x]  # by what is left, what arrives soonest .. latest, and the order
        expected = (after @ future.reshape(len(x), -1)).reshape(future.shape)
        updated = expected.min(-1) + cost.reshape(-1, *[1] * (periods - 1))
        gain = updated - value
        if np.ptp(gain) < PRECISION:
            return Optimum(float(gain.mean()), expected.argmin(-1))
        value = updated - updated.flat[0]


def playing(orders: Array, env: DivergentEnv) -> Policy:
    """Play the table of an `Optimum` on the control ``lost-sales``, with a warehouse that is always full."""
    table, sizes = torch.from_numpy(orders), torch.tensor(orders.shape)

    def policy(observation: Observation) -> torch.Tensor:
        state = observation.state
        now = state.on_hand[:, 1] + state.in_transit[:, 0, 1]
        coming = state.in_transit[:, 1:-1, 1], state.outstanding[:, 1:]  # an order ships in the next period
        known = torch.cat([now[:, None], *coming], 1).round().long()
        order = table[tuple(torch.minimum(known, sizes - 1).T)]
        return env.action(torch.stack([env.largest_order[0].expand(len(order)), order.to(env.dtype)], 1))

    return policy


class Bound(NamedTuple):
    """A chain without the balance of stocks: what it costs at best, and the levels that reach it."""

    cost: float  #: mean of a period; no policy of the real chain is below it
    warehouse: int  #: best echelon level of the warehouse
    retailers: int  #: best sum of the retailers' positions


def relaxed(chance: Array, retailers: int, costs: tuple[float, float, float], periods: tuple[int, int]) -> Bound:
    """The best that a warehouse and identical retailers can do if stock may also move between retailers, at no cost.

    A position y of a retailer, once it has ordered, pays for the demand X of the periods until its next order is
    usable: ``G(y) = E[h (y - X)+ + b (X - y)+]``. If positions may be raised *and lowered*, only their sum Y matters,
    and equal shares are best: ``R(Y) = min sum G(y_i)``. What is not given to them stays at the warehouse:
    ``C(X) = min over Y <= X of R(Y) + h0 (X - Y)``. And the warehouse orders up to the V that is best once the demand
    of its own periods is gone: ``min over V of E C(V - demand)``. The real chain can only raise positions, so its cost
    is at least this; equation :eq:`eq-balance` of the book. With one retailer there is nothing to balance, and the
    bound is the optimum of Clark & Scarf (1960).

    Args:
        chance: of a retailer's demand in a period, from 0 units up, ``(n,)``.
        retailers: how many.
        costs: holding a unit for a period at the warehouse (h0) and at a retailer (h), and backordering it (b).
        periods: of demand that a retailer's order has to cover; and between an order of the warehouse and the
            decision of the retailers that may count on it.

    Source: Eppen & Schrage (1981) and Federgruen & Zipkin (1984), for a warehouse without stock; Chen & Zheng (1994),
    Lower bounds for multi-echelon stochastic inventory systems. Re-derived here for the order of events at hand.
    """
    at_warehouse, holding, backorder = costs
    cover = _of_periods(chance, periods[0])
    y, x = np.arange(len(cover)), np.arange(len(cover))
    alone = (np.maximum(y[:, None] - x, 0) * holding + np.maximum(x - y[:, None], 0) * backorder) @ cover
    total = np.arange(retailers * (len(y) - 1) + 1)
    share, rest = np.divmod(total, retailers)
    given = (retailers - rest) * alone[share] + rest * alone[np.minimum(share + 1, y[-1])] - at_warehouse * total
    gone = _of_periods(chance, periods[1] * retailers)
    below = np.arange(1 - len(gone), 0)  # the whole chain is short: all goes out, and what lacks is backordered
    stock = np.concatenate([given[0] - backorder * below, np.minimum.accumulate(given) + at_warehouse * total])
    cost = np.convolve(stock, gone, "valid")
    best = int(cost.argmin())
    return Bound(float(cost[best]), best, int(given.argmin()))


def _of_periods(chance: Array, count: int) -> Array:
    """Distribution of the sum of that many independent demands."""
    return reduce(np.convolve, [chance] * count, np.ones(1))


def reorder_cost(levels: tuple[int, int], mean: float, costs: tuple[float, float, float], covers: int) -> float:
    """Mean cost a period of (s, S) under Poisson demand: order up to S whenever the position is s or less.

    Args:
        levels: s and S.
        mean: of demand in a period.
        costs: holding a unit for a period, backordering it, and placing an order.
        covers: periods of demand that an order has to cover.

    Source: Zheng & Federgruen (1991), Finding optimal (s, S) policies is about as simple as evaluating a single policy.

    >>> round(reorder_cost((6, 40), 10, (1, 9, 64), 1), 3)
    35.022
    """
    (reorder, up_to), (holding, backorder, order) = levels, costs
    x = np.arange(stats.poisson.isf(TAIL, mean * covers) + 1)
    chance, demand = stats.poisson.pmf(x, mean * covers), stats.poisson.pmf(np.arange(up_to - reorder), mean)
    visits = [1 / (1 - demand[0])]  # mean periods spent j units below S between two orders
    for j in range(1, up_to - reorder):
        visits.append(float(np.dot(visits, demand[j:0:-1])) / (1 - demand[0]))
    y = up_to - np.arange(up_to - reorder)[:, None]
    cost = (np.maximum(y - x, 0) * holding + np.maximum(x - y, 0) * backorder) @ chance
    return float((order + np.dot(visits, cost)) / sum(visits))


def demand_distribution(demand: Demand) -> Array:
    """Chance of every demand of a retailer in a period, from 0 units up, ``(n,)``.

    Raises:
        ValueError: if demand is not Poisson, or its rate not the same in all periods, give or take whole units.
    """
    noise, spread = demand.noise, int(demand.noise.spread)
    whole = noise.whole or not noise.spread
    moved = demand.season or demand.week or demand.shock or isinstance(demand.mean, tuple)
    if demand.distribution != "poisson" or moved or noise.standard_deviation or not whole:
        raise ValueError("only Poisson demand, one mean, has a known distribution here: no season, shock, normal noise")
    rates = np.maximum(demand.floor, demand.average + np.arange(-spread, spread + 1))
    units = np.arange(stats.poisson.isf(TAIL, rates[-1]) + 1)
    return np.mean(stats.poisson.pmf(units, rates[:, None]), axis=0)


def balance_bound(env: DivergentEnv) -> float:
    """Long-run cost of a divergent chain that no policy can go below, in units of `Env.cost_unit`: see `relaxed`.

    Limits on stocks and orders are taken as never reached: they can only make policies dearer, except where they let
    backorders be forgotten.

    Args:
        env: the chain; its horizon and its start are no part of the bound.

    Raises:
        ValueError: if stock has other ways out or in than the bound knows (lost sales, capacities, customers of the
            warehouse), lead times vary, or retailers differ.

    >>> round(balance_bound(make("two-echelon")), 3)
    42.255
    >>> round(balance_bound(make("kunnumkal-topaloglu")), 1)
    3260.7
    """
    p, period = env.parameters, balance(env).cost
    if p.receives == "after shipping":  # then all that the warehouse receives stays there for a period, and costs
        period += float(env.holding_cost[0]) * env.retailers * p.demand.average
    return period * (p.horizon - p.warm_up) / env.cost_unit


def balance(env: DivergentEnv) -> Bound:
    """The chain without the balance of stocks, a period of it: its levels, and its cost; errors as in `balance_bound`.

    An order that a retailer places now is usable after its lead time, a period later if the warehouse ships in the
    next period. Until the next order is usable, it has to cover the demand of one period more. An order of the
    warehouse can be given out when it arrives, or a period later if it arrives after shipping; the decision of the
    retailers that counts on it is made then, or a period earlier if orders are shipped in the next period.
    """
    p, lead = env.parameters, env.parameters.lead_time.low
    limited = p.supplier_capacity or p.outbound_capacity or p.order_cost
    if lead != p.lead_time.high or p.lost_share or limited or p.demand.direct:
        raise ValueError(f"{env.name}: the bound needs certain lead times, backorders, and no capacities or order cost")
    (at_warehouse, *holding), backorder = env.holding_cost.tolist(), env.shortage_cost.tolist()
    if len(set(holding)) > 1 or len(set(backorder)) > 1:
        raise ValueError(f"{env.name}: the bound needs retailers that are alike")
    later = p.ships == "next period"
    periods = lead + 1 + later, lead - later + (p.receives == "after shipping")
    costs = at_warehouse, holding[0], backorder[0]
    return relaxed(demand_distribution(p.demand), env.retailers, costs, periods)
