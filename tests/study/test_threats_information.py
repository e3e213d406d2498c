"""Facts withheld: a blindfold hides its own fact and nothing else, and costs those who used it."""

import numpy as np
import pytest
import torch

import meirl
from meirl.heuristics import RULES, load, read_levels
from meirl.rollout import play
from meirl_study.threats import information

CLOCK = {"time left", "the end is near"}


def observed(env, period=40):
    """A batch of states in the middle of an episode."""
    seen = [o for o, _ in play(env, load(env, "constant-order"), env.sample(3, 1))]
    return seen[period]


@pytest.mark.parametrize("name", meirl.NAMES)
@pytest.mark.parametrize(("fact", "hidden"), [("time left", CLOCK), ("last demands", None)])
def test_a_blindfold_changes_its_own_numbers_only(name, fact, hidden):
    env = meirl.make(name, horizon=60)
    seen = observed(env)
    numbers, after = seen.named(), information.blindfold(env, fact)(seen).named()
    assert list(numbers) == list(after)
    hidden = hidden or {number for number in numbers if number.startswith("demand ")}
    assert {number for number in numbers if not torch.equal(numbers[number], after[number])} == hidden


def test_the_end_seems_far_and_demand_as_the_season_has_it():
    env = meirl.make("divergent-nonstationary", horizon=60)
    after = information.blindfold(env, "time left")(observed(env))
    assert after.env.horizon - after.period > 1_000
    assert after.named()["time left"].tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    recent = information.blindfold(env, "last demands")(observed(env)).state.recent_demand
    season = env.seasonal_mean[[39, 38, 37, 36, 35]]
    torch.testing.assert_close(recent[0, :, 1], season)
    torch.testing.assert_close(recent[2, :, 0], 0.3 * season), "the warehouse's own customers"


def test_an_unknown_fact_is_refused():
    with pytest.raises(ValueError, match="unknown fact 'weather': expected one of time left, last demands"):
        information.blindfold(meirl.make("meis-stationary"), "weather")


def test_a_blind_rule_is_the_rule_behind_a_blindfold():
    env = meirl.make("divergent-stationary", horizon=60)
    hide, levels = information.blindfold(env, "time left"), list(read_levels(env, "bank-and-switch").levels.values())
    rule = RULES["bank-and-switch"]
    blind = information.blind_rule(rule, hide).policy(env, levels)
    seen = observed(env)
    assert torch.equal(blind(seen), rule.policy(env, levels)(hide(seen)))


def test_a_fact_is_worth_what_its_loss_costs():
    env = meirl.make("divergent-stationary", horizon=60)
    rule, scenario = load(env, "bank-and-switch"), env.sample(4, 1)
    never = load(env, "never-order")
    table = information.worth(env, {"rule": [rule], "never": [never, never]}, scenario, resamples=50)
    seeing = meirl.rollout(env, rule, scenario)["cost"].mean()
    groping = meirl.rollout(env, information.blind(rule, information.blindfold(env, "time left")), scenario)
    assert table.loc[("rule", "time left"), "value"] == pytest.approx(100 * (groping["cost"].mean() / seeing - 1))
    assert table.loc[("rule", "time left"), "value"] > 0
    assert table.loc[("rule", "last demands")].tolist() == [0, 0, 0]
    assert (table.loc["never"] == 0).all(axis=None)


def test_a_blind_search_is_made_once_and_without_the_fact(tmp_path, monkeypatch):
    asked = []

    def tune(env, rule, **options):
        asked.append((env.name, rule.name, options))
        return meirl_search(env, "constant-order")

    def meirl_search(env, name):
        return information.tuning.Search(read_levels(env, name), None)

    monkeypatch.setattr(information.tuning, "tune", tune)
    options = {"episodes": 2, "seed": 5}
    for _ in range(2):
        policy = information.tuned_blind("meis-stationary", "constant-order", "time left", options, tmp_path)
    assert asked == [("meis-stationary", "constant-order", {**options, "progress": False})]
    env = meirl.make("meis-stationary")
    seen = observed(env)
    assert torch.equal(policy(seen), load(env, "constant-order")(seen))


def test_agents_are_compared_with_every_rule_on_the_same_episodes():
    agents = np.array([[10.0, 20, 30], [12.0, 22, 32]])
    table = information.against(agents, {"one": np.array([10.0, 20, 30]), "other": np.array([20.0, 40, 60])}, 200)
    assert table["value"].tolist() == pytest.approx([5, -47.5])
    assert table.loc["one", "low"] < 5 < table.loc["one", "high"]
    assert table.loc["other", "high"] < 0
