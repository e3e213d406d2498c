"""Hindsight bounds of chains of one's own: an order that costs, a warm-up, other orders of events."""

from itertools import product

import numpy as np
import pytest
import torch
from test_bounds import TINY

import meirl
from meirl_study import bounds, lagrangian

VARIANTS = {
    "an order costs": {"order_cost": {"warehouse": 3, "retailer": 1}},
    "a warm-up": {"warm_up": 2},
    "a warm-up, an order costs": {"warm_up": 2, "order_cost": {"warehouse": 3, "retailer": 1}},
    "ships at once": {"ships": "at once"},
    "receives after shipping": {"receives": "after shipping", "ships": "at once", "unshipped": "vanishes"},
    "per period": {"cost_per": "period", "warm_up": 1},
}
PLAIN = {"supplier_capacity": None, "outbound_capacity": None, "lead_time": {"mean": 1, "standard_deviation": 0,
         "tail_probability": 0, "low": 1, "high": 1}}  # fmt: skip


def cheapest(env, episode):
    """Cost of the best of all plans for an episode, of orders of 0, 1 or 2 units; the last one may not matter."""
    levels = list(product((0.0, 1.0, 2.0), repeat=env.nodes))
    last = env.horizon - (env.parameters.ships == "next period")
    plans = torch.tensor(list(product(levels, repeat=last)), dtype=env.dtype)
    state, cost = env.reset(len(plans)), torch.zeros(len(plans), dtype=env.dtype)
    for t, exogenous in enumerate(episode.repeat(len(plans)).periods()):
        orders = plans[:, t] if t < last else torch.zeros_like(plans[:, 0])
        state, costs, _ = env.step(state, orders, exogenous)
        cost += costs.total * (t >= env.parameters.warm_up)
    return cost.min().item() / env.cost_unit


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("stock", [0, 1])
def test_no_plan_costs_less_than_the_bound(changes, stock):
    start = {"initial_stock": {"warehouse": 2 * stock, "retailer": 0}, "horizon": 5, "lost_share": 0.5,
             "max_backorder": 30, "max_inventory": {"warehouse": 9, "retailer": 9}}  # fmt: skip
    demand = {"demand": {**TINY["demand"], "direct": 0}}
    env = meirl.make("divergent-nonstationary", dtype=torch.float64, **{**TINY, **PLAIN, **demand, **start, **changes})
    scenario = env.sample(12, seed=5)
    found = bounds.hindsight_bound(env, scenario, jobs=1)
    best = np.array([cheapest(env, scenario[i : i + 1]) for i in range(12)])
    assert (found >= -1e-9).all()
    assert (found <= best + 1e-6).all()
    assert found.sum() > 0


def test_the_cost_of_orders_raises_the_bound():
    chain = {**TINY, **PLAIN, "horizon": 12}
    prices = ({"order_cost": {"warehouse": price, "retailer": price}} for price in (0, 4))
    low, high = (meirl.make("divergent-nonstationary", **chain, **price) for price in prices)
    scenario = low.sample(8, seed=5)
    cheap, dear = (bounds.hindsight_bound(env, scenario, jobs=1) for env in (low, high))
    assert (dear > cheap + 1).any()
    assert (dear >= cheap - 1e-6).all()


def test_a_warehouse_pays_for_whole_orders_however_large_they_may_be():
    start = {"initial_stock": {"warehouse": 0, "retailer": 0}, "horizon": 20, "max_backorder": 100}
    large = {"order_cap": 1000, "max_order": 1000, "max_inventory": {"warehouse": 1000, "retailer": 1000}}
    chain = {**TINY, **PLAIN, **start, **large, "order_cost": {"warehouse": 50, "retailer": 0}}
    env = meirl.make("divergent-nonstationary", **chain)
    assert (bounds.hindsight_bound(env, env.sample(4, seed=5), jobs=1) >= 50 - 1e-6).all()


def test_a_warehouse_that_receives_after_shipping_may_ship_a_full_shelf_and_receive_another():
    """2 units are there and 2 come in period 1; the retailer, where stock is dear, needs 2 in periods 2 and 3 each."""
    start = {"initial_stock": {"warehouse": 2, "retailer": 0}, "max_inventory": {"warehouse": 2, "retailer": 9},
             "holding_cost": {"warehouse": 1, "retailer": 7}, "backorder_cost": 50, "lost_share": 0}  # fmt: skip
    events = {"ships": "at once", "receives": "after shipping"}
    env = meirl.make("divergent-nonstationary", dtype=torch.float64, **{**TINY, **PLAIN, **start, **events})
    scenario = env.sample(1, seed=0)
    scenario = scenario._replace(
        demand=torch.tensor([0.0, 0, 2, 2, 0]).reshape(1, 5, 1), direct_demand=torch.zeros(1, 5),
        supplier_capacity=torch.tensor([[2.0, 0, 0, 0, 0]]),
    )  # fmt: skip
    best = cheapest(env, scenario)
    assert best == 2 + 2  # what the warehouse holds in periods 0 and 1
    assert bounds.hindsight_bound(env, scenario, jobs=1)[0] <= best + 1e-6


@pytest.mark.parametrize("bound", [bounds.hindsight_bound, lagrangian.lagrangian_bound])
@pytest.mark.parametrize("node", ["warehouse", "retailer"])
def test_more_than_the_shelf_at_the_start_is_refused(bound, node):
    env = meirl.make("divergent-stationary", **{**TINY, "initial_stock": {node: 4}})
    with pytest.raises(ValueError, match=r"divergent-stationary: initial_stock must fit in max_inventory, got .*4"):
        bound(env, env.sample(1, 0), jobs=1)


def test_a_program_too_large_for_whole_numbers_still_has_a_bound(monkeypatch):
    chain = {**TINY, **PLAIN, "horizon": 30, "order_cost": {"warehouse": 4, "retailer": 1}}
    env = meirl.make("divergent-nonstationary", **chain)
    (episode,) = bounds.episodes(env.sample(1, seed=5))
    whole = bounds.program(env.parameters, episode).solve()
    monkeypatch.setattr("meirl_study.linear_program.SECONDS", 0)
    bound, plan = bounds.program(env.parameters, episode).optimum()
    assert 0 < bound <= whole + 1e-6
    assert np.isnan(plan).all()
