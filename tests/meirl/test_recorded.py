"""Results recorded before the code was changed: rules, searches and learners still give them.

Rules and searches are of commit 385405e; learners of 327634b, on the published observation, the same ever since.
On the machine of the recording they are equal to the last bit; elsewhere floating-point sums may differ in their last
digits, which training amplifies.
"""

import json
from pathlib import Path

import pytest

import meirl
from meirl.heuristics import RULES, tuning
from meirl.learn import find_learner, preset

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))

# Not those of a preset, which may change; chosen so that every part of the learners takes part.
SETTINGS = {
    "environments": 16, "copies": 4, "segment": 50, "evaluations": 3, "validation_episodes": 16, "anneal": True,
    "learning_rate": 0.002,
    "network": {"activation": "silu", "initialisation": "orthogonal", "policy_gain": 0.01, "squash": "clip",
                "final_log_std": -1.5, "normalise_returns": True},
}  # fmt: skip


@pytest.mark.parametrize("key", RECORDED["rules"])
def test_rules_cost_what_they_cost(key):
    env, recorded = meirl.make(key.split("/")[0]), RECORDED["rules"][key]
    policy = RULES[recorded["rule"]].policy(env, recorded["levels"])
    table = meirl.rollout(env, policy, meirl.held_out(env, "test", 64))
    assert table["cost"].mean() == pytest.approx(recorded["cost"], rel=1e-6)


@pytest.mark.parametrize("name", RECORDED["tuned"])
def test_a_search_finds_what_it_found(name, monkeypatch):
    monkeypatch.setattr(meirl.evaluation, "VALIDATION_EPISODES", 200)  # as many as when it was recorded
    env = meirl.make(name)
    rule = RULES["base-stock" if "divergent" in name else "s-S"]
    levels = tuning.tune(env, rule, episodes=4, generations=3, progress=False).tuned.levels
    assert levels == pytest.approx(RECORDED["tuned"][name], rel=1e-6)


@pytest.mark.parametrize("key", RECORDED["learners"])
def test_learners_learn_as_they_did(key):
    algo, name = key.split("/")
    env = meirl.make(name, observation="published")
    changes = {**SETTINGS, "steps": 4 * 16 * env.horizon, **({"minibatch": 1000} if algo == "ppo" else {})}
    config = preset(algo, "published", name, **changes)
    history = find_learner(algo).train(env, config, 1, progress=False).history
    assert [row["validation_cost"] for row in history] == pytest.approx(RECORDED["learners"][key], rel=1e-3)
