"""Results recorded before the code was rearranged (commit 385405e): rules, searches and learners still give them.

On the machine of the recording they are equal to the last bit; elsewhere floating-point sums may differ in their last
digits, which training amplifies.
"""

import json
from pathlib import Path

import pytest

import meirl
from meirl.heuristics import RULES, load, tuning
from meirl.learn import find_learner, preset

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", RECORDED["rules"])
def test_rules_cost_what_they_cost(key):
    name, rule = key.split("/")
    env = meirl.make(name)
    table = meirl.rollout(env, load(env, rule), meirl.held_out(env, "test", 64))
    assert table["cost"].mean() == pytest.approx(RECORDED["rules"][key], rel=1e-6)


@pytest.mark.parametrize("name", RECORDED["tuned"])
def test_a_search_finds_what_it_found(name):
    env = meirl.make(name)
    rule = RULES["base-stock" if "divergent" in name else "s-S"]
    levels = tuning.tune(env, rule, episodes=4, generations=3, progress=False).tuned.levels
    assert levels == pytest.approx(RECORDED["tuned"][name], rel=1e-6)


@pytest.mark.parametrize("key", RECORDED["learners"])
def test_learners_learn_as_they_did(key):
    algo, name = key.split("/")
    env = meirl.make(name)
    changes = {"environments": 16, "steps": 4 * 16 * env.horizon, "evaluations": 3, "validation_episodes": 16}
    config = preset(algo, "tuned", name, **changes, **({"workers": 1} if algo == "a3c" else {}))
    history = find_learner(algo).train(env, config, 1, progress=False).history
    assert [row["validation_cost"] for row in history] == pytest.approx(RECORDED["learners"][key], rel=1e-3)
