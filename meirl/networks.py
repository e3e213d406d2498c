"""Actor, critic and action distributions, shared by both learners."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, cast

import torch
from gymnasium import spaces
from pydantic import Field
from torch import nn

from .envs import Env, Observation
from .envs.scenario import Model, Positive

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


class NetworkConfig(Model):
    """Shape of the networks and of the policy."""

    hidden: tuple[int, ...] = Field((64, 64), description="units of each hidden layer, actor and critic alike")
    activation: Literal["tanh", "relu", "silu"] = Field("tanh", description="after each hidden layer")
    initialisation: Literal["glorot", "orthogonal"] = Field(
        "orthogonal", description="of the weights; biases start at 0"
    )
    policy_gain: Positive = Field(0.01, description="orthogonal gain of the actor's last layer; small starts even")
    squash: Literal["clip", "tanh"] = Field("clip", description="how a Gaussian draw becomes an action in [-1, 1]")
    log_std: float = Field(0.0, description="log standard deviation of the Gaussian at the start")
    final_log_std: float | None = Field(
        None, description="lower the log standard deviation linearly to this instead of learning it"
    )
    normalise_returns: bool = Field(True, description="let the critic predict in units of the returns' mean and std")
    # Defects of the published PPO, for the chapter on threats; both leave a correct policy when off.
    defect_no_jacobian: bool = Field(False, description="density of the squashed action under the unsquashed Gaussian")
    defect_double_tanh: bool = Field(
        False, description="squash the mean, then the action, so extremes are out of reach"
    )


class ActorCritic(nn.Module):
    """Separate actor and critic networks with a Gaussian or a categorical policy, fit to an environment.

    A *draw* is what the distribution samples and what log-probabilities refer to: for Box actions a real vector, which
    `squashed` clips (or squashes); for Discrete actions the action itself. Clipping is part of the environment
    as seen by the agent, so the Gaussian's log-probability is exact; with tanh the Jacobian is subtracted.
    """

    def __init__(self, env: Env, config: NetworkConfig) -> None:
        super().__init__()
        self.config, self.gaussian = config, isinstance(env.action_space, spaces.Box)
        inputs = len(env.legend())
        outputs = env.nodes if self.gaussian else int(env.action_space.n)  # type: ignore[attr-defined]
        self.actor = _mlp(inputs, config, outputs, config.policy_gain)
        self.critic = _mlp(inputs, config, 1, 1.0)  # comes last, so its last layer ends the vector of parameters
        if self.gaussian:
            self.log_std: torch.Tensor
            log_std = torch.full((outputs,), config.log_std)
            if config.final_log_std is None:
                self.log_std = nn.Parameter(log_std)
            else:
                self.register_buffer("log_std", log_std)
        # The critic's scale lives in buffers, so that checkpoints and shared memory carry it.
        self.return_mean: torch.Tensor
        self.return_std: torch.Tensor
        self.register_buffer("return_mean", torch.zeros(()))
        self.register_buffer("return_std", torch.ones(()))

    def anneal(self, left: float) -> None:
        """Set the noise of a Gaussian that does not learn it; ``left`` is the share of training still to come."""
        start, final = self.config.log_std, self.config.final_log_std
        if self.gaussian and final is not None:
            self.log_std.fill_(final + left * (start - final))

    def head(self, vector: torch.Tensor) -> torch.Tensor:
        """The actor's output: means of the Gaussian, or normalised log-probabilities, ``(batch, outputs)``."""
        out = self.actor(vector)
        if not self.gaussian:
            return out.log_softmax(-1)
        return torch.tanh(out) if self.config.defect_double_tanh else out

    def sample(self, head: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw from the policy."""
        noise = torch.empty_like(head)
        if not self.gaussian:  # Gumbel's trick: the winner of noisy log-probabilities is a draw
            return (head - noise.exponential_(generator=generator).log()).argmax(-1)
        draw = head + self.log_std.exp() * noise.normal_(generator=generator)
        return torch.tanh(draw) if self.config.defect_no_jacobian else draw

    def log_prob(self, head: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
        """Log-probability (density) of draws, ``(batch,)``."""
        if not self.gaussian:
            return head.gather(-1, draw[..., None])[..., 0]
        density = -0.5 * ((draw - head) / self.log_std.exp()).square() - self.log_std - LOG_SQRT_2PI
        if self.config.squash == "tanh" and not self.config.defect_no_jacobian:
            density = density - 2 * (math.log(2) - draw - nn.functional.softplus(-2 * draw))
        return density.sum(-1)

    def entropy(self, head: torch.Tensor) -> torch.Tensor:
        """Entropy of the policy (of the Gaussian before it is squashed), ``(batch,)``, in nats."""
        if not self.gaussian:
            return -(head.exp() * head).sum(-1)
        return (self.log_std + LOG_SQRT_2PI + 0.5).sum().expand(head.shape[:-1])

    def squashed(self, draw: torch.Tensor) -> torch.Tensor:
        """A draw as an action: in [-1, 1], or discrete."""
        if not self.gaussian or self.config.defect_no_jacobian:  # the defective draw is squashed already
            return draw
        return torch.tanh(draw) if self.config.squash == "tanh" else draw.clamp(-1, 1)

    def mode(self, head: torch.Tensor) -> torch.Tensor:
        """The deterministic action: the likeliest option; of a Gaussian, what it orders on average once clipped.

        The mean of a clipped Gaussian ``m + s * e`` is inside [-1, 1] where m alone would be clipped, and reaches both
        ends as m goes beyond them.
        """
        if not self.gaussian:
            return head.argmax(-1)
        if self.config.squash == "tanh":
            return torch.tanh(head)
        std = self.log_std.exp()
        low, high = (-1 - head) / std, (1 - head) / std
        inside = torch.special.ndtr(high) - torch.special.ndtr(low)
        density = (torch.exp(-0.5 * low.square()) - torch.exp(-0.5 * high.square())) / math.sqrt(2 * math.pi)
        return head * inside + std * density + 1 - torch.special.ndtr(high) - torch.special.ndtr(low)

    def value(self, vector: torch.Tensor) -> torch.Tensor:
        """Predicted discounted return, in reward units, ``(batch,)``."""
        return self.return_mean + self.return_std * self.critic(vector)[..., 0]

    @torch.no_grad()
    def update_return_scale(self, returns: torch.Tensor, rate: float = 0.05) -> None:
        """Follow the returns' mean and std, and rescale the last layer so that no prediction changes (PopArt).

        Source: van Hasselt et al. (2016), Learning values across many orders of magnitude.
        """
        if not self.config.normalise_returns:
            return
        first = bool(self.return_std == 1) and bool(self.return_mean == 0)
        rate = 1.0 if first else rate
        mean, std = self.return_mean.clone(), self.return_std.clone()
        self.return_mean.lerp_(returns.mean(), rate)
        self.return_std.lerp_(returns.std().clamp(min=1e-3), rate)
        last = cast(nn.Linear, self.critic[-1])
        last.weight.mul_(std / self.return_std)
        last.bias.mul_(std).add_(mean - self.return_mean).div_(self.return_std)


def flat(network: nn.Module) -> nn.Parameter:
    """Lay a network's parameters and their gradients end to end in two vectors, of which they become views.

    Networks this small feel every loop over tensors: clipping a gradient, a step of Adam, or copying all weights then
    is one operation on a vector.

    Returns:
        The vector of the parameters, in their order; its ``grad`` is that of the gradients.
    """
    vector = nn.Parameter(nn.utils.parameters_to_vector(network.parameters()).detach())
    vector.grad = torch.zeros_like(vector)
    start = 0
    for parameter in network.parameters():
        part = slice(start, start := start + parameter.numel())
        parameter.data = vector.data[part].view_as(parameter)
        parameter.grad = vector.grad[part].view_as(parameter)
    return vector


class Agent:
    """A trained network as a policy: ``Observation -> action``, deterministic."""

    def __init__(self, network: ActorCritic) -> None:
        self.network = network

    def __call__(self, observation: Observation) -> torch.Tensor:
        """Return the most likely action."""
        return self.network.mode(self.network.head(observation.vector()))


def _mlp(inputs: int, config: NetworkConfig, outputs: int, gain: float) -> nn.Sequential:
    """A multilayer perceptron, initialised as configured."""
    layers: list[nn.Module] = []
    sizes = (inputs, *config.hidden)
    for a, b in pairwise(sizes):
        layers += [_linear(a, b, config.initialisation, math.sqrt(2)), ACTIVATIONS[config.activation]()]
    return nn.Sequential(*layers, _linear(sizes[-1], outputs, config.initialisation, gain))


def _linear(inputs: int, outputs: int, initialisation: str, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if initialisation == "glorot":
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
