"""The gradient that is written down is the one that autograd finds, for every policy, activation and option."""

import pytest
import torch

import meirl
from meirl.learn import a3c, gradient, ppo
from meirl.learn.experience import Segment, estimate, normalised
from meirl.learn.networks import ActorCritic, flat, seeded

B = 40
NETWORKS = {
    "gaussian": ("divergent-stationary", {"final_log_std": -1.0}),
    "log-std learned": ("divergent-stationary", {"log_std": -0.3}),
    "tanh, squashed": ("divergent-stationary", {"activation": "tanh", "squash": "tanh"}),
    "as published": (
        "divergent-stationary",
        {"squash": "tanh", "defect_no_jacobian": True, "defect_double_tanh": True},
    ),
    "three layers of relu": ("meis-stationary", {"activation": "relu", "hidden": (16, 8, 16)}),
    "silu, options": ("meis-stationary", {"activation": "silu"}),
}


def made(kind):
    """A network in float64 with a return scale, and a batch: observations, draws, old log-probabilities, targets."""
    name, options = NETWORKS[kind]
    env = meirl.make(name, dtype=torch.float64)
    config = ppo.Config(network={"policy_gain": 1.0, "hidden": (16, 8), **options})
    network = seeded(ActorCritic, env, config, 0).double()
    network.return_mean.fill_(-3.0)
    network.return_std.fill_(2.0)
    generator = torch.Generator().manual_seed(1)
    vector = torch.randn(B, len(env.legend()), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        head = network.head(vector)
        draw = network.sample(head, generator)
        old = network.log_prob(head, draw) + 0.3 * torch.randn(B, generator=generator, dtype=torch.float64)
    return network, vector, draw, old, torch.randn(B, generator=generator, dtype=torch.float64)


def by_autograd(network, loss):
    network.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("entropy", [0.0, 0.3])
def test_ppo_loss(kind, entropy):
    network, vector, draw, old, gain = made(kind)
    target = 4 * gain.flip(0)
    head = network.head(vector)
    loss = ppo.clipped_surrogate(network.log_prob(head, draw) - old, gain, 0.2)
    loss = loss + 0.7 * ((network.value(vector) - target) / network.return_std).square().mean()
    expected = by_autograd(network, loss - entropy * network.entropy(head).mean()).clone()
    whole = flat(network)
    whole.grad.fill_(torch.nan)  # every number is overwritten
    with torch.no_grad():
        batch = gradient.evaluate(network, vector, draw, target)
        ratio = network.log_prob(batch.head, draw) - old
        assert ((ratio.exp() - 1).abs() > 0.2).any(), "nothing is clipped: nothing to test"
        gradient.write(network, batch, gradient.of_clipped_surrogate(ratio, gain, 0.2), 0.7, entropy)
    torch.testing.assert_close(whole.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["gaussian", "silu, options"])
def test_a3c_loss(kind):
    network, vector, draw, _, reward = made(kind)
    config = a3c.Config(max_gradient_norm=1e9, copies=1)
    segment = Segment(
        torch.stack([vector, vector]), network.head(vector)[None].detach(), draw[None], reward[None], False
    )
    value = network.value(segment.vector)
    advantage, returns = estimate(segment, value.detach(), config)
    head = network.head(vector)
    loss = -(normalised(advantage)[0] * network.log_prob(head, draw)).mean() - 0.1 * network.entropy(head).mean()
    loss = loss + config.value_weight * ((value[0] - returns[0]) / network.return_std).square().mean()
    expected = by_autograd(network, loss).clone()
    copy = a3c.LocalCopy(network)
    found = a3c.compute_gradient(copy, segment, config, 0.1)
    torch.testing.assert_close(copy.gradient, expected, rtol=1e-9, atol=1e-12)
    assert found["gradient_norm"] == pytest.approx(float(expected.norm()))


@pytest.mark.parametrize("kind", ["gaussian", "silu, options"])
def test_a3c_cuts_its_gradient_to_a_norm(kind):
    network, vector, draw, _, reward = made(kind)
    head = network.head(vector)[None].detach()
    segment = Segment(torch.stack([vector, vector]), head, draw[None], reward[None], False)
    copy = a3c.LocalCopy(network)
    whole = a3c.compute_gradient(copy, segment, a3c.Config(max_gradient_norm=1e9, copies=1), 0.1)["gradient_norm"]
    direction = copy.gradient / copy.gradient.norm()
    found = a3c.compute_gradient(copy, segment, a3c.Config(max_gradient_norm=1e-3, copies=1), 0.1)
    assert found["gradient_norm"] == pytest.approx(float(whole)), "the norm that is told is the one before"
    torch.testing.assert_close(copy.gradient, 1e-3 * direction, rtol=1e-2, atol=1e-8)


def test_shared_adam_equals_torchs():
    shared = a3c.SharedLearner(made("gaussian")[0])
    weights = torch.nn.Parameter(shared.weights.clone())
    adam = torch.optim.Adam([weights], lr=0.01, eps=1e-3, betas=(a3c.BETA1, a3c.BETA2))
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        grad = torch.randn(len(weights), generator=generator, dtype=torch.float64) * 10.0**-step
        weights.grad = grad.clone()
        adam.step()
        shared.apply(grad, 0.01, 1e-3)
        torch.testing.assert_close(shared.weights, weights.data, rtol=1e-9, atol=1e-12)


def test_a_gradient_is_cut_to_its_norm():
    grad = torch.tensor([3.0, 4.0])
    assert gradient.clip(grad, 10.0) == 5
    assert grad.tolist() == [3, 4]
    assert gradient.clip(grad, 0.5) == 5
    assert float(grad.norm()) == pytest.approx(0.5, rel=1e-5)
