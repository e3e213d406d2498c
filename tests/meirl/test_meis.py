"""MEIS: order of events by hand, a plain-Python model of single customers, invariants, the order book, actions."""

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import meirl
from meirl.envs import Exogenous, MeisState

NAMES = ("meis-stationary", "meis-nonstationary")
VARIANT = st.sampled_from(NAMES)


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def nature(demand, lead=1, outbound=np.inf):
    lead = torch.as_tensor(lead).expand(1, 3)
    return Exogenous(tensor(demand), tensor(0.0), tensor(np.inf), tensor(outbound), lead, tensor(1.0))


def system(**changes):
    """Two leaves, nothing on hand, an impatience of 2 days."""
    settings = {"initial_stock": {"middle": 0, "leaf": 0}, "max_backlog_duration": 2, "withdrawal_cost": 3}
    return meirl.make("meis-stationary", dtype=torch.float64, **(settings | changes))


def start(env, **fields) -> MeisState:
    return env.reset(1)._replace(**{key: tensor(value) for key, value in fields.items()})


NOTHING = tensor([0, 0, 0])

# --- the order of events ---------------------------------------------------------------------------------------------


def test_a_middle_order_arrives_in_full_after_its_lead_time():
    env = system()
    state, costs, _ = env.step(env.reset(1), tensor([5000, 0, 0]), nature([0, 0], lead=2))
    assert costs.ordering.item() == 1000
    assert costs.pipeline.item() == pytest.approx(5000 * 0.01)
    seen = []
    for _ in range(2):
        state, costs, _ = env.step(state, NOTHING, nature([0, 0]))
        seen.append((state.on_hand[0, 0].item(), round(costs.pipeline.item(), 9), costs.ordering.item()))
    assert seen == [(0, 50, 0), (5000, 0, 0)]


@pytest.mark.parametrize(("quantity", "cost"), [(3000, 5000), (9000, 5000), (12000, 6000)])
def test_a_leafs_order_costs_half_its_quantity_but_at_least_5000(quantity, cost):
    env = system()
    _, costs, _ = env.step(env.reset(1), tensor([0, 0, quantity]), nature([0, 0]))
    assert costs.ordering.item() == cost


def test_demand_comes_before_deliveries_and_deliveries_before_the_backlog_ages():
    """Demand of 100 finds an empty shelf; 3,000 arrive the same day and fill it: nobody waits overnight."""
    env = system()
    state, *_ = env.step(start(env, on_hand=[3000, 0, 0]), tensor([0, 3000, 0]), nature([0, 0]))
    assert state.on_hand[0].tolist() == [3000, 0, 0]
    state, costs, flows = env.step(state, NOTHING, nature([100, 0]))
    assert state.on_hand[0].tolist() == [0, 2900, 0]
    assert (flows.filled[0, 0].item(), flows.filled_same_period[0, 0].item(), flows.backlog.sum().item()) == (0, 100, 0)
    assert costs.shortage.item() == 0
    assert costs.holding.item() == pytest.approx(2900 * 0.05)


def test_the_middle_receives_before_it_serves_and_leaf_1_comes_first():
    """5,000 reach the middle and leave at once; leaf 2 gets what is left, the rest is due tomorrow."""
    env = system()
    state = env.reset(1)
    state.on_order[0, 1] = tensor(5000, 3000, 6000)
    state, *_ = env.step(state._replace(on_order=state.on_order), NOTHING, nature([0, 0]))
    state, costs, _ = env.step(state, NOTHING, nature([0, 0]))
    assert state.on_hand[0].tolist() == [0, 3000, 2000]
    assert state.on_order[0, 0].tolist() == [0, 0, 4000]
    assert costs.pipeline.item() == pytest.approx(40)


def test_outbound_capacity_delays_but_loses_nothing():
    env = system()
    state = start(env, on_hand=[9000, 0, 0])
    state.on_order[0, 0] = tensor(0, 3000, 3000)
    state, *_ = env.step(state, NOTHING, nature([0, 0], outbound=4000))
    assert state.on_hand[0].tolist() == [5000, 3000, 1000]
    state, *_ = env.step(state, NOTHING, nature([0, 0], outbound=4000))
    assert state.on_hand[0].tolist() == [3000, 3000, 3000]


def test_customers_wait_at_most_the_maximum_and_then_withdraw_at_a_cost():
    """With 2 days' patience: unmet on day 0, waiting after days 0 and 1, withdrawn on day 2."""
    env = system()
    state, seen = env.reset(1), []
    for day in range(4):
        state, costs, flows = env.step(state, NOTHING, nature([10 if day == 0 else 0, 0]))
        seen.append((costs.shortage.item(), costs.lost_sales.item(), flows.lost[0, 0].item()))
    assert seen == [(20, 0, 0), (20, 0, 0), (0, 30, 10), (0, 0, 0)]


# --- single customers, in plain Python -------------------------------------------------------------------------------


def plain_leaf(stock, deliveries, demand, patience):
    """One leaf by single units in a queue; after each day: stock, waiting by age (oldest first), withdrawn."""
    queue: deque = deque()  # ages in days, oldest first
    days = []
    for arrived, asked in zip(deliveries, demand, strict=True):
        filled = min(stock, asked)
        stock -= filled
        queue.extend([0] * (asked - filled))
        stock += arrived
        while stock and queue:
            queue.popleft()
            stock -= 1
        aged = [age + 1 for age in queue]
        queue = deque(age for age in aged if age <= patience)
        waiting = [sum(age == k for age in queue) for k in range(patience, 0, -1)]
        days.append((stock, waiting, len(aged) - len(queue)))
    return days


@given(
    patience=st.integers(1, 4),
    stock=st.integers(0, 5),
    days=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=25),
)
def test_the_backlog_is_first_in_first_out_unit_by_unit(patience, stock, days):
    env = system(max_backlog_duration=patience)
    demand, arrivals = zip(*days, strict=True)
    state = start(env, on_hand=[10**6, stock, 0])
    expected = plain_leaf(stock, arrivals, demand, patience)
    for asked, arrived, (left, waiting, withdrawn) in zip(demand, arrivals, expected, strict=True):
        state.on_order[0, 0, 1] = arrived  # due today
        state, _, flows = env.step(state, NOTHING, nature([asked, 0]))
        assert state.on_hand[0, 1] == left
        assert state.backlog[0, :, 0].tolist() == waiting
        assert flows.lost[0, 0] == withdrawn


# --- invariants ------------------------------------------------------------------------------------------------------


def episodes(env, seed, batch=4):
    """Random actions on a random scenario, day by day: state before, orders, nature, result."""
    generator = torch.Generator().manual_seed(seed)
    state = env.reset(batch)
    for exogenous in env.sample(batch, seed).periods():
        orders = env.orders(torch.randint(13, (batch,), generator=generator))
        result = env.step(state, orders, exogenous)
        yield state, orders, exogenous, result
        state = result.state


@given(name=VARIANT, seed=st.integers(0, 2**32))
def test_units_and_customers_are_conserved(name, seed):
    env = meirl.make(name, dtype=torch.float64, horizon=60)
    same = {"rtol": 0, "atol": 1e-6}
    for before, orders, x, (after, costs, flows) in episodes(env, seed):
        received = before.on_order.sum(1) + orders - after.on_order.sum(1)
        sent = received[:, 1:].sum(1)
        torch.testing.assert_close(after.on_hand[:, 0], before.on_hand[:, 0] + received[:, 0] - sent, **same)
        served = before.backlog.sum(1) + x.demand - flows.lost - after.backlog.sum(1)
        torch.testing.assert_close(after.on_hand[:, 1:], before.on_hand[:, 1:] + received[:, 1:] - served, **same)
        assert (received >= -1e-6).all()
        assert (sent <= x.outbound_capacity + 1e-6).all()
        assert (flows.filled <= flows.filled_same_period + 1e-6).all()
        assert (flows.filled_same_period <= x.demand + 1e-6).all()
        assert (served >= flows.filled - 1e-6).all()
        torch.testing.assert_close(after.backlog.sum(1), flows.backlog)
        for field in (after.on_hand, after.backlog, after.on_order, torch.stack(costs)):
            assert (field >= 0).all()
        assert not ((after.on_hand[:, 1:] > 1e-6) & (flows.backlog > 1e-6)).any()


@given(name=VARIANT, seed=st.integers(0, 2**32), observation=st.sampled_from(["published", "full"]))
def test_a_step_of_a_batch_is_the_steps_of_its_rows(name, seed, observation):
    env = meirl.make(name, dtype=torch.float64, horizon=20, observation=observation)

    def row(fields, i):
        return type(fields)(
            *(None if f is None else row(f, i) if isinstance(f, tuple) else f[i : i + 1] for f in fields)
        )

    for before, orders, x, (after, costs, flows) in episodes(env, seed):
        for i in range(len(orders)):
            alone = env.step(row(before, i), orders[i : i + 1], row(x, i))
            for ours, theirs in zip((*alone.state[:4], *alone.flows), (*after[:4], *flows), strict=True):
                assert torch.equal(ours, theirs[i : i + 1])
            torch.testing.assert_close(alone.costs.total, costs.total[i : i + 1], rtol=1e-14, atol=0)
            seen, all_seen = env.observe(alone.state, 0).vector(), env.observe(after, 0).vector()
            assert torch.equal(seen, all_seen[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_the_order_book_is_the_pipeline_order_by_order(name, dtype):
    """No order stays in the book after its delivery, whatever rounding does to partial deliveries."""
    env = meirl.make(name, dtype=dtype, observation="published")
    for _, _, _, (state, _, _) in episodes(env, seed=3, batch=32):
        torch.testing.assert_close(state.book.quantity.sum(1), state.on_order.sum(1), rtol=1e-6, atol=0.1)
        quantity, age = env.oldest_order(state.book)
        on_order = state.on_order.sum(1)
        assert (quantity[on_order < 1e-3] == 0).all()
        assert (age[on_order < 1e-3] == 0).all()
        assert (age[on_order > 1] >= 1).all()


def test_the_oldest_order_is_the_one_placed_first():
    """The first order has the longer lead time: it stays the oldest although the second is delivered before it."""
    env = system(initial_stock={"middle": 50000, "leaf": 0}, observation="published")
    state, seen = env.reset(1), []
    for quantity, lead in ((3000, 4), (6000, 1), (0, 1), (0, 1), (0, 1)):
        state, *_ = env.step(state, tensor([0, quantity, 0]), nature([0, 0], lead=lead))
        amount, age = env.oldest_order(state.book)
        seen.append((amount[0, 1].item(), age[0, 1].item(), state.on_order.sum(1)[0, 1].item()))
    assert seen == [(3000, 1, 3000), (3000, 2, 9000), (3000, 3, 3000), (3000, 4, 3000), (0, 0, 0)]


# --- actions and observations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_13_actions_are_those_of_the_study(name):
    env = meirl.make(name)
    orders = env.orders(torch.arange(13))
    assert orders[0].tolist() == [0, 0, 0]
    assert orders[1:5, 0].tolist() == [5000, 10000, 15000, 20000]
    assert orders[5:9, 1].tolist() == orders[9:13, 2].tolist() == [3000, 6000, 9000, 12000]
    assert ((orders > 0).sum(1) == torch.tensor([0] + [1] * 12)).all()
    assert torch.equal(env.action(orders), torch.arange(13))
    assert env.action(torch.tensor([[0.0, 7400, 0]])).item() == 6  # the nearest
    assert env.action_space.n == 13


def test_more_leaves_mean_more_actions_and_observations():
    env = meirl.make("meis-nonstationary", leaves=4)
    assert env.action_space.n == 1 + 4 + 4 * 4
    _, _, flows = env.step(env.reset(3), env.orders(torch.tensor([0, 20, 5])), env.sample(3, 0).at(0))
    assert flows.demand.shape == (3, 4)
    assert env.observe(env.reset(3), 0).vector().shape == (3, len(env.legend()))


@pytest.mark.parametrize("name", NAMES)
def test_the_published_observation_is_the_12_numbers_of_the_study(name):
    env = meirl.make(name, observation="published", dtype=torch.float64)
    seen = env.observe(env.reset(1), 0).vector() * 10_000
    assert seen[0].tolist() == [10000, 0, 0, 0, 5000, 0, 0, 0, 5000, 0, 0, 0]
    state, *_ = env.step(env.reset(1), env.orders(torch.tensor([2])), nature([0, 0], lead=3))
    seen = env.observe(state, 1).vector() * 10_000
    torch.testing.assert_close(seen[0, :4], torch.tensor([10000, 10000, 1, 10000], dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_the_full_observation_names_every_number(name):
    env = meirl.make(name, dtype=torch.float64)
    state = env.reset(1)
    state.backlog[0, 0, 1] = 40
    state.on_order[0, 2, 0] = 5000
    seen = dict(zip(env.legend(), env.observe(state, 0).vector()[0].tolist(), strict=True))
    assert len(seen) == len(env.legend()), "every name is different"
    assert seen[f"waiting {env.parameters.max_backlog_duration} days, leaf 2"] == pytest.approx(0.004)
    assert seen["due in 2, middle"] == pytest.approx(0.5)
    assert ("season, sine" in seen) == (name == "meis-nonstationary")
