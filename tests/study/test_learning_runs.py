"""Runs that a chapter times and looks at: their clock, where they are kept, what their orders follow."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from meirl import compare, held_out, heuristics, make, rollout
from meirl.learn import preset
from meirl.learn.networks import ActorCritic, seeded
from meirl_study import learning, luck, statistics
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


def test_a_cost_is_reached_when_it_stays_passed():
    history = pd.DataFrame({"seconds": [1.0, 2, 3, 4], "validation_cost": [90.0, 110, 80, 70]})
    assert learning.reached(history, 100)["seconds"] == 3  # 90 was luck
    assert learning.reached(history, 200)["seconds"] == 1
    assert learning.reached(history, 70) is None  # as dear is not below


def test_opponents_are_the_designed_rule_and_the_textbook_rule():
    env = make("divergent-nonstationary", horizon=20)
    rules = learning.opponents(env)
    assert list(rules) == ["designed rule, tuned", "textbook rule, tuned"]
    scenario = env.sample(3, 0)
    for policy, kind in zip(rules.values(), ("best", "textbook"), strict=True):
        own = rollout(env, heuristics.load(env, kind), scenario)
        pd.testing.assert_frame_equal(rollout(env, policy, scenario), own)


def test_references_are_both_rules_on_validation_and_the_published_agent():
    env = make("divergent-stationary", horizon=30)
    validation = held_out(env, "validation", 3)
    cost = {kind: rollout(env, heuristics.load(env, kind), validation)["cost"].mean() for kind in learning.OPPONENTS}
    name = {kind: heuristics.read_levels(env, kind).rule for kind in learning.OPPONENTS}
    assert list(learning.references(env, 3).items()) == [
        (f"textbook rule ({name['textbook']})", cost["textbook"]),
        (f"designed rule ({name['best']})", cost["best"]),
        ("published PPO", 2_600_979.87),
    ]


def test_budgets_count_what_was_searched_and_what_was_simulated():
    env = make("meis-stationary")
    network = seeded(ActorCritic, env, preset("ppo", "tuned", env.name, network={"hidden": (2,)}), 0)
    history = [{"simulated_steps": 100, "seconds": 1.0}, {"simulated_steps": 250, "seconds": 4.0}]
    table = learning.budgets(env, {"PPO": SimpleNamespace(network=network, history=history)})
    assert list(table.index) == ["designed rule, tuned", "textbook rule, tuned", "PPO"]
    inputs = len(env.legend())
    assert table.loc["PPO"].tolist() == [2 * (inputs * 2 + 2) + (2 * 13 + 13) + (2 + 1), 250, 4]
    best = heuristics.read_levels(env, "best")
    found = [len(best.levels), best.provenance["simulated_steps"], best.provenance["seconds"]]
    assert table.loc["designed rule, tuned"].tolist() == found


def test_a_comparison_is_text_under_readable_headings():
    row = {"value": 1234.4, "low": 0, "high": 0, "cvar95": 2000.0, "fill_rate": 0.5}
    row |= {"difference": -10.0, "difference_low": -20.2, "difference_high": 0.1}
    table = learning.comparison(pd.DataFrame({"PPO": row}).T)
    assert table.loc["PPO"].to_dict() == {
        "mean cost": "1,234", "CVaR": "2,000", "fill rate": "50.0%", "difference": "-10", "low": "-20", "high": "0",
    }  # fmt: skip
    assert learning.comparison(pd.DataFrame({"PPO": row}).T, ",.1f").loc["PPO", "low"] == "-20.2"


def test_networks_are_those_of_the_study(tmp_path, monkeypatch):
    chapter = setup("quick", 4, "cpu")
    monkeypatch.setitem(vars(chapter), "root", tmp_path)
    monkeypatch.setattr("meirl_study.study.QUICK", {
        "steps": 1, "environments": 2, "copies": 1, "evaluations": 1, "validation_episodes": 2, "minibatch": 100,
    })  # fmt: skip
    found = learning.networks(chapter, "ppo", envs=["meis-stationary"])
    (folder,) = tmp_path.glob("*/ppo/tuned/seed-4")
    kept = torch.load(folder / "policy.pt", weights_only=True)["best"]
    (network,) = found.values()
    assert list(found) == ["meis-stationary"]
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-stationary"])
def test_the_exploration_tax_is_of_drawn_actions(name):
    env = make(name, horizon=20)
    network = seeded(ActorCritic, env, preset("ppo", "tuned", name), 0)
    scenario = env.sample(8, 0)
    table = luck.exploration_tax(env, network, scenario, seed=1)
    assert list(table.index) == ["as played", "as trained"]
    assert table.loc["as played", "value"] == compare({"network": network}, env, scenario)["value"].item()
    assert table.loc["as trained", "difference"] != 0
    pd.testing.assert_frame_equal(table, luck.exploration_tax(env, network, scenario, seed=1))
    if network.gaussian:  # without noise there is nothing to pay
        network.log_std.fill_(-20.0)
        free = luck.exploration_tax(env, network, scenario, seed=1).loc["as trained", "difference"]
        assert abs(free) < 1e-3 * table.loc["as played", "value"]


def test_the_tax_of_every_environment_is_in_percent_of_what_it_costs_as_played():
    chapter, name = setup("quick", 1, "cpu"), "meis-stationary"
    env = make(name, horizon=20)
    made = {"envs": {name: env}, "tests": {name: env.sample(8, 0)}, "forms": {name: ".3f"}}
    vars(chapter).update(made)
    network = seeded(ActorCritic, env, preset("ppo", "tuned", name), 0)
    (row,) = learning.exploration_taxes(chapter, {name: network}).to_dict("records")
    expected = luck.exploration_tax(env, network, made["tests"][name], seed=1)
    played, trained = expected["value"]
    assert (row["as played"], row["as trained"]) == (f"{played:.3f}", f"{trained:.3f}")
    assert row["tax [%]"] == pytest.approx(100 * (trained / played - 1))
    assert row["low"] == pytest.approx(100 * expected.loc["as trained", "difference_low"] / played)
    assert row["low"] < row["tax [%]"] < row["high"]


def test_runs_of_a_preset_are_trained_once_and_timed(tmp_path, monkeypatch):
    chapter = setup("quick", 0, "cpu")
    monkeypatch.setitem(vars(chapter), "root", tmp_path)
    calls = []

    def run(todo, root, **options):
        calls.append((todo, root, options))
        for task in todo:
            folder = task.folder(root)
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(json.dumps({"seconds": 10.0 + task.seed}), encoding="utf-8")
        return pd.DataFrame({"seed": [0, 0, 1, 1], "episode": [0, 1, 0, 1], "cost": 1.0})

    monkeypatch.setattr(learning.study, "run", run)
    table = learning.trained(chapter, "without", "meis-stationary", range(2), "luck", copies=1)
    ((todo, root, options),) = calls
    assert [(task.env, task.algo, task.seed) for task in todo] == [("meis-stationary", "ppo", s) for s in (0, 1)]
    assert all(task.changes == {**chapter.changes, "copies": 1} for task in todo)
    assert root == tmp_path / "luck"
    assert options["episodes"] == chapter.episodes
    assert table["seconds"].tolist() == [10, 10, 11, 11]
    assert set(table["learner"]) == {"without"}


def test_learners_beside_each_other_are_paired_over_seeds_and_episodes():
    rows = [
        (learner, seed, episode, 100 * (episode + 1) + seed + extra, 0.5 + extra / 100, 10.0 * (seed + 1))
        for learner, extra in [("ours", 0.0), ("theirs", 20.0)]
        for seed in range(3)
        for episode in range(4)
    ]
    runs = pd.DataFrame(rows, columns=["learner", "seed", "episode", "cost", "fill_rate", "seconds"])
    table = learning.beside(runs, "ours")
    assert table.loc["ours", ["cost", "best seed", "worst seed", "seconds"]].tolist() == [251, 250, 252, 20]
    assert table.loc["ours", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    assert table.loc["theirs", "difference"] == 20
    # Episodes are drawn together, so only the seeds are left to vary.
    costs = [statistics.crossed(runs[runs["learner"] == name]) for name in ("theirs", "ours")]
    ends = statistics.bootstrap(lambda a, b: a.mean() - b.mean(), *costs)
    assert table.loc["theirs", ["low", "high"]].tolist() == list(ends)
    assert 15 < ends[0] < 20 < ends[1] < 25
    assert table.loc["theirs", "fill_rate"] == pytest.approx(0.7)


def test_habits_tell_how_often_and_how_much_each_node_orders():
    env = make("meis-stationary")
    orders = np.array([[[0.0, 9, 0], [0, 3, 0], [4, 0, 0], [0, 0, 0]]])
    record = {"orders": orders, "on_hand": np.full((1, 4, 3), 7.0)}
    table = learning.habits(env, {"rule": record, "A3C": record}).loc["A3C"]
    assert list(table.index) == env.node_names
    assert table["periods with an order"].tolist() == [0.25, 0.5, 0]
    assert table["mean order"].tolist() == [4, 6, 0]
    assert table["spread"].tolist() == pytest.approx([3**0.5, 13.5**0.5, 0])
    assert set(table["stock"]) == {7}


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
