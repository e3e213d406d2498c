"""What pairing gains, on costs whose statistics are known."""

import numpy as np
import pytest

from meirl import heuristics, make, rollout
from meirl_study import pairing


def test_gain_is_the_ratio_of_variances():
    a, b = np.array([0.0, 2, 4]), np.array([1.0, 2, 6])  # differences -1, 0, -2: variance 1; variances 4 and 7
    assert pairing.gain(np.stack([a, b], 1)) == pytest.approx(
        {
            "B - A": 1,
            "correlation": 5 / 28**0.5,
            "error, paired": 1 / 3**0.5,
            "error, independent": (11 / 3) ** 0.5,
            "factor k": 11,
        }
    )


def test_wrong_choices_happen_by_luck_alone_and_pairing_prevents_them():
    lucky = np.array([[0.0, 1], [10, 11]])  # B is worse by 1, luck is worth 10
    table = pairing.wrong_choices({"made": lucky}, seed=0, experiments=20_000, sizes=(1, 2))
    assert table["made", "common"].tolist() == [0, 0]
    # One episode each: A in the bad one and B in the good one. Two: A has more bad ones, 1/16 + 4/16.
    assert table["made", "independent"].to_numpy() == pytest.approx([1 / 4, 5 / 16], abs=0.01)
    assert list(table.index) == [1, 2]
    again = pairing.wrong_choices({"made": lucky}, seed=0, experiments=20_000, sizes=(1, 2))
    assert again.equals(table)


def test_candidates_are_the_best_rule_and_the_same_with_other_levels():
    env = make("divergent-stationary")
    scenario = env.sample(3, seed=1)
    best = rollout(env, heuristics.load(env), scenario)["cost"].to_numpy()
    same, other = pairing.candidates(env, scenario, 1.0), pairing.candidates(env, scenario)
    assert same.shape == (3, 2)
    assert (same == best[:, None]).all()
    assert (other[:, 0] == best).all()
    assert (other[:, 1] != best).all()
