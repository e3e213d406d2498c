"""Heuristics: the published figures come out again, every rule does what its name says, the best ones are good."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import meirl
from meirl import heuristics
from meirl.heuristics import RULES, load
from meirl.heuristics.divergent import base_stock

# environment, published mean cost of the baseline, its standard deviation over episodes, number of episodes
PUBLISHED = [
    ("divergent-stationary", 4_112_775.56, 8_759.19, 100),
    ("divergent-nonstationary", 10_873_502.07, 62_357.06, 100),
    ("meis-stationary", 1_962.40, 52.39, 1_000),
    ("meis-nonstationary", 2_366.29, 157.67, 1_000),
]


@pytest.mark.parametrize(("name", "published", "std", "episodes"), PUBLISHED, ids=lambda v: str(v))
def test_published_baseline_costs_what_was_published(name, published, std, episodes):
    env = meirl.make(name)
    summary = meirl.summarise(meirl.rollout(env, load(env, "published"), env.sample(1_000, seed=99)))
    error = math.hypot(summary["standard_error"], std / episodes**0.5)
    assert abs(summary["mean_cost"] - published) < 3 * error


@pytest.mark.parametrize("name", ["divergent-stationary", "divergent-nonstationary"])
def test_published_base_stock_never_orders(name):
    env = meirl.make(name)
    scenario = env.sample(64, seed=5)
    never, published = (meirl.rollout(env, load(env, h), scenario) for h in ("never-order", "published"))
    assert (never["cost"] == published["cost"]).all()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("divergent-stationary", 2_320_000),
        ("divergent-nonstationary", 297_000),
        ("meis-stationary", 210),
        ("meis-nonstationary", 715),
    ],
)
def test_best_rule_reaches_its_target_on_test_scenarios(name, target):
    env = meirl.make(name)
    assert meirl.rollout(env, load(env, "best"), meirl.held_out(env, "test"))["cost"].mean() <= target


def middle_of_the_box(env, rule):
    return [(r.low + r.high) / 2 for r in rule.box(env).values()]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("retailers", [1, 2, 5])
def test_every_rule_plays_any_number_of_retailers(rule, retailers):
    for name in meirl.NAMES:
        env = meirl.make(name, horizon=20, **{"retailers" if "divergent" in name else "leaves": retailers})
        if isinstance(env, rule.kind):
            table = meirl.rollout(env, rule.policy(env, middle_of_the_box(env, rule)), env.sample(4, seed=1))
            assert table["cost"].gt(0).all()


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-nonstationary"])
def test_a_population_plays_as_each_candidate_alone(name):
    env = meirl.make(name, horizon=60)
    scenario = env.sample(3, seed=2)
    for rule in RULES.values():
        if rule.kind is type(env):
            middle = torch.tensor(middle_of_the_box(env, rule))
            candidates = torch.stack([middle, 0.9 * middle, 1.1 * middle])
            together = rule.policy(env, candidates.repeat_interleave(3, 0))
            costs = meirl.rollout(env, together, scenario.repeat(3))["cost"].to_numpy().reshape(3, 3)
            for levels, cost in zip(candidates, costs, strict=True):
                alone = meirl.rollout(env, rule.policy(env, levels), scenario)["cost"].to_numpy()
                assert cost == pytest.approx(alone, rel=1e-5), rule.name


def divergent_state(env, on_hand, backorder, outstanding):
    fields = {"on_hand": on_hand, "backorder": backorder, "outstanding": outstanding}
    return env.reset(1)._replace(**{key: torch.tensor([value], dtype=env.dtype) for key, value in fields.items()})


def remembering(env, state, recent):
    """The same state after that demand, newest period first."""
    return state._replace(recent_demand=torch.tensor([recent], dtype=env.dtype))


def orders(env, rule, levels, state, period=0):
    return env.orders(rule.policy(env, levels)(env.observe(state, period)))[0].tolist()


def test_base_stock_orders_up_to_its_level_in_every_position():
    env = meirl.make("divergent-stationary")
    state = divergent_state(env, [40, 5, 6, 7], [0, 0, 3], [0, 2, 0, 4])
    levels = [50, 20, 20, 20]
    # warehouse: 40 - 2 - 4 owed to retailers; retailers: without what they wait for
    assert orders(env, RULES["base-stock"], levels, state) == pytest.approx([16, 15, 14, 16])
    # echelon: 40 + 5 + 6 + (7 - 3) = 55 in the whole chain
    assert orders(env, RULES["echelon-base-stock"], [60, *levels[1:]], state) == pytest.approx([5, 15, 14, 16])
    textbook = base_stock("textbook", "", "with outstanding")
    assert orders(env, textbook, levels, state) == pytest.approx([16, 13, 14, 12])


def test_fair_shares_scale_all_retailers_by_the_same_factor():
    env = meirl.make("divergent-nonstationary")
    state = divergent_state(env, [0, 10, 20, 30], [0, 0, 0], [0, 0, 0, 0])
    rule = RULES["fair-shares"]
    assert orders(env, rule, [100, 40, 30], state) == pytest.approx([40, 15, 10, 5])
    assert orders(env, rule, [100, 40, 100], state) == pytest.approx([40, 30, 20, 10])


def test_seasonal_levels_swing_with_the_calendar():
    env = meirl.make("divergent-nonstationary")
    season = env.parameters.demand.season.period
    for t in (0, 7, 50):
        phase = 2 * math.pi * t / season
        level = heuristics.wave(env.observe(env.reset(1), t), torch.tensor([[10.0, 1.0, 2.0, 3.0, 4.0]]))
        expected = 10 + math.sin(phase) + 2 * math.cos(phase) + 3 * math.sin(2 * phase) + 4 * math.cos(2 * phase)
        assert level.item() == pytest.approx(expected, abs=1e-4)


def test_bank_and_switch_hands_out_in_order_of_priority():
    env, rule = meirl.make("divergent-stationary"), RULES["bank-and-switch"]
    levels = [20, 10, 400, 10]  # safety stock, margin above the cap, bank, bank per period left
    short = divergent_state(env, [0, 12, 300, 0], [0, 0, 150], [0, 0, 0, 0])
    assert orders(env, rule, levels, short) == pytest.approx([15, 8, 7, 0])  # safety first, then the bank
    full = divergent_state(env, [0, 0, 420, 0], [150, 0, 150], [0, 0, 0, 0])
    assert orders(env, rule, levels, full) == pytest.approx([15, 15, 0, 0])  # the bank is full: lift the next
    late = divergent_state(env, [0, 0, 300, 0], [150, 0, 150], [0, 0, 0, 0])
    assert orders(env, rule, levels, late, period=475) == pytest.approx([15, 15, 0, 0])  # 250 are enough by now


def meis_action(env, rule, levels, on_hand, backlog=(0, 0), on_order=(0, 0, 0), period=0, news=0):
    state = remembering(env, env.reset(1), [[env.parameters.demand.mean + news] * env.retailers] * 5)
    waiting, pipeline = state.backlog.clone(), state.on_order.clone()
    waiting[:, -1] = torch.tensor(backlog)
    pipeline[:, 1] = torch.tensor(on_order)
    state = state._replace(on_hand=torch.tensor([on_hand], dtype=env.dtype), backlog=waiting, on_order=pipeline)
    return rule.policy(env, levels)(env.observe(state, period)).item()


def test_s_big_s_urgency_position_and_options():
    env = meirl.make("meis-stationary")
    levels = [20_000, 34_000, 9_000, 15_000, 9_000, 15_000]
    gap, backlog, cover = RULES["s-S"], RULES["s-S-backlog"], RULES["s-S-cover"]
    assert meis_action(env, gap, levels, [20_000, 9_000, 9_000]) == 0  # nobody is below its reorder point
    # gaps 6,000 and 5,000: the middle first (20,000 is nearest); in days 0.9 and 1.5: leaf 1 first (12,000)
    assert meis_action(env, gap, levels, [14_000, 4_000, 9_000]) == 4
    assert meis_action(env, cover, levels, [14_000, 4_000, 9_000]) == 8
    # 9,000 on hand but 3,000 customers waiting
    assert meis_action(env, gap, levels, [20_000, 9_000, 9_000], (0, 3_000)) == 0
    assert meis_action(env, backlog, levels, [20_000, 9_000, 9_000], (0, 3_000)) == 11
    # what the leaves have on order is promised by the middle
    assert meis_action(env, backlog, levels, [20_000, 9_000, 9_000], on_order=(0, 6_000, 0)) == 0
    assert meis_action(env, cover, levels, [20_000, 9_000, 9_000], on_order=(0, 6_000, 0)) == 4
    # nearest never means none: a gap of 100 orders the smallest option
    assert meis_action(env, gap, [0, 0, 9_000, 9_000, 0, 0], [0, 8_900, 0]) == 5


# --- levels that follow recent demand and the time left ---------------------------------------------------------------


def informed_levels(env, recent, levels, period=250, upstream=100.0, downstream=40.0):
    state = remembering(env, env.reset(1), recent)
    given = (torch.tensor([[level]], dtype=env.dtype) for level in (upstream, downstream))
    found = heuristics.rule.informed(env.observe(state, period), *given, torch.tensor([levels], dtype=env.dtype))
    return [level.item() for level in found]


@pytest.mark.parametrize(
    ("memory", "news"),
    [
        (0.0, 4.0),  # yesterday alone
        (1.0, (4 + 2 + 0 - 5 + 9) / 5),  # all five days alike
        (0.5, (4 + 2 / 2 + 0 - 5 / 8 + 9 / 16) / (1 + 1 / 2 + 1 / 4 + 1 / 8 + 1 / 16)),
    ],
)
def test_informed_levels_follow_what_retailers_were_asked_for_above_the_mean(memory, news):
    """Mean demand is 10 at each of 3 retailers; what the warehouse's own customers asked for counts for nothing."""
    env = meirl.make("divergent-stationary", dtype=torch.float64)
    recent = [[99, 14, 10, 18], [0, 12, 12, 12], [5, 0, 0, 30], [7, 5, 4, 6], [0, 19, 19, 19]]
    expected = [100 + 2 * 3 * news, 40 + 3 * news]
    assert informed_levels(env, recent, [memory, 2, 3, 1e6, 1e6]) == pytest.approx(expected)


def test_informed_levels_never_exceed_what_the_time_left_can_use():
    env = meirl.make("divergent-stationary", dtype=torch.float64)
    quiet = [[10.0] * 4] * 5
    assert informed_levels(env, quiet, [0.5, 2, 3, 9, 3], period=490) == pytest.approx([90, 30])  # 10 periods left
    assert informed_levels(env, quiet, [0.5, 2, 3, 9, 3], period=480) == pytest.approx([100, 40])
    assert informed_levels(env, quiet, [0.5, 2, 3, 9, 3], period=500) == [0, 0]


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-nonstationary"])
def test_a_week_that_begins_quiet_is_no_news_at_the_start(name):
    env = meirl.make(name, dtype=torch.float64, demand={"week": (0.3, 1, 1, 1, 1, 1, 1.7)})
    state = env.reset(1)
    assert informed_levels(env, state.recent_demand[0].tolist(), [0.7, 2, 3, 1e6, 1e6], 0) == pytest.approx([100, 40])


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-nonstationary"])
def test_seasonal_demand_is_no_news(name):
    env = meirl.make(name, dtype=torch.float64)
    p = env.parameters.demand
    for period in (0, 1, 3, 47):
        season = [math.sin(2 * math.pi * max(period - k, 0) / p.season.period) for k in range(1, 6)]
        recent = [[p.mean * (1 + p.season.amplitude * s)] * env.expected_demand.shape[1] for s in season]
        assert informed_levels(env, recent, [0.7, 2, 3, 1e6, 1e6], period) == pytest.approx([100, 40])
    above = [[units + 100 for units in row] for row in recent]
    up = 2 * env.retailers * 100
    assert informed_levels(env, above, [0.7, 2, 3, 1e6, 1e6], 47) == pytest.approx([100 + up, 40 + 3 * 100])


def test_informed_fair_shares_order_up_to_the_informed_levels():
    env, rule = meirl.make("divergent-stationary"), RULES["fair-shares-informed"]
    state = divergent_state(env, [40, 5, 6, 7], [0, 0, 0], [0, 0, 0, 0])
    busy = remembering(env, state, [[10, 12, 12, 12]] * 5)  # news of 2
    levels = [1, 2, 3, 65, 12, 60, 10, 1000]
    assert orders(env, rule, levels, state) == pytest.approx([60 - 58, 5, 4, 3])
    assert orders(env, rule, levels, busy) == pytest.approx([72 - 58, 11, 10, 9])
    assert orders(env, rule, levels, busy, period=499) == pytest.approx([65 - 58, 7, 6, 5])


def test_informed_s_big_s_moves_both_points():
    env, rule = meirl.make("meis-stationary"), RULES["s-S-cover-informed"]
    points, full = [20_000, 34_000, 9_000, 15_000, 9_000, 15_000], [20_000, 9_000, 9_000]
    assert meis_action(env, rule, [1, 0, 2, 1e6, 1e6, *points], full) == 0
    # news of 300 a day: leaves order below 9,600 up to 15,600, and 6,600 is nearest to 6,000
    assert meis_action(env, rule, [1, 0, 2, 1e6, 1e6, *points], full, news=300) == 6
    # the middle orders below 23,000 up to 37,000, and 17,000 is nearest to 15,000
    assert meis_action(env, rule, [1, 5, 0, 1e6, 1e6, *points], full, news=300) == 3
    short = [20_000, 9_000, 4_000]  # leaf 2 orders 11,000, which is nearest to 12,000
    assert meis_action(env, rule, [1, 0, 0, 1e6, 3_500, *points], short, period=350) == 12
    assert meis_action(env, rule, [1, 0, 0, 1e6, 3_500, *points], short, period=364) == 0  # 3,500 will do


def test_s_big_s_asks_for_the_news_once_a_day(monkeypatch):
    env, rule, asked = meirl.make("meis-stationary"), RULES["s-S-cover-informed"], []
    informed = heuristics.meis.informed
    monkeypatch.setattr(heuristics.meis, "informed", lambda *given: asked.append(0) or informed(*given))
    rule.policy(env, middle_of_the_box(env, rule))(env.observe(env.reset(2), 0))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("informed", "other"),
    [("fair-shares-informed", "fair-shares-seasonal-2"), ("s-S-cover-informed", "s-S-cover-seasonal")],
)
def test_an_informed_rule_that_ignores_what_it_knows_is_the_rule_it_stands_on(informed, other):
    for name in meirl.NAMES:
        env = meirl.make(name, horizon=60)
        if isinstance(env, RULES[other].kind):
            levels = middle_of_the_box(env, RULES[other])
            assert list(RULES[informed].box(env))[5:] == list(RULES[other].box(env))
            policies = RULES[informed].policy(env, [0.5, 0, 0, 1e9, 1e9, *levels]), RULES[other].policy(env, levels)
            informed_cost, cost = (meirl.rollout(env, policy, env.sample(4, 1))["cost"] for policy in policies)
            assert informed_cost.to_numpy() == pytest.approx(cost.to_numpy(), rel=1e-6)


# --- names and files --------------------------------------------------------------------------------------------------


def test_textbook_rules_are_those_of_any_textbook():
    assert {rule.name for rule in RULES.values() if rule.textbook} == {
        "base-stock", "base-stock-open-orders", "echelon-base-stock", "echelon-base-stock-open-orders", "echelon-s-S",
        "s-S", "s-S-backlog",
    }  # fmt: skip


def tune(env, rule, cost=None):
    """Pretend that a rule was tuned, to that validation cost."""
    file = heuristics.levels_file(env, rule)
    named = dict.fromkeys(RULES[rule].ranges(env), 1.0)
    provenance = {} if cost is None else {"validation_cost": cost}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"rule": rule, "levels": named, "provenance": provenance}))  # YAML enough


def test_best_and_textbook_are_the_cheapest_of_their_kind(tmp_path):
    own = tmp_path / "own.yaml"
    shutil.copy(Path(meirl.__file__).parent / "envs" / "divergent-nonstationary.yaml", own)
    env = meirl.make(str(own))
    with pytest.raises(ValueError, match="nothing tuned for"):
        heuristics.best_rule(env)
    tune(env, "fair-shares", 7.0)
    assert heuristics.best_rule(env) == "fair-shares"
    with pytest.raises(ValueError, match="nothing tuned for"):
        heuristics.best_rule(env, textbook=True)
    tune(env, "base-stock", 9.0)
    tune(env, "echelon-base-stock", 8.0)
    tune(env, "base-stock-misread")  # never tuned: it has no cost
    assert heuristics.best_rule(env) == heuristics.read_levels(env, "best").rule == "fair-shares"
    assert heuristics.best_rule(env, textbook=True) == heuristics.read_levels(env, "textbook").rule
    assert heuristics.read_levels(env, "textbook") == heuristics.read_levels(env, "echelon-base-stock")
    tune(env, "base-stock", 6.0)
    assert heuristics.best_rule(env) == heuristics.best_rule(env, textbook=True) == "base-stock"


def test_every_environment_has_a_textbook_rule_that_is_no_better_than_its_best(name):
    env = meirl.make(name)
    textbook, best = (heuristics.read_levels(env, which) for which in ("textbook", "best"))
    assert RULES[textbook.rule].textbook
    assert best.provenance["validation_cost"] <= textbook.provenance["validation_cost"]
    state = env.observe(env.reset(1), 0)
    assert torch.equal(load(env, "textbook")(state), load(env, textbook.rule)(state))


@pytest.mark.parametrize(
    ("name", "heuristic", "message"),
    [
        ("meis-stationary", "base-stock", "unknown heuristic 'base-stock' for meis-stationary"),
        ("divergent-stationary", "nonsense", "expected published, best, textbook or one of never-order"),
        ("divergent-stationary", "missing.yaml", "no such file: missing.yaml"),
    ],
)
def test_load_refuses_unknown_names(name, heuristic, message):
    with pytest.raises(ValueError, match=message):
        load(meirl.make(name), heuristic)
    with pytest.raises(ValueError, match=r"unknown heuristic 'published' for .*: expected one of never-order"):
        heuristics.find_rule(meirl.make(name), "published")


def test_policy_refuses_other_chains_and_wrong_levels():
    env = meirl.make("divergent-stationary")
    with pytest.raises(ValueError, match="'s-S' is for the meis chain"):
        RULES["s-S"].policy(env, [0] * 6)
    with pytest.raises(ValueError, match=r"takes 4 levels \(level, warehouse, .*got \(3,\)"):
        RULES["base-stock"].policy(env, [1, 2, 3])


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_policy_keeps_its_levels_whatever_becomes_of_the_callers(kind):
    env = meirl.make("divergent-stationary", dtype=torch.float64)
    levels = kind([2000.0, 500.0, 500.0, 500.0], dtype=float)
    policy = RULES["base-stock"].policy(env, levels)
    seen = env.observe(env.reset(1), 0)
    before = policy(seen)
    levels[:] = 0
    assert torch.equal(policy(seen), before)


def test_levels_may_be_any_view_of_an_array():
    env = meirl.make("divergent-stationary")
    seen = env.observe(env.reset(1), 0)
    levels = np.array([500.0, 200.0, 100.0, 50.0])
    backwards, plain = (RULES["base-stock"].policy(env, each)(seen) for each in (levels[::-1], levels[::-1].copy()))
    assert torch.equal(backwards, plain)


def test_damaged_file_is_refused_by_key(tmp_path):
    env, file = meirl.make("divergent-stationary"), tmp_path / "mine.yaml"
    file.write_text("rule: base-stock\nlevels: {warehouse: 1}\n")
    with pytest.raises(ValueError, match=r"mine.yaml: levels: expected level, warehouse, .* got warehouse"):
        load(env, file)
    file.write_text("rule: base-stick\nlevels: {}\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: rule: unknown rule 'base-stick'"):
        load(env, file)
    file.write_text("rule: base-stock\nlevel: {}\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: level: unknown key"):
        load(env, file)
