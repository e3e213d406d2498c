"""Instances with known exact answers, played on our divergent chain.

Each is one retailer behind a warehouse. First the conventions, for constant lead times L0 (supplier to warehouse) and L
(warehouse to retailer). An order that the retailer places in period t, before that period's demand, is shipped in t + 1
(the warehouse serves orders of earlier periods) and arrives in t + 1 + L, before that period's demand. So it is usable
after

    l = L + 1 periods.

If the warehouse never runs out, a retailer that orders up to S (position = on hand + in transit + outstanding -
backorder) has at the end of period t + l what is left of S after the demands of t .. t + l: l + 1 = L + 2 periods.

The divergent system of Kunnumkal and Topaloglu is not among them: there the warehouse ships before it receives and
unshipped orders vanish, which is another order of events.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from tolerances import SIGMAS

import meirl
from meirl.envs import Scenario

PLENTY = 1e9
AMPLE = {"warehouse": PLENTY, "retailer": PLENTY}


def one_retailer(**changes):
    """A divergent chain with one retailer, an endless warehouse and no limits; the test sets costs and lead times."""
    settings = {
        "retailers": 1, "max_inventory": AMPLE, "max_backorder": PLENTY, "max_outstanding": PLENTY,
        "max_order": PLENTY, "order_cap": PLENTY, "initial_stock": {"warehouse": PLENTY / 2, "retailer": 0},
        "holding_cost": {"warehouse": 0, "retailer": 1}, "lead_time": {"mean": 1, "low": 1, "high": 1},
    }  # fmt: skip
    return meirl.make("divergent-stationary", dtype=torch.float64, **(settings | changes))


def poisson(mean):
    """Plain Poisson demand, no direct demand at the warehouse."""
    return {"mean": mean, "noise": {"spread": 0}, "direct": 0}


def constant_lead_time(periods):
    return {"mean": periods, "low": periods, "high": periods}


@torch.inference_mode()
def average_costs(env, policy, scenario: Scenario, warm_up: int, extra=None) -> np.ndarray:
    """Average cost a period of every episode after a warm-up; ``policy`` maps a state to orders, in units.

    ``extra`` maps the state after a period to further costs that the chain does not charge.
    """
    state, total = env.reset(scenario.episodes), 0
    for t, exogenous in enumerate(scenario.periods()):
        state, costs, _ = env.step(state, policy(state), exogenous)
        if t >= warm_up:
            total = total + costs.total + (extra(state) if extra else 0)
    return (total / (scenario.horizon - warm_up)).numpy()


def assert_cost(measured: np.ndarray, exact: float) -> None:
    """Independent episodes: within five standard errors of the exact value."""
    error = stats.sem(measured)
    assert error < 0.01 * exact, "the simulation is too short to say anything"
    gap = abs(measured.mean() - exact)
    assert gap <= SIGMAS * error, f"{measured.mean():.4f} +- {error:.4f}, exact {exact:.4f}"


# --- one node, backorders: the newsvendor ----------------------------------------------------------------------------


def newsvendor_cost(level: float, mean: float, holding: float, shortage: float) -> float:
    """``h E[(S - X)+] + b E[(X - S)+]`` with X ~ Poisson(mean)."""
    x = np.arange(int(mean + 20 * mean**0.5))
    p = stats.poisson.pmf(x, mean)
    return float(p @ (holding * np.maximum(level - x, 0) + shortage * np.maximum(x - level, 0)))


@pytest.mark.parametrize(("lead_time", "demand", "shortage"), [(1, 5, 9), (1, 10, 19), (3, 5, 19)])
def test_base_stock_with_backorders_costs_what_the_newsvendor_formula_says(lead_time, demand, shortage):
    """The whole cost curve around the optimum, and the optimal level, from SciPy's Poisson distribution.

    The cost of a period depends on the demand of L + 2 periods, so X ~ Poisson((L + 2) mean) and the optimal level is
    its b / (b + h) quantile.
    """
    mean = (lead_time + 2) * demand
    best = int(stats.poisson.ppf(shortage / (shortage + 1), mean))
    levels = np.arange(best - 3, best + 5)
    env = one_retailer(
        horizon=320, demand=poisson(demand), lead_time=constant_lead_time(lead_time), backorder_cost=shortage
    )
    scenario = env.sample(2_000, seed=1)
    costs = []
    for level in levels:

        def order_up_to(state, level=float(level)):
            position = state.on_hand[:, 1] + state.in_transit[:, :, 1].sum(1) + state.outstanding[:, 1]
            order = level - (position - state.backorder[:, 0])
            return torch.stack([torch.zeros_like(order), order], 1)

        costs.append(average_costs(env, order_up_to, scenario, warm_up=20))
        assert_cost(costs[-1], newsvendor_cost(level, mean, 1, shortage))
    optimum = costs[list(levels).index(best)]
    for cost in costs:  # on the same demand, no level is better than the quantile
        assert (cost - optimum).mean() >= -SIGMAS * stats.sem(cost - optimum)
    far = costs[0] - optimum
    assert far.mean() > SIGMAS * stats.sem(far)


# --- one node, lost sales: value iteration ---------------------------------------------------------------------------


def optimal_lost_sales(mean: float, penalty: float, most_stock: int = 40, most_order: int = 20):
    """Average-cost value iteration for orders that are usable two periods later (h = 1, Poisson demand).

    State: ``x`` units usable now, ``y`` units that arrive next period. Order ``q``; then the demand D; then the cost
    ``(x - D)+ + p (D - x)+``; next ``x' = (x - D)+ + y`` and ``y' = q``.

    Returns:
        The optimal average cost and the orders ``(x, y)``.
    """
    demand = np.arange(40)
    p = stats.poisson.pmf(demand, mean)
    x = np.arange(most_stock + 1)
    left = np.maximum(x[:, None] - demand, 0)
    cost = (left + penalty * np.maximum(demand - x[:, None], 0)) @ p
    after = np.stack([np.bincount(row, weights=p, minlength=len(x)) for row in left])  # P(left | x)
    arrive = np.minimum(x[:, None] + np.arange(most_order + 1), most_stock)  # (left, y) -> x'
    value = np.zeros((len(x), most_order + 1))
    for _ in range(2_000):
        # value of (left, y, q) is value[x', q]; the best q is chosen before demand is known
        expected = np.einsum("xl,lyq->xyq", after, value[arrive])
        updated = cost[:, None] + expected.min(2)
        gain = updated - value
        value = updated - updated[0, 0]
        if np.ptp(gain) < 1e-9:
            return gain.mean(), expected.argmin(2)
    raise AssertionError("value iteration did not converge")


@pytest.mark.parametrize(("penalty", "published"), [(4, 4.395), (9, 6.094), (19, 7.665), (39, 9.106)])
def test_the_optimal_lost_sales_policy_costs_the_optimal_average_cost(penalty, published):
    """Everything unmet is lost; lead time 1, so orders are usable after l = 2 periods.

    The policy that value iteration finds is played on the chain and must cost what value iteration promises, which is
    the published optimum. Before the period, x = on hand + what arrives now and y = the outstanding order, which ships
    now and arrives next period.
    """
    gain, table = optimal_lost_sales(5, penalty)
    assert gain == pytest.approx(published, abs=6e-4)
    env = one_retailer(horizon=320, demand=poisson(5), lost_share=1, lost_sale_cost=penalty)
    scenario, orders = env.sample(2_000, seed=2), torch.from_numpy(table).double()

    def optimal(state):
        x = (state.on_hand[:, 1] + state.in_transit[:, 0, 1]).long().clamp(max=len(orders) - 1)
        order = orders[x, state.outstanding[:, 1].long()]
        return torch.stack([torch.zeros_like(order), order], 1)

    assert_cost(average_costs(env, optimal, scenario, warm_up=20), gain)


@pytest.mark.parametrize(
    ("lead_time", "penalty", "optimum"),
    [(1, 4, 4.395), (1, 39, 9.106), (2, 9, 6.531), (2, 39, 10.039), (3, 19, 8.887), (3, 39, 10.794)],
)
def test_no_base_stock_policy_beats_the_lost_sales_optimum_and_the_best_comes_near(lead_time, penalty, optimum):
    """Published optima for orders usable after l = lead time + 1 periods: a lower bound for every policy.

    Base stock is not optimal with lost sales, but close, and the closer the dearer a lost sale: within 10 % here.
    """
    env = one_retailer(
        horizon=220, demand=poisson(5), lead_time=constant_lead_time(lead_time), lost_share=1, lost_sale_cost=penalty
    )
    scenario = env.sample(1_000, seed=3)
    costs = []
    for level in range(5 * (lead_time + 1), 5 * (lead_time + 1) + 18):

        def order_up_to(state, level=level):
            position = state.on_hand[:, 1] + state.in_transit[:, :, 1].sum(1) + state.outstanding[:, 1]
            order = torch.relu(level - position)
            return torch.stack([torch.zeros_like(order), order], 1)

        costs.append(average_costs(env, order_up_to, scenario, warm_up=20))
    best = min(costs, key=np.mean)
    assert best.mean() >= optimum - SIGMAS * stats.sem(best)
    assert best.mean() <= 1.10 * optimum


# --- two nodes in series: Clark and Scarf ----------------------------------------------------------------------------


def test_the_optimal_echelon_policy_of_a_serial_system_costs_what_clark_and_scarf_say():
    """Two stages, local holding costs (7, 2), L = (8, 3), p = 24, demand N(20, 4): S* = (171.19, 232.11), C* = 438.182.

    There, a stage orders after seeing D_s and the order arrives in s + L; stock in transit to the retailer pays the
    warehouse's rate. Here, in period t, both order before D_t, that is after D_s with s = t - 1.

    *Retailer.* Its order is usable in t + 1 + L = s + 2 + L, so L = 6 plays the part of 8.

    *Warehouse.* The retailer's order of period t is filled in t + 1, from stock that is known in t already (receipts of
    t + 1 are on their way, and the warehouse has no other customers). So what the warehouse receives in t + 1 may be
    promised in t. An order of period t is received in t + L0 and promised in t + L0 - 1, by the decision that follows
    the demand of t + L0 - 2 = s + L0 - 1. There, that is the demand of s + 3: so L0 = 4 plays the part of 3.

    *Cost.* Stock that can be promised counts as arrived there, in s + 3; here it is received in t + 4 = s + 5. What
    passes through the warehouse pays the rate of 2 there for two periods more, 20 units a period: 2 * 2 * 20 = 80.
    """
    mean, sd, levels, optimum = 20, 4, (171.19, 232.11), 438.182
    env = one_retailer(
        horizon=500, demand=poisson(mean), lead_time={"mean": 1, "low": 1, "high": 6}, backorder_cost=24,
        holding_cost={"warehouse": 2, "retailer": 7}, initial_stock={"warehouse": 61, "retailer": 171},
    )  # fmt: skip
    scenario = env.sample(2_000, seed=4)
    draws = np.random.default_rng(5).normal(mean, sd, scenario.demand.shape)
    lead_time = torch.tensor([4, 6]).expand_as(scenario.lead_time)
    scenario = scenario._replace(demand=torch.from_numpy(np.maximum(draws, 0)), lead_time=lead_time)

    def echelon(retailer_level, warehouse_level):
        def policy(state):
            below = state.on_hand[:, 1] - state.backorder[:, 0] + state.in_transit[:, :, 1].sum(1)
            whole = below + state.on_hand[:, 0] + state.in_transit[:, :, 0].sum(1)
            ships_now = torch.minimum(state.outstanding[:, 1], state.on_hand[:, 0] + state.in_transit[:, 0, 0])
            return torch.relu(torch.stack([warehouse_level - whole, retailer_level - below - ships_now], 1))

        return policy

    def pipeline(state):
        return 2 * state.in_transit[:, :, 1].sum(1)

    best = average_costs(env, echelon(*levels), scenario, warm_up=100, extra=pipeline)
    assert_cost(best + 2 * 2 * mean, optimum)
    for step in (-6, 6):  # the optimum is one: moving either level costs more, on the same demand
        for moved in ((levels[0] + step, levels[1]), (levels[0], levels[1] + step)):
            worse = average_costs(env, echelon(*moved), scenario, warm_up=100, extra=pipeline) - best
            assert worse.mean() > SIGMAS * stats.sem(worse)
