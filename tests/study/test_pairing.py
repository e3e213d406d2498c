"""What pairing gains, on costs whose statistics are known."""

import numpy as np
import pytest

from meirl import heuristics, make, rollout
from meirl_study import pairing


def test_gain_is_the_ratio_of_variances():
    a, b = np.array([0.0, 2, 4]), np.array([1.0, 2, 6])  # differences 1, 0, 2: variance 1; variances 4 and 7
    assert pairing.gain(np.stack([a, b], 1)) == pytest.approx(
        {
            "B - A": 1,
            "correlation": 5 / 28**0.5,
            "error, paired": 1 / 3**0.5,
            "error, independent": (11 / 3) ** 0.5,
            "factor k": 11,
            "episodes, common": 3,  # 1.645^2 = 2.7, rounded up
            "episodes, independent": 30,  # times 11
        }
    )


def test_after_the_episodes_needed_one_experiment_of_twenty_is_wrong():
    luck = np.random.default_rng(0).normal(size=(100_000, 2))
    costs = [100, 101] + [6, 8] * (luck - luck.mean(0)) / luck.std(0)  # independent; the difference deviates by 10
    needed = pairing.episodes_needed(1, 10)
    assert needed == 271
    table = pairing.wrong_choices({"made": costs}, seed=1, experiments=4_000, sizes=(needed, 4 * needed))
    assert table["made", "common"].tolist() == pytest.approx([0.05, 0.0005], abs=0.012)
    assert pairing.episodes_needed(-1, 10) == needed
    assert pairing.episodes_needed(100, 1) == 1
    assert pairing.episodes_needed(0, 1) == float("inf")


def test_wrong_choices_happen_by_luck_alone_and_pairing_prevents_them():
    lucky = np.array([[0.0, 1], [10, 11]])  # B is worse by 1, luck is worth 10
    table = pairing.wrong_choices({"made": lucky}, seed=0, experiments=20_000, sizes=(1, 2))
    assert table["made", "common"].tolist() == [0, 0]
    # One episode each: A in the bad one and B in the good one. Two: A has more bad ones, 1/16 + 4/16.
    assert table["made", "independent"].to_numpy() == pytest.approx([1 / 4, 5 / 16], abs=0.01)
    assert list(table.index) == [1, 2]
    again = pairing.wrong_choices({"made": lucky}, seed=0, experiments=20_000, sizes=(1, 2))
    assert again.equals(table)


@pytest.mark.parametrize(("name", "rule"), [("divergent-stationary", "base-stock"), ("meis-stationary", "s-S")])
def test_candidates_are_a_known_rule_and_the_same_with_other_levels(name, rule):
    env = make(name, horizon=60)
    scenario = env.sample(3, seed=1)
    known = rollout(env, heuristics.load(env, rule), scenario)["cost"].to_numpy()
    same, other = pairing.candidates(env, scenario, 1.0), pairing.candidates(env, scenario)
    assert same.shape == (3, 2)
    assert (same == known[:, None]).all()
    assert (other[:, 0] == known).all()
    assert (other[:, 1] != known).all()


def test_beside_nothing_are_the_costs_of_ordering_nothing():
    env = make("meis-stationary", horizon=30)
    scenario = env.sample(2, seed=1)
    never = rollout(env, heuristics.load(env, "never-order"), scenario)["cost"]
    table = pairing.beside_nothing(env, scenario, np.array([5.0, 6]))
    assert table.T.tolist() == [[5, 6], never.tolist()]
