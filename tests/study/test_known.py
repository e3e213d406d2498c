"""Exact answers: against published optima, against Clark and Scarf, against each other, and against the simulator."""

import numpy as np
import pytest
import torch
from scipy import stats
from tolerances import SIGMAS

import meirl
from meirl.heuristics import RULES
from meirl_study import known

# Optimal cost of lost sales, Poisson(5), by periods until an order is usable: penalties 4, 9, 19 and 39.
ORACLES = {2: (4.395, 6.094, 7.665, 9.106), 3: (4.599, 6.531, 8.363, 10.039), 4: (4.729, 6.836, 8.887, 10.794)}


@pytest.mark.parametrize("periods", ORACLES)
def test_value_iteration_finds_the_published_optima(periods):
    for penalty, oracle in zip(known.PENALTIES, ORACLES[periods], strict=True):
        found = known.optimal_lost_sales(penalty=penalty, periods=periods)
        assert found.cost == pytest.approx(oracle, abs=8e-4)
        assert abs(found.cost - known.PUBLISHED.loc[penalty, periods]) < 0.006  # it has two decimals
        assert found.orders.max() < 10, "the largest order that is allowed must not decide"


def test_with_orders_usable_in_the_next_period_the_state_is_stock_alone():
    found = known.optimal_lost_sales(penalty=19, periods=1, most_order=20)
    assert found.cost == pytest.approx(6.676, abs=8e-4)
    assert found.orders.shape == (31,)
    assert (np.diff(found.orders) <= 0).all(), "the more there is, the less is ordered"


def test_the_optimal_policy_costs_its_cost_on_the_simulator():
    env = known.lost_sales(periods=3, penalty=9)
    best = known.optimal_lost_sales(penalty=9, periods=3)
    table = meirl.rollout(env, known.playing(best.orders, env), env.sample(600, seed=1))
    assert abs(table["cost"].mean() - best.cost) < SIGMAS * stats.sem(table["cost"])
    assert stats.sem(table["cost"]) < 0.01 * best.cost


# --- the bound -------------------------------------------------------------------------------------------------------


def normal(mean, sd, unit):
    """A normal demand in units of ``unit``, rounded."""
    edges = (np.arange(int((mean + 12 * sd) / unit) + 1) - 0.5) * unit
    return np.diff(stats.norm.cdf(edges, mean, sd))


@pytest.mark.parametrize(
    ("holding", "lead", "shortage", "demand", "levels", "cost", "unit"),
    [
        ((2, 1), (1, 1), 15, (100, 15), (123.64, 228.34), 166.241, 0.5),
        ((7, 2), (8, 3), 24, (20, 4), (171.19, 232.11), 438.182, 0.2),
    ],
)
def test_with_one_retailer_the_bound_is_clark_and_scarfs_optimum(holding, lead, shortage, demand, levels, cost, unit):
    """Published optima of two stages, which pay for stock on its way at the upper stage's rate as well."""
    costs = holding[1] * unit, holding[0] * unit, shortage * unit
    found = known.relaxed(normal(*demand, unit), 1, costs, lead)
    assert found.cost + holding[1] * demand[0] * lead[0] == pytest.approx(cost, rel=2e-4)
    assert (found.retailers * unit, found.warehouse * unit) == pytest.approx(levels, abs=unit)


@pytest.mark.parametrize(
    ("retailers", "mean", "holding", "backorder", "lead", "expected"),
    [
        (1, 5, (1, 2), 38, 2, 21.4534), (1, 10, (1, 2), 19, 2, 25.6459), (3, 10, (0.5, 1), 19, 2, 42.2548),
        (3, 10, (0.5, 1), 9, 2, 35.6696), (3, 5, (0.5, 1), 9, 2, 25.5216), (3, 10, (0.5, 1), 19, 3, 47.9317),
        (3, 10, (0.5, 1), 19, 4, 52.9539), (2, 10, (0.5, 1), 19, 2, 28.6161),
    ],
)  # fmt: skip
def test_the_bound_of_other_chains(retailers, mean, holding, backorder, lead, expected):
    env = meirl.make(
        "two-echelon", retailers=retailers, demand={"mean": mean}, backorder_cost=backorder,
        holding_cost=dict(zip(("warehouse", "retailer"), holding, strict=True)),
        lead_time={"mean": lead, "low": lead, "high": lead},
    )  # fmt: skip
    assert known.balance_bound(env) == pytest.approx(expected, abs=6e-5)


def test_where_nothing_is_kept_back_the_bound_is_that_of_newsvendors():
    """Lead time 1: the warehouse's orders arrive as the retailers' are shipped; 3 periods of demand each."""
    env = meirl.make("two-echelon", lead_time={"mean": 1, "low": 1, "high": 1})
    x = np.arange(200)
    chance = stats.poisson.pmf(x, 30)
    costs = [chance @ (np.maximum(y - x, 0) + 19 * np.maximum(x - y, 0)) for y in range(30, 50)]
    assert known.balance_bound(env) == pytest.approx(3 * min(costs), abs=1e-6)


@pytest.mark.parametrize("ships", ["at once", "next period"])
@pytest.mark.parametrize("receives", ["before shipping", "after shipping"])
def test_no_policy_is_below_the_bound_and_balanced_echelons_nearly_reach_it(ships, receives):
    """Whatever the order of events: a policy that were below it, or far above, would prove the periods wrong."""
    env = meirl.make("two-echelon", ships=ships, receives=receives, horizon=200, unshipped="vanishes")
    bound = known.balance_bound(env)
    levels = known.balance(env)
    scenario = env.sample(1_500, seed=2)
    rule = RULES["balanced-echelon"].policy(env, [levels.warehouse, levels.retailers / 3])
    cost = meirl.rollout(env, rule, scenario)["cost"]
    assert bound < cost.mean() + SIGMAS * stats.sem(cost)
    assert cost.mean() - SIGMAS * stats.sem(cost) < 1.002 * bound


def test_the_bound_is_in_the_unit_of_the_environments_costs():
    period, episode = (meirl.make("two-echelon", cost_per=per, cost_unit=10) for per in ("period", "episode"))
    assert known.balance_bound(episode) == pytest.approx(160 * known.balance_bound(period))
    assert known.balance_bound(period) == pytest.approx(4.22548, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lost_share": 0.5}, "certain lead times, backorders, and no capacities"),
        ({"lead_time": {"high": 3}}, "certain lead times"),
        ({"supplier_capacity": {"mean": 50}}, "no capacities"),
        ({"outbound_capacity": {"mean": 50}}, "no capacities"),
        ({"demand": {"direct": 0.5}}, "no capacities"),
        ({"backorder_cost": [19, 19, 5]}, "retailers that are alike"),
        ({"holding_cost": {"retailer": [1, 1, 2]}}, "retailers that are alike"),
        ({"demand": {"season": {"amplitude": 0.5, "period": 20}}}, "only Poisson demand"),
        ({"demand": {"noise": {"spread": 5}}}, "only Poisson demand"),
        ({"demand": {"distribution": "rounded"}}, "only Poisson demand"),
    ],
)
def test_the_bound_names_what_it_needs(changes, message):
    with pytest.raises(ValueError, match=message):
        known.balance_bound(meirl.make("two-echelon", **changes))


def test_the_distribution_is_that_of_the_scenarios():
    demand = meirl.make("kunnumkal-topaloglu", dtype=torch.float64).sample(2_000, seed=5).demand.numpy()
    chance = known.demand_distribution(meirl.make("kunnumkal-topaloglu").parameters.demand)
    units = np.arange(len(chance))
    assert chance.sum() == pytest.approx(1)
    assert demand.mean() == pytest.approx(chance @ units, rel=0.002)
    assert demand.var() == pytest.approx(chance @ units**2 - (chance @ units) ** 2, rel=0.01)


def test_a_rate_is_never_below_the_floor():
    noise = {"spread": 2, "whole": True, "standard_deviation": 0}
    demand = {"distribution": "poisson", "mean": 1, "floor": 0.5, "noise": noise}
    chance = known.demand_distribution(meirl.make("kunnumkal-topaloglu", demand=demand).parameters.demand)
    assert chance.sum() == pytest.approx(1)
    assert chance @ np.arange(len(chance)) == pytest.approx((0.5 + 0.5 + 1 + 2 + 3) / 5)


# --- (s, S) ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "mean", "costs", "cost"),
    [
        ((6, 40), 10, (1, 9, 64), 35.022), ((14, 62), 20, (1, 9, 64), 49.173), ((23, 66), 30, (1, 9, 64), 57.819),
        ((42, 108), 50, (1, 9, 64), 70.975), ((4, 10), 6, (1, 4, 5), 8.03411),
    ],
)  # fmt: skip
def test_the_cost_of_reorder_levels_is_zheng_and_federgruens_and_the_published_ones_are_best(levels, mean, costs, cost):
    assert known.reorder_cost(levels, mean, costs, 1) == pytest.approx(cost, abs=6e-4)
    for low in (-1, 0, 1):
        for high in (-1, 0, 1):
            moved = known.reorder_cost((levels[0] + low, levels[1] + high), mean, costs, 1)
            assert moved >= cost - 6e-4
