"""Heuristics: the published figures come out again, every rule does what its name says, the best ones are good."""

import math

import pytest
import torch

import meirl
from meirl import heuristics
from meirl.envs import DivergentState, MeisState
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


def divergent_state(on_hand, backorder, outstanding, pipeline=1):
    n = len(on_hand)
    columns = (on_hand, backorder, [[0.0] * n] * (1 + pipeline), outstanding)
    return DivergentState(*(torch.tensor(c, dtype=torch.float32)[None] for c in columns))


def orders(env, rule, levels, state, period=0):
    return env.orders(rule.policy(env, levels)(env.observe(state, period)))[0].tolist()


def test_base_stock_orders_up_to_its_level_in_every_position():
    env = meirl.make("divergent-stationary")
    state = divergent_state([40, 5, 6, 7], [0, 0, 3], [0, 2, 0, 4])
    levels = [50, 20, 20, 20]
    # warehouse: 40 - 2 - 4 owed to retailers; retailers: without what they wait for
    assert orders(env, RULES["base-stock"], levels, state) == pytest.approx([16, 15, 14, 16])
    # echelon: 40 + 5 + 6 + (7 - 3) = 55 in the whole chain
    assert orders(env, RULES["echelon-base-stock"], [60, *levels[1:]], state) == pytest.approx([5, 15, 14, 16])
    textbook = base_stock("textbook", "", "with outstanding")
    assert orders(env, textbook, levels, state) == pytest.approx([16, 13, 14, 12])


def test_fair_shares_scale_all_retailers_by_the_same_factor():
    env = meirl.make("divergent-nonstationary")
    state = divergent_state([0, 10, 20, 30], [0, 0, 0], [0, 0, 0, 0], env.parameters.lead_time.high)
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
    short = divergent_state([0, 12, 300, 0], [0, 0, 150], [0, 0, 0, 0])
    assert orders(env, rule, levels, short) == pytest.approx([15, 8, 7, 0])  # safety first, then the bank
    full = divergent_state([0, 0, 420, 0], [150, 0, 150], [0, 0, 0, 0])
    assert orders(env, rule, levels, full) == pytest.approx([15, 15, 0, 0])  # the bank is full: lift the next
    late = divergent_state([0, 0, 300, 0], [150, 0, 150], [0, 0, 0, 0])
    assert orders(env, rule, levels, late, period=475) == pytest.approx([15, 15, 0, 0])  # 250 are enough by now


def meis_action(env, rule, levels, on_hand, backlog=(0, 0), on_order=(0, 0, 0)):
    state = env.reset(1)
    waiting, pipeline = state.backlog.clone(), state.on_order.clone()
    waiting[:, -1] = torch.tensor(backlog)
    pipeline[:, 1] = torch.tensor(on_order)
    state = MeisState(torch.tensor([on_hand], dtype=torch.float32), waiting, pipeline, None)
    return rule.policy(env, levels)(env.observe(state, 0)).item()


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


@pytest.mark.parametrize(
    ("name", "heuristic", "message"),
    [
        ("meis-stationary", "base-stock", "unknown heuristic 'base-stock' for meis-stationary"),
        ("divergent-stationary", "nonsense", "expected published, best or one of never-order"),
        ("divergent-stationary", "missing.yaml", "no such file: missing.yaml"),
    ],
)
def test_load_refuses_unknown_names(name, heuristic, message):
    with pytest.raises(ValueError, match=message):
        load(meirl.make(name), heuristic)


def test_policy_refuses_other_chains_and_wrong_levels():
    env = meirl.make("divergent-stationary")
    with pytest.raises(ValueError, match="'s-S' is for the meis chain"):
        RULES["s-S"].policy(env, [0] * 6)
    with pytest.raises(ValueError, match=r"takes 4 levels \(level, warehouse, .*got \(3,\)"):
        RULES["base-stock"].policy(env, [1, 2, 3])


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
