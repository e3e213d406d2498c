"""The gradient of the actor-critic loss, written down instead of recorded.

PyTorch's autograd records every operation and plays it back; with layers of 64 units that takes longer than the
operations themselves. Here the derivatives at the networks' outputs stand as formulas, and `backward` carries them
through the layers, straight into the parameters' gradients. A test compares all of it with autograd.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import nn

from .networks import ActorCritic

Layers = list[torch.Tensor]  # what enters each layer of a network, and last what leaves it: (B, units)
ops: Any = torch.ops.aten
DERIVATIVES: dict[type[nn.Module], Any] = {  # of activations: from the gradient, what entered and what left
    nn.SiLU: lambda grad, entered, left: ops.silu_backward(grad, entered),
    nn.Tanh: lambda grad, entered, left: ops.tanh_backward(grad, left),
    nn.ReLU: lambda grad, entered, left: ops.threshold_backward(grad, left, 0),
}


class Batch(NamedTuple):
    """A batch of B samples on its way through actor and critic."""

    actor: Layers
    critic: Layers
    head: torch.Tensor  # the actor's output, as `ActorCritic.head` gives it, (B, outputs)
    draw: torch.Tensor  # what was drawn, (B, N) or (B,)
    error: torch.Tensor  # prediction minus target, in standard deviations of the returns, (B,)


def evaluate(network: ActorCritic, vector: torch.Tensor, draw: torch.Tensor, target: torch.Tensor) -> Batch:
    """Pass observations ``(B, numbers)`` through both networks; targets are returns ``(B,)`` in reward units."""
    actor, critic = forward(network.actor, vector), forward(network.critic, vector)
    error = critic[-1][:, 0] - (target - network.return_mean) / network.return_std
    return Batch(actor, critic, network.as_head(actor[-1]), draw, error)


def write(
    network: ActorCritic, batch: Batch, by_log_prob: torch.Tensor, value_weight: float, entropy_weight: float
) -> None:
    """Write the gradient of a loss into every ``grad`` of actor and critic.

    ``loss = policy loss + value_weight * mean(error^2) - entropy_weight * mean entropy``; the policy loss by its
    derivative by each sample's log-probability, ``(B,)``.
    """
    backward(network.actor, batch.actor, of_policy(network, batch, by_log_prob, -entropy_weight))
    backward(network.critic, batch.critic, (batch.error * (2 * value_weight / len(batch.error))).unsqueeze(1))


def clip(grad: torch.Tensor, norm: float) -> torch.Tensor:
    """Scale a gradient down to a norm, in place; returns the norm that it had."""
    found = grad.norm()
    grad.mul_((norm / (found + 1e-6)).clamp(max=1.0))
    return found


def forward(network: nn.Sequential, vector: torch.Tensor) -> Layers:
    """Pass a batch through a network layer by layer and keep everything, for `backward`."""
    layers = [vector]
    for layer in network:
        layers.append(layer(layers[-1]))
    return layers


def backward(network: nn.Sequential, layers: Layers, grad: torch.Tensor) -> None:
    """Write the gradient of a loss into every ``grad`` of a network, from that by what left it, ``(B, units)``."""
    for i, layer in reversed(list(enumerate(network))):
        if isinstance(layer, nn.Linear):
            torch.mm(grad.t(), layers[i], out=cast(torch.Tensor, layer.weight.grad))
            torch.sum(grad, 0, out=cast(torch.Tensor, layer.bias.grad))
            grad = grad @ layer.weight if i else grad
        else:
            grad = DERIVATIVES[type(layer)](grad, layers[i], layers[i + 1])


def of_policy(network: ActorCritic, batch: Batch, by_log_prob: torch.Tensor, by_entropy: float) -> torch.Tensor:
    """Gradient of a loss by the actor's output, ``(B, outputs)``, from its derivatives by log-probability and entropy.

    These are by each sample's log-probability, ``(B,)``, and by the mean entropy.

    - Gaussian: ``d log pi / d mean = (draw - mean) / std^2``; its entropy does not depend on the mean. A log-std that
      is learned gets its gradient here: ``d log pi / d log std = ((draw - mean) / std)^2 - 1``, and 1 of the entropy.
    - Categorical, p the probabilities: ``d log pi / d logits = 1[draw] - p``, ``d H / d logits = -p (log p + H)``.
    """
    head, draw = batch.head, batch.draw
    if not network.gaussian:
        p = head.exp()
        grad = p * -by_log_prob.unsqueeze(1)
        grad.scatter_add_(1, draw.unsqueeze(1), by_log_prob.unsqueeze(1))
        if by_entropy:
            grad -= by_entropy / len(head) * p * (head - (p * head).sum(1, keepdim=True))
        return grad
    away = (draw - head) / network.log_std.exp()
    if isinstance(network.log_std, nn.Parameter):
        torch.mv(away.square().sub_(1).t(), by_log_prob, out=cast(torch.Tensor, network.log_std.grad))
        cast(torch.Tensor, network.log_std.grad).add_(by_entropy)
    grad = away / network.log_std.exp() * by_log_prob.unsqueeze(1)
    return grad * (1 - head.square()) if network.config.defect_double_tanh else grad


def of_clipped_surrogate(log_ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """Derivative of `meirl.learn.ppo.clipped_surrogate` by each sample's log-probability, ``(B,)``.

    ``-ratio * A / B``, but 0 where the ratio has left the clip on the side that the advantage asks for.
    """
    ratio = log_ratio.exp()
    stopped = torch.where(advantage > 0, ratio > 1 + clip, ratio < 1 - clip)
    return (ratio * advantage).masked_fill_(stopped, 0.0).div_(-len(ratio))
