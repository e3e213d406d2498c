"""What copies of a scenario have in common, where trend, luck and merit are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from meirl import make
from meirl.learn import preset
from meirl.learn.networks import ActorCritic, seeded
from meirl_study import luck

# Two scenarios in two copies, laid out as by `Scenario.repeat`: luck +2 and -2, merit +1 and -1.
FOUR = torch.tensor([[3.0, -1, 1, -3]])


class OneWeight(torch.nn.Module):
    """An actor of one weight, whose log-probability is the weight times the draw."""

    def __init__(self):
        super().__init__()
        self.actor = torch.nn.Linear(1, 1, bias=False)

    def head(self, vector):
        return self.actor.weight.squeeze() * torch.ones(vector.shape[:2])

    def log_prob(self, head, draw):
        return head * draw


def segment(draw):
    return SimpleNamespace(vector=torch.zeros(len(draw) + 1, draw.shape[1], 1), draw=draw)


def test_luck_is_what_copies_share():
    # The mean of two copies holds half of each merit, so what is left is doubled.
    assert luck.luck_free(FOUR, copies=2).tolist() == [[2, 2, -2, -2]]


def test_the_mean_of_the_batch_is_what_all_have_in_common():
    torch.testing.assert_close(luck.luck_free(FOUR + 5, copies=4), FOUR * 4 / 3)


def test_variance_is_split_into_trend_luck_and_actions():
    generator = torch.Generator().manual_seed(0)

    def spread(std, *shape):
        return std * torch.randn(shape, generator=generator)

    trend = torch.linspace(-1, 1, 100)[:, None, None] * 3**0.5  # of variance 1
    advantage = trend + spread(2, 100, 400, 1) + spread(3, 100, 400, 8)
    assert luck.parts(advantage).tolist() == pytest.approx([1, 4, 9], rel=0.05)


@pytest.mark.parametrize(
    ("trend", "scenario", "merit", "expected"),
    [(0.0, 0.0, 1.0, [0, 0, 1]), (0.0, 2.0, 0.0, [0, 4, 0]), (3.0, 0.0, 0.0, [9, 0, 0])],
)
def test_each_part_alone(trend, scenario, merit, expected):
    signs = torch.tensor([1.0, -1]).repeat(200)
    period = trend * signs[:, None, None]
    luck_of = scenario * signs[None, :, None]
    action = merit * signs[:8][None, None]
    found = luck.parts((period + luck_of + action).expand(400, 400, 8))
    assert found.tolist() == pytest.approx(expected, rel=0.15, abs=0.02)


def test_the_weather_of_few_scenarios_is_no_trend():
    weather = 2 * torch.randn(2_000, 4, 1, generator=torch.Generator().manual_seed(0))
    period, scenario, _ = luck.parts(weather.expand(-1, -1, 8)).tolist()
    assert period < 0.1  # the mean of four differs from period to period by a quarter of 4
    assert scenario == pytest.approx(4, rel=0.05)


def test_the_gradient_is_the_mean_of_advantage_times_score():
    draw = torch.tensor([[1.0, 2, 3, 4]])
    (gradient,) = luck.policy_gradient(OneWeight(), segment(draw), FOUR)
    assert float(gradient) == pytest.approx((3 - 2 + 3 - 12) / 4)


def test_a_ratio_of_variances_has_an_interval_around_it():
    rng = np.random.default_rng(0)
    calm = rng.normal(size=(200, 5))
    ratio = luck.variance_ratio(3 * rng.normal(size=(200, 5)) + 7, calm)  # a mean is no variance
    assert ratio["low"] < 9 < ratio["high"]
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert ratio["high"] - ratio["low"] < 4
    assert luck.variance_ratio(2 * calm, calm) == pytest.approx({"value": 4, "low": 3.1, "high": 5.2}, rel=0.2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of two batches, a resample may be one of them twice
def test_noise_compares_copies_with_the_same_batch_and_with_different_scenarios(monkeypatch):
    merit = torch.tensor([1.0, -1]).repeat(4).expand(2, 8)  # one scenario in eight copies, two periods
    weather = torch.tensor([[2.0], [-2]])
    batches = {
        luck.COPIES: [(segment(merit), merit + weather), (segment(2 + merit), 2 * merit - weather)],
        1: [(segment(merit), 2 * merit), (segment(merit), 6 * merit)],
    }
    asked = []

    def advantages(env, network, seed, count, copies=luck.COPIES):
        asked.append((seed, count, copies))
        return batches[copies]

    monkeypatch.setattr(luck, "advantages", advantages)
    monkeypatch.setattr(luck, "ENVIRONMENTS", 8)
    found = luck.noise(None, OneWeight(), 3, 2)
    assert asked == [(3, 2, 8), (4, 2, 1)]
    actions, scenario = 20 / 7, 8 - 20 / 56  # of merits 1 and 2; of weathers 2 and -2 at each period
    assert found["common to all"] == 0
    assert found["specific to a scenario"] == pytest.approx(scenario / (scenario + actions))
    assert found["due to actions"] == pytest.approx(actions / (scenario + actions))
    # Gradients: 1 and 2 with luck, 8/7 and 16/7 without; 16/7 and 48/7 from different scenarios.
    assert found["same batch"] == pytest.approx((7 / 8) ** 2)
    assert found["fair"] == pytest.approx(16)


def test_advantages_are_of_fresh_episodes():
    env = make("divergent-stationary", horizon=luck.PERIODS)
    network = seeded(ActorCritic, env, preset("ppo", "tuned", env.name), 0)
    (first, one), (second, two) = luck.advantages(env, network, seed=0, batches=2)
    assert one.shape == two.shape == (luck.PERIODS, luck.ENVIRONMENTS)
    assert not torch.equal(first.reward, second.reward)
    # Copies lie one scenario apart; what they share is most of it before the agent has learnt anything.
    copies = one.unflatten(1, (luck.COPIES, -1))
    assert 0.5 < float(copies.mean(1).var() / one.var()) < 1


def test_different_scenarios_have_no_copies():
    env = make("divergent-nonstationary", horizon=luck.PERIODS)
    network = seeded(ActorCritic, env, preset("ppo", "tuned", env.name), 0)
    found = {
        copies: next(luck.advantages(env, network, 0, 1, copies=copies))[1].unflatten(1, (luck.COPIES, -1))
        for copies in (1, luck.COPIES)
    }
    within = {copies: float(a.var(1).mean() / a.flatten(1).var(1).mean()) for copies, a in found.items()}
    assert within[1] == pytest.approx(1, abs=0.15)  # the environments of a column have nothing in common
    assert within[luck.COPIES] < 0.7


def test_every_agent_is_measured_before_its_training_and_after(monkeypatch):
    chapter, network = SimpleNamespace(envs={"meis-stationary": make("meis-stationary")}, seed=3), OneWeight()
    asked = []

    def noise(env, weights, seed, batches):
        asked.append((env.name, weights, seed, batches))
        return {"fair": len(asked)}

    monkeypatch.setattr(luck, "noise", noise)
    table = luck.before_and_after(chapter, {"meis-stationary": network}, 5)
    assert table["fair"].to_dict() == {("meis-stationary", "untrained"): 1, ("meis-stationary", "trained"): 2}
    (_, untrained, *_), (_, trained, *_) = asked
    assert trained is network
    expected = seeded(ActorCritic, chapter.envs["meis-stationary"], preset("ppo", "tuned", "meis-stationary"), 3)
    assert all(torch.equal(value, untrained.state_dict()[key]) for key, value in expected.state_dict().items())
    assert [(env, seed, batches) for env, _, seed, batches in asked] == [("meis-stationary", 3, 5)] * 2
