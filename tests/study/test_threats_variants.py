"""Variants: each differs in one respect, their runs are kept apart, effects are ratios with intervals."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import meirl
from meirl.learn import load_checkpoint, preset
from meirl_study.threats import variants
from meirl_study.threats.variants import FAULTS, SIGHT, TUNED, Variant

TINY = {"steps": 730, "environments": 2, "copies": 1, "evaluations": 1, "validation_episodes": 2}


@pytest.mark.parametrize("variant", [*FAULTS.items(), *SIGHT.items()], ids=lambda item: item[0])
def test_every_variant_is_a_valid_preset_and_differs_from_the_tuned_one(variant):
    name, chosen = variant
    tuned = preset("ppo", "tuned", "divergent-nonstationary")
    same = preset("ppo", "tuned", "divergent-nonstationary", **chosen.changes) == tuned
    assert (same and chosen.observation == "full") == (name == "tuned")


def test_variants_are_trained_apart_and_the_tuned_one_is_the_studys(tmp_path):
    chosen = {"tuned": TUNED, "short sight!": Variant({"discount": 0.5}, "published")}
    costs = variants.train_variants(chosen, "meis-stationary", [3, 4], tmp_path, TINY, episodes=2, jobs=1)
    assert list(costs) == list(chosen)
    assert list(costs.index) == [3, 4]
    assert (tmp_path / "meis-stationary/ppo/tuned/seed-4/policy.pt").exists()
    assert variants.folder(tmp_path, "short sight!") == tmp_path / "variants/short-sight"
    seen = tmp_path / "variants/short-sight/published-observation"
    saved = load_checkpoint(seen / "meis-stationary/ppo/tuned/seed-4/policy.pt")
    assert '"discount":0.5' in saved["config"]
    assert saved["observation"] == "published"
    own = meirl.make("meis-stationary", observation="published")
    (agent,) = variants.agents(tmp_path, "short sight!", "meis-stationary", [4], own)
    played = meirl.rollout(own, agent, meirl.held_out(own, "test", 2))["cost"]
    assert costs.loc[4, "short sight!"] == pytest.approx(played.mean())
    other = meirl.make("meis-nonstationary", observation="published")
    first, second = variants.agents(tmp_path, "short sight!", "meis-stationary", [3, 4], other)
    scenario = other.sample(2, seed=0)
    assert (meirl.rollout(other, first, scenario)["cost"] != meirl.rollout(other, second, scenario)["cost"]).any()


def test_the_time_of_all_runs_is_added_up(tmp_path):
    for name, seconds in (("a/seed-0", 30), ("b/c/seed-1", 90), ("b/c/seed-1-before-1", 7)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
    assert variants.core_minutes(tmp_path) == 2
    assert variants.core_minutes(tmp_path / "a") == 0.5


def test_an_extra_cost_is_a_ratio_with_the_interval_of_welch():
    one, two = np.array([100.0, 110, 121]), np.array([100.0, 90, 81, 100])
    found = variants.extra(one, two, 0.9)
    logs = np.log(one), np.log(two)
    errors = [sample.var(ddof=1) / len(sample) for sample in logs]
    freedom = sum(errors) ** 2 / sum(error**2 / (len(sample) - 1) for error, sample in zip(errors, logs, strict=True))
    middle = logs[0].mean() - logs[1].mean()
    half = stats.t.ppf(0.95, freedom) * sum(errors) ** 0.5
    expected = 100 * np.expm1([middle, middle - half, middle + half])
    assert list(found.values()) == pytest.approx(expected)


def test_effects_are_ratios_whose_intervals_hold_together():
    generator = np.random.default_rng(0)
    noise = np.exp(generator.normal(0, 0.002, (5, 4)))
    costs = pd.DataFrame(noise * [100, 100, 110, 80], columns=["tuned", "same", "more", "less"])
    table = variants.effects(costs)
    assert table["value"].to_numpy() == pytest.approx([0, 0, 10, -20], abs=0.3)
    assert table["mean_cost"].to_numpy() == pytest.approx(costs.mean().to_numpy())
    assert (table["mean_cost_low"] < table["mean_cost"]).all()
    low, high = table["low"], table["high"]
    assert low["same"] < 0 < high["same"]
    assert (low["tuned"], high["tuned"]) == (0, 0)
    three = variants.extra(costs["more"].to_numpy(), costs["tuned"].to_numpy(), 1 - 0.05 / 3)
    assert table.loc["more", ["low", "high"]].tolist() == pytest.approx([three["low"], three["high"]])
    alone = variants.effects(costs[["tuned", "more"]])
    assert alone["high"]["more"] - alone["low"]["more"] < high["more"] - low["more"]
    four = variants.effects(costs[["tuned", "more"]], comparisons=4)
    assert four["high"]["more"] > high["more"]


def test_variants_are_told_apart_by_intervals_without_zero():
    table = pd.DataFrame(
        {"value": [0.0, 12.4, 3, -7], "low": [0.0, 5, -1, -9], "high": [0.0, 20, 8, -2]},
        ["tuned", "... and no Jacobian", "unclear", "short sight"],
    )
    assert variants.told_apart(table, 1) == "no Jacobian +12.4 % (+5.0 to +20.0)"
    assert variants.told_apart(table, -1) == "short sight -7.0 % (-9.0 to -2.0)"
    assert variants.told_apart(table[:1], 1) == "none"


def test_noise_is_the_mean_standard_deviation(monkeypatch):
    stds = {0: torch.tensor([0.5, 1.5]), 1: torch.tensor([2.0, 2.0])}
    monkeypatch.setattr(variants, "agents", lambda *given: [SimpleNamespace(log_std=stds[s].log()) for s in given[-1]])
    assert variants.noise("root", "tuned", "meis-stationary", [0, 1]) == pytest.approx(1.5)


def test_a_policy_that_starts_even_has_the_entropy_of_all_options():
    env = meirl.make("meis-stationary", horizon=20)
    even = preset("a3c", "tuned", env.name, network={"policy_gain": 1e-6})
    assert variants.first_entropy(env, even, 0) == pytest.approx(np.log(env.options), abs=1e-4)
    steep = preset("a3c", "tuned", env.name, network={"policy_gain": 30.0})
    assert variants.first_entropy(env, steep, 0) < 1
