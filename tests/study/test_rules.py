"""Chapter 3's tables: published baselines beside what is reported of them, the search box, the rules as tuned."""

import numpy as np
import pandas as pd
import pytest

from meirl import heuristics, make, rollout
from meirl.evaluation import compare
from meirl.heuristics import RULES, Levels, tuning
from meirl_study import published, rules


@pytest.fixture
def one():
    """An environment and a few short episodes for it, both by name."""
    env = make("divergent-nonstationary", horizon=30)
    return {env.name: env}, {env.name: env.sample(3, seed=7)}


def test_steady_orders_the_mean_demand_of_every_node():
    env = make("divergent-nonstationary")
    mean = env.parameters.demand.mean
    orders = env.orders(rules.steady(env)(env.observe(env.reset(1), 0)))
    assert orders[0].tolist() == pytest.approx([3 * mean, mean, mean, mean], rel=1e-5)


def test_sanity_has_a_row_for_either_policy(one):
    envs, tests = one
    table = rules.sanity(*one)
    (name, env), (test,) = *envs.items(), tests.values()
    never = rollout(env, heuristics.load(env, "never-order"), test)
    assert list(table.index) == [(name, "never order"), (name, "order mean demand")]
    assert table.loc[(name, "never order"), "mean cost"] == never["cost"].mean()
    assert table.loc[(name, "never order"), "fill rate"] == never["fill_rate"].mean()


def test_rerun_counts_the_difference_in_standard_errors_of_both(one, monkeypatch):
    envs, _ = one
    (name,) = envs
    ours = {"mean_cost": 110.0, "standard_error": 3.0, "fill_rate": 0.5, "published_service_level": 0.9}
    theirs = {"baseline_cost": 100.0, "baseline_std": 40.0, "episodes": 100}  # standard error 4, of both 5
    monkeypatch.setattr(rules, "summarise", lambda table: ours)
    monkeypatch.setattr(published, "RESULTS", pd.DataFrame({name: theirs}).T)
    row = rules.rerun(*one).loc[name]
    assert row["difference in standard errors"] == 2
    assert row[["published", "re-measured", "standard error"]].tolist() == [100, 110, 3]


def test_repaired_begins_as_published_and_ends_tuned(one):
    envs, tests = one
    (env,), (test,) = envs.values(), tests.values()
    table = rules.repaired(env, test)
    ends = {name: heuristics.load(env, name) for name in ("published", "base-stock", "echelon-base-stock")}
    assert list(table.index[[0, -2, -1]]) == ["as published", "tuned: base-stock", "tuned: echelon-base-stock"]
    assert table["value"].iloc[[0, -2, -1]].tolist() == compare(ends, env, test)["value"].tolist()


def test_published_agent_is_what_is_reported():
    assert rules.published_agent(make("divergent-stationary")) == {"published PPO": 2_600_979.87}
    assert rules.published_agent(make("meis-stationary")) == {"published A3C": 1_930.24}


def test_published_box_has_a_range_for_every_level():
    env = make("meis-stationary")
    box = rules.published_box(env)
    assert list(box) == list(RULES["s-S"].ranges(env))
    assert box["reorder point, middle"][:2] == (5_000, 20_000)
    assert box["order-up-to level, leaf 2"][:2] == (4_000, 15_000)


def test_leaf_surface_gives_both_leaves_the_same_levels():
    env = make("meis-stationary", horizon=40)
    scenario = env.sample(2, seed=3)
    surface = rules.leaf_surface(env, np.array([10_000.0, 30_000]), np.array([20_000.0, 40_000, 60_000]), scenario)
    assert surface.index.tolist() == [10_000, 30_000]
    assert surface.columns.tolist() == [20_000, 40_000, 60_000]
    middle = list(heuristics.read_levels(env, "s-S").levels.values())[:2]
    by_hand = np.array([[*middle, 10_000, 40_000, 10_000, 40_000], [*middle, 30_000, 30_000, 30_000, 30_000]])
    costs = tuning.mean_costs(env, RULES["s-S"], by_hand, scenario)
    assert [surface.loc[10_000, 40_000], surface.loc[30_000, 20_000]] == costs.tolist()


def test_every_rule_is_of_one_kind():
    kinds = {name: rules.kind(name) for name in RULES}
    assert {name for name, which in kinds.items() if which == "sanity"} == {"never-order", "constant-order"}
    assert [name for name, which in kinds.items() if which == "published"] == ["base-stock-misread"]
    assert kinds["s-S"] == kinds["echelon-base-stock"] == "textbook"
    assert kinds["bank-and-switch"] == kinds["s-S-cover"] == kinds["fair-shares"] == "designed"
    assert rules.kind("published") == "published"


def provenance(monkeypatch, **costs):
    """Make files of levels: validation cost by rule."""
    made = {
        name: Levels(rule=name, levels={"a": 1}, provenance={"validation_cost": cost}) for name, cost in costs.items()
    }
    monkeypatch.setattr(rules, "committed", lambda env: made)


def test_the_best_of_a_kind_is_by_validation_cost(monkeypatch):
    costs = {"bank-and-switch": 5.0, "fair-shares": 4.0, "base-stock": 3.0, "echelon-base-stock": 2.0}
    provenance(monkeypatch, **costs, **{"constant-order": 1.0})
    env = make("divergent-stationary")
    assert rules.best(env, "designed") == "fair-shares"
    assert rules.best(env, "textbook") == "echelon-base-stock"
    monkeypatch.undo()
    order = [rules.KINDS.index(rules.kind(name)) for name in rules.committed(env)]
    assert order == sorted(order)
    provenance(monkeypatch, **{"base-stock": 3.0})
    with pytest.raises(ValueError, match="no designed rule was tuned for divergent-stationary"):
        rules.best(env, "designed")


def test_the_first_population_is_what_a_search_begins_with(monkeypatch):
    env, rule, play, played = make("meis-stationary", horizon=20), RULES["s-S"], tuning.mean_costs, []

    def counted(*args):
        played.append(len(args[2]))
        return play(*args)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "mean_costs", counted)
        levels, cost = rules.first_population(env, rule, seed=3, episodes=2)
    assert played == [36]  # six candidates a level, once
    assert cost == tuning.mean_costs(env, rule, levels[None], env.sample(2, 3))[0]
    history = tuning.tune(env, rule, seed=3, episodes=2, generations=1, widen=False, progress=False).history
    assert history["best_cost"].iloc[0] <= cost
    assert all(r.low <= level <= r.high for level, r in zip(levels, rule.ranges(env).values(), strict=True))
    mean = np.mean([tuning.mean_costs(env, rule, levels[None] * k, env.sample(2, 3))[0] for k in (0.2, 0.5, 2)])
    assert cost < mean  # the best of many


def test_tuned_has_every_committed_rule_once_after_the_baselines(one):
    envs, tests = one
    (name, env), (test,) = *envs.items(), tests.values()
    table = rules.tuned(*one)
    names = [rule for _, rule in table.index]
    assert names[:2] == ["never-order", "published"]
    assert len(names) == len(set(names))
    assert set(names[2:]) >= {"base-stock", "constant-order", "echelon-base-stock", "fair-shares-seasonal-2"}
    base_stock = rollout(env, heuristics.load(env, "base-stock"), test)["cost"].mean()
    assert table.loc[(name, "base-stock"), "value"] == base_stock
    assert table.loc[(name, "published"), "kind"] == "published"
    shown = rules.results(table, {name: ",.0f"})
    assert list(shown.index) == list(table.index)
    half = (table["high"] - table["low"]) / 2
    assert shown.loc[(name, "base-stock"), "mean cost ± 95 %"] == f"{base_stock:,.0f} ± {half[name, 'base-stock']:,.0f}"


def test_effort_has_what_the_files_say_and_leaves_out_what_nobody_searched(monkeypatch):
    had = {"validation_cost": 7.0, "simulated_steps": 2_500_000, "seconds": 61.4}
    many = {"searches": 5, "validation_costs": [9.0, 7.0, 8.0]}
    made = {
        "s-S": Levels(rule="s-S", levels={"a": 1, "b": 2}, provenance=had | many),
        "s-S-cover": Levels(rule="s-S-cover", levels={"a": 1}, provenance=had),
        "published": Levels(rule="s-S", levels={"a": 1}, provenance={"source": "the study"}),
    }
    monkeypatch.setattr(rules, "committed", lambda env: made)
    table = rules.effort({"here": make("meis-stationary")})
    assert list(table.index) == [("here", "s-S"), ("here", "s-S-cover")]
    assert table.loc[("here", "s-S")].tolist() == ["textbook", 2, 5, "2.5", "61", "7.0 to 9.0"]
    assert table.loc[("here", "s-S-cover")].tolist() == ["designed", 1, 1, "2.5", "61", "7.0"]


def test_savings_are_each_against_the_one_before(monkeypatch):
    provenance(monkeypatch, **{"s-S": 2.0, "s-S-cover": 1.0})
    env = make("meis-stationary")
    monkeypatch.setattr(rules, "published_agent", lambda env: {"published A3C": 200.0})
    index = pd.MultiIndex.from_product([[env.name], ["s-S", "s-S-cover"]])
    saved = rules.savings(pd.DataFrame({"value": [50.0, 40]}, index=index), {env.name: env})
    assert saved.loc[env.name, ["textbook saves", "designed saves"]].tolist() == pytest.approx([75, 20])
    shown = rules.opponents(saved, {env.name: ",.1f"})
    assert shown.loc[env.name].tolist() == ["200.0", "s-S: 50.0", "s-S-cover: 40.0"]


def test_the_parts_of_an_episode_make_up_its_cost(one):
    envs, tests = one
    (env,), (test,) = envs.values(), tests.values()
    record, parts = rules.episode(env, test)
    assert sum(parts.values()) == pytest.approx(100, abs=1e-3)
    assert parts["shortage"] == pytest.approx(100 * record["shortage"].sum() / record["cost"].sum())
    best = rollout(env, heuristics.load(env, rules.best(env, "designed")), test[:1])["cost"]
    assert record["cost"].sum() == pytest.approx(best[0], rel=1e-5)


def test_levels_stand_beside_the_range_that_was_searched():
    env = make("divergent-stationary")
    table = rules.levels(env, "bank-and-switch")
    found = heuristics.read_levels(env, "bank-and-switch")
    assert list(table.index) == list(found.levels)
    assert [float(value.replace(",", "")) for value in table["value"]] == pytest.approx(
        list(found.levels.values()), rel=0.01
    )
    assert float(table.loc["bank", "to"].replace(",", "")) == found.provenance["box"]["bank"][1]


def test_described_lists_every_rule_that_is_an_opponent():
    lines = [line.strip("| ").split(" | ") for line in rules.described().splitlines()[2:]]
    assert [line[0] for line in lines] == [name for name in RULES if rules.kind(name) in ("textbook", "designed")]
    row = {line[0]: line[1:] for line in lines}
    assert row["s-S"][:3] == ["textbook", "6", "meis-stationary, meis-nonstationary"]
    assert row["fair-shares-seasonal-2"][1] == "11"
    assert row["fair-shares"][2] == "nowhere"
    assert row["bank-and-switch"][-1].startswith("Serve the best-off retailers;")
    assert row["bank-and-switch"][-1].endswith("where more shortage is free.")  # its first paragraph
