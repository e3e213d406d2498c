"""Agents that come with the package."""

import json
import shutil

import pandas as pd
import pytest
import yaml

import meirl
from meirl import held_out, learn, rollout
from meirl_study import shipped


@pytest.fixture
def runs(tmp_path):
    """Two seeds of every cell, the second better by validation."""
    env = meirl.make("divergent-stationary", horizon=20)
    for name in meirl.NAMES:
        for algo in learn.ALGORITHMS:
            for seed in range(2):
                folder = tmp_path / "runs" / name / algo / "long" / f"seed-{seed}"
                folder.mkdir(parents=True)
                told = {"algo": algo, "env": name, "observation": "full", "seed": seed, "simulated_steps": 9,
                        "seconds": 1.5, "commit": "abc", "best_validation_cost": 10 - seed}  # fmt: skip
                (folder / "manifest.json").write_text(json.dumps(told), "utf-8")
                (folder / "policy.pt").write_bytes(f"{name} {algo} {seed}".encode())
                table = rollout(env, meirl.heuristics.load(env, "never-order"), held_out(env, "test", 4))
                table.to_csv(folder / "test.csv")
    return tmp_path / "runs"


def test_the_best_run_of_each_cell_is_shipped_with_its_card(runs, tmp_path):
    shipped.ship(runs, agents=tmp_path / "agents")
    cells = sorted(path.name for path in (tmp_path / "agents").iterdir())
    assert len(cells) == 8
    for cell in cells:
        name, algo = cell.rsplit("-", 1)
        assert (tmp_path / "agents" / cell / "policy.pt").read_text() == f"{name} {algo} 1"
        card = yaml.safe_load((tmp_path / "agents" / cell / "card.yaml").read_text("utf-8"))
        assert (card["env"], card["algo"], card["seed"], card["best_of_seeds"]) == (name, algo, 1, 2)
        assert card["cost_low"] < card["cost"] < card["cost_high"]
        cost = pd.read_csv(runs / name / algo / "long" / "seed-1" / "test.csv")["cost"]
        assert card["cost"] == pytest.approx(cost.mean(), rel=1e-6)


def test_an_agent_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no agent 'sac' for 'meis-stationary' comes with meirl: there are "):
        meirl.load("sac", "meis-stationary")


@pytest.mark.parametrize("algo", learn.ALGORITHMS)
@pytest.mark.parametrize("name", meirl.NAMES)
def test_every_cell_has_an_agent_that_costs_what_its_card_says(name, algo):
    policy, env = meirl.load(algo, name)
    card = yaml.safe_load((learn.AGENTS / f"{name}-{algo}" / "card.yaml").read_text("utf-8"))
    assert (card["env"], card["algo"], card["observation"]) == (name, algo, env.observation)
    table = rollout(env, policy, held_out(env, "test", card["test_episodes"]))
    assert table["cost"].mean() == pytest.approx(card["cost"], rel=1e-3)
    assert table["fill_rate"].mean() == pytest.approx(card["fill_rate"], abs=1e-3)


def test_a_run_that_was_set_aside_is_not_shipped(runs, tmp_path):
    cell = runs / "meis-stationary" / "ppo" / "long"
    aside = shutil.copytree(cell / "seed-0", cell / "seed-0-before-1")
    told = json.loads((aside / "manifest.json").read_text("utf-8"))
    (aside / "manifest.json").write_text(json.dumps(told | {"best_validation_cost": 1}), "utf-8")
    shipped.ship(runs, agents=tmp_path / "agents")
    card = yaml.safe_load((tmp_path / "agents" / "meis-stationary-ppo" / "card.yaml").read_text("utf-8"))
    assert (card["seed"], card["best_of_seeds"]) == (1, 2)
