"""What a policy sees: time left and recent demand, by hand; and no rule reads what the full vector does not show."""

import math

import numpy as np
import pytest
import torch

import meirl
from meirl.envs import Env, Exogenous, Observation
from meirl.heuristics import RULES, Rule

REMEMBERED, NEAR = 5, 30
UNIT = 50  # periods of mean demand: what recent demand reaches a network in


def customers(env) -> list[str]:
    """Nodes that have customers of their own."""
    return env.node_names if env.parameters.demand.direct else env.node_names[1:]


def nature(env, demand, direct=0.0) -> Exogenous:
    """One period of one episode, with that demand and nothing else out of the ordinary."""
    return (
        env.sample(1, 0)
        .at(0)
        ._replace(demand=torch.tensor([demand], dtype=env.dtype), direct_demand=torch.tensor([direct], dtype=env.dtype))
    )


def no_orders(env, episodes=1):
    return torch.zeros(episodes, env.nodes, dtype=env.dtype)


def played(env, scenario, seed=0):
    """The observation before each period of an episode of random orders, and after the last."""
    generator = torch.Generator().manual_seed(seed)
    state = env.reset(scenario.episodes)
    for period, exogenous in enumerate(scenario.periods()):
        yield env.observe(state, period)
        if env.options is not None:
            orders = env.orders(torch.randint(env.options, (scenario.episodes,), generator=generator))
        else:
            orders = 1.3 * env.expected_demand.max() * torch.rand(scenario.episodes, env.nodes, generator=generator)
        state = env.step(state, orders.to(env.dtype), exogenous).state
    yield env.observe(state, env.horizon)


# --- time left -------------------------------------------------------------------------------------------------------


def test_the_end_is_in_sight_if_and_only_if_the_time_left_is_shown(name, observation):
    env = meirl.make(name, observation=observation)
    assert env.sees_end == (observation == "full")
    assert ("time left" in env.legend()) == ("the end is near" in env.legend()) == env.sees_end


def test_the_time_left_runs_from_the_whole_horizon_to_nothing(name):
    env = meirl.make(name, dtype=torch.float64)
    horizon = 500 if "divergent" in name else 365
    seen = [observation.named() for observation in played(env, env.sample(1, 0))]
    assert [one["time left"].item() for one in seen] == pytest.approx([1 - t / horizon for t in range(horizon + 1)])
    near = [math.exp(-(horizon - t) / NEAR) for t in range(horizon + 1)]
    assert [one["the end is near"].item() for one in seen] == pytest.approx(near)
    assert (seen[0]["the end is near"].item(), seen[-1]["the end is near"].item()) == (pytest.approx(0, abs=1e-5), 1)
    assert (seen[horizon - 30]["the end is near"].item()) == pytest.approx(math.exp(-1))


# --- recent demand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("divergent-stationary", ["warehouse", "retailer 1", "retailer 2", "retailer 3"]),  # the warehouse has its own
        ("divergent-nonstationary", ["warehouse", "retailer 1", "retailer 2", "retailer 3"]),
        ("meis-stationary", ["leaf 1", "leaf 2"]),
        ("meis-nonstationary", ["leaf 1", "leaf 2"]),
    ],
)
def test_the_full_vector_ends_with_recent_demand_and_the_date(name, nodes):
    legend = meirl.make(name).legend()
    season = [] if name.endswith("-stationary") else ["season, sine", "season, cosine"]
    recent = [f"demand {k} ago, {node}" for k in range(1, 6) for node in nodes]
    end = [*recent, *season, "time left", "the end is near"]
    assert legend[-len(end) :] == end
    assert not [one for one in legend[: -len(end)] if one.startswith(("demand", "season"))]


def test_before_the_first_period_there_is_no_news(name):
    env = meirl.make(name, dtype=torch.float64)
    seen = env.observe(env.reset(2), 0).named()
    assert all(
        seen[f"demand {k} ago, {n}"].tolist() == [0, 0] for k in range(1, REMEMBERED + 1) for n in customers(env)
    )


@pytest.mark.parametrize(
    "demand", [{"season": {"amplitude": 0.5, "period": 35, "phase": 9}}, {"week": (0.9, 0.9, 1, 1, 1.3, 1.6, 0.3)}]
)
@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-nonstationary"])
def test_nor_is_there_if_the_season_does_not_begin_at_its_mean(name, demand):
    """Before the start is mean demand, and the first period, which is above or below it, is compared with its own."""
    env = meirl.make(name, dtype=torch.float64, demand=demand)
    assert abs(env.seasonal_mean[0] / env.parameters.demand.average - 1) > 0.05
    for period in (0, 3):
        known = env.seasonal_mean[:period].flip(0).tolist() + [env.parameters.demand.average] * (REMEMBERED - period)
        assert env.expected_recent[period].tolist() == pytest.approx(known)
    seen = env.observe(env.reset(1), 0).named()
    assert [v.item() for key, v in seen.items() if key.startswith("demand")] == pytest.approx(
        [0] * len(customers(env)) * 5
    )


def test_recent_demand_of_the_divergent_chain_is_news_over_the_season():
    """Mean demand is 12 and 3.6 at the warehouse; the season leads to expect 1 + 0.7 sin(2 pi t / 120) of it."""
    env = meirl.make("divergent-nonstationary", dtype=torch.float64)
    state = env.step(env.reset(1), no_orders(env), nature(env, [24, 12, 0], direct=7.2)).state
    state = env.step(state, no_orders(env), nature(env, [6, 12, 36], direct=0.0)).state
    seen = {key: value.item() for key, value in env.observe(state, 2).named().items()}
    last = 1 + 0.7 * math.sin(2 * math.pi / 120)
    expected = {"warehouse": (0 - last, 2 - 1), "retailer 1": (0.5 - last, 2 - 1), "retailer 2": (1 - last, 1 - 1),
                "retailer 3": (3 - last, 0 - 1)}  # fmt: skip
    for node, (one, two) in expected.items():
        assert seen[f"demand 1 ago, {node}"] == pytest.approx(one / UNIT)
        assert seen[f"demand 2 ago, {node}"] == pytest.approx(two / UNIT)
        assert seen[f"demand 3 ago, {node}"] == pytest.approx(0)  # before the first period nothing was new


def test_recent_demand_of_meis_is_news_over_the_season():
    """Mean demand is 3,300 a leaf; the season leads to expect 1 + 0.5 sin(2 pi t / 90) of it."""
    env = meirl.make("meis-nonstationary", dtype=torch.float64)
    state = env.step(env.reset(1), no_orders(env), nature(env, [6600, 3300])).state
    state = env.step(state, no_orders(env), nature(env, [0, 4950])).state
    seen = {key: value.item() for key, value in env.observe(state, 2).named().items()}
    last = 1 + 0.5 * math.sin(2 * math.pi / 90)
    for node, one, two in (("leaf 1", 0 - last, 2 - 1), ("leaf 2", 1.5 - last, 1 - 1)):
        assert seen[f"demand 1 ago, {node}"] == pytest.approx(one / UNIT)
        assert seen[f"demand 2 ago, {node}"] == pytest.approx(two / UNIT)
        assert seen[f"demand 3 ago, {node}"] == pytest.approx(0)


def test_the_state_remembers_the_scenarios_demand(name, observation):
    """The last 5 periods of every location, newest first; before the first period, mean demand."""
    env = meirl.make(name, dtype=torch.float64, horizon=40, observation=observation)
    scenario, demand = env.sample(3, 8), env.parameters.demand
    units = scenario.demand
    means = [demand.mean] * env.retailers
    if demand.direct:
        units = torch.cat([scenario.direct_demand[..., None], units], 2)
        means = [demand.direct * demand.mean, *means]
    before = torch.tensor(means, dtype=env.dtype).expand(3, REMEMBERED, -1)
    history = torch.cat([before, units], 1)  # row t + 4 is the last before period t
    for seen in played(env, scenario):
        expected = history[:, seen.period : seen.period + REMEMBERED].flip(1)
        assert torch.equal(seen.state.recent_demand, expected)


@pytest.mark.parametrize(
    ("name", "amplitude", "season"), [("divergent-nonstationary", 0.7, 120), ("meis-nonstationary", 0.5, 90)]
)
def test_news_is_a_shock_and_nothing_else_if_demand_is_never_noisy(name, amplitude, season):
    """Demand without noise is its seasonal mean, but doubles in a shock: then news is what the season expected."""
    quiet = {"mean": 10_000, "distribution": "rounded", "noise": {"standard_deviation": 0}, "direct": 0,
             "shock": {"probability": 0.05, "length": [3, 7], "factor": [2, 2]}}  # fmt: skip
    env = meirl.make(name, dtype=torch.float64, demand=quiet)
    scenario = env.sample(2, 0)
    shocked = 0
    for seen in played(env, scenario):
        named = seen.named()
        for k in range(1, min(REMEMBERED, seen.period) + 1):
            then = seen.period - k
            expected = (scenario.shock[:, then] - 1) * (1 + amplitude * math.sin(2 * math.pi * then / season))
            shocked += (expected > 0.1).sum().item()
            for node in customers(env):
                torch.testing.assert_close(named[f"demand {k} ago, {node}"], expected / UNIT, rtol=0, atol=1e-4)
    assert shocked > 100


# --- no rule reads what is not shown ---------------------------------------------------------------------------------


def shown(observation: Observation) -> dict:
    """Fields of the state, in units, and the period: read off the numbers of the full vector by their names."""
    env, p, seen = observation.env, observation.env.parameters, observation.named()
    period = env.horizon - round(env.horizon * seen["time left"][0].item())
    each = dict.fromkeys(env.node_names, p.demand.mean)
    divergent = hasattr(observation.state, "in_transit")
    size = each | {env.node_names[0]: p.demand.mean * env.retailers} if divergent else dict.fromkeys(each, 10_000)

    def table(fact, nodes, scale):
        return torch.stack([seen[f"{fact}, {node}"] * size[node] * scale for node in nodes], 1)

    def tables(facts, nodes):
        return torch.stack([table(fact, nodes, 1) for fact in facts], 1)

    below, empty = env.node_names[1:], [torch.zeros_like(observation.state.on_hand)[:, None]]
    slots = range(1, p.lead_time.high + 1) if divergent else range(p.lead_time.high)
    pipeline = torch.cat([tables([f"due in {k}" for k in slots], env.node_names), *empty], 1)
    if divergent:
        fields = {"on_hand": table("on hand", env.node_names, 5), "backorder": table("backorder", below, 5),
                  "in_transit": pipeline, "outstanding": table("outstanding", env.node_names, 5)}  # fmt: skip
    else:
        waited = [f"waiting {k} days" for k in range(p.max_backlog_duration, 0, -1)]
        fields = {"on_hand": table("on hand", env.node_names, 1), "backlog": tables(waited, below),
                  "on_order": pipeline, "book": None}  # fmt: skip
    size = each | {env.node_names[0]: p.demand.mean * p.demand.direct}
    expected = [env.seasonal_mean[max(period - k, 0)] / p.demand.mean for k in range(1, REMEMBERED + 1)]
    news = tables([f"demand {k} ago" for k in range(1, REMEMBERED + 1)], customers(env))
    base = torch.tensor([size[node] for node in customers(env)], dtype=env.dtype)
    fields["recent_demand"] = UNIT * news + torch.stack(expected)[:, None] * base
    return {key: value if value is None else value.round(decimals=6) for key, value in fields.items()} | {
        "period": period
    }


def twin(observation: Observation, other: Observation, hidden: tuple[str, ...] = ()) -> Observation:
    """An observation with the same vector, its rows in reverse: what is hidden is as in another observation.

    A function of the vector gives the same orders, in reverse. (A rule that knew the scenario would go by the row.)
    """
    state = observation.state
    fields = shown(observation) | {key: {**other.state._asdict(), "period": other.period}[key] for key in hidden}
    period = fields.pop("period")
    assert fields.keys() == set(state._fields), "the state has a field that this test does not know"
    turned = {key: value if value is None else value.flip(0) for key, value in fields.items()}
    return Observation(observation.env, type(state)(**turned), period)


def assert_reads_only_what_is_shown(policy, observation, other, hidden=()):
    orders = policy(observation)
    again = policy(twin(observation, other, hidden)).flip(0)
    torch.testing.assert_close(again, orders, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def moments():
    """Of every environment, observations of two scenarios at the same few periods of an episode."""
    found = {}
    for name in meirl.NAMES:
        env = meirl.make(name, dtype=torch.float64)
        chosen = {0, 1, 4, 33, 150, env.horizon - 1}
        found[name] = [
            [seen for seen in played(env, env.sample(4, seed), seed) if seen.period in chosen] for seed in (1, 2)
        ]
    return found


def test_a_twin_has_the_same_vector(moments, name):
    for one, other in zip(*moments[name], strict=True):
        torch.testing.assert_close(twin(one, other).vector().flip(0), one.vector(), rtol=0, atol=1e-6)


def test_the_slot_of_the_longest_lead_time_which_the_vector_leaves_out_is_always_empty(name):
    lead_time = {"mean": 3, "standard_deviation": 0, "tail_probability": 0, "high": 3}  # always the longest
    env = meirl.make(name, horizon=30, lead_time=lead_time)
    for seen in played(env, env.sample(4, 3)):
        pipeline = seen.state.in_transit if "divergent" in name else seen.state.on_order
        assert (pipeline[:, -1] == 0).all()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_is_a_function_of_the_full_vector(moments, rule):
    generator, orders = np.random.default_rng(0), set()
    for one, other in (pair for name in meirl.NAMES for pair in zip(*moments[name], strict=True)):
        if isinstance(one.env, rule.kind):
            for _ in range(3):
                policy = rule.policy(one.env, [generator.uniform(r.low, r.high) for r in rule.box(one.env).values()])
                assert_reads_only_what_is_shown(policy, one, other)
                orders |= {tuple(torch.atleast_1d(row).tolist()) for row in policy(one)}
    assert len(orders) >= 3 or rule.name == "never-order", "a rule that never orders shows nothing"


def fields_of(name) -> list[str]:
    state = meirl.make(name).reset(1)
    return [*(key for key, value in state._asdict().items() if value is not None), "period"]


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in meirl.NAMES for field in fields_of(name)])
def test_a_rule_that_reads_a_hidden_field_is_caught(moments, name, field):
    """The same test, with a field that the vector does not show and a rule that reads it: it fails at every moment."""

    def decide(observation, levels):
        if field == "period":
            return torch.full_like(observation.state.on_hand, observation.period)
        return getattr(observation.state, field).flatten(1).cumsum(1)

    policy = Rule("cheat", Env, "", lambda env: {}, decide).policy(moments[name][0][0].env, [])
    ones, others = moments[name]
    caught = 0
    for one, other in zip(ones, others[::-1], strict=True):  # another scenario, at another period
        assert_reads_only_what_is_shown(policy, one, other)  # as long as it is shown
        try:
            assert_reads_only_what_is_shown(policy, one, other, hidden=(field,))
        except AssertionError:
            caught += 1
    assert caught == len(ones)


def test_a_rule_that_knows_the_scenario_or_has_a_memory_is_caught(moments, name):
    (one, *_), (other, *_) = moments[name]
    demand, calls = one.env.sample(4, 1).demand, []

    def foresees(observation):
        return demand[:, observation.period]

    def remembers(observation):
        calls.append(observation)
        return torch.full_like(observation.state.on_hand, len(calls))

    for policy in (foresees, remembers):
        with pytest.raises(AssertionError):
            assert_reads_only_what_is_shown(policy, one, other)
