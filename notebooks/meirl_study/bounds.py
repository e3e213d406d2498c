"""Hindsight lower bounds: what no policy can beat, since even one that knew every draw could not.

A `Scenario` fixes all randomness of an episode. What is left is a deterministic planning problem, and a *relaxation* of
it is one that every trajectory of every policy satisfies, at the same cost or less. So its smallest cost is a lower
bound, and the mean over episodes bounds the mean cost of any policy, whatever it observes: equation
:eq:`eq-hindsight` of the book.

`hindsight_bound` relaxes both chains to sparse linear programs, each a fraction of a second.
`meirl_study.lagrangian` is tighter and takes seconds; it is for the divergent chain where lead times are certain and no
demand is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed

from meirl.envs import DivergentParameters, Env, MeisParameters, Parameters, Scenario
from meirl.envs.base import per_node, per_retailer

from .linear_program import Program

Array = np.ndarray


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
    return each_episode(lambda episode: program(env.parameters, episode).solve(), env, scenario, jobs)


def each_episode(bound: Callable[[Draws], float | Array], env: Env, scenario: Scenario, jobs: int) -> Array:
    """Bound every episode, many at once.

    Args:
        bound: from the draws of an episode to a cost, or to an array of costs.
        env: the environment.
        scenario: the episodes.
        jobs: episodes at once; -1: one a core.

    Returns:
        ``(batch,)``, or ``(batch, costs)``, in units of ``cost_unit``; errors as of `check`.
    """
    check(env)
    costs = Parallel(n_jobs=jobs)(delayed(bound)(episode) for episode in episodes(scenario))
    return np.array(costs) / env.cost_unit


def check(env: Env) -> None:
    """Refuse a divergent chain that begins with more than it can keep: no program has a plan for that; a ValueError."""
    p = env.parameters
    if isinstance(p, DivergentParameters):
        stock, shelf = (per_node(x.warehouse, x.retailer, p.retailers) for x in (p.initial_stock, p.max_inventory))
        if (np.array(stock) > shelf).any():
            raise ValueError(f"{env.name}: initial_stock must fit in max_inventory, got {stock} and {shelf}")


def episodes(scenario: Scenario) -> list[Draws]:
    """A scenario's episodes, one by one."""
    arrays = (field.numpy() for field in scenario.to("cpu", torch.float64))
    return [Draws(*fields) for fields in zip(*arrays, strict=True)]


@singledispatch
def program(p: Parameters, episode: Draws) -> Program:
    """The linear program of an episode; each chain has its own, found by the type of its parameters.

    Raises:
        ValueError: if there is none.
    """
    raise ValueError(f"no linear program is known for {type(p).__name__}: register one with bounds.program")


@program.register
def divergent_program(p: DivergentParameters, episode: Draws) -> Program:
    """The divergent chain in hindsight.

    Where an order costs something whatever its size, the warehouse either orders in a period or not, in whole numbers;
    retailers, whose orders may be shipped in parts, are charged by the unit, as if orders were as large as they can be.
    What happens before the warm-up is over is free.

    Orders are left out: what the supplier and the warehouse *ship* is chosen freely, up to the caps and capacities.
    That relaxes the rules of outstanding orders (replaced, kept, cut) and of who is served first, for under every one
    of them a retailer is shipped at most its outstanding order, so at most ``order_cap``. Four rules are yes-or-no; for
    each the program has linear consequences only:

    - *Shelf.* Arrivals that do not fit are discarded. Here any arrival may be discarded, but nothing that was there
      before: that never exceeds the shelf. Where the warehouse receives after shipping, only what it has not shipped
      must fit.
    - *Direct demand* D takes min(stock, D). Of stock z at most ``shelf`` then max(0, z - D) is left, which is at least
      z - D and, being convex in z, at most its chord z * max(0, 1 - D / shelf).
    - *Backorders first.* Stock and backorders are never both positive, so r / shelf + b / cap <= 1. What stays owed is
      at most what was owed before.
    - *Backorder cap.* Demand is forgotten only when b = cap, and never more than is backordered of the period's demand
      D: so f <= kept * D * b / cap. With the rule before it this is equation :eq:`eq-cap` of the book.

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
    most = np.minimum(p.order_cap, per_retailer(p.max_outstanding, R))
    counted = (np.arange(T) >= p.warm_up)[:, None]
    fixed = np.array(per_node(p.order_cost.warehouse, p.order_cost.retailer, R) if p.order_cost else [0.0] * (1 + R))
    supply = np.minimum(p.order_cap, episode.supplier_capacity)[:, None]
    supplied = lp.add(T, 1, high=supply)
    shipped = lp.add(T, R, high=most * (np.arange(T) >= (p.ships == "next period"))[:, None])  # nothing is ordered yet
    # Of what is shipped in counted periods, at most one order each was placed before them.
    if p.order_cost:
        if fixed[0]:
            placed = lp.add(T, 1, high=1, cost=counted * fixed[0], whole=True)
            lp.require([(supplied, 1), (placed, -supply)], high=0)
        charged, before = lp.add(R, cost=fixed[1:] / most), most * (p.warm_up > 0)
        lp.require([(charged, 1), *((shipped[t], -1.0) for t in range(p.warm_up, T))], low=-before)
    lp.require([(i, 1) for i in shipped.T], high=episode.outbound_capacity)
    arrived = lp.arrivals(np.concatenate([supplied, shipped], 1), episode.lead_time)
    wasted = lp.add(T, 1 + R)
    lp.require([(wasted, 1), (arrived, -1)], high=0)

    stock = lp.add(T, cost=counted[:, 0] * holding[0])
    received = [(lp.before(stock, start[0]), 1), (arrived[:, 0], 1), (wasted[:, 0], -1)]
    left_over = lp.add(T)  # after shipping
    lp.require([(left_over, -1), *received, *((i, -1) for i in shipped.T)], 0, 0)
    lp.require([(left_over, 1)] if p.receives == "after shipping" else received, high=shelf[0])
    lp.require([(stock, 1), (left_over, -1)], low=-episode.direct_demand)
    lp.require([(stock, 1), (left_over, -np.maximum(0, 1 - episode.direct_demand / shelf[0]))], high=0)
    _retailers(lp, p, episode.demand, arrived[:, 1:], wasted[:, 1:], start[1:], shelf[1:], counted * holding[1:])
    return lp


def _retailers(
    lp: Program, p: DivergentParameters, demand: Array, arrived: Array, wasted: Array,
    start: Array, shelf: Array, holding: Array,
) -> None:  # fmt: skip
    """Add the retailers of the divergent chain: stock, backorders, lost and forgotten demand, all ``(T, R)``."""
    shortage, cap = (np.array(per_retailer(value, p.retailers)) for value in (p.backorder_cost, p.max_backorder))
    counted = (np.arange(len(demand)) >= p.warm_up)[:, None]
    stock = lp.add(*demand.shape, cost=holding)
    owed = lp.add(*demand.shape, high=cap, cost=counted * shortage)
    unmet = lp.add(*demand.shape, high=demand, cost=counted * p.lost_share * p.lost_sale_cost)
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


@program.register
def meis_program(p: MeisParameters, episode: Draws, price: Array | float = 0.0) -> Program:
    """The MEIS system in hindsight.

    Every order option of every day is a variable between 0 and 1, at its own quantity and cost, all of a day together
    at most 1: the one order a day, relaxed to fractions. What the middle sends to the leaves is chosen freely within
    its stock, its outbound capacity and what is due or overdue: that relaxes the order of service. Which customer is
    served is chosen freely too, but for one consequence of waiting: those who withdraw arrived ``max_backlog_duration``
    days before, so are at most that day's demand, and have been waiting on all the days between.

    Args and result: as in `divergent_program`; ``price`` is added to the cost of every unit ordered, ``(T, N)``. The
    units ordered are the program's first variables.
    """
    lp, T, R, days = Program(), len(episode.demand), p.leaves, p.max_backlog_duration
    on_the_way = np.minimum(episode.lead_time, T - np.arange(T)[:, None])  # days until due, or the end
    counted = (np.arange(T) >= p.warm_up)[:, None]
    ordered, chosen = lp.add(T, 1 + R, cost=price), []
    for node in range(1 + R):
        quantity = np.array(p.order_options.leaf if node else p.order_options.middle)
        leaf_cost = np.maximum(p.order_cost.leaf.least, p.order_cost.leaf.per_unit * quantity)
        cost = (leaf_cost if node else p.order_cost.middle) + p.pipeline_cost * quantity * on_the_way[:, [node]]
        option = lp.add(T, len(quantity), high=1, cost=counted * cost)
        lp.require([(ordered[:, node], -1), *zip(option.T, quantity, strict=True)], 0, 0)
        chosen += [(i, 1) for i in option.T]
    lp.require(chosen, high=1)
    due = lp.arrivals(ordered, episode.lead_time)

    sent, served = lp.add(T, R), lp.add(T, R)
    lp.require([(i, 1) for i in sent.T], high=episode.outbound_capacity)
    from_factory = [(due[:, 0], 1), *((i, -1) for i in sent.T)]
    lp.stock(p.initial_stock.middle, from_factory, (T,), counted[:, 0] * p.holding_cost.middle)
    lp.stock(0, [(due[:, 1:], 1), (sent, -1)], (T, R), counted * p.pipeline_cost)  # overdue
    lp.stock(p.initial_stock.leaf, [(sent, 1), (served, -1)], (T, R), counted * p.holding_cost.leaf)
    arrived_then = np.concatenate([np.zeros((days, R)), episode.demand])[:T]
    withdrawn = lp.add(T, R, high=arrived_then, cost=counted * p.withdrawal_cost)
    moves = [(served, -1), (withdrawn, -1)]
    waiting = lp.stock(0, moves, (T, R), counted * p.shortage_cost, known=episode.demand)
    none = lp.add(days, R, high=0)
    later = np.concatenate([withdrawn, none])
    lp.require([(waiting, 1), *((later[k : k + T], -1) for k in range(1, days + 1))], low=0)
    return lp
