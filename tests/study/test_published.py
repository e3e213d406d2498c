"""The published baseline: its levels are its formula's, and its repairs cost what they cost in the reference."""

import math

import pytest

import meirl
from meirl_study import published


@pytest.mark.parametrize("name", ["divergent-stationary", "divergent-nonstationary"])
def test_the_committed_levels_of_the_published_base_stock_are_those_of_its_formula(name):
    env = meirl.make(name)
    levels = meirl.heuristics.read_levels(env, "published")
    assert levels.rule == "base-stock-misread"
    assert env.tensor(list(levels.levels.values())).equal(published.base_stock_levels(env))


@pytest.mark.parametrize(
    ("name", "costs"),
    [
        ("divergent-stationary", [4_112_776, 3_811_893, 2_871_363, 2_776_758, 2_776_004]),
        ("divergent-nonstationary", [10_873_502, 2_280_300, 1_662_709, 1_143_029, 1_086_848]),
    ],
)
def test_repairs_step_by_step(name, costs):
    """Figures measured on 100 episodes of the reference implementation."""
    env = meirl.make(name)
    scenario = env.sample(400, seed=98)
    for (step, policy), cost in zip(published.repairs(env).items(), costs, strict=True):
        summary = meirl.summarise(meirl.rollout(env, policy, scenario))
        error = math.hypot(summary["standard_error"], summary["std"] / 100**0.5)
        assert abs(summary["mean_cost"] - cost) < 3 * error, step
