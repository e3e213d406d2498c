"""Variants: each differs in one respect, short runs are kept apart, effects are ratios with intervals."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl.learn import load_checkpoint, preset
from meirl_study.threats import variants
from meirl_study.threats.variants import DEFECTS_ALONE, TERMINAL, Variant

TINY = {"steps": 730, "environments": 2, "copies": 1, "evaluations": 1, "validation_episodes": 2}


@pytest.mark.parametrize(("algo", "variant"), [(a, v) for a in DEFECTS_ALONE for v in DEFECTS_ALONE[a]])
def test_every_variant_is_a_valid_preset_and_differs_from_the_tuned_one(algo, variant):
    chosen = DEFECTS_ALONE[algo][variant]
    tuned = preset(algo, "tuned", "divergent-nonstationary")
    same = preset(algo, "tuned", "divergent-nonstationary", **chosen.changes) == tuned
    assert (same and chosen.observation == "full") == (variant == "tuned")


def test_variants_are_trained_apart_and_found_again(tmp_path):
    chosen = {"tuned": Variant(), "short sight!": Variant({"discount": 0.5}, "published")}
    costs = variants.train_variants(chosen, "meis-stationary", "ppo", [3, 4], tmp_path, TINY, episodes=2, jobs=1)
    assert list(costs) == list(chosen)
    assert list(costs.index) == [3, 4]
    assert variants.folder(tmp_path, "short sight!") == tmp_path / "short-sight"
    saved = load_checkpoint(tmp_path / "short-sight/meis-stationary/ppo/tuned/seed-4/policy.pt")
    assert '"discount":0.5' in saved["config"]
    assert saved["observation"] == "published"
    own = meirl.make("meis-stationary", observation="published")
    (agent,) = variants.agents(tmp_path, "short sight!", "meis-stationary", "ppo", [4], own)
    played = meirl.rollout(own, agent, meirl.held_out(own, "test", 2))["cost"]
    assert costs.loc[4, "short sight!"] == pytest.approx(played.mean())
    other = meirl.make("meis-nonstationary", observation="published")
    first, second = variants.agents(tmp_path, "short sight!", "meis-stationary", "ppo", [3, 4], other)
    scenario = other.sample(2, seed=0)
    assert (meirl.rollout(other, first, scenario)["cost"] != meirl.rollout(other, second, scenario)["cost"]).any()


def test_discounts_are_named_and_put_in_order():
    chosen = variants.discounts([0.95, 0.99, 0.997], 0.99)
    assert list(chosen) == ["tuned", "discount 0.95", "discount 0.997", TERMINAL]
    assert chosen["discount 0.95"] == Variant({"discount": 0.95})
    assert chosen[TERMINAL].changes == {"defect_terminal_horizon": True}
    table = variants.by_discount(pd.DataFrame({"value": [0.0, 1, 2, 3]}, list(chosen)), 0.99)
    assert list(table["value"].items()) == [("0.95", 1), ("0.99", 0), ("0.997", 2)]


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
    assert 0 < low["more"] < 10 < high["more"]
    assert low["less"] < -20 < high["less"] < 0
    assert (low["tuned"], high["tuned"]) == (0, 0)
    alone = variants.effects(costs[["tuned", "more"]], confidence=0.5)
    assert alone["high"]["more"] - alone["low"]["more"] < high["more"] - low["more"]


def test_variants_are_told_apart_by_intervals_without_zero():
    table = pd.DataFrame(
        {"value": [0.0, 12.4, 3, -7], "low": [0.0, 5, -1, -9], "high": [0.0, 20, 8, -2]},
        ["tuned", "... and no Jacobian", "unclear", "short sight"],
    )
    assert variants.told_apart(table, 1) == "no Jacobian +12 % (+5 to +20)"
    assert variants.told_apart(table, -1) == "short sight -7 % (-9 to -2)"
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
