"""Stressors: a switch changes one thing; agents meet the better rule; what each costs is read off the designs."""

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl.heuristics import load, read_levels
from meirl.heuristics.tuning import Search
from meirl_study.threats import stressors
from meirl_study.threats.stressors import STRESSORS

ENV2 = ("divergent-nonstationary", "meis-nonstationary")
SWITCHES = [(name, one) for name in ENV2 for one in STRESSORS[name.split("-")[0]]]
FIELDS = {"season": {"demand"}, "shocks": {"demand", "shock"}, "correlation": {"demand"},
          "random lead times": {"lead_time"}, "lead-time tail": {"lead_time"}}  # fmt: skip


@pytest.mark.parametrize(("name", "stressor"), SWITCHES)
def test_a_switch_changes_its_own_process_and_nothing_that_is_seen(name, stressor):
    env, calm = meirl.make(name), meirl.make(name, **stressors.without(name, [stressor]))
    assert calm.parameters != env.parameters
    assert calm.legend() == env.legend()
    before, after = env.sample(3, seed=5)._asdict(), calm.sample(3, seed=5)._asdict()
    changed = {field for field in before if not torch.equal(before[field], after[field])}
    capacities = {field for field in before if "capacity" in field and before[field].isfinite().all()}
    assert changed - {"direct_demand"} == (capacities if stressor == "capacities" else FIELDS.get(stressor, set()))


@pytest.mark.parametrize("name", ENV2)
def test_without_correlation_the_weights_keep_their_length(name):
    weights = [meirl.make(name, **c).parameters.demand.noise for c in ({}, stressors.without(name, ["correlation"]))]
    assert weights[1].common == 0
    assert np.hypot(*(getattr(weights[1], k) for k in ("common", "own"))) == pytest.approx(
        np.hypot(*(getattr(weights[0], k) for k in ("common", "own")))
    )


def test_without_correlation_demand_is_independent():
    env = meirl.make(ENV2[1], **stressors.without(ENV2[1], ["correlation", "shocks", "season"]))
    demand = env.sample(64, seed=1).demand
    together = np.corrcoef(demand[..., 0].flatten(), demand[..., 1].flatten())[0, 1]
    assert abs(together) < 0.03


@pytest.mark.parametrize("name", ENV2)
def test_designs_take_out_one_and_put_in_one(name):
    designs, known = stressors.one_by_one(name), list(STRESSORS[name.split("-")[0]])
    assert len(designs) == 2 + 2 * len(known)
    assert meirl.make(name, **designs["all stressors"]).parameters == meirl.make(name).parameters
    calm = meirl.make(name, **designs["none"]).parameters
    for one in known:
        alone = meirl.make(name, **designs[f"only {one}"]).parameters
        assert alone != calm
        kept = meirl.make(name, **designs[f"without {one}"]).parameters
        for key in calm.model_fields_set:  # a top-level group differs from Env-2 in one design or the other
            both = {getattr(alone, key) == getattr(calm, key), getattr(kept, key) == getattr(calm, key)}
            assert True in both or key in ("demand", "lead_time")


def test_unknown_stressors_are_refused():
    with pytest.raises(ValueError, match="unknown stressor 'rain' of meis-nonstationary: expected one of season"):
        stressors.without("meis-nonstationary", ["season", "rain"])


@pytest.mark.parametrize("order", [1, -1])
def test_agents_meet_the_better_rule(order):
    env = meirl.make("meis-nonstationary", horizon=100)
    never, best = load(env, "never-order"), load(env)
    row = stressors.meet(env, [never, best][::order], [best, never], 4)
    test = meirl.held_out(env, "test", 4)
    costs = {name: meirl.rollout(env, p, test)["cost"].mean() for name, p in {"never": never, "best": best}.items()}
    assert row["rule"] == pytest.approx(costs["best"])
    assert row["ppo"] == pytest.approx((costs["best"] + costs["never"]) / 2)
    extra = 100 * (costs["never"] / costs["best"] - 1)  # of one agent; the other's is 0
    assert row["value"] == pytest.approx(extra / 2)
    assert row["high"] == pytest.approx(extra / 2 * (1 + 12.706), rel=1e-4)  # Student's t, one degree of freedom
    assert row["rule_low"] < row["rule"] < row["rule_high"]


def test_every_design_is_played_with_its_own_rule_and_the_same_agents(tmp_path, monkeypatch):
    name, played = ENV2[1], []
    monkeypatch.setattr(stressors, "load_policy", lambda folder, env: (played.append(folder) or load(env), env))
    designs = {"all stressors": {}, "none": stressors.one_by_one(name)["none"]}
    found = [Search(read_levels(meirl.make(name), rule), pd.DataFrame()) for rule in ("published", "s-S")]
    table = stressors.play_designs(name, designs, found, [tmp_path / "a", tmp_path / "b"], 3, horizon=100)
    assert list(table.index) == list(designs)
    assert played == [tmp_path / "a", tmp_path / "b"] * 2
    for (design, changes), rule in zip(designs.items(), ("published", "s-S"), strict=True):
        env = meirl.make(name, horizon=100, **changes)
        costs = [
            meirl.rollout(env, load(env, r), meirl.held_out(env, "test", 3))["cost"].mean() for r in (rule, "best")
        ]
        assert table.loc[design, "rule"] == pytest.approx(min(costs))
        assert table.loc[design, "ppo"] == pytest.approx(costs[1])


def test_relief_is_what_the_rule_saves():
    designs = ["all stressors", "without storms", "without mud", "only mud", "none"]
    table = pd.DataFrame({"rule": [200.0, 150, 210, 120, 100]}, designs)
    assert stressors.relief(table).to_dict() == pytest.approx({"storms": 25, "mud": -5})
