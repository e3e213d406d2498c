"""Tuning: candidates share their luck, boxes are checked, budgets counted, files found again."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats
from tqdm import tqdm
from typer.testing import CliRunner

import meirl
from meirl import heuristics
from meirl.__main__ import app
from meirl.envs import CONTROLS, NAMES
from meirl.heuristics import RULES, Range, tuning
from meirl.heuristics.divergent import base_stock

# One retailer far from the warehouse's limits: the retailer alone decides.
SMALL = {"retailers": 1, "horizon": 30}


def small(**changes):
    return meirl.make("divergent-nonstationary", **{**SMALL, **changes})


@pytest.mark.parametrize("warm_up", [0, 12])
def test_candidates_are_scored_as_each_alone_would_be(warm_up, monkeypatch):
    monkeypatch.setattr(tuning, "ROWS", 12)  # the last batch is smaller than the others
    env, rule = small(warm_up=warm_up), RULES["base-stock"]
    scenario = env.sample(5, seed=3)
    candidates = np.array([[100.0, 50.0], [200.0, 80.0], [300.0, 120.0], [50.0, 10.0], [0.0, 0.0]])
    alone = [meirl.rollout(env, rule.policy(env, levels), scenario)["cost"].mean() for levels in candidates]
    assert tuning.mean_costs(env, rule, candidates, scenario) == pytest.approx(alone, rel=1e-5)


def test_finds_the_newsvendor_level():
    """With plenty upstream, an order waits a period at the warehouse and travels one: the retailer's position has to
    cover 3 periods of Poisson(10). All shortage is backordered at 19 against holding at 1, so S* is the 95 % quantile.
    """
    demand = {"mean": 10, "season": None, "shock": None, "direct": 0, "noise": {"standard_deviation": 0}}
    env = meirl.make(
        "divergent-nonstationary", retailers=1, horizon=200, demand=demand, lost_share=0, lost_sale_cost=0,
        lead_time={"mean": 1, "standard_deviation": 0, "tail_probability": 0}, supplier_capacity=None,
        outbound_capacity=None, initial_stock={"warehouse": 2000, "retailer": 40}, holding_cost={"warehouse": 0},
    )  # fmt: skip
    rule = base_stock("textbook", "", "with outstanding")
    box = {"level, warehouse": Range(1000, 1001), "level, retailer 1": Range(0, 100)}
    found = tuning.tune(env, rule, generations=25, box=box, widen=False, progress=False).tuned
    assert found.levels["level, retailer 1"] == pytest.approx(stats.poisson.ppf(19 / 20, 30), abs=1)


def test_same_seed_same_levels_and_the_budget_is_counted():
    env, rule = small(), RULES["base-stock"]
    options = {"seed": 4, "episodes": 8, "generations": 3, "candidates": 5, "widen": False, "progress": False}
    first, second = (tuning.tune(env, rule, **options) for _ in range(2))
    assert first.tuned.levels == second.tuned.levels
    population = 5 * 2
    assert first.history["simulated_steps"].tolist() == [(g + 2) * population * 8 * 30 for g in range(3)]
    finalists = 10 * meirl.evaluation.VALIDATION_EPISODES * 30  # the whole population is scored again
    assert first.tuned.provenance["simulated_steps"] == 4 * population * 8 * 30 + finalists
    assert first.history["best_cost"].is_monotonic_decreasing
    few = tuning.tune(env, rule, finalists=3, **options)
    assert few.tuned.provenance["simulated_steps"] == 4 * population * 8 * 30 + finalists * 3 // 10
    other = tuning.tune(env, rule, **{**options, "seed": 5})
    assert other.tuned.levels != first.tuned.levels


def test_costs_in_millions_are_told_apart():
    options = {"episodes": 4, "generations": 2, "candidates": 2, "widen": False, "progress": False}
    plain, large = (
        tuning.tune(small(cost_unit=unit), RULES["base-stock"], **options).tuned.provenance for unit in (1, 1e9)
    )
    for cost in ("validation_cost", "training_cost"):
        assert 1e9 * large[cost] == pytest.approx(plain[cost], rel=1e-6)


def test_names_are_written_as_they_are(tmp_path):
    tuning.write(heuristics.Levels(rule="s-S", levels={"level, Köln": 1.0}), tmp_path / "levels.yaml")
    assert "level, Köln" in (tmp_path / "levels.yaml").read_text(encoding="utf-8")


def test_the_history_has_the_best_levels_of_every_generation():
    env, rule = small(), RULES["base-stock"]
    search = tuning.tune(env, rule, seed=4, episodes=8, generations=3, candidates=5, widen=False, progress=False)
    names = list(rule.ranges(env))
    assert list(search.history.columns) == ["simulated_steps", "seconds", "best_cost", *names]
    costs = tuning.mean_costs(env, rule, search.history[names].to_numpy(copy=True), env.sample(8, 4))
    assert costs == pytest.approx(search.history["best_cost"], rel=1e-6)


def test_a_narrow_box_is_reported_and_widened(capsys):
    env, rule = small(), RULES["base-stock"]
    narrow = {"level, warehouse": Range(0, 500), "level, retailer 1": Range(0, 5)}
    options = {"episodes": 16, "generations": 15, "progress": False}
    kept = tuning.tune(env, rule, box=narrow, widen=False, **options).tuned
    free = tuning.tune(env, rule, box=narrow, **options).tuned
    assert kept.levels["level, retailer 1"] <= 5
    assert kept.provenance["bounds_hit"] == ["level, retailer 1: 0 .. 5"]
    assert free.levels["level, retailer 1"] > 5
    assert free.provenance["box"]["level, retailer 1"][1] > 5
    assert free.provenance["validation_cost"] < kept.provenance["validation_cost"]
    assert "level, retailer 1 ended at a bound" in capsys.readouterr().out


@pytest.mark.parametrize(("low", "high"), [(5, 1), (-1, 3), (0, 99), (float("nan"), 3)])
def test_a_box_is_within_the_limits_of_its_levels(low, high):
    env, rule = meirl.make("divergent-stationary", order_cap=15), heuristics.RULES["constant-order"]
    box = {**rule.ranges(env), "order, retailer 1": Range(low, high)}
    message = f"box: order, retailer 1: expected 0 <= low <= high <= 15, got {low:g}, {high}"
    with pytest.raises(ValueError, match=message):
        tuning.tune(env, rule, box=box, progress=False)


def test_a_search_near_levels_beyond_their_limits_stays_within_them():
    env, order = meirl.make("divergent-stationary", order_cap=15), heuristics.RULES["constant-order"]
    limits = order.ranges(env)
    box = tuning.near(env, order, dict.fromkeys(limits, 99.0))
    assert all(r.least <= r.low < r.high == r.most for r in box.values())


def test_a_box_goes_by_names_not_by_their_order():
    env, rule = small(), RULES["base-stock"]
    box = {"level, warehouse": Range(200, 210), "level, retailer 1": Range(20, 30)}
    options = {"episodes": 4, "generations": 1, "widen": False, "progress": False}
    one, other = (tuning.tune(env, rule, box=dict(each), **options) for each in (box.items(), reversed(box.items())))
    assert one.tuned.levels == other.tuned.levels
    assert all(r.low <= one.tuned.levels[name] <= r.high for name, r in box.items())


def test_widened_doubles_the_side_that_was_hit_within_natural_limits():
    box = {"a": Range(0, 10), "b": Range(0, 10), "c": Range(0, 10, 0, 10), "d": Range(0, 10, most=15)}
    wider = tuning.widened(box, np.array([9.95, 5.0, 0.0, 10.0]))
    assert wider == {"a": Range(0, 20), "d": Range(0, 15, most=15)}
    assert tuning.widened({"a": Range(0, 10)}, np.array([0.0])) == {"a": Range(-10, 10)}


def test_a_second_search_begins_around_the_levels_of_the_first():
    env = meirl.make("meis-nonstationary")
    levels = heuristics.read_levels(env, "s-S").levels
    box = tuning.near(env, heuristics.RULES["s-S"], levels)
    assert list(box) == list(levels)
    for name, first in heuristics.RULES["s-S"].ranges(env).items():
        reach = 0.4 * levels[name] + 0.05 * (first.high - first.low)
        assert box[name].low == pytest.approx(levels[name] - reach)
        assert box[name].high == pytest.approx(levels[name] + reach)
        assert (box[name].least, box[name].most) == (first.least, first.most)
    order = heuristics.RULES["constant-order"]  # of no less than nothing, of no more than may be ordered
    limits = {name: (r.least, r.most) for name, r in order.ranges(env).items()}
    assert all(
        tuning.near(env, order, dict.fromkeys(limits, 0.0))[name].low == low for name, (low, _) in limits.items()
    )
    largest = {name: high for name, (_, high) in limits.items()}
    assert {name: r.high for name, r in tuning.near(env, order, largest).items()} == largest


def test_tune_near_searches_around_what_is_there(tmp_path):
    options = ["tune", "--env", "meis-nonstationary", "--heuristic", "s-S", "--episodes", "2", "--generations", "1"]
    out = tmp_path / "again.yaml"
    assert CliRunner().invoke(app, [*options, "--near", "--out", str(out)]).exit_code == 0
    env = meirl.make("meis-nonstationary")
    box = tuning.near(env, heuristics.RULES["s-S"], heuristics.read_levels(env, "s-S").levels)
    found = heuristics.read_levels(env, out).provenance["box"]
    assert {name: pytest.approx([r.low, r.high], rel=1e-5) for name, r in box.items()} == found


def test_test_scenarios_are_never_looked_at(monkeypatch):
    purposes = []
    real = tuning.held_out
    monkeypatch.setattr(tuning, "held_out", lambda env, purpose: purposes.append(purpose) or real(env, purpose, 8))
    tuning.tune(small(), RULES["base-stock"], episodes=4, generations=1, progress=False)
    assert purposes == ["validation"]


def test_a_search_that_fails_closes_its_bar(monkeypatch):
    bars = []
    monkeypatch.setattr(tuning, "tqdm", lambda **options: bars.append(tqdm(**options)) or bars[0])
    monkeypatch.setattr(tuning, "mean_costs", lambda *_: (_ for _ in ()).throw(ArithmeticError))
    with pytest.raises(ArithmeticError):
        tuning.tune(small(), RULES["base-stock"], episodes=4, generations=1)
    assert bars[0] not in tqdm._instances


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("never-order", {}, "no levels to tune"),
        ("s-S", {}, "'s-S' is for the meis chain"),
        ("base-stock", {"seed": 2_000_000_002}, "training seed"),
        ("base-stock", {"generations": 0}, "generations"),
        ("base-stock", {"finalists": 0}, "finalists"),
        ("base-stock", {"candidates": 0}, r"candidates.* got \(64, 60, 0, 20\)"),
        ("base-stock", {"box": {"level, retailer 1": Range(0, 9)}}, "box: expected ranges of level, warehouse, level"),
        ("base-stock", {"box": {}}, "box: expected ranges of level, warehouse, level, retailer 1, got none"),
    ],
)
def test_tune_refuses(rule, options, message):
    with pytest.raises(ValueError, match=message):
        tuning.tune(small(), RULES[rule], progress=False, **options)


@pytest.fixture
def own(tmp_path):
    """An environment of one's own: 4 retailers, short."""
    source = yaml.safe_load((Path(meirl.__file__).parent / "envs" / "divergent-nonstationary.yaml").read_text("utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**source, "retailers": 4, "horizon": 20}), encoding="utf-8")
    return str(path)


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_tune_then_evaluate_ones_own_environment(own):
    with pytest.raises(ValueError, match=r"nothing tuned for .*mine\.yaml: run `python -m meirl tune"):
        run("evaluate", "--env", own, "--heuristic", "best")
    with pytest.raises(ValueError, match=r"run `python -m meirl tune .* --heuristic fair-shares`"):
        run("evaluate", "--env", own, "--heuristic", "fair-shares")
    search = ("tune", "--env", own, "--heuristic", "fair-shares", "--episodes", "8")
    assert "levels written to" in run(*search, "--generations", "10")
    good = heuristics.read_levels(meirl.make(own), "best")
    assert good.rule == "fair-shares"
    assert "kept" in run(*search, "--generations", "1", "--seed", "9")  # a worse search does not overwrite a better one
    assert heuristics.read_levels(meirl.make(own), "fair-shares") == good
    costs = {
        name: json.loads(run("evaluate", "--env", own, "--heuristic", name, "--episodes", "50", "--json"))["mean_cost"]
        for name in ("best", "fair-shares", "never-order")
    }
    assert costs["best"] == costs["fair-shares"] < costs["never-order"]


def test_evaluate_prints_what_is_promised():
    arguments = ("evaluate", "--env", "meis-stationary", "--heuristic", "published", "--episodes", "20")
    found = json.loads(run(*arguments, "--json"))
    assert {"mean_cost", "standard_error", "std", "fill_rate", "cvar95", "cost_parts", "episodes"} <= set(found)
    assert found["episodes"] == 20
    assert sum(found["cost_parts"].values()) == pytest.approx(found["mean_cost"], rel=1e-5)
    table = run(*arguments)
    assert f"{found['mean_cost']:,.4f}" in table
    assert "cost, shortage" in table


@pytest.mark.parametrize("name", [*NAMES, *CONTROLS])
def test_committed_files_have_their_provenance(name):
    env = meirl.make(name)
    files = sorted(heuristics.levels_file(env, "any").parent.glob("*.yaml"))
    assert files
    for file in files:
        tuned = heuristics.read_levels(env, file)
        if file.stem == "published":
            continue
        assert tuned.rule == file.stem
        assert tuned.provenance["simulated_steps"] > 0
        assert {"seed", "seconds", "box", "validation_cost", "training_episodes", "versions"} <= set(tuned.provenance)
        levels = np.array([list(tuned.levels.values())])
        cost = tuning.mean_costs(env, RULES[tuned.rule], levels, meirl.held_out(env, "validation"))
        assert cost[0] == pytest.approx(tuned.provenance["validation_cost"], rel=1e-3), file
