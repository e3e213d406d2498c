"""A policy trained by gradients through the simulator: one loop, read from top to bottom.

All randomness is drawn beforehand, and a step is differentiable. So the cost of an episode is a differentiable function
of the network's weights, and its gradient needs no critic, no exploration and no score function: it is what
``backward`` gives. This is hindsight differentiable policy optimisation (Alvo, Russo & Kanoria, 2023).

A gradient only sees what a slightly larger order would change. Where that is nothing, as for a retailer at its
backorder cap, it is blind to what lies beyond. Therefore training starts from a good place: the network first imitates
the best tuned heuristic, and then follows the gradient.

Discrete actions have no gradient. The *relaxation* is a straight-through one: the simulator plays the likeliest
option, as the trained policy will; backward, the order and its fixed cost are the averages over all options, weighted
by the network's probabilities. So the simulated cost is exact, and its gradient approximate.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from pydantic import Field
from torch import nn

from . import heuristics
from .envs import Env, Observation, Scenario
from .envs.scenario import Model, NonNegative, Positive, Probability
from .rollout import Policy
from .runs import Recorder


class PathwiseConfig(Model):
    """Hyperparameters of the pathwise learner."""

    steps: int = Field(3_200_000, ge=1, description="environment steps in all, imitation included")
    environments: int = Field(64, ge=1, description="episodes played side by side, new ones in every round")
    imitation: int = Field(20, ge=0, description="rounds that imitate the best tuned heuristic; 0 starts from nothing")
    imitation_rate: Positive = Field(3e-3, description="learning rate of the imitation, lowered linearly to 0")
    minibatch: int = Field(1000, ge=1, description="samples in a gradient step of the imitation")
    segment: int = Field(500, ge=1, description="periods that a gradient reaches back; then an update")
    memory: Probability = Field(1.0, description="share of a gradient that each period lets through to earlier ones")
    learning_rate: Positive = Field(5e-4, description="of Adam along the gradient, lowered linearly to 0")
    max_gradient_norm: Positive = Field(1.0, description="the gradient is scaled down to this norm")
    temperature: NonNegative = Field(1.0, description="of the softmax that stands for a discrete choice, backward")
    evaluations: int = Field(20, ge=1, description="how often the policy is scored on validation scenarios")
    validation_episodes: int = Field(100, ge=1, description="episodes of each scoring")
    hidden: tuple[int, ...] = Field((128, 128), description="units of each hidden layer")

    def rounds(self, env: Env) -> int:
        """Rounds of episodes that fit into the budget of steps; at least one more than imitate."""
        return max(self.imitation + 1, self.steps // (self.environments * env.horizon))


class Actor(nn.Module):
    """A network as a deterministic policy: ``Observation -> action``."""

    def __init__(self, env: Env, config: PathwiseConfig) -> None:
        super().__init__()
        self.config, self.discrete = config, isinstance(env.action_space, spaces.Discrete)
        outputs = int(env.action_space.n) if self.discrete else env.nodes  # type: ignore[attr-defined]
        layers: list[nn.Module] = []
        for a, b in pairwise((len(env.legend()), *config.hidden)):
            layers += [nn.Linear(a, b), nn.Tanh()]
        self.layers = nn.Sequential(*layers, nn.Linear(b, outputs))

    def forward(self, observation: Observation) -> torch.Tensor:
        """The likeliest option, or a share of the most that may be ordered."""
        out = self.layers(observation.vector())
        return out.argmax(1) if self.discrete else observation.env.action(most(observation.env) * out.sigmoid())

    def imitation_loss(self, vector: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with what the heuristic did: an option, or shares of the most that may be ordered."""
        out = self.layers(vector)
        if self.discrete:
            return nn.functional.cross_entropy(out, target)
        return nn.functional.binary_cross_entropy_with_logits(out, target)


def most(env: Env) -> float:
    """The largest order that the divergent chain accepts, in units."""
    p: Any = env.parameters
    return min(p.order_cap, p.max_order)


def train(
    env: Env, config: PathwiseConfig, seed: int, out: Path | None = None,
    *, resume: bool = False, progress: bool = True, tensorboard: bool = False,
) -> Recorder:  # fmt: skip
    """Train a policy along the gradient of its simulated cost; arguments and result as in `meirl.ppo.train`."""
    torch.set_num_threads(1)  # the tensors are small: more threads cost more than they give
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        actor = Actor(env, config).to(env.device)
    recorder = Recorder(
        env, "pathwise", config, seed, actor, out, resume=resume, progress=progress, tensorboard=tensorboard
    )
    optimiser = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
    if saved := recorder.restore():
        optimiser.load_state_dict(saved)
    elif config.imitation:
        imitate(actor, env, config, seed, recorder)
        recorder.validate(recorder.steps, float("nan"), optimiser.state_dict())

    rounds, size = config.rounds(env), config.environments * env.horizon
    every = max(1, (rounds - config.imitation) // config.evaluations)
    for number in range(max(recorder.steps // size, config.imitation), rounds):
        started = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * (1 - (number - config.imitation) / (rounds - config.imitation))
        scenario = env.sample(config.environments, seed, first=number * config.environments)
        cost, norm = descend(actor, env, scenario, optimiser, config)
        recorder.log({"gradient_norm": norm}, size, time.perf_counter() - started)
        if (rounds - 1 - number) % every == 0:
            recorder.validate((number + 1) * size, cost, optimiser.state_dict())
    return recorder.finish()


def descend(
    actor: Actor, env: Env, scenario: Scenario, optimiser: torch.optim.Optimizer, config: PathwiseConfig
) -> tuple[float, float]:
    """Play one round of episodes, with an update after every segment; return mean cost and last gradient norm."""
    state, total, norm = env.reset(scenario.episodes), 0.0, 0.0
    loss = torch.zeros((), device=env.device)
    prices, extra = option_costs(env) if actor.discrete else None, torch.zeros_like(loss)
    for t, exogenous in enumerate(scenario.periods()):
        state = faded(state, 0.0 if t % config.segment == 0 else config.memory)
        observation = env.observe(state, t)
        if prices is None:
            orders = env.orders(actor(observation))
        else:
            choice = straight_through(actor.layers(observation.vector()), config.temperature)
            orders = choice @ env.orders(torch.arange(choice.shape[1], device=env.device))
            extra = choice @ prices - (choice @ prices).detach()  # no cost, but the gradient of the fixed order cost
        state, costs, _ = env.step(state, orders, exogenous)
        loss = loss + (costs.total + extra).mean()
        if (t + 1) % config.segment == 0 or t + 1 == scenario.horizon:
            optimiser.zero_grad()
            (loss / config.segment / env.parameters.reward_unit).backward()
            norm = float(nn.utils.clip_grad_norm_(actor.parameters(), config.max_gradient_norm))
            optimiser.step()
            total, loss = total + float(loss.detach()), torch.zeros_like(loss)
    return total / env.parameters.cost_unit, norm


def faded(state: Any, share: float) -> Any:
    """The same state, through which only a share of the gradient passes: 1 all of it, 0 none."""
    held = type(state)(*(f if f is None else f.detach() for f in state))
    if share == 0:
        return held
    return type(state)(*(f if f is None else h + share * (f - h) for f, h in zip(state, held, strict=True)))


def straight_through(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """One-hot choice of the likeliest option, ``(batch, options)``, with the gradient of the softmax.

    Source: Bengio, Léonard & Courville (2013), Estimating or propagating gradients through stochastic neurons.
    """
    soft = (logits / temperature).softmax(1)
    hard = nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(soft.dtype)
    return hard + (soft - soft.detach())


def option_costs(env: Env) -> torch.Tensor:
    """What it costs to place each order of a discrete environment, ``(options,)``: it is asked."""
    options = torch.arange(int(env.action_space.n), device=env.device)  # type: ignore[attr-defined]
    any_period = env.sample(1, 0).repeat(len(options)).at(0)
    return env.step(env.reset(len(options)), env.orders(options), any_period).costs.ordering


def imitate(actor: Actor, env: Env, config: PathwiseConfig, seed: int, recorder: Recorder) -> None:
    """Learn to do what the best tuned heuristic does, where it goes and where the network itself goes.

    Rounds are played by the two in turn; the heuristic says what it would do in both (DAgger).

    Source: Ross, Gordon & Bagnell (2011), A reduction of imitation learning to no-regret online learning.
    """
    teacher = heuristics.load(env)
    optimiser = torch.optim.Adam(actor.parameters(), lr=config.imitation_rate)
    generator = torch.Generator(env.device).manual_seed(seed)
    vectors, targets = [], []
    for number in range(config.imitation):
        started = time.perf_counter()
        scenario = env.sample(config.environments, seed, first=number * config.environments)
        vector, target = demonstrate(env, actor if number % 2 else teacher, teacher, scenario)
        vectors.append(vector)
        targets.append(target)
        seen, wanted = torch.cat(vectors[-8:]), torch.cat(targets[-8:])
        for group in optimiser.param_groups:
            group["lr"] = config.imitation_rate * (1 - number / config.imitation)
        losses = []
        for batch in torch.randperm(len(seen), generator=generator, device=env.device).split(config.minibatch):
            optimiser.zero_grad()
            loss = actor.imitation_loss(seen[batch], wanted[batch])
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        samples = scenario.episodes * scenario.horizon
        recorder.steps += samples
        recorder.log({"imitation_loss": float(torch.stack(losses).mean())}, samples, time.perf_counter() - started)


@torch.inference_mode()
def demonstrate(env: Env, player: Policy, teacher: Policy, scenario: Scenario) -> tuple[torch.Tensor, torch.Tensor]:
    """Play a scenario; return what was seen, and what the teacher would have done: samples in rows."""
    state, vectors, targets = env.reset(scenario.episodes), [], []
    for t, exogenous in enumerate(scenario.periods()):
        observation = env.observe(state, t)
        action = teacher(observation)
        vectors.append(observation.vector())
        targets.append(action if env.chain == "meis" else (env.orders(action) / most(env)).clamp(max=1))
        state, _, _ = env.step(state, env.orders(player(observation)), exogenous)
    return torch.cat(vectors).clone(), torch.cat(targets).clone()
