"""Choices on validation sets: candidates are what searches and runs went through, and luck does what it must."""

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl.envs.scenario import FIRST_RESERVED_SEED
from meirl.heuristics import RULES, load, read_levels, tuning
from meirl.learn import ppo, preset
from meirl.rollout import play
from meirl_study import searches
from meirl_study.threats import choices

NAME, RULE = "meis-stationary", "constant-order"


@pytest.fixture
def made(tmp_path):
    """Two searches with made-up results."""
    todo = [searches.SearchTask(NAME, RULE, seed) for seed in (0, 1)]
    names = list(RULES[RULE].ranges(meirl.make(NAME)))
    for task in todo:
        folder = task.folder(tmp_path)
        folder.mkdir(parents=True)
        levels = read_levels(meirl.make(NAME), RULE)
        ends = {name: 1000.0 * (i + task.seed) for i, name in enumerate(names)}
        tuning.write(levels.model_copy(update={"levels": ends}), folder / "levels.yaml")
        rows = [[100.0 * k + task.seed] * len(names) for k in range(4)]
        pd.DataFrame(rows, columns=names).to_csv(folder / "history.csv", index=False)
    return todo


def test_candidates_are_committed_levels_ends_of_searches_and_what_they_had_on_the_way(made, tmp_path):
    env = meirl.make(NAME)
    policies = choices.candidates(env, made, tmp_path)
    committed = list(read_levels(env, RULE).levels.values())
    expected = [committed]
    for seed in (0, 1):
        expected += [[1000.0 * (i + seed) for i in range(3)], *([100.0 * k + seed] * 3 for k in (1, 2, 3))]
    levels = [policy.keywords["levels"][0].tolist() for policy in policies]
    assert levels == [pytest.approx(row) for row in expected]


def test_fresh_scenarios_are_of_no_other_stream():
    assert 999 * 1000 < choices.FRESH < FIRST_RESERVED_SEED
    env = meirl.make(NAME, horizon=5)
    assert not env.sample(2, 0).demand.equal(choices.fresh(env, 2).demand)


def test_every_checkpoint_is_kept_as_it_was_at_its_validation(tmp_path):
    env = meirl.make("divergent-stationary", horizon=30)
    changes = {"steps": 4 * 8 * 30, "environments": 8, "evaluations": 4, "validation_episodes": 3}
    config = preset("ppo", "tuned", env.name, **changes)
    kept = choices.checkpoints(env, config, 0)
    run = ppo.train(env, config, 0, progress=False)
    assert len(kept) == len(run.history) == 4
    validation = meirl.held_out(env, "validation", 3)
    for network, row in zip(kept, run.history, strict=True):
        cost = meirl.rollout(env, network, validation)["cost"].mean()
        assert cost == pytest.approx(row["validation_cost"], rel=1e-5)


def test_checkpoints_are_trained_once(tmp_path, monkeypatch):
    trained = []

    def checkpoints(env, config, seed):
        trained.append((env.name, config.steps, seed))
        return [load(env), load(env, "never-order")]

    monkeypatch.setattr(choices, "checkpoints", checkpoints)
    tables = [choices.checkpoint_costs(NAME, {"steps": 7}, 3, 2, tmp_path) for _ in range(2)]
    assert trained == [(NAME, 7, 3)]
    env = meirl.make(NAME)
    never = meirl.rollout(env, load(env, "never-order"), choices.fresh(env, 2))["cost"]
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_array_equal(tables[0][1], never)


def test_the_winner_on_own_draws_is_the_lucky_one():
    generator = np.random.default_rng(2)
    costs = generator.normal(100, 20, (2, 100_000))
    costs += 100 - costs.mean(1, keepdims=True)
    table = choices.repeated(costs, [16], 4000, generator, common=False)
    expected = 20 / 16**0.5 / np.pi**0.5  # the larger of two standard normals is 1 / sqrt(pi) on average
    assert table.loc[16, "optimism_low"] < expected < table.loc[16, "optimism_high"]
    assert table.loc[16, "optimism"] == pytest.approx(expected, rel=0.1)


def test_on_common_draws_luck_helps_all_alike():
    generator = np.random.default_rng(3)
    luck = generator.normal(100, 20, 10_000)
    table = choices.repeated(np.stack([luck, luck + 5]), [16], 4000, generator)
    assert table.loc[16, "optimism_low"] < 0 < table.loc[16, "optimism_high"]
    assert table.loc[16, ["value", "worst", "best"]].tolist() == [0, 0, 1]


def test_a_wrong_choice_costs_what_it_costs_and_is_rarer_on_more_episodes():
    generator = np.random.default_rng(4)
    costs = np.stack([np.full(1000, 100.0), np.where(np.arange(1000) % 10, 102.0, 182.0)])  # 100 and 110 in truth
    table = choices.repeated(costs, [1, 4, 100], 2000, generator)
    assert (table["best"] == 1).all(), "the second is never below 102"
    costs[1] = np.where(np.arange(1000) % 10, 90, 290)  # still 110 in truth, but mostly cheaper
    table = choices.repeated(costs, [1, 100], 2000, generator)
    wrong = 0.9
    assert table.loc[1, "best"] == pytest.approx(1 - wrong, abs=0.03)
    assert table.loc[1, "value"] == pytest.approx(10 * wrong, abs=0.3)
    assert table.loc[1, "worst"] == pytest.approx(10)
    assert table.loc[100, "value"] < 1


def test_seeds_of_searches_lie_as_far_apart_as_their_levels(made, tmp_path):
    env = meirl.make(NAME)
    test = env.sample(3, 1)
    table = choices.search_seeds({NAME: env}, made, tmp_path, {NAME: test})
    means = [
        meirl.rollout(env, RULES[RULE].policy(env, [1000.0 * (i + seed) for i in range(3)]), test)["cost"].mean()
        for seed in (0, 1)
    ]
    row = table.loc[(NAME, RULE)]
    assert row["seeds"] == 2
    assert row["worst"] == pytest.approx(100 * abs(means[0] - means[1]) / np.mean(means))
    assert row["sd"] == pytest.approx(row["worst"] / 2**0.5)


def test_the_played_costs_are_those_of_the_policies():
    env = meirl.make(NAME, horizon=10)
    scenario = env.sample(2, 1)
    matrix = choices.costs(env, [load(env), load(env, "never-order")], scenario)
    total = torch.stack([step.costs.total for _, step in play(env, load(env), scenario)]).sum(0) / 10_000
    assert matrix[0].tolist() == pytest.approx(total.tolist())
    assert matrix.shape == (2, 2)
