"""Runs that a chapter times and looks at: their clock, where they are kept, what their orders follow."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from meirl import held_out, heuristics, make, rollout
from meirl_study import learning
from meirl_study.chapter import setup


def test_the_clock_starts_at_the_first_report():
    run = SimpleNamespace(history=[{"steps": 100, "seconds": 5.0}, {"steps": 300, "seconds": 9.0}])
    history = learning.clocked(run)
    assert history["seconds"].tolist() == [0, 4]
    assert history["steps"].tolist() == [100, 300]
    assert learning.rate(history) == 50
    assert run.history[0]["seconds"] == 5  # left as it was


@pytest.mark.parametrize(("profile", "kept"), [("quick", None), ("full", "alone/a3c-2-seed-3")])
def test_a_run_is_kept_at_the_full_profile_only(profile, kept, monkeypatch):
    calls = []

    def train(env, config, seed, out, **options):
        calls.append((env, config, seed, out, options))
        return "run"

    monkeypatch.setattr(learning, "find_learner", lambda algo: SimpleNamespace(train=train))
    chapter = setup(profile, 3, "cpu")
    assert learning.train_alone(chapter, "a3c", "env", "config", "a3c-2") == "run"
    folder = chapter.root / kept if kept else None
    assert calls == [("env", "config", 3, folder, {"resume": True, "progress": False})]


def test_rates_stand_by_environment_and_learner():
    rows = [("one", "ppo", 1, 10.0), ("one", "a3c", 1, 20.0), ("one", "a3c", 2, 30.0), ("two", "a3c", 2, 40.0)]
    speeds = pd.DataFrame(rows, columns=["environment", "algo", "workers", "steps_per_second"])
    table = learning.rates_by_learner(speeds)
    assert list(table.columns) == ["A3C, 1 process", "A3C, 2 processes", "PPO, 1 process"]
    assert table.loc["one"].tolist() == [20, 30, 10]
    assert table.loc["two", "A3C, 2 processes"] == 40


def test_weights_apart_is_the_largest_difference():
    runs = [SimpleNamespace(network=torch.nn.Linear(2, 1)) for _ in range(2)]
    runs[1].network.load_state_dict(runs[0].network.state_dict())
    assert learning.weights_apart(*runs) == 0
    with torch.no_grad():
        runs[1].network.weight[0, 1] += 0.5
        runs[1].network.bias -= 0.25
    assert learning.weights_apart(*runs) == pytest.approx(0.5)


def test_references_are_the_best_heuristic_on_validation_and_the_published_agent():
    env = make("divergent-stationary", horizon=30)
    best = rollout(env, heuristics.load(env), held_out(env, "validation", 3))["cost"].mean()
    assert learning.references(env, 3) == {
        f"best heuristic ({heuristics.best_rule(env)})": best,
        "published PPO": 2_600_979.87,
    }


def test_a_comparison_is_text_under_readable_headings():
    row = {"value": 1234.4, "low": 0, "high": 0, "cvar95": 0, "fill_rate": 0.5}
    row |= {"difference": -10.0, "difference_low": -20.2, "difference_high": 0.1}
    table = learning.comparison(pd.DataFrame({"PPO": row}).T)
    assert table.loc["PPO"].to_dict() == {
        "mean cost": "1,234", "fill rate": "50.0%", "difference": "-10", "low": "-20", "high": "0",
    }  # fmt: skip
    assert learning.comparison(pd.DataFrame({"PPO": row}).T, ",.1f").loc["PPO", "low"] == "-20.2"


def test_echelon_positions_are_those_that_the_policy_sees():
    env = make("divergent-stationary", horizon=20)
    seen = []

    def policy(observation):
        seen.append(heuristics.inventory_position(observation, echelon=True))
        return env.action(env.tensor([[10.0, 5, 5, 5]]).expand(2, -1))

    positions = learning.echelon_positions(env, policy, env.sample(2, seed=1))
    assert positions.shape == (2, 20, 4)
    assert (positions == torch.stack(seen, 1).numpy()).all()
    assert positions[0, 0].tolist() == [500 + 3 * 135, 135, 135, 135]


def test_a_position_explains_orders_that_follow_from_it_and_no_others():
    position = np.repeat([0.0, 1, 2, 3], 2).reshape(2, 4)
    follows = 10 - position
    assert learning.explained_by_position(position, follows, bins=4) == pytest.approx(1)
    within = np.tile([-1.0, 1], 4).reshape(2, 4)  # the same in every bin
    assert learning.explained_by_position(position, within, bins=4) == pytest.approx(0)
    # Variances add up: 1.25 between the bins, 1 within them.
    assert learning.explained_by_position(position, follows + within, bins=4) == pytest.approx(1.25 / 2.25)
