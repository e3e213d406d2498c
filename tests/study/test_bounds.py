"""Hindsight bounds: never above any cost, on full instances and against every plan of tiny ones."""

from itertools import product
from typing import ClassVar

import numpy as np
import pytest
import torch

import meirl
from meirl import heuristics
from meirl_study import bounds, lagrangian, linear_program

TINY = {
    "horizon": 5, "retailers": 1, "initial_stock": {"warehouse": 2, "retailer": 1}, "max_order": 2, "order_cap": 2,
    "max_inventory": {"warehouse": 3, "retailer": 3}, "max_backorder": 2, "max_outstanding": 2,
    "demand": {"mean": 1.2, "floor": 0.1, "direct": 0.4, "season": None, "shock": None,
               "noise": {"spread": 0, "standard_deviation": 0}},
}  # fmt: skip
CAPACITIES = {
    "supplier_capacity": {"mean": 2, "standard_deviation": 1},
    "outbound_capacity": {"mean": 1, "standard_deviation": 1},
    "lead_time": {"mean": 1, "standard_deviation": 1, "tail_probability": 0, "low": 1, "high": 3},
}  # fmt: skip
ORDERS_OF_EVENTS = {"ships": "at once", "receives": "after shipping"}
TINY_MEIS = {
    "horizon": 6, "leaves": 1, "initial_stock": {"middle": 3, "leaf": 2}, "cost_unit": 1, "max_backlog_duration": 2,
    "order_options": {"middle": [4], "leaf": [2, 5]},
    "order_cost": {"middle": 1, "leaf": {"least": 2, "per_unit": 0.5}},
    "demand": {"mean": 2, "floor": 0, "season": None, "shock": None, "noise": {"standard_deviation": 1}},
}  # fmt: skip


def random_policy(env, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def act(observation):
        shape = (len(observation.state.on_hand), env.nodes)
        if env.options is not None:
            return torch.randint(0, env.options, shape[:1], generator=generator)
        return torch.rand(shape, generator=generator, dtype=env.dtype) * 2 - 1

    return act


def policies(env):
    """From doing nothing to the best rule known, and the extremes between which a bound may break."""
    largest = [1e6] * env.nodes
    return {
        "never": heuristics.load(env, "never-order"),
        "best": heuristics.load(env, "best"),
        "published": heuristics.load(env, "published"),
        "random": random_policy(env),
        "most": heuristics.RULES["constant-order"].policy(env, largest),
    }


def cheapest(env, scenario, choices):
    """Cost of the best of all sequences of ``choices`` ``(k, N)``; the last period's order cannot matter."""
    plans = torch.tensor(list(product(range(len(choices)), repeat=env.horizon - 1)))
    state, cost = env.reset(len(plans)), 0.0
    for t in range(env.horizon):
        orders = choices[plans[:, t]] if t < env.horizon - 1 else torch.zeros(len(plans), env.nodes, dtype=env.dtype)
        state, costs, _ = env.step(state, orders, scenario.repeat(len(plans)).at(t))
        cost = cost + costs.total
    return float(cost.min())


@pytest.mark.parametrize("name", meirl.NAMES)
def test_no_policy_costs_less_than_the_bound(name):
    env = meirl.make(name, dtype=torch.float64)
    scenario = env.sample(3, seed=5)
    bound = bounds.hindsight_bound(env, scenario, jobs=1)
    costs = {label: meirl.rollout(env, policy, scenario)["cost"].to_numpy() for label, policy in policies(env).items()}
    assert bound.shape == (3,)
    assert (bound > 0.15 * costs["best"]).all()  # a bound of 0 would be valid too
    for label, cost in costs.items():
        assert (bound <= cost * (1 + 1e-9)).all(), label


def test_the_lagrangian_bound_is_tighter_than_the_program_and_still_valid():
    env = meirl.make("divergent-stationary", dtype=torch.float64, horizon=150)
    scenario = env.sample(1, seed=6)
    climb = lagrangian.dual_curves(env, scenario, iterations=12, jobs=1)
    assert climb.shape == (1, 12)
    assert (np.diff(climb) >= 0).all()
    tight = lagrangian.lagrangian_bound(env, scenario, iterations=12, jobs=1)
    assert tight == climb[:, -1]
    assert bounds.hindsight_bound(env, scenario, jobs=1) < tight
    for label, policy in policies(env).items():
        assert tight <= meirl.rollout(env, policy, scenario)["cost"].to_numpy(), label


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("base", "changes"),
    [("divergent-stationary", {}), ("divergent-nonstationary", {}), ("divergent-nonstationary", CAPACITIES)],
    ids=["backorders", "lost sales", "capacities and lead times"],
)
def test_no_plan_of_a_tiny_divergent_chain_costs_less(base, changes, seed):
    if base == "divergent-nonstationary" and not changes:
        changes = {"supplier_capacity": None, "outbound_capacity": None}
    env = meirl.make(base, dtype=torch.float64, **{**TINY, **changes})
    choices = torch.tensor(list(product(range(3), repeat=2)), dtype=torch.float64)
    scenario = env.sample(1, seed)
    best = cheapest(env, scenario, choices)
    assert bounds.hindsight_bound(env, scenario, jobs=1)[0] <= best + 1e-6
    if base == "divergent-stationary":
        # Whole orders lose nothing in the Lagrangian bound's own argument, so this is a sharp test of it.
        assert lagrangian.lagrangian_bound(env, scenario, iterations=60, jobs=1)[0] <= best + 1e-6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("base", ["meis-stationary", "meis-nonstationary"])
def test_no_plan_of_a_tiny_meis_costs_less(base, seed):
    outbound = {"mean": 3, "standard_deviation": 2} if base == "meis-nonstationary" else None
    env = meirl.make(base, dtype=torch.float64, **TINY_MEIS, outbound_capacity=outbound)
    choices = env.orders(torch.arange(env.options))
    scenario = env.sample(1, seed)
    assert bounds.hindsight_bound(env, scenario, jobs=1)[0] <= cheapest(env, scenario, choices) + 1e-6


def test_bound_is_the_optimum_where_nothing_is_relaxed():
    """No demand and no way to lower stock: the cost is that of holding what is there."""
    env = meirl.make("meis-stationary", horizon=10, demand={"mean": 1e-9, "floor": 0})
    scenario = env.sample(2, 0)._replace(demand=torch.zeros(2, 10, 2))
    held = 10 * (0.03 * 10_000 + 0.05 * 2 * 5_000) / 10_000
    np.testing.assert_allclose(bounds.hindsight_bound(env, scenario, jobs=1), held)


def test_bound_is_the_cost_of_a_divergent_chain_in_which_nothing_can_move():
    """3 units stay at the warehouse, and the retailer owes 1 more in each of 3 periods."""
    changes = {**TINY, "horizon": 3, "initial_stock": {"warehouse": 3, "retailer": 0}, "max_backorder": 1e6}
    env = meirl.make("divergent-stationary", dtype=torch.float64, **changes)
    scenario = env.sample(1, 0)
    nothing = {field: torch.zeros(1, 3) for field in ("direct_demand", "supplier_capacity", "outbound_capacity")}
    scenario = scenario._replace(demand=torch.ones_like(scenario.demand), **nothing)
    cost = 3 * 3 * float(env.holding_cost[0]) + (1 + 2 + 3) * float(env.shortage_cost.sum())
    assert bounds.hindsight_bound(env, scenario, jobs=1)[0] == pytest.approx(cost, rel=1e-4)


def test_bound_is_the_optimum_of_a_chain_that_can_meet_demand_exactly():
    """Demand 1 a period, 3 units at the retailer: later ones can be ordered to arrive when they are needed."""
    changes = {**TINY, "initial_stock": {"warehouse": 0, "retailer": 3}, "max_backorder": 50}
    env = meirl.make("divergent-stationary", dtype=torch.float64, **changes)
    scenario = env.sample(1, 0)
    scenario = scenario._replace(
        demand=torch.ones_like(scenario.demand), direct_demand=torch.zeros_like(scenario.direct_demand)
    )
    choices = torch.tensor(list(product(range(3), repeat=2)), dtype=torch.float64)
    best = cheapest(env, scenario, choices)
    assert best == 3  # what the retailer holds meanwhile: 2, then 1
    assert bounds.hindsight_bound(env, scenario, jobs=1)[0] == pytest.approx(best)
    assert lagrangian.lagrangian_bound(env, scenario, iterations=200, jobs=1)[0] == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("meis-stationary", {}), ("divergent-stationary", {"lost_share": 0.5})]
    + [("divergent-stationary", {key: value}) for key, value in (CAPACITIES | ORDERS_OF_EVENTS).items()],
    ids=["MEIS", "lost sales", *CAPACITIES, *ORDERS_OF_EVENTS],
)
def test_the_lagrangian_bound_names_what_it_needs(name, changes):
    env = meirl.make(name, **changes)
    with pytest.raises(ValueError, match=f"{name}: expected a divergent chain with certain lead times"):
        lagrangian.lagrangian_bound(env, env.sample(1, 0))


def test_the_lagrangian_bound_needs_whole_units():
    env = meirl.make("divergent-stationary", order_cap=14.5)
    with pytest.raises(ValueError, match=r"whole numbers of units, got .*14\.5"):
        lagrangian.lagrangian_bound(env, env.sample(1, 0), jobs=1)


@pytest.mark.parametrize("field", ["demand", "direct_demand"])
def test_the_lagrangian_bound_needs_whole_demand(field):
    env = meirl.make("divergent-stationary", **TINY)
    scenario = env.sample(1, 0)
    scenario = scenario._replace(**{field: getattr(scenario, field) + 0.5})
    with pytest.raises(ValueError, match="demand must be whole numbers of units"):
        lagrangian.lagrangian_bound(env, scenario, jobs=1)


def test_a_chain_without_a_program_is_refused_by_the_name_of_its_parameters():
    class RingParameters(meirl.envs.Parameters):
        count: ClassVar[str] = "leaves"
        leaves: int = 2

    p = RingParameters(**{
        key: getattr(meirl.make("meis-stationary").parameters, key) for key in meirl.envs.Parameters.model_fields
    })  # fmt: skip
    with pytest.raises(ValueError, match="no linear program is known for RingParameters"):
        bounds.program(p, None)


def test_a_linear_program_by_hand():
    """Sent 2, 1 and 4 units in periods 0, 1 and 2, after lead times of 1, 3 and 1: the last two arrive too late."""
    lp = linear_program.Program()
    sent = lp.add(3, 1, low=[[2], [1], [4]], high=[[2], [1], [4]])
    due = lp.arrivals(sent, np.array([[1], [3], [1]]))
    stock = lp.stock(5, [(due, 1)], (3, 1), cost=[[100], [10], [1]])
    assert lp.solve() == pytest.approx(100 * 5 + 10 * 7 + 1 * 7)
    lp.require([(stock[2], 1)], high=6)
    with pytest.raises(RuntimeError, match="the linear program was not solved"):
        lp.solve()


def test_an_episode_may_be_shorter_than_the_lead_time():
    lead = {"lead_time": {"mean": 3, "low": 3, "high": 3}}
    env = meirl.make("divergent-stationary", dtype=torch.float64, **{**TINY, **lead, "horizon": 2})
    scenario = env.sample(3, 0)
    never = meirl.rollout(env, heuristics.load(env, "never-order"), scenario)["cost"].to_numpy()
    tight = lagrangian.lagrangian_bound(env, scenario, iterations=3, jobs=1)
    assert (tight >= 0).all()
    assert (tight <= never).all()
