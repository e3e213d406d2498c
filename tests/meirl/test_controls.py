"""The controls, and what they need: orders of events, rationing by name, warm-up, endless tasks."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_divergent import chain, nature, start, tensor
from typer.testing import CliRunner

import meirl
from meirl import heuristics
from meirl.__main__ import app
from meirl.heuristics import RULES, tuning
from meirl.learn import ppo, preset
from meirl.learn.experience import Collector

SIGMAS = 3
LITERATURE = {(124, 30): (4041.4, 1.2), (111, 31): (3713.3, 1.7)}  # an independent simulation: cost, standard error


def evaluated(name, rule, *more):
    arguments = ["evaluate", "--env", name, "--heuristic", rule, "--episodes", "3", "--json", *more]
    return json.loads(CliRunner().invoke(app, arguments).stdout)


# --- the controls ----------------------------------------------------------------------------------------------------


def test_the_study_has_four_environments_and_the_controls_are_beside_them():
    assert len(meirl.NAMES) == 4
    assert meirl.CONTROLS == ("lost-sales", "two-echelon", "kunnumkal-topaloglu")
    assert not set(meirl.NAMES) & set(meirl.CONTROLS)
    with pytest.raises(ValueError, match=r"expected one of divergent-stationary, .*, kunnumkal-topaloglu, or a YAML"):
        meirl.make("nowhere")


@pytest.mark.parametrize("name", meirl.CONTROLS)
def test_a_control_is_an_environment_like_any_other(name, observation):
    env = meirl.make(name, observation=observation)
    assert not env.sees_end
    assert "time left" not in env.legend()
    check_env(gym.make(f"meirl/{name}-v0", observation=observation).unwrapped)
    assert evaluated(name, "never-order")["mean_cost"] > 0


@pytest.mark.parametrize(("levels", "published"), LITERATURE.items(), ids=str)
def test_the_divergent_system_of_the_literature_costs_what_it_costs_elsewhere(levels, published):
    env = meirl.make("kunnumkal-topaloglu", dtype=torch.float64)
    warehouse, retailer = levels
    rule = RULES["base-stock"].policy(env, [warehouse, retailer, retailer, retailer])
    summary = meirl.summarise(meirl.rollout(env, rule, env.sample(20_000, seed=6)))
    cost, error = published
    assert abs(summary["mean_cost"] - cost) < SIGMAS * np.hypot(error, summary["standard_error"])
    assert summary["standard_error"] < 4


# --- order of events -------------------------------------------------------------------------------------------------


def shipped(state, env):
    """What left for the retailers in the last period: they had nothing in transit before."""
    return env.on_order(state)[0, 1:].tolist()


def test_a_warehouse_that_ships_at_once_fills_the_orders_of_the_same_period():
    env = chain(ships="at once")
    state, *_ = env.step(start(env, on_hand=[10, 0, 0]), tensor([0, 7, 5]), nature([0, 0]))
    assert shipped(state, env) == [7, 3]
    assert state.outstanding[0, 1:].tolist() == [0, 2]
    assert state.on_hand[0, 0] == 0
    state, *_ = env.step(state._replace(on_hand=tensor([10, 0, 0])), tensor([0, 0, 0]), nature([0, 0]))
    assert state.in_transit[0, 0, 1:].tolist() == [0, 2]  # what waited
    assert state.on_hand[0, 1:].tolist() == [7, 3]  # what was shipped in the period before


@pytest.mark.parametrize(("receives", "expected"), [("before shipping", [4, 5]), ("after shipping", [4, 0])])
def test_what_arrives_can_be_shipped_in_the_same_period_or_not(receives, expected):
    env = chain(receives=receives)
    state = start(env, on_hand=[4, 0, 0], outstanding=[0, 4, 5])
    state.in_transit[0, 0] = torch.tensor([8.0, 1.0, 2.0])
    after, *_ = env.step(state, tensor([0, 0, 0]), nature([0, 0]))
    assert after.in_transit[0, 0, 1:].tolist() == expected
    assert after.on_hand[0].tolist() == [12 - sum(expected), 1, 2]  # received either way
    assert after.outstanding[0, 1:].tolist() == [4 - expected[0], 5 - expected[1]]


def test_stock_that_arrives_after_shipping_is_cut_at_the_shelf_then():
    env = chain(receives="after shipping", max_inventory={"warehouse": 10, "retailer": 10})
    state = start(env, on_hand=[10, 0, 0], outstanding=[0, 6, 0])
    for arrives, left in ((5, 9), (9, 10)):
        state.in_transit[0, 0, 0] = arrives
        after, *_ = env.step(state, tensor([0, 0, 0]), nature([0, 0]))
        assert after.on_hand[0, 0] == left


@pytest.mark.parametrize("ships", ["at once", "next period"])
def test_what_is_not_shipped_waits_or_vanishes(ships):
    left = {}
    for unshipped in ("waits", "vanishes"):
        env = chain(ships=ships, unshipped=unshipped)
        state = start(env, on_hand=[5, 0, 0], outstanding=[0, 4, 4])
        orders = tensor([3, 4, 4] if ships == "at once" else [3, 0, 0])
        after, *_ = env.step(state, orders, nature([0, 0]))
        assert shipped(after, env) == [4, 1]
        assert after.outstanding[0, 0] == 3
        left[unshipped] = after.outstanding[0, 1:].tolist()
    assert left == {"waits": [0, 3], "vanishes": [0, 0]}


def test_a_new_order_is_not_forgotten_where_old_ones_vanish():
    env = chain(unshipped="vanishes")
    after, *_ = env.step(start(env, outstanding=[0, 4, 4]), tensor([0, 7, 0]), nature([0, 0]))
    assert after.outstanding[0, 1:].tolist() == [7, 0]


@pytest.mark.parametrize(
    ("on_hand", "backorder", "expected"),
    [([5, 0, 3], [0, 0, 0], [0, 8, 2]), ([0, 0, 0], [0, 2, 9], [0, 2, 8]), ([1, 1, 1], [0, 0, 0], [8, 2, 0])],
    ids=["lowest first", "backorders count", "ties in index order"],
)
def test_rationing_by_the_lowest_stock(on_hand, backorder, expected):
    env = chain(retailers=3, rationing="lowest stock")
    state = start(env, on_hand=[10, *on_hand], backorder=backorder, outstanding=[0, 8, 8, 8])
    after, *_ = env.step(state, tensor([0, 0, 0, 0]), nature([0, 0, 0]))
    assert after.in_transit[0, 0, 1:].tolist() == expected


def test_stock_that_arrives_before_shipping_counts_in_the_rationing():
    first, later = (chain(rationing="lowest stock", receives=r) for r in ("before shipping", "after shipping"))
    sent = []
    for env in (first, later):
        state = start(env, on_hand=[3, 0, 1], outstanding=[0, 5, 5])
        state.in_transit[0, 0, 1] = 9
        after, *_ = env.step(state, tensor([0, 0, 0]), nature([0, 0]))
        sent.append(after.in_transit[0, 0, 1:].tolist())
    assert sent == [[0, 3], [3, 0]]


VARIANTS = st.fixed_dictionaries(
    {
        "ships": st.sampled_from(["at once", "next period"]),
        "receives": st.sampled_from(["before shipping", "after shipping"]),
        "unshipped": st.sampled_from(["waits", "vanishes"]),
        "rationing": st.sampled_from(["first retailer", "largest order", "lowest stock"]),
    }
)


@given(variant=VARIANTS, seed=st.integers(0, 2**32), scale=st.floats(0, 60))
def test_units_are_conserved_whatever_the_order_of_events(variant, seed, scale):
    roomy = {"warehouse": 1e9, "retailer": 1e9}
    env = meirl.make("divergent-nonstationary", dtype=torch.float64, horizon=30, max_inventory=roomy, **variant)
    generator = torch.Generator().manual_seed(seed)
    state = env.reset(3)
    for x in env.sample(3, seed).periods():
        orders = scale * torch.rand(3, env.nodes, generator=generator, dtype=env.dtype)
        after, _, flows = env.step(state, orders, x)
        received = state.in_transit[:, 0]
        sent = env.on_order(after) - (env.on_order(state) - received)
        stock = state.on_hand[:, 0] + received[:, 0] - sent[:, 1:].sum(1)
        torch.testing.assert_close(after.on_hand[:, 0], (stock - x.direct_demand).clamp(min=0), rtol=0, atol=1e-9)
        can_ship = state.on_hand[:, 0] + received[:, 0] * (variant["receives"] == "before shipping")
        assert (sent >= -1e-9).all()
        assert (sent[:, 1:].sum(1) <= torch.minimum(can_ship, x.outbound_capacity) + 1e-9).all()
        if variant["unshipped"] == "vanishes" and variant["ships"] == "at once":
            assert (after.outstanding[:, 1:] == 0).all()
        cleared = state.backorder + x.demand - flows.filled - flows.lost - flows.forgotten - after.backorder
        left = state.on_hand[:, 1:] + received[:, 1:] - cleared - flows.filled
        torch.testing.assert_close(after.on_hand[:, 1:], left, rtol=0, atol=1e-9)
        state = after


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rationing": "loudest"}, r"rationing: .*'first retailer', 'largest order' or 'lowest stock'.*got 'loudest'"),
        ({"ships": "never"}, r"ships: .*'next period' or 'at once'.*got 'never'"),
        ({"receives": "twice"}, r"receives: .*got 'twice'"),
        ({"unshipped": "returns"}, r"unshipped: .*'waits' or 'vanishes'.*got 'returns'"),
        ({"serve_largest_first": "yes"}, r"serve_largest_first: unknown key, got 'yes'"),
        (
            {"demand": {"noise": {"spread": 2.5, "whole": True}}},
            r"whole needs a spread that is a whole number, got 2\.5",
        ),
        ({"warm_up": 500}, "warm_up must be shorter than the horizon, got 500 and 500"),
        ({"warm_up": -1}, r"warm_up: .*greater than or equal to 0.*got -1"),
        ({"cost_per": "year"}, r"cost_per: .*'episode' or 'period'.*got 'year'"),
    ],
)
def test_an_impossible_choice_is_refused_by_key_and_value(changes, message):
    with pytest.raises(ValueError, match=message):
        meirl.make("divergent-stationary", **changes)


@pytest.mark.parametrize(("old", "new"), [(True, "largest order"), (False, "first retailer")])
def test_files_of_version_1_0_mean_what_they_meant(old, new):
    assert meirl.make("divergent-stationary", serve_largest_first=old).parameters.rationing == new


def test_a_retailer_may_have_its_own_largest_order():
    env = chain(retailers=2, max_order=60, max_retailer_order=20, order_cap=50)
    action = tensor([0, 0, 1])
    assert env.orders(action)[0].tolist() == [30, 10, 20]
    assert env.action(env.orders(action))[0].tolist() == pytest.approx([0, 0, 1])
    assert env.largest_order.tolist() == [50, 20, 20]
    assert chain(retailers=2, max_order=60).orders(action)[0].tolist() == [30, 30, 60]


# --- demand ----------------------------------------------------------------------------------------------------------


def test_the_rate_is_a_whole_number_each_equally_likely():
    """Poisson with a rate of 5, 6, ... or 15: mean 10, variance 10 + 10; the whole distribution."""
    env = meirl.make("kunnumkal-topaloglu", dtype=torch.float64)
    units = env.sample(2_000, seed=3).demand.numpy().ravel()
    chance = stats.poisson.pmf(np.arange(41), np.arange(5, 16)[:, None]).mean(0)
    seen = np.bincount(units.astype(int), minlength=41)[:41]
    expected = chance / chance.sum() * seen.sum()
    assert stats.chisquare(seen[:31], expected[:31] * seen[:31].sum() / expected[:31].sum()).pvalue > 1e-6
    assert units.var() == pytest.approx(20, rel=0.01)
    continuous = meirl.make("kunnumkal-topaloglu", dtype=torch.float64, demand={"noise": {"whole": False}})
    assert continuous.sample(2_000, seed=3).demand.numpy().var() == pytest.approx(10 + 25 / 3, rel=0.01)


# --- what counts, and what agents see --------------------------------------------------------------------------------


def test_results_leave_the_warm_up_out(name):
    env = meirl.make(name, dtype=torch.float64, horizon=40, warm_up=15)
    rule, scenario = heuristics.load(env, "constant-order"), env.sample(5, seed=2)
    table, path = meirl.rollout(env, rule, scenario), meirl.trajectory(env, rule, scenario)
    assert path["cost"].shape == (5, 40)
    np.testing.assert_allclose(table["cost"], path["cost"][:, 15:].sum(1) / env.parameters.cost_unit)
    np.testing.assert_allclose(table["on_hand"], path["on_hand"][:, 15:].sum(2).mean(1))
    np.testing.assert_allclose(table["lost"], path["lost"][:, 15:].sum((1, 2)))
    bullwhip = path["orders"][:, 15:, 0].var(1) / path["demand"][:, 15:].var(1).sum(1)
    np.testing.assert_allclose(table["bullwhip"], bullwhip, rtol=1e-6, atol=1e-9)
    found = heuristics.read_levels(env, "constant-order")
    cost = tuning.mean_costs(env, RULES[found.rule], np.array([list(found.levels.values())]), scenario)
    assert cost[0] == pytest.approx(table["cost"].mean())


def test_costs_per_period_are_means_over_the_periods_that_count():
    whole, each = (meirl.make("two-echelon", horizon=60, cost_per=c, cost_unit=2) for c in ("episode", "period"))
    assert (whole.cost_unit, each.cost_unit) == (2, 2 * 20)
    rule, scenario = RULES["constant-order"].policy(whole, [30, 10, 10, 10]), whole.sample(4, seed=0)
    ours, theirs = (meirl.rollout(env, rule, scenario)["cost"] for env in (each, whole))
    np.testing.assert_allclose(20 * ours, theirs)


def test_the_command_line_may_say_another_warm_up():
    warm_ups = [], ["--warm-up", "0"]
    costs = [evaluated("kunnumkal-topaloglu", "base-stock", *more)["mean_cost"] for more in warm_ups]
    env = meirl.make("kunnumkal-topaloglu")
    path = meirl.trajectory(env, heuristics.load(env, "base-stock"), meirl.held_out(env, "test", 3))["cost"]
    assert costs == pytest.approx([path[:, 25:].sum(1).mean(), path.sum(1).mean()])


def test_a_learner_reports_what_counts_and_bootstraps_where_an_endless_task_is_cut():
    env = meirl.make("two-echelon", horizon=60)
    config = preset("ppo", "tuned", env.name, steps=60 * 8, environments=8, copies=1, segment=60, validation_episodes=4)
    collector = Collector(env, config, ppo.Network(env, config), seed=0)
    segment = collector.collect(60)
    assert not segment.terminal
    paid = -segment.reward * env.parameters.reward_unit  # all periods, counted or not
    assert collector.cost == pytest.approx(float(paid[40:].sum(0).mean()) / 20, rel=1e-5)
    run = ppo.train(env, config, 0, progress=False)
    validated = meirl.rollout(env, run.policy, meirl.held_out(env, "validation", 4))["cost"].mean()
    assert run.best_cost == pytest.approx(validated, rel=1e-5)


def test_gymnasium_truncates_an_endless_task():
    env = gym.make("meirl/lost-sales-v0", horizon=60).unwrapped
    env.reset(seed=0)
    for _ in range(60):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
    assert (terminated, truncated) == (False, True)


# --- rules -----------------------------------------------------------------------------------------------------------


def orders(env, rule, levels, state):
    return env.orders(RULES[rule].policy(env, levels)(env.observe(state, 0)))[0].tolist()


def test_an_open_order_counts_if_it_ships_now():
    env = chain(retailers=2)
    state = start(env, on_hand=[6, 1, 1], outstanding=[0, 4, 5], backorder=[0, 2])
    state.in_transit[0, 0, 0] = 2  # arrives before shipping: 8 in all, 4 and 4 of the 5
    assert orders(env, "base-stock-open-orders", [50, 20, 20], state) == pytest.approx([50 - (8 - 9), 20 - 5, 20 - 3])
    assert orders(env, "echelon-base-stock-open-orders", [50, 20, 20], state) == pytest.approx([50 - 8, 15, 17])
    late = chain(retailers=2, receives="after shipping")
    assert orders(late, "base-stock-open-orders", [50, 20, 20], state) == pytest.approx([51, 15, 20 - (-1 + 2)])
    at_once = chain(retailers=2, ships="at once")  # the new order replaces the old one
    assert orders(at_once, "base-stock-open-orders", [50, 20, 20], state) == pytest.approx([51, 19, 21])


@pytest.mark.parametrize("rationing", ["first retailer", "largest order", "lowest stock"])
@pytest.mark.parametrize("receives", ["before shipping", "after shipping"])
def test_what_ships_is_known_before_it_does(receives, rationing):
    tight = {"warehouse": 1e9, "retailer": 12}
    env = chain(retailers=4, receives=receives, rationing=rationing, max_inventory=tight)
    generator = torch.Generator().manual_seed(0)

    def units(*shape):
        return 10 * torch.rand(200, *shape, generator=generator, dtype=env.dtype)

    state = env.reset(200)._replace(on_hand=units(5), backorder=units(4), outstanding=units(5), in_transit=units(4, 5))
    state.in_transit[:, -1] = 0  # no lead time is that long
    known = heuristics.divergent.shipping(env.observe(state, 0))
    x = env.sample(200, 0).at(0)
    after, *_ = env.step(state, torch.zeros(200, 5, dtype=env.dtype), x)
    sent = env.on_order(after) - env.on_order(state) + state.in_transit[:, 0]
    torch.testing.assert_close(known, sent[:, 1:], rtol=0, atol=1e-9)
    assert known.sum(1).lt(state.outstanding[:, 1:].sum(1)).any(), "some have to wait"


def test_no_retailer_orders_above_the_cap_but_the_warehouse_may():
    env = chain(retailers=2)
    state = start(env, on_hand=[0, 1, 18])
    assert orders(env, "capped-base-stock", [50, 20, 20, 6], state) == pytest.approx([50, 6, 2])


@pytest.mark.parametrize(
    ("stock", "on_hand", "expected"),
    [
        (100, [1, 5, 12], [9, 5, 0]),  # enough: everybody up to 10
        (6, [1, 5, 12], [5, 1, 0]),  # to a height of 6
        (3, [1, 5, 12], [3, 0, 0]),  # only the lowest
        (0, [1, 5, 12], [0, 0, 0]),
        (9, [4, 4, 4], [3, 3, 3]),
    ],
)
def test_balanced_echelons_pour_what_there_is_onto_the_lowest(stock, on_hand, expected):
    env = chain(retailers=3, ships="at once", receives="after shipping")
    state = start(env, on_hand=[stock, *on_hand])
    whole = stock + sum(on_hand)
    assert orders(env, "balanced-echelon", [200, 10], state) == pytest.approx([200 - whole, *expected])


def test_balanced_echelons_know_what_can_be_shipped_and_when():
    """In the next period the warehouse ships from what it has, less what it ships now, plus two receipts."""
    env = chain(retailers=2, lead_time={"low": 1, "high": 3})
    state = start(env, on_hand=[6, 0, 0], outstanding=[0, 3, 1])
    state.in_transit[0, :3, 0] = torch.tensor([2.0, 5.0, 100.0])
    got = orders(env, "balanced-echelon", [500, 50], state)[1:]
    assert sum(got) == pytest.approx(6 + 2 + 5 - 4)
    assert 3 + got[0] == pytest.approx(1 + got[1])
    busy = chain(retailers=2, lead_time={"low": 1, "high": 3}, demand={"mean": 8, "direct": 0.5})
    got = orders(busy, "balanced-echelon", [500, 50], state)[1:]
    assert sum(got) == pytest.approx(9 - 4)  # its own customers ask for 4


@given(ground=st.lists(st.floats(-50, 50), min_size=1, max_size=6), water=st.floats(0, 200), level=st.floats(-20, 60))
def test_water_finds_its_level(ground, water, level):
    """Whoever gets something stands at the common height, nobody else is below it, and no water is left or made."""
    env = chain(retailers=len(ground), ships="at once", receives="after shipping", max_order=1e6, order_cap=1e6)
    on_hand, owed = np.maximum(ground, 0), np.maximum(-np.array(ground), 0)
    state = start(env, on_hand=[water, *on_hand], backorder=owed.tolist())
    given_out = np.array(orders(env, "balanced-echelon", [0, level], state)[1:])
    after = np.array(ground) + given_out
    assert given_out.sum() <= water + 1e-6
    height = after[given_out > 1e-6]
    assert np.ptp(height) < 1e-6 if len(height) else True
    if len(height):
        assert (after >= height.min() - 1e-6).all()
        assert height.max() <= level + 1e-6
        assert abs(given_out.sum() - water) < 1e-6 or abs(height.max() - level) < 1e-6
    else:
        assert water < 1e-5 or min(ground) >= level - 1e-6


@pytest.mark.parametrize(("name", "limit"), [("lost-sales", 1.5), ("two-echelon", 0.5), ("kunnumkal-topaloglu", 0.5)])
def test_the_designed_rule_ends_close_to_the_optimum_and_not_below(name, limit):
    known = {"lost-sales": 4.7285, "two-echelon": 42.2548, "kunnumkal-topaloglu": 3260.7}[name]
    env = meirl.make(name)
    scenario = env.sample(600_000 // env.horizon, seed=8)
    summary = meirl.summarise(meirl.rollout(env, heuristics.load(env, "best"), scenario))
    assert summary["mean_cost"] + SIGMAS * summary["standard_error"] > known
    assert summary["mean_cost"] < known * (1 + limit / 100)
    assert summary["standard_error"] < 0.002 * known
    textbook = meirl.rollout(env, heuristics.load(env, "textbook"), scenario)["cost"].mean()
    assert textbook > summary["mean_cost"]
