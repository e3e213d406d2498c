"""Actor, critic and action distributions, shared by both learners."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import nn

from ..envs import Env, Observation
from .config import LearnerConfig, check_seed

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}
SCALE_RATE = 0.05  # share by which an update moves the critic's scale: as slow as a policy changes
SMALLEST_SCALE = 1e-3  # reward units; returns that hardly vary are not blown up


class ActorCritic(nn.Module):
    """Separate actor and critic networks with a Gaussian or a categorical policy, fit to an environment.

    A *head* is the actor's output, ``(..., outputs)``. A *draw* is what the distribution samples: for Box actions a
    vector ``(..., N)``, which `squashed` clips (or squashes); for Discrete actions the action itself, ``(...)``. To the
    agent clipping is part of the environment, so the Gaussian's log-probability is exact; with tanh the Jacobian is
    subtracted. As a function, the network is its own deterministic policy: ``Observation -> action``.
    """

    def __init__(self, env: Env, config: LearnerConfig) -> None:
        super().__init__()
        self.config, self.gaussian = config.network, env.options is None
        shape, inputs, outputs = self.config, len(env.legend()), env.options or env.nodes

        def network(outputs: int, gain: float) -> nn.Sequential:
            return mlp((inputs, *shape.hidden, outputs), shape.activation, shape.initialisation, gain)

        self.actor = network(outputs, shape.policy_gain)
        self.critic = network(1, 1.0)  # comes last, so its last layer ends the vector of parameters
        if self.gaussian:
            self.log_std: torch.Tensor
            log_std = torch.full((outputs,), shape.log_std)
            if shape.final_log_std is None:
                self.log_std = nn.Parameter(log_std)
            else:
                self.register_buffer("log_std", log_std)
        # The critic's scale lives in buffers, so that checkpoints and shared memory carry it.
        self.return_mean: torch.Tensor
        self.return_std: torch.Tensor
        self.register_buffer("return_mean", torch.zeros(()))
        self.register_buffer("return_std", torch.ones(()))

    def forward(self, observation: Observation) -> torch.Tensor:
        """The deterministic action, ``(batch, N)`` or, where actions are discrete, ``(batch,)``."""
        return finite(self.mode(self.head(observation.vector())), "the actor's action")

    def anneal(self, remaining: float) -> None:
        """Set the noise of a Gaussian that does not learn it, from the share of training still to come."""
        start, final = self.config.log_std, self.config.final_log_std
        if self.gaussian and final is not None:
            self.log_std.fill_(final + remaining * (start - final))

    def head(self, vector: torch.Tensor) -> torch.Tensor:
        """The actor's output for observations ``(..., numbers)``: means, or normalised log-probabilities."""
        return finite(self.as_head(self.actor(vector)), "the actor's output")

    def as_head(self, out: torch.Tensor) -> torch.Tensor:
        """Means, or normalised log-probabilities, from what leaves the actor's last layer, ``(..., outputs)``."""
        if not self.gaussian:
            return out.log_softmax(-1)
        return torch.tanh(out) if self.config.defect_double_tanh else out

    def sample(self, head: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw from the policy: ``head + std * noise``, equation :eq:`eq-gaussian` of the book, or an option."""
        noise = torch.empty_like(head)
        if not self.gaussian:  # Gumbel's trick: the winner of noisy log-probabilities is a draw
            return (head - noise.exponential_(generator=generator).log()).argmax(-1)
        draw = finite(head + self.log_std.exp() * noise.normal_(generator=generator), "the noise of actions")
        return torch.tanh(draw) if self.config.defect_no_jacobian else draw

    def log_prob(self, head: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
        """Log-probability (density) of draws, ``(...)``: the draw's shape without the axis of nodes."""
        if not self.gaussian:
            return head.gather(-1, draw[..., None])[..., 0]
        density = -0.5 * ((draw - head) / self.log_std.exp()).square() - self.log_std - LOG_SQRT_2PI
        if self.config.squash == "tanh" and not self.config.defect_no_jacobian:
            density = density - 2 * (math.log(2) - draw - nn.functional.softplus(-2 * draw))
        return density.sum(-1)

    def entropy(self, head: torch.Tensor) -> torch.Tensor:
        """Entropy of the policy (of the Gaussian before it is squashed), ``(...)``, in nats."""
        if not self.gaussian:
            return -(head.exp() * head).sum(-1)
        return (self.log_std + LOG_SQRT_2PI + 0.5).sum().expand(head.shape[:-1])

    def squashed(self, draw: torch.Tensor) -> torch.Tensor:
        """Draws as actions of the same shape: in [-1, 1], or discrete."""
        if not self.gaussian or self.config.defect_no_jacobian:  # the defective draw is squashed already
            return draw
        return torch.tanh(draw) if self.config.squash == "tanh" else draw.clamp(-1, 1)

    def mode(self, head: torch.Tensor) -> torch.Tensor:
        """The deterministic action: the likeliest option; of a Gaussian, what it orders on average once clipped.

        The mean of a clipped Gaussian ``m + s * e`` is inside [-1, 1] where m alone would be clipped, and reaches both
        ends as m goes beyond them: equation :eq:`eq-clipped-mean` of the book.
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
        """Predicted discounted return of observations ``(..., numbers)``, in reward units, ``(...)``."""
        return finite(self.return_mean + self.return_std * self.critic(vector)[..., 0], "the critic's output")

    @torch.no_grad()
    def update_return_scale(self, returns: torch.Tensor, rate: float = SCALE_RATE) -> None:
        """Follow the returns' mean and std, and rescale the last layer so that no prediction changes (PopArt).

        They move by a share ``rate`` of the way, the first time all of it; equation :eq:`eq-popart` of the book.

        Source: van Hasselt et al. (2016), Learning values across many orders of magnitude.
        """
        if not self.config.normalise_returns or returns.numel() < 2:  # one return has no std
            return
        first = bool(self.return_std == 1) and bool(self.return_mean == 0)
        rate = 1.0 if first else rate
        mean, std = self.return_mean.clone(), self.return_std.clone()
        self.return_mean.lerp_(returns.mean(), rate)
        self.return_std.lerp_(returns.std().clamp(min=SMALLEST_SCALE), rate)
        last = cast(nn.Linear, self.critic[-1])
        last.weight.mul_(std / self.return_std)
        last.bias.mul_(std).add_(mean - self.return_mean).div_(self.return_std)


def finite(values: torch.Tensor, what: str) -> torch.Tensor:
    """The values, unchanged; a ValueError that says ``what`` they are if one is no finite number."""
    if not values.isfinite().all():
        raise ValueError(f"{what} is no longer finite: training has diverged; a smaller learning_rate may help")
    return values


def seeded(kind: Callable[[Env, Any], Any], env: Env, config: Any, seed: int) -> Any:
    """A learner's ``Network`` on its environment's device, in its precision; ``seed`` alone gives the weights."""
    check_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(env, config).to(env.device, env.dtype)


def mlp(sizes: Sequence[int], activation: str, initialisation: str = "pytorch", gain: float = 1.0) -> nn.Sequential:
    """A multilayer perceptron of so many units from input to output, with an activation between its linear layers.

    Weights are ``glorot`` or ``orthogonal`` (the last layer's with ``gain``) and biases 0, or both as in ``pytorch``.
    """
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes), start=2):
        layer, last = nn.Linear(inputs, outputs), i == len(sizes)
        if initialisation == "glorot":
            nn.init.xavier_uniform_(layer.weight)
        elif initialisation == "orthogonal":
            nn.init.orthogonal_(layer.weight, gain if last else math.sqrt(2))
        if initialisation != "pytorch":
            nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


def flat(network: nn.Module) -> nn.Parameter:
    """Lay a network's parameters and their gradients end to end in two vectors, of which they become views.

    Networks this small feel every loop over tensors: clipping a gradient, a step of Adam, or copying all weights then
    is one operation on a vector. Returned is that of the parameters, in their order; its ``grad`` is the other.
    """
    vector = nn.Parameter(nn.utils.parameters_to_vector(network.parameters()).detach())
    vector.grad = torch.zeros_like(vector)
    sizes = [parameter.numel() for parameter in network.parameters()]
    for parameter, *parts in zip(network.parameters(), vector.data.split(sizes), vector.grad.split(sizes), strict=True):
        parameter.data, parameter.grad = (part.view_as(parameter) for part in parts)
    return vector
