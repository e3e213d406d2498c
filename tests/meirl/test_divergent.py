"""The divergent chain: order of events by hand, invariants as properties, gradients, actions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import meirl
from meirl.envs import DivergentState, Exogenous

NAMES = ("divergent-stationary", "divergent-nonstationary")
VARIANT = st.sampled_from(NAMES)


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def nature(demand, direct=0.0, supply=np.inf, outbound=np.inf, lead=1):
    """One period of one episode."""
    nodes = 1 + len(demand)
    return Exogenous(
        tensor(demand), tensor(direct), tensor(supply), tensor(outbound), torch.full((1, nodes), lead), tensor(1.0)
    )


def chain(retailers=2, **changes):
    """A small chain with round numbers: holding 1, backorder 19, nothing on hand."""
    settings = {
        "retailers": retailers, "initial_stock": {"warehouse": 0, "retailer": 0}, "order_cap": 1000, "max_order": 1000,
        "demand": {"direct": 0}, "lead_time": {"low": 1, "high": 3},
    }  # fmt: skip
    return meirl.make("divergent-stationary", dtype=torch.float64, **(settings | changes))


def start(env, **fields) -> DivergentState:
    return env.reset(1)._replace(**{key: tensor(value) for key, value in fields.items()})


# --- the order of events ---------------------------------------------------------------------------------------------


def test_an_order_takes_one_period_to_be_served_and_then_its_lead_time():
    """Ordered in period 0, shipped in 1, due in 1 + 1 = 2: there it can meet that period's demand."""
    env = chain()
    state = start(env, on_hand=[50, 0, 0])
    seen = []
    for t in range(4):
        orders = tensor([0, 7, 0]) if t == 0 else tensor([0, 0, 0])
        state, *_ = env.step(state, orders, nature([5 if t == 2 else 0, 0]))
        seen.append((*state.on_hand[0].tolist(), state.in_transit[0, 0, 1].item(), state.outstanding[0, 1].item()))
    assert seen == [(50, 0, 0, 0, 7), (43, 0, 0, 7, 0), (43, 2, 0, 0, 0), (43, 2, 0, 0, 0)]


def test_the_supplier_ships_at_once_up_to_its_capacity_and_forgets_the_rest():
    env = chain()
    state, *_ = env.step(env.reset(1), tensor([30, 0, 0]), nature([0, 0], supply=20, lead=2))
    assert state.in_transit[0, :, 0].tolist() == [0, 20, 0, 0]
    assert state.outstanding[0, 0] == 30  # only remembered, for the observation
    for expected in (0, 20, 20):
        state, *_ = env.step(state, tensor([0, 0, 0]), nature([0, 0]))
        assert state.on_hand[0, 0] == expected
    assert state.outstanding[0, 0] == 30


def test_receipts_come_before_shipping_and_the_warehouses_own_demand_after_it():
    """10 arrive and leave for the retailer in the same period; the warehouse's own customers find nothing, free."""
    env = chain(retailers=1)
    arriving = start(env, outstanding=[0, 10])
    arriving.in_transit[0, 0, 0] = 10
    state, costs, _ = env.step(arriving, tensor([0, 0]), nature([0], direct=4))
    assert state.on_hand[0].tolist() == [0, 0]
    assert state.in_transit[0, 0, 1] == 10
    assert costs.total == 0


@pytest.mark.parametrize(("direct", "left"), [(4, 2), (9, 0)])
def test_the_warehouses_own_customers_take_what_is_left_and_do_not_wait(direct, left):
    env = chain(retailers=1)
    state, costs, _ = env.step(start(env, on_hand=[8, 0], outstanding=[0, 2]), tensor([0, 0]), nature([0], direct))
    assert state.on_hand[0].tolist() == [left, 0]
    assert costs.total == left, "holding costs 1 a unit, customers who find nothing cost nothing"


@pytest.mark.parametrize(
    ("largest_first", "waiting", "shipped"),
    [
        (False, [4, 9, 5], [4, 6, 0]),
        (True, [4, 9, 5], [0, 9, 1]),
        (True, [5, 5, 5], [5, 5, 0]),  # ties in index order
        (True, [2, 2, 9], [1, 0, 9]),
    ],
)
def test_a_short_warehouse_serves_in_index_order_or_largest_first(largest_first, waiting, shipped):
    env = chain(retailers=3, serve_largest_first=largest_first)
    state = start(env, on_hand=[10, 0, 0, 0], outstanding=[0, *waiting])
    after, *_ = env.step(state, tensor([0, 0, 0, 0]), nature([0, 0, 0]))
    assert after.in_transit[0, 0, 1:].tolist() == shipped
    assert after.outstanding[0, 1:].tolist() == [w - s for w, s in zip(waiting, shipped, strict=True)]


def test_outbound_capacity_limits_what_the_warehouse_ships():
    env = chain(retailers=2)
    after, *_ = env.step(
        start(env, on_hand=[100, 0, 0], outstanding=[0, 8, 8]), tensor([0, 0, 0]), nature([0, 0], outbound=10)
    )
    assert after.in_transit[0, 0].tolist() == [0, 8, 2]
    assert after.on_hand[0, 0] == 90


def test_a_new_order_replaces_the_outstanding_one_and_no_order_leaves_it():
    env = chain(retailers=2, max_outstanding=20)
    state, *_ = env.step(start(env, outstanding=[0, 8, 8]), tensor([0, 5, 0]), nature([0, 0]))
    assert state.outstanding[0, 1:].tolist() == [5, 8]
    state, *_ = env.step(state, tensor([0, 999, 1]), nature([0, 0]))
    assert state.outstanding[0, 1:].tolist() == [20, 1]  # cut at max_outstanding


def test_backorders_are_cleared_before_demand_and_unmet_demand_is_partly_lost():
    """12 on hand, 4 owed, demand 18: 4 cleared, 8 filled, 10 unmet, of which 3 are lost and 7 backordered."""
    env = chain(retailers=1, lost_share=0.3, lost_sale_cost=5)
    state, costs, flows = env.step(start(env, on_hand=[2, 12], backorder=[4]), tensor([0, 0]), nature([18]))
    assert (flows.filled.item(), flows.lost.item(), state.backorder.item()) == (8, 3, 7)
    assert state.on_hand[0].tolist() == [2, 0]
    assert (costs.holding.item(), costs.shortage.item(), costs.lost_sales.item()) == (2, 7 * 19, 15)
    assert costs.total.item() == 2 + 7 * 19 + 15


def test_backorders_above_their_cap_are_forgotten_at_no_cost():
    env = chain(retailers=1, max_backorder=6)
    state, costs, flows = env.step(start(env, backorder=[5]), tensor([0, 0]), nature([9]))
    assert (state.backorder.item(), flows.forgotten.item(), costs.total.item()) == (6, 8, 6 * 19)


def test_arrivals_above_the_shelf_are_discarded():
    env = chain(retailers=1, max_inventory={"warehouse": 10, "retailer": 5})
    state = start(env, on_hand=[8, 4])
    state.in_transit[0, 0] = torch.tensor([7.0, 7.0])
    after, *_ = env.step(state, tensor([0, 0]), nature([0]))
    assert after.on_hand[0].tolist() == [10, 5]


def test_orders_are_clipped_to_the_cap():
    env = chain(order_cap=15)
    state, _, flows = env.step(env.reset(1), tensor([40, 16, 14]), nature([0, 0]))
    assert flows.ordered[0].tolist() == [15, 15, 14]
    assert state.outstanding[0].tolist() == [15, 15, 14]


def test_retailers_may_differ():
    env = chain(retailers=2, backorder_cost=[19, 4], holding_cost={"retailer": [1, 2]}, max_backorder=[100, 3])
    _, costs, _ = env.step(start(env, on_hand=[0, 0, 5]), tensor([0, 0, 0]), nature([10, 0]))
    assert (costs.shortage.item(), costs.holding.item()) == (190, 10)
    state, costs, _ = env.step(env.reset(1), tensor([0, 0, 0]), nature([0, 10]))
    assert (state.backorder[0].tolist(), costs.shortage.item()) == ([0, 3], 12)


# --- invariants ------------------------------------------------------------------------------------------------------


def episodes(env, seed, scale, batch=4):
    """Random orders on a random scenario, period by period: state before, orders, nature, result."""
    generator = torch.Generator().manual_seed(seed)
    state = env.reset(batch)
    for exogenous in env.sample(batch, seed).periods():
        orders = scale * torch.rand(batch, env.nodes, generator=generator, dtype=env.dtype)
        orders *= torch.rand(batch, env.nodes, generator=generator) < 0.7  # an order of 0 is special
        result = env.step(state, orders, exogenous)
        yield state, orders, exogenous, result
        state = result.state


@given(name=VARIANT, seed=st.integers(0, 2**32), scale=st.floats(0, 200))
def test_units_are_conserved_at_every_node(name, seed, scale):
    """What comes in, minus what goes out, is what is left: nothing is made, and only what the rules drop vanishes."""
    roomy = {"warehouse": 1e9, "retailer": 1e9}
    env = meirl.make(name, dtype=torch.float64, horizon=40, max_inventory=roomy)
    for before, orders, x, (after, _, flows) in episodes(env, seed, scale):
        received = before.in_transit[:, 0]
        shipped = after.in_transit.sum(1) - (before.in_transit.sum(1) - received)
        stock = before.on_hand[:, 0] + received[:, 0] - shipped[:, 1:].sum(1)
        same = {"rtol": 0, "atol": 1e-9}
        ordered = torch.minimum(orders[:, 0], torch.tensor(env.parameters.order_cap, dtype=env.dtype))
        torch.testing.assert_close(shipped[:, 0], torch.minimum(ordered, x.supplier_capacity), **same)
        torch.testing.assert_close(after.on_hand[:, 0], (stock - x.direct_demand).clamp(min=0), **same)
        cleared = before.backorder + x.demand - flows.filled - flows.lost - flows.forgotten - after.backorder
        left = before.on_hand[:, 1:] + received[:, 1:] - cleared - flows.filled
        torch.testing.assert_close(after.on_hand[:, 1:], left, **same)
        assert (stock >= -1e-9).all()
        assert (shipped >= -1e-9).all()
        assert (shipped[:, 1:] <= before.outstanding[:, 1:] + 1e-9).all()
        assert (shipped[:, 1:].sum(1) <= x.outbound_capacity + 1e-9).all()
        assert (cleared >= -1e-9).all()
        assert (flows.filled + cleared <= before.on_hand[:, 1:] + received[:, 1:] + 1e-9).all()


@given(name=VARIANT, seed=st.integers(0, 2**32), scale=st.floats(0, 1_000))
def test_stocks_backorders_and_outstanding_orders_stay_within_their_limits(name, seed, scale):
    env = meirl.make(name, horizon=60)
    p = env.parameters
    shelf = torch.tensor([p.max_inventory.warehouse] + [p.max_inventory.retailer] * env.retailers)
    for _, _, x, (state, costs, flows) in episodes(env, seed, scale):
        assert ((state.on_hand >= 0) & (state.on_hand <= shelf)).all()
        assert ((state.backorder >= 0) & (state.backorder <= p.max_backorder)).all()
        assert ((state.outstanding[:, 1:] >= 0) & (state.outstanding[:, 1:] <= p.max_outstanding)).all()
        assert (state.in_transit >= 0).all()
        assert ((flows.filled >= 0) & (flows.filled <= x.demand)).all()
        assert (torch.stack(costs) >= 0).all()
        assert not ((state.backorder > 0) & (state.on_hand[:, 1:] > 0)).any()  # nobody waits beside a full shelf


@given(name=VARIANT, seed=st.integers(0, 2**32))
def test_a_step_of_a_batch_is_the_steps_of_its_rows(name, seed):
    env = meirl.make(name, dtype=torch.float64, horizon=30)
    for before, orders, x, (after, costs, flows) in episodes(env, seed, 60):
        for i in range(len(orders)):
            row = slice(i, i + 1)
            alone = env.step(DivergentState(*(f[row] for f in before)), orders[row], Exogenous(*(f[row] for f in x)))
            for ours, theirs in zip((*alone.state, *alone.flows), (*after, *flows), strict=True):
                assert torch.equal(ours, theirs[row])
            torch.testing.assert_close(alone.costs.total, costs.total[row], rtol=1e-14, atol=0)


# --- actions and observations ----------------------------------------------------------------------------------------


@given(name=VARIANT, share=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_actions_and_orders_are_inverse(name, share):
    env = meirl.make(name, dtype=torch.float64)
    orders = tensor(share) * env.parameters.max_order
    torch.testing.assert_close(env.orders(env.action(orders)), orders, rtol=0, atol=1e-9)
    action = tensor(share) * 2 - 1
    torch.testing.assert_close(env.action(env.orders(action)), action, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_actions_reach_nothing_and_everything_and_are_clipped_beyond(name):
    env = meirl.make(name, dtype=torch.float64)
    most = env.parameters.max_order
    orders = env.orders(tensor([-1, 1, -7, 7]))
    assert orders[0].tolist() == [0, most, 0, most]
    assert env.action(tensor([0, most, 10 * most, most / 2]))[0].tolist() == [-1, 1, 1, 0]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_observation_is_the_14_numbers_of_the_study(name):
    env = meirl.make(name, observation="published", dtype=torch.float64)
    p, state = env.parameters, env.reset(1)
    state = state._replace(
        on_hand=tensor([100, 10, 20, 30]), backorder=tensor([1, 2, 3]), outstanding=tensor([9, 4, 5, 6])
    )
    state.in_transit[0, :2] = tensor([50, 1, 2, 3], [50, 10, 10, 10])
    expected = [
        100 / p.max_inventory.warehouse, *(k / p.max_inventory.retailer for k in (10, 20, 30)),
        *(k / p.max_backorder for k in (1, 2, 3)), *(k / p.max_in_transit for k in (11, 12, 13)),
        *(k / p.max_outstanding for k in (9, 4, 5, 6)),
    ]  # fmt: skip
    seen = env.observe(state, 0).vector()
    torch.testing.assert_close(seen, tensor(expected))
    assert len(env.legend()) == 14
    huge = state._replace(backorder=tensor([1e9, 0, 0]))
    assert env.observe(huge, 0).vector().max() == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_full_observation_names_and_shows_the_pipeline_and_the_calendar(name):
    env = meirl.make(name, dtype=torch.float64)
    state = env.reset(2)
    state.in_transit[1, 0, 2] = 33
    seen = dict(zip(env.legend(), env.observe(state, 30).vector()[1].tolist(), strict=True))
    assert len(seen) == len(env.legend()), "every name is different"
    assert seen["due in 1, retailer 2"] == pytest.approx(33 / env.parameters.demand.mean)  # in periods of demand
    assert ("season, sine" in seen) == (name == "divergent-nonstationary")
    if name == "divergent-nonstationary":
        assert seen["season, sine"] == pytest.approx(1)


# --- gradients -------------------------------------------------------------------------------------------------------


def cost_of_levels(env, levels, scenario):
    """Mean cost of a base-stock policy with these order-up-to levels, as a function that has a gradient."""

    def policy(observation):
        state = observation.state
        owed = torch.nn.functional.pad(state.backorder, (1, 0))
        return env.action(torch.relu(levels - (state.on_hand + state.in_transit.sum(1) - owed)))

    return meirl.simulate(env, policy, scenario).cost.mean()


@pytest.mark.parametrize(
    ("name", "levels", "changes"),
    [
        ("divergent-stationary", [61.3, 27.4, 33.7, 30.1], {"max_order": 60, "order_cap": 60}),
        ("divergent-nonstationary", [190.3, 57.4, 63.7, 71.1], {}),
    ],
)
def test_the_gradient_of_the_cost_in_the_order_up_to_levels_matches_finite_differences(name, levels, changes):
    """The cost is piecewise linear in the levels, so central differences are exact away from the kinks.

    A random part of a unit is added to all demand: on whole numbers, ties (two equal orders, an order of exactly 0) put
    many episodes at a kink.
    """
    stock = {"warehouse": 40, "retailer": 20}
    env = meirl.make(name, dtype=torch.float64, horizon=60, initial_stock=stock, **changes)
    meirl.rollout(env, lambda o: torch.zeros(8, 4, dtype=torch.float64), env.sample(8, 0))  # gradients survive this
    scenario = env.sample(8, 4)
    part = torch.rand(scenario.demand.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scenario = scenario._replace(demand=scenario.demand + part, direct_demand=scenario.direct_demand + part[..., 0])
    at = torch.tensor(levels, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(cost_of_levels(env, at, scenario), at)
    width = 1e-6
    with torch.no_grad():
        shifts = width * torch.eye(4, dtype=torch.float64)
        pairs = [(cost_of_levels(env, at + s, scenario), cost_of_levels(env, at - s, scenario)) for s in shifts]
    differences = torch.stack([(up - down) / (2 * width) for up, down in pairs])
    torch.testing.assert_close(gradient, differences, rtol=1e-6, atol=1e-5)
    assert (gradient.abs() > 1).all(), "every level matters here"
