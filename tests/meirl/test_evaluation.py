"""Fixed scenario sets, summaries, paired comparisons."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import meirl
from meirl.evaluation import (
    FIRST_RESERVED_SEED,
    TEST_EPISODES,
    TEST_SEED,
    VALIDATION_EPISODES,
    VALIDATION_SEED,
    cvar,
    interval,
)


def ordering(level):
    """Order the same everywhere, always."""
    return lambda o: torch.full((o.state.on_hand.shape[0], o.env.nodes), float(level))


@pytest.fixture(scope="module")
def env():
    return meirl.make("divergent-nonstationary", horizon=60)


def test_validation_and_test_scenarios_are_fixed_and_have_nothing_in_common(env):
    validation, test = meirl.held_out(env, "validation"), meirl.held_out(env, "test")
    assert (validation.episodes, test.episodes) == (VALIDATION_EPISODES, TEST_EPISODES) == (1000, 1000)
    assert torch.equal(test.demand, meirl.held_out(env, "test").demand)
    everything = torch.cat([validation.demand, test.demand]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 2000
    assert FIRST_RESERVED_SEED < VALIDATION_SEED < TEST_SEED


def test_a_shorter_held_out_set_is_the_beginning_of_the_longer_one(env):
    assert torch.equal(meirl.held_out(env, "test", 50).demand, meirl.held_out(env, "test").demand[:50])


def test_bad_requests_are_refused(env):
    with pytest.raises(ValueError, match="purpose must be validation or test, got 'training'"):
        meirl.held_out(env, "training")
    with pytest.raises(ValueError, match="need episodes >= 1"):
        meirl.held_out(env, "test", 0)
    with pytest.raises(ValueError, match="at least one policy"):
        meirl.compare({}, env, env.sample(1, 0))


def test_cvar_is_the_mean_of_the_worst_share():
    costs = np.arange(100.0)
    assert cvar(costs) == 97  # 95 .. 99
    assert cvar(costs, 0.5) == 74.5
    assert cvar(np.array([3.0, 8.0])) == 8  # at least one episode
    assert cvar(np.random.default_rng(0).permutation(costs)) == 97


def test_summaries_are_those_of_the_table(env):
    table = meirl.rollout(env, ordering(0), env.sample(40, 0))
    summary = meirl.summarise(table)
    assert summary["mean_cost"] == pytest.approx(table["cost"].mean())
    assert summary["std"] == pytest.approx(table["cost"].std())
    assert summary["standard_error"] == pytest.approx(stats.sem(table["cost"]))
    assert sum(summary["cost_parts"].values()) == pytest.approx(summary["mean_cost"], rel=1e-5)
    assert summary["fill_rate"] == pytest.approx(table["fill_rate"].mean())
    assert summary["episodes"] == 40
    one = meirl.summarise(table[:1])
    assert np.isnan(one["standard_error"])
    assert one["cvar95"] == one["mean_cost"] == table["cost"][0]


def test_meis_costs_are_in_units_of_10_000():
    env = meirl.make("meis-stationary")
    table = meirl.rollout(env, lambda o: torch.zeros(5, dtype=torch.long), env.sample(5, 0))
    plain = meirl.make("meis-stationary", cost_unit=1)
    np.testing.assert_allclose(
        table["cost"] * 10_000,
        meirl.rollout(plain, lambda o: torch.zeros(5, dtype=torch.long), env.sample(5, 0))["cost"],
    )


def test_comparisons_are_paired(env):
    """The interval of the difference is that of a paired t-test, and much narrower than unpaired ones would be."""
    scenario = env.sample(100, 3)
    policies = {"more": ordering(0.2), "less": ordering(0.1), "more again": ordering(0.2)}
    result = meirl.compare(policies, env, scenario)
    more, less = (meirl.rollout(env, policies[k], scenario)["cost"] for k in ("more", "less"))
    expected = stats.ttest_rel(less, more).confidence_interval(0.95)
    row = result.loc["less"]
    assert row["difference"] == pytest.approx((less - more).mean())
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert row["value"] == pytest.approx(less.mean())
    assert (row["low"], row["high"]) == pytest.approx(interval(less.to_numpy()))
    for same in ("more", "more again"):
        columns = ["difference", "difference_low", "difference_high"]
        assert (result.loc[same, columns] == 0).all()
    unpaired = stats.ttest_ind(less, more).confidence_interval(0.95)
    assert row["difference_high"] - row["difference_low"] < unpaired.high - unpaired.low


def test_intervals_are_students_and_a_constant_gives_a_point():
    sample = np.random.default_rng(1).normal(5, 2, 30)
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.9)
    assert interval(sample, 0.9) == pytest.approx((expected.low, expected.high))
    assert interval(np.full(10, 7.0)) == (7, 7)


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, float("nan")])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match=f"confidence must be a share between 0 and 1, such as .*, got {confidence}"):
        interval(np.arange(9.0), confidence)


def test_intervals_cover_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(2).normal(0, 1, (2_000, 20))
    covered = sum(low <= 0 <= high for low, high in map(interval, draws))
    assert stats.binomtest(covered, 2_000, 0.95).pvalue > 1e-6


def test_tables_are_plain_pandas(env):
    table = meirl.rollout(env, ordering(-1), env.sample(3, 0))
    assert isinstance(table, pd.DataFrame)
    assert (table.dtypes == np.float64).all()
