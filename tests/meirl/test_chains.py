"""What real chains have: locations that differ, a week, lead times by node, an order that costs; and sizes' limits."""

import numpy as np
import pytest
import torch

import meirl
from meirl.heuristics import RULES
from meirl.heuristics.rule import wave

MEANS = (6.0, 12.0, 18.0)
PLAIN = {"season": None, "shock": None, "direct": 0.0, "noise": {"standard_deviation": 0.0}}


def make(name="divergent-nonstationary", demand=None, **changes):
    given = {**PLAIN, **(demand or {})} if "divergent" in name else demand or {}
    return meirl.make(name, demand=given, horizon=70, dtype=torch.float64, **changes)


def test_locations_differ_by_their_means():
    env = make(demand={"mean": MEANS})
    demand = env.sample(400, seed=1).demand
    assert demand.mean((0, 1)).numpy() == pytest.approx(MEANS, rel=0.01)
    assert env.expected_demand.tolist() == [list(MEANS)]
    assert env.demand_shares.tolist() == [0.5, 1, 1.5]
    assert env.parameters.demand.average == 12


def test_equal_means_in_a_list_are_one_mean():
    for name, mean in (("divergent-nonstationary", 12.0), ("meis-nonstationary", 3300.0)):
        given = mean, [mean] * (3 if mean == 12 else 2)
        one, each = (meirl.make(name, demand={"mean": m}, horizon=40) for m in given)
        for a, b in zip(one.sample(8, seed=3), each.sample(8, seed=3), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("changes", "variance"),
    [
        ({"distribution": "negative binomial", "variation": 0.5}, lambda m: m + (0.5 * m) ** 2),
        ({"distribution": "gamma", "variation": 0.5}, lambda m: (0.5 * m) ** 2),
        ({"distribution": "rounded", "noise": {"standard_deviation": [1, 2, 3], "own": 1, "common": 0}},
         lambda m: (m / 6) ** 2 + 1 / 12),
    ],
    ids=["negative binomial", "gamma", "normal by location"],
)  # fmt: skip
def test_distributions_have_their_mean_and_variance(changes, variance):
    demand = make(demand={"mean": MEANS, **changes}).sample(2_000, seed=1).demand.flatten(0, 1)
    for i, mean in enumerate(MEANS):
        assert demand[:, i].mean().item() == pytest.approx(mean, rel=0.01)
        assert demand[:, i].var().item() == pytest.approx(variance(mean), rel=0.03)


def test_a_week_stands_beside_the_season():
    week = [3, 2, 1, 1, 1, 0, 0]
    season = {"amplitude": 0.5, "period": 35, "phase": 0}
    env = make(demand={"mean": 10, "week": week, "season": season})
    expected = 10 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(70) / 35)) * (7 / 8 * np.array(week))[np.arange(70) % 7]
    assert env.seasonal_mean.numpy() == pytest.approx(expected)
    by_period = env.sample(3_000, seed=1).demand.mean((0, 2)).numpy()
    assert by_period == pytest.approx(np.maximum(expected, 0.1), abs=0.3)


def test_a_season_may_have_begun_before():
    late, early = (make(demand={"season": {"amplitude": 0.5, "period": 35, "phase": p}}).seasonal_mean for p in (0, 5))
    assert late[5:].numpy() == pytest.approx(early[:-5].numpy())


def test_only_a_chain_with_a_week_sees_the_day():
    week, plain = make(demand={"week": [1, 2, 3]}), make()
    days = [f"day {k} of the week" for k in (1, 2, 3)]
    assert week.legend() == [*plain.legend(), *days]
    for period in range(5):
        seen = week.observe(week.reset(1), period).named()
        assert [seen[day].item() for day in days] == [float(period % 3 == k) for k in range(3)]
    assert (week.observation_space.low[-3:] == 0).all()
    assert (week.observation_space.high[-3:] == 1).all()


def test_lead_times_differ_by_node():
    lead = {"mean": [5, 1, 2, 3], "standard_deviation": [1, 0, 0, 0], "tail_probability": 0, "low": 1, "high": 9}
    drawn = make(lead_time=lead).sample(200, seed=1).lead_time
    assert (drawn[..., 1:] == torch.tensor([1, 2, 3])).all()
    assert drawn[..., 0].double().mean().item() == pytest.approx(5, abs=0.05)
    assert drawn[..., 0].double().std().item() == pytest.approx((1 + 1 / 12) ** 0.5, rel=0.03)


def test_an_order_costs_whatever_its_size():
    env = make(order_cost={"warehouse": 100, "retailer": [1, 10, 1000]})
    orders = torch.tensor([[0.0, 5, 0, 70], [3, 0, 1, 0], [0, 0, 0, 0]], dtype=env.dtype)
    costs = env.step(env.reset(3), orders, env.sample(3, 0).at(0)).costs
    assert costs.ordering.tolist() == [1001, 110, 0]
    free = make()
    assert free.step(free.reset(3), orders, free.sample(3, 0).at(0)).costs.ordering.tolist() == [0, 0, 0]


def test_locations_have_names_of_their_own():
    for name, first in (("divergent-stationary", "warehouse"), ("meis-stationary", "middle")):
        names = ["Leeds", "York", "Hull"][: 3 if first == "warehouse" else 2]
        env = meirl.make(name, locations=names)
        assert env.node_names == [first, *names]
        assert "on hand, York" in env.legend()


# --- rules -----------------------------------------------------------------------------------------------------------


def orders(env, rule, levels, **state):
    start = env.reset(1)._replace(**{key: torch.tensor([value], dtype=env.dtype) for key, value in state.items()})
    return env.orders(RULES[rule].policy(env, levels)(env.observe(start, 0)))[0].tolist()


def test_common_levels_are_shared_out_by_demand():
    env = make(demand={"mean": MEANS}, endless=True)
    state = {"on_hand": [500.0, 5, 5, 5]}
    assert orders(env, "fair-shares", [0, 20, 1e6], **state) == pytest.approx([0, 5, 15, 25])
    assert orders(env, "balanced-echelon", [0, 20], **state) == pytest.approx([0, 5, 15, 25])
    # 36 units on 5 + 5 + 5: filled up to 17 for one of average demand, in shares of 0.5, 1 and 1.5
    assert orders(env, "balanced-echelon", [0, 20], on_hand=[36.0, 5, 5, 5]) == pytest.approx([0, 3.5, 12, 20.5])
    informed = [0.5, 0, 4, 0, 20, 1e6]
    seen = env.expected_demand.expand(5, -1).tolist()
    more = [[each + 2 for each in row] for row in seen]
    with_news = orders(env, "fair-shares-informed", informed, recent_demand=more, **state)
    assert with_news == pytest.approx([0, 5 + 4, 15 + 8, 25 + 12])


def test_echelon_s_big_s_orders_up_to_its_level_or_nothing():
    env = make(order_cost={"warehouse": 1, "retailer": 1}, max_order=500, order_cap=500)
    levels = [100, 30, 30, 30, 40, 10, 11, 30]
    # the chain holds 20 + 20 + 20 + 15 = 75: 25 below its level, and least is 40
    assert orders(env, "echelon-s-S", levels, on_hand=[20.0, 20, 20, 15]) == pytest.approx([0, 10, 0, 0])
    assert orders(env, "echelon-s-S", levels, on_hand=[0.0, 20, 19, 0]) == pytest.approx([61, 10, 11, 30])


def test_levels_follow_the_days_ahead():
    env = make(demand={"week": [4, 1, 1, 1]}, lead_time={"mean": 1, "standard_deviation": 0, "tail_probability": 0})
    # an order of lead time 1 covers 3 days; factors are 16/7 and 4/7
    ahead = np.array([(16 + 4 + 4) / 21, 12 / 21, 24 / 21, 24 / 21]) - 1
    for period in range(8):
        level = wave(env.observe(env.reset(1), period), torch.tensor([[50.0, 10.0]], dtype=env.dtype))
        assert level.item() == pytest.approx(50 + 10 * ahead[period % 4])


def test_rules_fit_what_they_react_to():
    def fitting(env):
        return {name for name, rule in RULES.items() if isinstance(env, rule.kind) and rule.fits(env)}

    plain = fitting(make())
    assert not plain & {"echelon-s-S", "fair-shares-seasonal", "fair-shares-seasonal-2"}
    assert fitting(make(order_cost={"warehouse": 1, "retailer": 1})) - plain == {"echelon-s-S"}
    assert fitting(make(demand={"week": [1, 2]})) - plain == {"fair-shares-seasonal"}
    season = {"season": {"amplitude": 0.5, "period": 35}}
    assert fitting(make(demand=season)) - plain == {"fair-shares-seasonal", "fair-shares-seasonal-2"}
    assert plain - fitting(make(endless=True)) == {"bank-and-switch"}
    assert "s-S-cover-seasonal" not in fitting(meirl.make("meis-stationary"))
    assert "s-S-cover-seasonal" in fitting(meirl.make("meis-stationary", demand={"week": [1, 2]}))


def test_an_endless_chain_keeps_no_pace_to_its_end():
    short, long = (meirl.make("divergent-nonstationary", horizon=h, endless=True) for h in (20, 400))
    for rule in ("fair-shares-informed",):
        box = RULES[rule].ranges(short)
        assert not [name for name in box if "period left" in name]
        levels = [(r.low + r.high) / 2 for r in box.values()]
        first, second = (
            env.orders(RULES[rule].policy(env, levels)(env.observe(env.reset(1), 15))) for env in (short, long)
        )
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-nonstationary"])
def test_every_rule_plays_a_chain_with_everything(name):
    divergent = "divergent" in name
    mean = [6, 12, 18] if divergent else [2000, 4000]
    nodes = 1 + len(mean)
    changes = {"order_cost": {"warehouse": 10, "retailer": 2}} if divergent else {}
    env = meirl.make(name, demand={"mean": mean, "week": [2, 1, 1, 1, 1, 0.5, 0]}, horizon=30, endless=True,
                     lead_time={"mean": [3] * nodes, "standard_deviation": [1] * nodes}, **changes)  # fmt: skip
    for rule in RULES.values():
        if isinstance(env, rule.kind):
            levels = [(r.low + r.high) / 2 for r in rule.ranges(env).values()]
            assert meirl.rollout(env, rule.policy(env, levels), env.sample(4, 1))["cost"].gt(0).all(), rule.name


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"demand": {"mean": [1, 2]}}, r"demand\.mean lists 2 values, expected 3 \(3 retailers\)"),
        ({"demand": {"mean": [1, 2, "x"]}}, r"demand\.mean\.each\.2: .*valid number.*got 'x'"),
        ({"demand": {"mean": -1}}, r"demand\.mean\.one: .*greater than"),
        ({"demand": {"noise": {"standard_deviation": [1]}}}, r"demand\.noise\.standard_deviation lists 1 values"),
        ({"lead_time": {"mean": [1, 2, 3]}}, r"lead_time\.mean lists 3 values, expected 4"),
        ({"lead_time": {"standard_deviation": [1]}}, r"lead_time\.standard_deviation lists 1 values, expected 4"),
        ({"locations": ["a", "b"]}, "locations lists 2 values, expected 3"),
        ({"locations": ["a", "b", "a"]}, r"locations must have names, each its own, .* got \('a', 'b', 'a'\)"),
        ({"locations": ["a", "b", " "]}, "locations must have names"),
        ({"demand": {"distribution": "gamma"}}, "distribution 'gamma' needs a variation above 0"),
        ({"demand": {"variation": 0.2}}, "distribution 'poisson' takes no variation, got 0.2"),
        ({"demand": {"distribution": "recorded"}}, "if, and only if, there is a record"),
        ({"demand": {"week": [0, 0]}}, "week needs a weight above 0"),
        ({"demand": {"week": [1]}}, r"demand\.week: .*at least 2 items"),
        ({"order_cost": {"warehouse": 1, "retailer": [1, 2]}}, r"order_cost\.retailer lists 2 values, expected 3 "),
        ({"horizon": 10_000, "retailers": 100}, "horizon times nodes must be at most 100,000, got 10000 times 101"),
        ({"horizon": 10**12}, r"horizon: .*less than or equal to 10000, got"),
        ({"retailers": 10**9}, r"retailers: .*less than or equal to 100, got"),
        ({"lead_time": {"high": 10**12}}, r"lead_time\.high: .*less than or equal to"),
        ({"demand": {"shock": {"length": [1, 10**12]}}}, r"demand\.shock\.length\.1: .*less than or equal to 365, got"),
        ({"demand": {"mean": 1e30}}, r"demand\.mean\.one: .*less than or equal to"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_key(changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        meirl.make("divergent-nonstationary", **changes)
    assert len(str(refused.value).splitlines()) == 1


def test_a_backlog_cannot_last_for_ever():
    with pytest.raises(ValueError, match=r"max_backlog_duration: .*less than or equal to"):
        meirl.make("meis-stationary", max_backlog_duration=10**9)
