"""The simulation loop: sums against trajectories, definitions of the measures, the published cost of never ordering."""

import numpy as np
import pytest
import torch

import meirl
from meirl.envs import Costs, Flows
from meirl.heuristics import RULES, tuning


def never(observation) -> torch.Tensor:
    env, batch = observation.env, observation.state.on_hand.shape[0]
    return env.action(torch.zeros(batch, env.nodes, dtype=env.dtype))


def steady(observation) -> torch.Tensor:
    """Something of everything: the divergent chain orders a bit everywhere, MEIS takes turns."""
    env, batch = observation.env, observation.state.on_hand.shape[0]
    if env.chain == "divergent":
        return torch.zeros(batch, env.nodes, dtype=env.dtype)
    return torch.full((batch,), (2, 6, 10)[observation.period % 3])


@pytest.fixture
def played(name):
    env = meirl.make(name, dtype=torch.float64)
    scenario = env.sample(6, 8)
    return env, scenario, meirl.rollout(env, steady, scenario), meirl.trajectory(env, steady, scenario)


def test_the_table_sums_the_trajectory(played):
    env, scenario, table, path = played
    assert list(table.index) == list(range(6))
    unit = env.parameters.cost_unit
    np.testing.assert_allclose(table["cost"], path["cost"].sum(1) / unit)
    np.testing.assert_allclose(table["cost"], sum(table[f"cost_{part}"] for part in Costs._fields))
    for part in Costs._fields:
        np.testing.assert_allclose(table[f"cost_{part}"], path[part].sum(1) / unit)
    for column in ("lost", "forgotten"):
        np.testing.assert_allclose(table[column], path[column].sum((1, 2)))
    np.testing.assert_allclose(table["on_hand"], path["on_hand"].sum(2).mean(1))
    np.testing.assert_allclose(table["backlog"], path["backlog"].sum(2).mean(1))
    assert set(Costs._fields) | set(Flows._fields) | {"cost", "orders", "on_order"} <= set(path)
    np.testing.assert_array_equal(path["demand"], scenario.demand)


def test_the_measures_follow_their_definitions(played):
    env, _, table, path = played
    demand = path["demand"].sum((1, 2))
    np.testing.assert_allclose(table["fill_rate"], path["filled"].sum((1, 2)) / demand)
    np.testing.assert_allclose(table["fill_rate_same_period"], path["filled_same_period"].sum((1, 2)) / demand)
    bullwhip = path["orders"][:, :, 0].var(1) / path["demand"].var(1).sum(1)
    np.testing.assert_allclose(table["bullwhip"], bullwhip, rtol=1e-6, atol=1e-9)
    days = np.arange(1, env.horizon + 1)
    share = path["backlog"].sum(2) / (env.parameters.demand.mean * env.retailers * days)
    np.testing.assert_allclose(table["published_service_level"], (1 - share).clip(min=0).mean(1))


def test_the_fill_rate_is_a_share_however_small_demand_is():
    plain = {"distribution": "rounded", "noise": {"standard_deviation": 0, "spread": 0}, "direct": 0}
    env = meirl.make("divergent-stationary", demand=plain, horizon=4)
    scenario = env.sample(2, 0)
    for units in (0.01, 0.0):
        small = scenario._replace(demand=torch.full_like(scenario.demand, units))
        table = meirl.rollout(env, never, small)  # all is there at the start
        assert table["fill_rate"].tolist() == pytest.approx([1.0] * 2)
        assert table["fill_rate_same_period"].tolist() == table["fill_rate"].tolist()


@pytest.mark.parametrize("changes", [{"horizon": 9}, {"horizon": 11}, {"retailers": 2}])
def test_a_scenario_of_another_shape_is_refused(changes):
    env = meirl.make("divergent-stationary", horizon=10)
    other = meirl.make("divergent-stationary", **{"horizon": 10, **changes}).sample(2, 0)
    expected = r"divergent-stationary: expected a scenario of \(horizon, retailers\) \(10, 3\), got "
    for simulation in (meirl.rollout, meirl.simulate, meirl.trajectory):
        with pytest.raises(ValueError, match=expected):
            simulation(env, steady, other)


def test_constant_orders_have_no_negative_variance():
    env = meirl.make("divergent-stationary")
    action = env.action(torch.tensor([[5.55, 2, 3, 4]])).expand(8, -1)
    assert meirl.rollout(env, lambda _: action, env.sample(8, 0))["bullwhip"].between(0, 1e-4).all()


@pytest.mark.parametrize(
    ("name", "cost", "spread", "episodes"),
    [
        ("divergent-stationary", 4_112_775.56, 8_759.19, 100),
        ("divergent-nonstationary", 10_873_502.07, 62_357.06, 100),
    ],
)
def test_never_ordering_costs_what_was_published(name, cost, spread, episodes):
    """The published base-stock baselines never order; so their published cost must be that of never ordering here.

    Tolerance: three standard errors of the difference, ours and the published one (its spread over 100 episodes).
    """
    summary = meirl.summarise(meirl.rollout(meirl.make(name), never, meirl.held_out(meirl.make(name), "test")))
    error = np.hypot(summary["standard_error"], spread / episodes**0.5)
    assert abs(summary["mean_cost"] - cost) <= 3 * error


@pytest.mark.parametrize(("name", "cost"), [("meis-stationary", 3_342), ("meis-nonstationary", 3_441)])
def test_never_ordering_in_meis_costs_what_the_reference_costs(name, cost):
    """Known to whole units only: half a unit of rounding, and five standard errors of a mean of 100 and of ours."""
    summary = meirl.summarise(meirl.rollout(meirl.make(name), never, meirl.held_out(meirl.make(name), "test")))
    error = np.hypot(summary["standard_error"], summary["std"] / 100**0.5)
    assert abs(summary["mean_cost"] - cost) <= 5 * error + 0.5


def test_the_published_service_level_praises_a_policy_that_never_orders():
    """91.6 %, although it serves only what was on hand at the start."""
    env = meirl.make("meis-stationary")
    summary = meirl.summarise(meirl.rollout(env, never, meirl.held_out(env, "test", 200)))
    assert summary["published_service_level"] == pytest.approx(0.916, abs=0.001)
    assert summary["fill_rate"] == pytest.approx(5000 * 2 / (6600 * 365), rel=0.01)


def test_a_batch_and_its_halves_give_the_same_costs(name):
    env = meirl.make(name, dtype=torch.float64)
    scenario = env.sample(10, 1)
    whole = meirl.rollout(env, steady, scenario)
    halves = [meirl.rollout(env, steady, scenario[:4]), meirl.rollout(env, steady, scenario[4:])]
    np.testing.assert_allclose(whole["cost"], np.concatenate([half["cost"] for half in halves]), rtol=1e-12)


def test_float32_is_precise_enough(name):
    """Training precision against exact: the mean cost agrees to six digits."""
    costs = []
    for dtype in (torch.float32, torch.float64):
        env = meirl.make(name, dtype=dtype)
        costs.append(meirl.rollout(env, steady, env.sample(32, 2))["cost"].mean())
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)


def test_gradients_flow_through_simulate_and_not_through_rollout():
    env = meirl.make("divergent-nonstationary")
    scenario = env.sample(4, 0)
    action = torch.zeros(4, 4, requires_grad=True)
    meirl.rollout(env, lambda _: action, scenario)
    assert action.grad is None
    meirl.simulate(env, lambda _: action, scenario).cost.sum().backward()
    assert (action.grad[:, 0] != 0).all()


def test_results_are_made_exact_on_the_cpu_as_mps_has_no_float64(monkeypatch):
    """Stands in for MPS: what was not moved to the CPU by name is not there."""
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def moved(tensor):
        there = cpu(tensor)
        there.is_here = True
        return there

    def exact(tensor):
        assert getattr(tensor, "is_here", False), "Cannot convert a MPS Tensor to float64 dtype"
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", moved)
    monkeypatch.setattr(torch.Tensor, "double", exact)
    env = meirl.make("meis-stationary", horizon=5)
    assert meirl.rollout(env, never, env.sample(2, 0))["cost"].gt(0).all()
    assert (tuning.mean_costs(env, RULES["s-S"], np.zeros((2, 6)), env.sample(2, 0)) > 0).all()


def test_a_policy_sees_the_state_and_the_calendar_but_no_scenario(name):
    env, seen = meirl.make(name), []

    def watch(observation):
        seen.append(observation)
        return never(observation)

    meirl.rollout(env, watch, env.sample(2, 0))
    assert [o.period for o in seen] == list(range(env.horizon))
    assert seen[0]._fields == ("env", "state", "period")
