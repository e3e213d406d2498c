"""How much of an advantage is luck, where luck and merit are known."""

from types import SimpleNamespace

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
    with_luck, without = luck.variances(FOUR, copies=2)
    assert float(with_luck) == pytest.approx(20 / 3)
    assert float(without) == pytest.approx(8 / 3)  # an unbiased estimate, from the one difference of each pair


def test_the_gradient_is_the_mean_of_advantage_times_score():
    draw = torch.tensor([[1.0, 2, 3, 4]])
    (gradient,) = luck.policy_gradient(OneWeight(), segment(draw), FOUR)
    assert float(gradient) == pytest.approx((3 - 2 + 3 - 12) / 4)


def test_noise_sums_up_over_batches(monkeypatch):
    merit = torch.tensor([1.0, -1]).repeat(4).expand(2, 8)  # one scenario in eight copies, two periods
    advantage = merit + torch.tensor([[2.0], [-2]])
    lucky = torch.zeros(2, 8)
    lucky[0] = 2.0
    batches = [(segment(merit), advantage), (segment(lucky), advantage)]
    monkeypatch.setattr(luck, "advantages", lambda env, network, seed, count: batches)
    with_luck, without = 80 / 15, 16 * (8 / 7) ** 2 / 15 * 7 / 8
    # Gradients: 1 and 2 with luck, 8/7 and 0 without.
    assert luck.noise(None, OneWeight(), 0, 2) == pytest.approx(
        {
            "std of advantages": with_luck**0.5,
            "without luck": without**0.5,
            "variance that is luck": 1 - without / with_luck,
            "gradient variance falls by the factor": 0.5 / ((8 / 7) ** 2 / 2),
        }
    )


def test_advantages_are_centred_and_of_fresh_episodes():
    env = make("divergent-stationary", horizon=luck.PERIODS)
    network = seeded(ActorCritic, env, preset("ppo", "tuned", env.name), 0)
    (first, one), (second, two) = luck.advantages(env, network, seed=0, batches=2)
    assert one.shape == two.shape == (luck.PERIODS, luck.ENVIRONMENTS)
    assert abs(float(one.mean())) < 1e-5
    assert not torch.equal(first.reward, second.reward)
    # Copies lie one scenario apart; what they share is most of it before the agent has learnt anything.
    copies = one.unflatten(1, (luck.COPIES, -1))
    shared = copies.mean(1).var() / one.var()
    assert 0.5 < float(shared) < 1
