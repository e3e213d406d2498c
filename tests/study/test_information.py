"""Penalties for hindsight: nothing on average for whoever has none, and a bound at any weights."""

import numpy as np
import pytest
import torch
from tolerances import assert_mean

import meirl
from meirl import heuristics
from meirl.rollout import play
from meirl_study import bounds, information

WEIGHTS = np.linspace(-0.5, 0.7, 2 * len(information.WINDOWS)).reshape(2, -1)


@pytest.fixture(scope="module")
def env():
    return meirl.make("meis-nonstationary", dtype=torch.float64, horizon=90)


def test_what_a_day_brings_of_shocks_is_nothing_on_average(env):
    found = np.array([information.innovations(env.parameters, e.shock) for e in bounds.episodes(env.sample(3_000, 0))])
    for days in (slice(0, 1), slice(1, 20), slice(20, None)):
        assert_mean(found[:, days].sum(1), 0)
    assert not found[:, -env.parameters.demand.shock.length[1] :].any(), "a shock that is cut off is none"


def test_an_episode_shorter_than_a_shock_has_none_that_is_sure_to_end():
    p = meirl.make("meis-nonstationary").parameters
    assert not information.innovations(p, np.ones(p.demand.shock.length[1] - 1)).any()


def test_a_shock_counts_once_with_all_its_days(env):
    shock = np.ones(90)
    shock[[5, 6, 7]], shock[[8, 9, 10, 11]] = 2.0, 2.5  # the second begins as soon as the first is over
    found, quiet = information.innovations(env.parameters, shock), -env.parameters.demand.shock.probability
    mean = 1.15 * 5
    assert found[5] == pytest.approx(quiet + 3 / mean)
    assert found[8] == pytest.approx(quiet + 4 * 1.5 / mean)
    assert set(found[[6, 7, 9, 10, 11]]) == {0.0}, "none can begin while one goes on"
    assert found[0] == found[12] == quiet


def test_a_rule_pays_nothing_on_average(env):
    scenario = env.sample(1_500, 1)
    orders = np.stack([step.flows.ordered.numpy() for _, step in play(env, heuristics.load(env), scenario)], 1)
    each = [information.Penalised(env.parameters, draws) for draws in bounds.episodes(scenario)]
    paid = [
        ((WEIGHTS @ one.seen).T[:, [0, 1, 1]] * (own - one.usual)).sum() for one, own in zip(each, orders, strict=True)
    ]
    assert_mean(np.array(paid), 0)


def test_without_weights_it_is_the_bound_in_hindsight_and_with_any_below_a_rule(env):
    scenario = env.sample(24, 2)
    loose = bounds.hindsight_bound(env, scenario, 1)
    np.testing.assert_allclose(information.penalised_bound(env, scenario, 0 * WEIGHTS, 1), loose)
    cost = meirl.rollout(env, heuristics.load(env), scenario)["cost"].mean()
    assert information.penalised_bound(env, scenario, WEIGHTS, 1).mean() < cost


def test_the_supergradient_is_one(env):
    program = information.Penalised(env.parameters, bounds.episodes(env.sample(1, 3))[0])
    here, slope = program.solve(WEIGHTS)
    for change in (0.3, -0.2):  # the bound is concave in the weights, so its tangent is above it
        there, _ = program.solve(WEIGHTS + change)
        assert there <= here + (slope * change).sum() + 1e-6 * abs(here)


def test_chosen_weights_lift_the_bound_of_the_episodes_that_chose_them(env):
    scenario = env.sample(4, 4)
    chosen = information.weights(env, scenario, 30, jobs=1)
    assert chosen.shape == WEIGHTS.shape
    lifted = information.penalised_bound(env, scenario, chosen, 1)
    assert lifted.mean() > bounds.hindsight_bound(env, scenario, 1).mean()


def test_another_chain_is_refused():
    env = meirl.make("divergent-stationary")
    with pytest.raises(ValueError, match="divergent-stationary: expected a MEIS"):
        information.weights(env, env.sample(1, 0), 1)


@pytest.mark.parametrize("factor", [[2, 2], [0.5, 1.5]])
def test_shocks_that_cannot_be_told_apart_or_change_nothing_are_refused(factor):
    """The first would give innovations whose mean is not 0, so no bound; the second none that are finite."""
    env = meirl.make("meis-nonstationary", demand={"shock": {"factor": factor}})
    with pytest.raises(ValueError, match=r"demand\.shock\.factor must be a range, with a mean other than 1, got"):
        information.penalised_bound(env, env.sample(1, 0), WEIGHTS, jobs=1)
    never = meirl.make("meis-nonstationary", demand={"shock": {"factor": factor, "probability": 0}})
    assert not information.innovations(never.parameters, np.ones(9)).any()
