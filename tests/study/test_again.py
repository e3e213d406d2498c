"""Every tuned rule searched again: what is compared is the best of either search, and verdicts follow its costs."""

import json

import numpy as np
import pandas as pd
import pytest

import meirl
from meirl.heuristics import RULES, best_rule, read_levels, tuning
from meirl_study import again

NAME, RULE = "meis-nonstationary", "s-S"
EPISODES = 4


@pytest.fixture(scope="module")
def envs():
    return {name: meirl.make(name) for name in (NAME, "divergent-stationary")}


@pytest.fixture(scope="module")
def table(envs):
    return again.searches(envs)


@pytest.fixture(scope="module")
def cells(table):
    return again.best(table)


@pytest.fixture(scope="module")
def tests(envs):
    return {name: meirl.held_out(env, "test", EPISODES) for name, env in envs.items()}


def those(table, name, rule, search):
    return table[(table["env"] == name) & (table["rule"] == rule) & (table["search"] == search)]


def test_every_line_is_a_search_that_fits_its_rule_and_there_are_five_seeds_of_each():
    lines = [json.loads(line) for line in again.FILE.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        assert line["levels"].keys() == RULES[line["rule"]].ranges(meirl.make(line["env"])).keys()
    seeds = pd.DataFrame(lines).groupby(["env", "rule", "search"])["seed"].agg(list)
    assert all(each == [0, 1, 2, 3, 4] for each in seeds)


def test_all_opponents_of_the_book_were_searched_again_around_their_committed_levels():
    envs = {name: meirl.make(name) for name in meirl.envs.NAMES}
    found = again.searches(envs)
    for name, env in envs.items():
        for textbook in (True, False):
            rule = best_rule(env, textbook=textbook)
            box = tuning.near(env, RULES[rule], read_levels(env, rule).levels)
            for levels in those(found, name, rule, 2)["levels"]:
                inside = [box[key].low <= value <= box[key].high for key, value in levels.items()]
                assert sum(inside) >= len(inside) - 2  # a box that a search hit was widened


def test_all_rules_of_an_environment_stand_together(envs, table):
    assert list(dict.fromkeys(table["env"])) == list(envs)
    assert table["env"].ne(table["env"].shift()).sum() == len(envs)


def test_committed_levels_are_a_first_search(envs, table):
    first = those(table, NAME, RULE, 1)
    committed = read_levels(envs[NAME], RULE)
    assert len(first) == 1
    assert first["levels"].item() == committed.levels
    assert first["validation_cost"].item() == committed.provenance["validation_cost"]


def test_the_best_of_a_search_is_that_with_the_lowest_validation_cost(table, cells):
    for (name, rule), row in cells.iterrows():
        for search, when in ((1, "before"), (2, "after")):
            found = those(table, name, rule, search)
            assert row[f"validation {when}"] == found["validation_cost"].min()
            assert row[f"levels {when}"] == found.loc[found["validation_cost"].idxmin(), "levels"]


def test_levels_are_played_by_name_whatever_their_order(envs, cells, tests):
    mixed = cells.copy()
    for column in ("levels before", "levels after"):
        mixed[column] = [dict(reversed(levels.items())) for levels in cells[column]]
    for cell, costs in again.play(envs, mixed, tests).items():
        np.testing.assert_array_equal(costs, again.play(envs, cells.loc[[cell]], tests)[cell])


def test_what_is_played_is_the_rule_with_these_levels(envs, cells, tests):
    before, after = again.play(envs, cells.loc[[(NAME, RULE)]], tests)[NAME, RULE]
    committed = meirl.rollout(envs[NAME], meirl.heuristics.load(envs[NAME], RULE), tests[NAME])["cost"]
    np.testing.assert_array_equal(before, committed)
    assert after.mean() < before.mean()


def test_effort_is_that_of_all_seeds(table):
    effort = again.effort(table).loc[(NAME, RULE)]
    assert effort["first"] == read_levels(meirl.make(NAME), RULE).provenance["simulated_steps"] / 1e6
    assert effort["second"] == those(table, NAME, RULE, 2)["simulated_steps"].sum() / 1e6


def test_validation_costs_are_computed_again(monkeypatch, envs):
    monkeypatch.setattr(meirl.evaluation, "VALIDATION_EPISODES", EPISODES)
    env, levels = envs[NAME], read_levels(envs[NAME], RULE).levels
    row = np.array([[levels[key] for key in RULES[RULE].ranges(env)]])
    cost = tuning.mean_costs(env, RULES[RULE], row, meirl.held_out(env, "validation"))[0]
    reported = pd.DataFrame({"env": NAME, "rule": RULE, "levels": [levels] * 2, "validation_cost": [cost, 1.25 * cost]})
    assert again.validated(envs, reported) == pytest.approx(0.2)
    assert again.validated(envs, reported[:1]) == 0


def test_a_gain_is_the_paired_change_in_per_cent(cells):
    before, after = np.array([100.0, 200.0, 300.0]), np.array([90.0, 190.0, 260.0])
    gain = again.gains(cells.loc[[(NAME, RULE)]], {(NAME, RULE): np.stack([before, after])}).iloc[0]
    assert (gain["before"], gain["after"]) == (200, 180)
    assert gain["value"] == pytest.approx(-10)
    assert (gain["low"], gain["high"]) == pytest.approx(meirl.evaluation.interval((after - before) / 2))


def test_ranges_say_where_in_its_box_a_level_ended(envs, cells):
    box = again.ranges(envs[NAME], RULE, cells)
    provenance = read_levels(envs[NAME], RULE).provenance["box"]
    assert list(box.index) == list(provenance)
    row = box.loc["reorder point, leaf 2"]
    assert (row["low"], row["high"]) == tuple(provenance["reorder point, leaf 2"])
    assert row["share"] == (row["before"] - row["low"]) / (row["high"] - row["low"])
    assert row["after"] == cells.loc[(NAME, RULE), "levels after"]["reorder point, leaf 2"] > row["high"]


def costs_of(**validation):
    index = pd.MultiIndex.from_product([[NAME], validation])
    return pd.DataFrame([*validation.values()], index, ["validation before", "validation after"])


@pytest.mark.parametrize(("textbook", "expected"), [(True, ("s-S-backlog", 1)), (False, ("s-S-cover-informed", 0))])
def test_the_strongest_opponent_is_the_best_of_its_kind_after_either_search(textbook, expected):
    costs = costs_of(**{"s-S": [9.0, 8.0], "s-S-backlog": [9.5, 7.0], "s-S-cover-informed": [5.0, 6.0]})
    assert again.strongest(costs, NAME, textbook) == expected


def test_an_interval_joins_seeds_and_episodes():
    runs, rule = np.array([80.0, 90.0]), np.array([100.0, 140.0, 60.0])
    seeds = np.diff(meirl.evaluation.interval(runs)).item() / 2
    alone = again.against(runs, rule - 15, rule)  # as much cheaper in every episode: only seeds differ
    assert (alone["value"], alone["high"] - alone["value"]) == pytest.approx((-15, seeds))
    agent = np.array([85.0, 115.0, 55.0])
    both = again.against(runs, agent, rule)
    paired = np.diff(meirl.evaluation.interval(agent - rule)).item() / 2
    assert both["value"] - both["low"] == pytest.approx(np.hypot(seeds, paired))


def test_a_verdict_follows_the_opponent_of_now(monkeypatch, tmp_path, envs):
    """An agent that beats the old levels loses to better ones; runs that met other levels are refused."""
    name, one = NAME, {NAME: envs[NAME]}
    tests = {name: meirl.held_out(envs[name], "test", EPISODES)}
    agents = {
        algo: meirl.rollout(envs[name], meirl.load(algo, name)[0], tests[name])["cost"] for algo in ("ppo", "a3c")
    }
    lead = agents["ppo"].to_numpy()
    played = {(name, rule): np.stack([lead + 50, lead - 50]) for rule in ("s-S", "s-S-cover-informed")}
    cells = costs_of(**{"s-S": [9.0, 8.0], "s-S-cover-informed": [5.0, 6.0]})
    runs = {f"{a} {b}": [lead.mean()] * 2 for a in ("PPO", "A3C") for b in ("1×", "10×")}
    runs |= {opponent: [lead.mean() + 50] for opponent in ("textbook rule", "designed rule")}
    rows = [{"env": name, "policy": policy, "cost": cost} for policy, costs in runs.items() for cost in costs]
    monkeypatch.setattr(again, "RESULTS", tmp_path / "results.csv")
    pd.DataFrame(rows).to_csv(again.RESULTS, index=False)
    found = again.verdicts(one, cells, tests, played)
    textbook, designed = (found.loc[(name, opponent, "PPO 10×")] for opponent in ("textbook rule", "designed rule"))
    assert (textbook["said"], textbook["says"], textbook["levels"]) == ("beats", "loses to", "after")
    assert (designed["said"], designed["says"], designed["levels"]) == ("beats", "beats", "before")
    assert textbook["before"] < 0 < textbook["value"]
    assert (textbook["changed"], designed["changed"]) == (True, False)
    played[name, "s-S"][0] += 1
    with pytest.raises(ValueError, match=r"results\.csv: the textbook rule on meis-nonstationary has another cost"):
        again.verdicts(one, cells, tests, played)
