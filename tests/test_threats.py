"""Threats: a switch changes one thing, short runs are kept apart, resampled verdicts agree with theory."""

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl import runs, threats, tuning
from meirl.threats import DEFECTS_ALONE, STRESSORS, Variant, Wanted

ENV2 = ("divergent-nonstationary", "meis-nonstationary")
SWITCHES = [(name, one) for name in ENV2 for one in STRESSORS[name.split("-")[0]]]
FIELDS = {"season": {"demand"}, "shocks": {"demand", "shock"}, "correlation": {"demand"},
          "random lead times": {"lead_time"}, "lead-time tail": {"lead_time"}}  # fmt: skip
TINY = {"steps": 730, "environments": 2, "copies": 1, "evaluations": 1, "validation_episodes": 2}


@pytest.mark.parametrize(("name", "stressor"), SWITCHES)
def test_a_switch_changes_its_own_process_and_nothing_that_is_seen(name, stressor):
    env, calm = meirl.make(name), meirl.make(name, **threats.without(name, [stressor]))
    assert calm.parameters != env.parameters
    assert calm.legend() == env.legend()
    before, after = env.sample(3, seed=5)._asdict(), calm.sample(3, seed=5)._asdict()
    changed = {field for field in before if not torch.equal(before[field], after[field])}
    capacities = {field for field in before if "capacity" in field and before[field].isfinite().all()}
    assert changed - {"direct_demand"} == (capacities if stressor == "capacities" else FIELDS.get(stressor, set()))


@pytest.mark.parametrize("name", ENV2)
def test_without_correlation_the_weights_keep_their_length(name):
    weights = [meirl.make(name, **c).parameters.demand.noise for c in ({}, threats.without(name, ["correlation"]))]
    assert weights[1].common == 0
    assert np.hypot(*(getattr(weights[1], k) for k in ("common", "own"))) == pytest.approx(
        np.hypot(*(getattr(weights[0], k) for k in ("common", "own")))
    )


def test_without_correlation_demand_is_independent():
    env = meirl.make(ENV2[1], **threats.without(ENV2[1], ["correlation", "shocks", "season"]))
    demand = env.sample(64, seed=1).demand
    together = np.corrcoef(demand[..., 0].flatten(), demand[..., 1].flatten())[0, 1]
    assert abs(together) < 0.03


@pytest.mark.parametrize("name", ENV2)
def test_designs_take_out_one_and_put_in_one(name):
    designs, known = threats.one_by_one(name), list(STRESSORS[name.split("-")[0]])
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
        threats.without("meis-nonstationary", ["rain"])


@pytest.mark.parametrize(("algo", "variant"), [(a, v) for a in DEFECTS_ALONE for v in DEFECTS_ALONE[a]])
def test_every_variant_is_a_valid_preset_and_differs_from_the_tuned_one(algo, variant):
    chosen = DEFECTS_ALONE[algo][variant]
    tuned = runs.preset(algo, "tuned", "divergent-nonstationary")
    same = runs.preset(algo, "tuned", "divergent-nonstationary", **chosen.changes) == tuned
    assert (same and chosen.observation == "full") == (variant == "tuned")


def test_variants_are_trained_apart_and_found_again(tmp_path):
    variants = {"tuned": Variant(), "short sight!": Variant({"discount": 0.5}, "published")}
    table = threats.trained(variants, "meis-stationary", "ppo", [3, 4], tmp_path, TINY, episodes=2, jobs=1)
    assert [(v, s) for v, s, _ in table[["variant", "seed", "episode"]].to_numpy()[::2]] == [
        (v, s) for v in variants for s in (3, 4)
    ]
    assert threats.folder(tmp_path, "short sight!") == tmp_path / "short-sight"
    saved = runs.load_checkpoint(tmp_path / "short-sight/meis-stationary/ppo/tuned/seed-4/policy.pt")
    assert '"discount":0.5' in saved["config"]
    assert saved["observation"] == "published"
    env = meirl.make("meis-nonstationary", observation="published")
    first, second = threats.agents(tmp_path, "short sight!", "meis-stationary", "ppo", [3, 4], env)
    scenario = env.sample(2, seed=0)
    assert (meirl.rollout(env, first, scenario)["cost"] != meirl.rollout(env, second, scenario)["cost"]).any()


def test_effects_are_ratios_whose_intervals_hold_together():
    generator = np.random.default_rng(0)
    noise = np.exp(generator.normal(0, 0.002, (5, 4)))
    costs = pd.DataFrame(noise * [100, 100, 110, 80], columns=["tuned", "same", "more", "less"])
    table = threats.effects(costs)
    assert table["percent"].to_numpy() == pytest.approx([0, 0, 10, -20], abs=0.3)
    low, high = table["percent_low"], table["percent_high"]
    assert low["same"] < 0 < high["same"]
    assert 0 < low["more"] < 10 < high["more"]
    assert low["less"] < -20 < high["less"] < 0
    assert (low["tuned"], high["tuned"]) == (0, 0)
    alone = threats.effects(costs[["tuned", "more"]], confidence=0.5)
    assert alone["percent_high"]["more"] - alone["percent_low"]["more"] < high["more"] - low["more"]


def test_a_search_is_made_once(tmp_path, monkeypatch):
    wanted = Wanted("meis-stationary", "constant-order", {"horizon": 5}, {"episodes": 2, "generations": 1, "seed": 1})
    (first,) = threats.searches([wanted], tmp_path, jobs=1)
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("searched again"))
    (again,) = threats.searches([wanted], tmp_path, jobs=1)
    assert again.tuned == first.tuned
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        threats.searches([wanted._replace(changes={"horizon": 6})], tmp_path, jobs=1)


def test_pairing_finds_what_luck_hides():
    generator = np.random.default_rng(1)
    luck = generator.normal(1000, 100, 4000)
    costs = np.stack([luck + generator.normal(0, 5, 4000), luck + 10], 1)
    power = threats.power(costs, [16], 500, generator)
    assert power.loc[16, "paired"] > 0.99
    assert power.loc[16, "unpaired"] < 0.1
    # Student's t, effect of 10 over a standard deviation of 141 with 1,600 episodes: power 1 - Phi(1.96 - 2) = 0.52
    many = threats.power(costs, [800], 500, generator)
    assert many.loc[800, "unpaired"] == pytest.approx(0.52, abs=0.1)


def test_the_winner_on_own_draws_is_the_lucky_one():
    generator = np.random.default_rng(2)
    costs = generator.normal(100, 20, (2, 100_000))
    costs += 100 - costs.mean(1, keepdims=True)
    table = threats.optimism(costs, [16], 4000, generator, common=False)
    expected = 20 / 16**0.5 / np.pi**0.5  # the larger of two standard normals is 1 / sqrt(pi) on average
    assert table.loc[16, "low"] < expected < table.loc[16, "high"]
    assert table.loc[16, "percent"] == pytest.approx(expected, rel=0.1)


def test_on_common_draws_luck_helps_all_alike():
    generator = np.random.default_rng(3)
    luck = generator.normal(100, 20, 10_000)
    costs = np.stack([luck, luck + 5])
    table = threats.optimism(costs, [16], 4000, generator, common=True)
    assert table.loc[16, "low"] < 0 < table.loc[16, "high"]
