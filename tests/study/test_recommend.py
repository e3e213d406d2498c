"""What is recommended on a chain of one's own: chosen on the past, judged on the rest, said in plain words."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import meirl
from meirl.heuristics import RULES, Levels
from meirl_study import own, recommend, report

TINY = {"episodes": 2, "generations": 1, "candidates": 2, "widen": False}


def shorten(monkeypatch):
    """Searches, plays and bounds as short as they can be."""
    monkeypatch.setitem(recommend.EFFORT, "quick", TINY)
    monkeypatch.setitem(recommend.PLAYED, "quick", 8)
    monkeypatch.setitem(recommend.BOUNDED, "quick", 2)
    monkeypatch.setitem(recommend.FACTORS, "quick", (1.0, 3.0))
    monkeypatch.setattr("meirl.heuristics.tuning.VALIDATION_EPISODES", 8)
    monkeypatch.setattr("meirl.evaluation.VALIDATION_EPISODES", 8)
    monkeypatch.setattr("meirl_study.linear_program.SECONDS", 1)


@pytest.fixture
def tiny(monkeypatch):
    shorten(monkeypatch)


def short(folder):
    """A made chain with short episodes."""
    path = own.example(folder)
    values = yaml.safe_load(path.read_text(encoding="utf-8")) | {"horizon": 60, "warm_up": 5}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def chain(tmp_path):
    return short(tmp_path / "mine")


# --- the made example, and today's levels ----------------------------------------------------------------------------


def test_the_example_is_the_same_for_a_seed_and_has_what_real_chains_have(tmp_path):
    one, two, other = (own.example(tmp_path / str(k), seed) for k, seed in enumerate((0, 0, 1)))
    assert (one.parent / "demand.csv").read_bytes() == (two.parent / "demand.csv").read_bytes()
    assert (one.parent / "demand.csv").read_bytes() != (other.parent / "demand.csv").read_bytes()
    env = meirl.make(one)
    assert env.node_names == ["warehouse", "Leeds", "York", "Hull"]
    assert env.parameters.demand.mean == pytest.approx((40, 16, 6), rel=0.1)
    assert env.parameters.demand.week[6] < 0.5
    assert env.parameters.order_cost.warehouse == 40


def test_all_rules_that_fit_are_tuned_and_the_cheapest_is_first(chain, tiny):
    env = meirl.make(chain)
    found = own.tune_all(env, **TINY)
    assert set(found) == set(own.fitting(env))
    assert {"echelon-s-S", "fair-shares-seasonal", "fair-shares-informed"} <= set(found)
    assert not {"fair-shares-seasonal-2", "bank-and-switch", "base-stock-misread", "never-order"} & set(found)
    costs = [search.tuned.provenance["validation_cost"] for search in found.values()]
    assert costs == sorted(costs)
    best = next(iter(found.values()))
    cost = meirl.rollout(env, own.tuned(env, best), meirl.held_out(env, "validation", 8))["cost"].mean()
    assert cost == pytest.approx(costs[0], rel=1e-4)
    assert own.tuned(env, best.tuned)(env.observe(env.reset(1), 0)).shape == (1, 4)


def test_textbook_levels_by_hand():
    plain = {"season": None, "shock": None, "noise": {"standard_deviation": 0}, "direct": 0, "distribution": "poisson"}
    env = meirl.make("divergent-nonstationary", demand={**plain, "mean": [4, 9, 16]}, lead_time={"mean": [3, 1, 2, 1]})
    levels = own.textbook(env)
    assert levels.rule == "base-stock-open-orders"
    # Poisson: the variance is the mean. Lead time and 1; for retailers one period more, until they are shipped to.
    covered = np.array([29 * 4, 4 * 3, 9 * 4, 16 * 3])
    expected = covered + 1.645 * np.sqrt(covered)
    assert list(levels.levels.values()) == pytest.approx(expected, rel=0.02)


def test_textbook_levels_with_a_cost_of_orders_are_economic(chain):
    env = meirl.make(chain)
    levels = own.textbook(env).levels
    mean = own.spread(env)[0]
    assert levels["least order, warehouse"] == pytest.approx(np.sqrt(2 * 40 * mean[-1] / 0.02), rel=1e-3)
    assert levels["least order, Hull"] == pytest.approx(np.sqrt(2 * 2 * mean[2] / 0.03), abs=0.05)


def test_textbook_levels_of_meis():
    levels = own.textbook(meirl.make("meis-stationary"))
    assert levels.rule == "s-S-backlog"
    assert levels.levels["reorder point, leaf 1"] == pytest.approx(3300 * 3 + 1.645 * 100 * 3**0.5, rel=0.01)
    between = levels.levels["order-up-to level, middle"] - levels.levels["reorder point, middle"]
    assert between == pytest.approx(5000, abs=0.2)


def test_textbook_levels_of_small_units_are_not_rounded_away(chain):
    record = chain.parent / "demand.csv"
    units = pd.read_csv(record, index_col="date") / 1e7
    units.to_csv(record)
    small = list(own.textbook(meirl.make(chain)).levels.values())
    assert 0 < min(small) < 0.05


def test_changes_that_are_no_numbers_have_names(monkeypatch):
    monkeypatch.setattr(own.tuning, "tune", lambda env, *_, **__: own.textbook(env))
    monkeypatch.setattr(own, "tuned", lambda env, _: meirl.heuristics.load(env, "never-order"))
    table = own.for_service("meis-stationary", "s-S", [{"horizon": 5, "demand": {"mean": [3, 4]}}], 2)
    assert list(table.index) == ["5, {'mean': [3, 4]}"]


def test_costs_that_look_alike_have_a_row_each(monkeypatch):
    monkeypatch.setattr(own.tuning, "tune", lambda env, *_, **__: own.textbook(env))
    monkeypatch.setattr(own, "tuned", lambda env, _: meirl.heuristics.load(env, "never-order"))
    alike = [{"shortage_cost": 1_000_001, "horizon": 5}, {"shortage_cost": 1_000_002, "horizon": 6}]
    alike.append({"withdrawal_cost": 1_000_002, "horizon": 6})
    assert list(own.for_service("meis-stationary", "s-S", alike, 2).index) == ["1e+06, 5", "1e+06, 6", "1e+06, 6"]


def test_who_pays_more_for_shortage_serves_more():
    options = {"episodes": 4, "generations": 6, "candidates": 4, "widen": False}
    costs = [{"shortage_cost": 0.05, "horizon": 60}, {"shortage_cost": 20, "horizon": 60}]
    table = own.for_service("meis-stationary", "s-S-cover", costs, 10, **options)
    assert list(table.index) == ["0.05, 60", "20, 60"]
    assert table.index.name == "shortage_cost, horizon"
    assert table.loc["20, 60", "fill rate"] > table.loc["0.05, 60", "fill rate"]
    assert table.loc["20, 60", "on hand"] > table.loc["0.05, 60", "on hand"]


# --- what is prepared ------------------------------------------------------------------------------------------------


def test_a_chain_and_its_record_are_copied_as_they_will_be_used(chain, tmp_path):
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    del values["endless"], values["locations"], values["demand"]
    values |= {"lead_time": {"mean": 2, "high": 9}, "initial_stock": {"warehouse": 500, "retailer": 160}}  # no lists
    chain.write_text(yaml.safe_dump(values | {"demand": {"distribution": "poisson", "mean": 5}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"chain\.yaml: no recorded demand: give a CSV"):
        recommend.prepare(chain, None, tmp_path / "out")
    path = recommend.prepare(chain, chain.parent / "demand.csv", tmp_path / "out")
    env = meirl.make(path)
    assert env.parameters.endless
    assert env.node_names[1:] == ["Leeds", "York", "Hull"]
    assert (path.parent / "demand.csv").read_bytes() == (chain.parent / "demand.csv").read_bytes()
    assert not env.parameters.demand.record.yearly
    assert recommend.prepare(path, None, path.parent) == path, "what was prepared can be prepared again"


@pytest.mark.parametrize("name", ["divergent-stationary", "kunnumkal-topaloglu"])
def test_a_named_environment_is_endless_as_well(chain, tmp_path, name):
    env = meirl.make(recommend.prepare(name, chain.parent / "demand.csv", tmp_path / "out"))
    assert env.parameters.endless
    assert "bank-and-switch" not in own.fitting(env), "it lives off the end"


@pytest.mark.parametrize("endless", [True, False])
def test_what_a_chain_says_of_its_end_stays(chain, tmp_path, endless):
    values = yaml.safe_load(chain.read_text(encoding="utf-8")) | {"endless": endless}
    chain.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert meirl.make(recommend.prepare(chain, None, tmp_path / "out")).parameters.endless == endless


def test_a_record_may_be_left_blank_where_one_is_given(chain, tmp_path):
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    values["demand"] = {"distribution": "poisson", "mean": 5, "record": None}
    chain.write_text(yaml.safe_dump(values), encoding="utf-8")
    path = recommend.prepare(chain, chain.parent / "demand.csv", tmp_path / "out")
    assert meirl.make(path).record is not None


def test_a_chain_that_has_no_bound_is_refused_before_anything_starts(chain, tmp_path):
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    values["initial_stock"]["warehouse"] = values["max_inventory"]["warehouse"] + 1
    chain.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"chain\.yaml: initial_stock must fit in max_inventory"):
        recommend.prepare(chain, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_levels_of_an_earlier_run_are_gone(chain, monkeypatch):
    env, kept = meirl.make(chain), chain.with_suffix("")
    kept.mkdir()
    (kept / "s-S.yaml").write_text("rule: s-S", encoding="utf-8")
    (kept / "mine.yaml").write_text("what: of the user's own", encoding="utf-8")
    search = own.Search(own.textbook(env), pd.DataFrame())
    monkeypatch.setattr(own, "tune_all", lambda *_, **__: {"echelon-s-S": search})
    recommend.search(env, "quick", 0)
    assert sorted(path.name for path in kept.iterdir()) == ["echelon-s-S.yaml", "mine.yaml"]


def test_blocks_keep_the_time_of_the_year_if_either_part_has_a_whole_one(tmp_path):
    chain = own.example(tmp_path / "long", periods=364 * 4)
    values = yaml.safe_load(chain.read_text(encoding="utf-8")) | {"horizon": 364}
    chain.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert meirl.make(recommend.prepare(chain, None, tmp_path / "out")).parameters.demand.record.yearly
    values["demand"]["record"]["yearly"] = False
    chain.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert not meirl.make(recommend.prepare(chain, None, tmp_path / "out")).parameters.demand.record.yearly


def test_todays_levels_are_given_or_a_textbooks(chain, tmp_path):
    env = meirl.make(chain)
    levels, how = recommend.today(env, None)
    assert levels == own.textbook(env)
    assert "You gave no levels of today" in how
    path = tmp_path / "ours.yaml"
    named = dict.fromkeys(RULES["base-stock"].ranges(env), 100.0)
    path.write_text(yaml.safe_dump({"rule": "base-stock", "levels": named}), encoding="utf-8")
    levels, how = recommend.today(env, path)
    assert levels.levels == named
    assert how == "Today's levels are those of ours.yaml."


# --- what is measured ------------------------------------------------------------------------------------------------


def test_service_is_counted_by_location(chain):
    env = meirl.make(chain)
    policy, test = own.tuned(env, own.textbook(env)), meirl.held_out(env, "test", 40)
    played = recommend.play(env, policy, test)
    table = meirl.rollout(env, policy, test)
    assert played.cost == pytest.approx(table["cost"].to_numpy(), rel=1e-5)
    assert played.parts.sum() == pytest.approx(played.cost.mean(), rel=1e-5)
    path = meirl.trajectory(env, policy, test)
    filled, demand = (path[key][:, 5:].sum(1) for key in ("filled", "demand"))
    assert played.service["fill rate"].iloc[:3].to_numpy() == pytest.approx(filled.sum(0) / demand.sum(0), rel=1e-5)
    worst = np.sort(filled / demand, axis=0)[:2].mean(0)
    assert played.service["worst 5 %"].iloc[:3].to_numpy() == pytest.approx(worst, rel=1e-5)
    assert played.service.loc["all", "on hand"] == pytest.approx(path["on_hand"][:, 5:, 1:].sum(2).mean(), rel=1e-5)
    assert played.service.loc["warehouse", "on hand"] == pytest.approx(path["on_hand"][:, 5:, 0].mean(), rel=1e-5)


def test_who_asks_for_nothing_is_served_and_small_units_count(chain):
    env = meirl.make(chain, dtype=torch.float64)
    test = meirl.held_out(env, "test", 4)
    demand = test.demand / 10_000
    demand[:, :, 2] = 0
    demand[0] = 0
    served = recommend.play(env, own.tuned(env, own.textbook(env)), test._replace(demand=demand)).service
    assert served.loc[["Leeds", "York", "Hull", "all"], ["fill rate", "worst 5 %"]].to_numpy() == pytest.approx(1)
    unserved = recommend.play(env, RULES["never-order"].policy(env, []), test._replace(demand=test.demand / 1e5))
    assert unserved.service["lost"].max() == 0
    assert unserved.service.loc["Hull", "fill rate"] == pytest.approx(1)


def test_a_saving_is_paired():
    luck = np.random.default_rng(0).normal(100, 20, 200)
    found = recommend.saving(luck - 5 + np.random.default_rng(1).normal(0, 1, 200), luck)
    assert found["value"] == pytest.approx(5, abs=0.3)
    assert found["high"] - found["low"] < 0.5
    assert found["percent"] == pytest.approx(5, abs=0.4)
    assert 4 < found["percent_low"] < found["percent"] < found["percent_high"] < 6


GAP = {"percent": 4.0, "percent_low": 3.0, "percent_high": 4.9}
WIDE = {"percent": 30.0, "percent_low": 20.0, "percent_high": 40.0}
AGENTS = {"seeds": 3, "steps": 1000}


@pytest.mark.parametrize(
    ("gap", "trained", "said", "words"),
    [
        (GAP, None, "no", "would save at most 4.9 % more"),
        (GAP | {"percent_high": 5.1}, None, "unknown", "Nobody can save more than 5 %"),
        (WIDE, None, "unknown", "run it again with `--train`"),
        (
            WIDE,
            {"percent": -9, "percent_low": -12, "percent_high": -6},
            "no",
            "costs 9.0 % more (95 %: +6.0 to +12.0 %)",
        ),
        (WIDE, {"percent": 2, "percent_low": -1, "percent_high": 5}, "no", "is not measurably cheaper"),
        (WIDE, {"percent": 6, "percent_low": 2, "percent_high": 9}, "maybe", "saves 6.0 % on top of this rule"),
    ],
)
def test_whether_to_bother(gap, trained, said, words):
    verdict, why = recommend.advice(gap, trained and AGENTS | trained)
    assert verdict == said
    assert words in why
    assert why.startswith("Do not bother") == (said == "no")


def test_agents_are_judged_against_the_rule_over_seeds(chain, tmp_path, tiny):
    path = recommend.prepare(chain, None, tmp_path / "out")
    found = recommend.agents(path, tmp_path / "runs", range(2), 1_900, np.full(8, 1e-6), "quick")
    assert found["seeds"] == 2
    assert found["steps"] == 16 * 60, "a round of 16 episodes of 60 periods; two do not fit"
    assert found["percent_low"] <= found["percent"] <= found["percent_high"] < 0
    assert found["cost"] > 0
    assert 0 <= found["fill rate"] <= 1


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch)
        path = recommend.prepare(short(folder / "mine"), None, folder / "out")
        return report.Findings(meirl.make(path), path, "quick", 0)


@pytest.fixture
def found(findings):
    """A copy, to change."""
    return copy.copy(findings)


def test_findings_agree_with_each_other_and_are_written(found):
    assert found.best.rule == next(iter(found.levels))
    assert found.ladder()["above the best, %"].iloc[0] == 0
    assert found.saving["value"] == pytest.approx(found.theirs.cost.mean() - found.ours.cost.mean())
    assert found.gap["bound"] <= found.ours.cost[:2].mean()
    assert found.curve.loc[1.0, "cost"] == pytest.approx(found.ours.cost.mean(), rel=1e-4)
    assert found.points()["recommended"] == pytest.approx(
        tuple(found.curve.loc[1.0, ["fill rate", "stock and orders"]])
    )
    assert list(found.menu()) == [f"shortage × {factor:g}" for factor in found.curve.index]
    found.write(found.path.parent)
    numbers = json.loads((found.path.parent / "report.json").read_text(encoding="utf-8"))
    assert numbers["rule"] == found.best.rule
    assert numbers["saving"]["percent"] == pytest.approx(found.saving["percent"])
    assert numbers["service"]["warehouse"]["fill rate"] is None
    assert numbers["reinforcement_learning"]["verdict"] in ("no", "unknown")
    best = meirl.heuristics.read_levels(found.env, "best")
    assert best.levels == pytest.approx(found.best.levels)
    assert meirl.heuristics.read_levels(found.env, found.path.parent / "today.yaml").levels == found.today.levels


def test_texts_say_what_was_found(found):
    summary = report.summary(found, made=True)
    assert f"Use the rule `{found.best.rule}`" in summary
    assert "**Made data.**" in summary
    assert "Made data" not in report.summary(found, made=False)
    assert f"{found.saving['percent']:.1f} %" in summary
    assert f"{len(found.levels)} rules fit this chain" in report.alternatives(found)
    assert "You gave no levels" in report.savings(found)
    assert "is not worth the trouble if at most 5 % is left" in report.left(found)
    assert "The first 436 were tuned on, the other 292 judged on." in report.grounds(found, None)
    assert "order-up-to level" in report.rule(found)
    assert "1, 3 times" in report.service(found)


@pytest.mark.parametrize(
    ("percent", "low", "high", "words"),
    [
        (5.0, 4.0, 6.0, "It saves 5.0 % (4.0 to 6.0) of today's cost"),
        (-5.0, -6.0, -4.0, "It costs more than today's: the saving is -5.0 % (-6.0 to -4.0) of today's cost"),
        (1.0, -1.0, 3.0, "It cannot be told apart from today's in cost: the saving is 1.0 % (-1.0 to 3.0)"),
    ],
)
def test_a_saving_is_put_into_words(found, percent, low, high, words):
    money = {"value": 9 * percent, "low": 9 * low, "high": 9 * high}
    found.saving = money | {"percent": percent, "percent_low": low, "percent_high": high}
    assert words in report.summary(found, made=False)
    assert f"so it {recommend.saved(found.saving)}" in report.savings(found)
    doubt = found.saving | {"low": -1.0, "high": 1.0}  # the two intervals are computed in two ways
    assert recommend.saved(doubt).startswith("cannot be told apart")


def test_small_costs_have_decimals_and_efforts_are_what_they_were(found):
    found.gap = found.gap | {"bound": 0.1234}
    assert "still pay 0.12 in 55 periods" in report.left(found)
    found.curve = found.curve.assign(cost=1.234)
    assert set(found.menu().loc["cost"]) == {"1.23"}
    found.gap = found.gap | {"bound": 0.00123}  # in millions, say
    assert "still pay 0.00123 in 55 periods" in report.left(found)
    few = found.best.model_copy(update={"levels": dict.fromkeys(found.best.levels, 0.00456)})
    assert set(report.level_table(found.env, few)["value"]) == {"0.00456"}
    said = report.grounds(found, None)
    assert "searched for up to 10 generations, more where the range of a level was widened" in said
    assert "those for the curve of service aside" in said


def test_a_simpler_rule_that_costs_hardly_more_is_named(found, monkeypatch):
    table = pd.DataFrame(
        {"tuned on": [50, 50.2, 54], "above the best, %": [0.0, 1.4, 0.1], "levels": [8, 3, 2]},
        ["long", "short", "dear"],
    )
    monkeypatch.setattr(type(found), "ladder", lambda self: table)
    found.best = found.best.model_copy(update={"levels": dict.fromkeys("abcdefgh", 1.0)})
    # `dear` looks good on the later part only, which judges and does not choose.
    assert "A simpler one would do: `short`, with 3 levels, costs 1.4 % more." in report.alternatives(found)


def test_levels_are_given_for_every_location(chain):
    env = meirl.make(chain)
    named = {
        "memory of recent demand": 0.5,
        "level, warehouse": 700.4,
        "level, retailer": 60,
        "level, retailer, sine 1": 3,
    }
    table = report.level_table(env, Levels(rule="fair-shares", levels=named))
    shares = env.demand_shares.tolist()
    assert table.loc["level, Leeds", "value"] == f"{60 * shares[0]:,.0f}"
    assert table.loc["level, Hull", "value"] == f"{60 * shares[2]:,.0f}"
    assert table.loc["level, mean location, sine 1"].tolist() == ["3.00", "units"]
    assert table.loc["memory of recent demand"].tolist() == ["0.50", ""]
    assert table.loc["level, warehouse"].tolist() == ["700", "units"]


def test_a_location_may_be_called_retailer(chain):
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    record = chain.parent / "demand.csv"
    record.write_text(record.read_text(encoding="utf-8").replace("Leeds", "retailer"), encoding="utf-8")
    chain.write_text(yaml.safe_dump(values | {"locations": ["retailer", "York", "Hull"]}), encoding="utf-8")
    env = meirl.make(chain)
    each = dict(zip(RULES["base-stock"].ranges(env), [700.0, 60.0, 50.0, 40.0], strict=True))
    table = report.level_table(env, Levels(rule="base-stock", levels=each))
    assert table["value"].to_dict() == {name: f"{level:,.0f}" for name, level in each.items()}
    common = report.level_table(
        env, Levels(rule="fair-shares", levels={"level, warehouse": 700, "level, retailer": 60})
    )
    assert list(common.index) == ["level, warehouse", "level, retailer", "level, York", "level, Hull"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("echelon-s-S", "That of the warehouse is for the whole chain"),
        ("fair-shares-seasonal", "*Day of the week* says"),
        ("fair-shares-informed", "*Memory* and *weight* say"),
    ],
)
def test_a_rule_is_explained(found, rule, said):
    found.best = found.levels[rule]
    assert said in report.rule(found)
    found.best = found.levels["constant-order"]
    assert "order-up-to" not in report.rule(found)
    found.best = found.levels["base-stock"]
    assert "whole chain" not in report.rule(found)


def test_where_nothing_can_be_saved_nothing_is_left(chain):
    """Shops that begin with more than they sell: nobody orders, hindsight neither, and both pay the same."""
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    del values["order_cost"]
    plenty = {"initial_stock": {"warehouse": 0, "retailer": 6000}, "max_inventory": {"warehouse": 4, "retailer": 6000}}
    for price, percent in ((0.03, 0.0), (0, 0.0)):
        held = {"holding_cost": {"warehouse": 0, "retailer": price}}
        chain.write_text(yaml.safe_dump(values | plenty | held), encoding="utf-8")
        env = meirl.make(chain)
        never, test = RULES["never-order"].policy(env, []), meirl.held_out(env, "test", 20)
        gap = recommend.left(env, recommend.play(env, never, test).cost, 20)
        assert [gap[key] for key in ("percent", "percent_low", "percent_high")] == [percent] * 3
        assert recommend.advice(gap, None)[0] == "no"


def test_costs_in_billions_are_told_apart_too(chain, tiny):
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    orders = []
    for unit in (1.0, 1e9):
        chain.write_text(yaml.safe_dump(values | {"cost_unit": unit}), encoding="utf-8")
        found = own.tune_all(meirl.make(chain), **TINY)
        orders.append(list(found))
        assert all(search.tuned.provenance["validation_cost"] > 0 for search in found.values())
    assert orders[0] == orders[1]


def test_a_location_is_not_taken_for_what_a_level_is(chain, found):
    names = ["Business park", "lightweight", "memory lane"]  # sine, weight and memory are in them
    values = yaml.safe_load(chain.read_text(encoding="utf-8"))
    record = chain.parent / "demand.csv"
    units = pd.read_csv(record).set_axis(["date", *names], axis=1)
    units.to_csv(record, index=False)
    chain.write_text(yaml.safe_dump(values | {"locations": names}), encoding="utf-8")
    env = meirl.make(chain)
    found.env, found.best = env, own.textbook(env)
    assert set(report.level_table(env, found.best)["unit"]) == {"units"}
    assert "*" not in report.rule(found)


def test_a_chain_keeps_the_letters_of_its_names(chain, tmp_path):
    for file in (chain, chain.with_name("demand.csv")):
        file.write_text(file.read_text(encoding="utf-8").replace("York", "Köln"), encoding="utf-8")
    assert "- Köln\n" in recommend.prepare(chain, None, tmp_path / "out").read_text(encoding="utf-8")
