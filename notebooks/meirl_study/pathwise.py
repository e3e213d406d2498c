"""A policy trained by gradients through the simulator: one loop, read from top to bottom.

All randomness is drawn beforehand, and a step is differentiable. So the cost of an episode is a differentiable function
of the network's weights, and its gradient needs no critic, no exploration and no score function: it is what
``backward`` gives, equation :eq:`eq-pathwise` of the book. This is hindsight differentiable policy optimisation.

A gradient only sees what a slightly larger order would change. Where that is nothing, as for a retailer at its
backorder cap, it is blind to what lies beyond. Therefore training starts from a good place: the network first imitates
the best tuned heuristic, and then follows the gradient. So, as it is preset, this is no learner from scratch like PPO
and A3C: it improves a tuned rule, and where the gradient misleads, what is kept is the imitation of that rule.
``imitation: 0`` starts from nothing.

Discrete actions have no gradient. The *relaxation* is a straight-through one: the simulator plays the likeliest
option, as the trained policy will; backward, the order and its fixed cost are the averages over all options, weighted
by the network's probabilities. So the simulated cost is exact, and its gradient approximate.

Source: Alvo, Russo & Kanoria (2023), Neural inventory control in networks via hindsight differentiable policy
optimization.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from meirl import heuristics
from meirl.config import Model, NonNegative, Positive, Probability
from meirl.envs import Env, Observation, Scenario
from meirl.learn.networks import mlp, seeded
from meirl.learn.run import Run
from meirl.rollout import Policy, play

REMEMBERED = 8  # rounds: imitation learns from the last so many, which bounds its time and memory


class Config(Model):
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
    """A network as a deterministic policy: ``Observation -> action``.

    Its last layer has one output a node, or, where actions are discrete, one logit an option.
    """

    def __init__(self, env: Env, config: Config) -> None:
        super().__init__()
        self.config, self.discrete = config, env.options is not None
        self.layers = mlp((len(env.legend()), *config.hidden, env.options or env.nodes), "tanh")

    def forward(self, observation: Observation) -> torch.Tensor:
        """The likeliest option, ``(batch,)``; or what orders a share of the largest order, ``(batch, N)``."""
        out = self.layers(observation.vector())
        return out.argmax(1) if self.discrete else observation.env.action(observation.env.largest_order * out.sigmoid())

    def imitation_loss(self, vector: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with what the heuristic did, a scalar: the mean over the samples.

        Args:
            vector: observations, ``(samples, len(env.legend()))``.
            target: an option, ``(samples,)``; or shares of the most that may be ordered, ``(samples, N)``.
        """
        out = self.layers(vector)
        if self.discrete:
            return nn.functional.cross_entropy(out, target)
        return nn.functional.binary_cross_entropy_with_logits(out, target)


Network = Actor


def train(
    env: Env, config: Config, seed: int, out: Path | None = None,
    *, resume: bool = False, progress: bool = True,
) -> Run:  # fmt: skip
    """Improve a policy along the gradient of its simulated cost; arguments and result as in `meirl.learn.ppo.train`."""
    torch.set_num_threads(1)  # the tensors are small: more threads cost more than they give
    actor = seeded(Network, env, config, seed)
    run = Run(env, "pathwise", config, seed, actor, out, resume=resume, progress=progress)
    optimiser = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
    if saved := run.restore():
        optimiser.load_state_dict(saved)
    elif config.imitation:
        imitate(actor, env, config, seed, run)
        run.validate(run.steps, float("nan"), optimiser.state_dict())

    rounds, size = config.rounds(env), config.environments * env.horizon
    every = max(1, (rounds - config.imitation) // config.evaluations)
    for number in range(max(run.steps // size, config.imitation), rounds):
        started = time.perf_counter()
        done = (number - config.imitation) / (rounds - config.imitation)
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1 - done)
        scenario = env.sample(config.environments, seed, first=number * config.environments)
        cost, norm = update(actor, env, scenario, optimiser, config)
        run.log({"gradient_norm": norm}, size, time.perf_counter() - started)
        if (rounds - 1 - number) % every == 0:
            run.validate((number + 1) * size, cost, optimiser.state_dict())
    return run.finish()


def update(
    actor: Actor, env: Env, scenario: Scenario, optimiser: torch.optim.Optimizer, config: Config
) -> tuple[float, float]:
    """Play one round of episodes, with a gradient step after every segment: equation :eq:`eq-pathwise` of the book.

    Args:
        actor: the policy; changed in place.
        env: the environment.
        scenario: the episodes, ``(batch, T, ...)``.
        optimiser: of the actor's parameters.
        config: segment, memory, temperature and the largest norm.

    Returns:
        Mean cost of an episode, in units of ``cost_unit``, as it was played; and the norm of the last segment's
        gradient before it is cut, of the mean reward of a period.
    """
    state, total, norm = env.reset(scenario.episodes), 0.0, 0.0
    loss = torch.zeros((), device=env.device)
    prices, extra = option_costs(env) if actor.discrete else None, torch.zeros_like(loss)
    for t, exogenous in enumerate(scenario.periods()):
        state = scale_gradient(state, 0.0 if t % config.segment == 0 else config.memory)
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


def scale_gradient(state: Any, share: float) -> Any:
    """The same state, through which only a share of the gradient passes.

    Args:
        state: a state of an environment; fields that are None stay None.
        share: 1 lets all of it through, 0 nothing.
    """
    held = type(state)(*(f if f is None else f.detach() for f in state))
    if share == 0:
        return held
    return type(state)(*(f if f is None else h + share * (f - h) for f, h in zip(state, held, strict=True)))


def straight_through(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """One-hot choice of the likeliest option, with the gradient of the softmax: ``hard + soft - detach(soft)``.

    Args:
        logits: ``(batch, options)``.
        temperature: the softmax is of ``logits / temperature``; the higher, the more even.

    Returns:
        ``(batch, options)``.

    Source: Bengio, Léonard & Courville (2013), Estimating or propagating gradients through stochastic neurons.
    """
    soft = (logits / temperature).softmax(1)
    hard = nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(soft.dtype)
    return hard + (soft - soft.detach())


def option_costs(env: Env) -> torch.Tensor:
    """What it costs to place each order of a discrete environment: one step of it is played for each.

    Returns:
        ``(options,)``, not yet in units of ``cost_unit``; 0 for ordering nothing.
    """
    options = torch.arange(env.options or 0, device=env.device)
    any_period = env.sample(1, 0).repeat(len(options)).at(0)
    return env.step(env.reset(len(options)), env.orders(options), any_period).costs.ordering


def imitate(actor: Actor, env: Env, config: Config, seed: int, run: Run) -> None:
    """Learn to do what the best tuned heuristic does, where it goes and where the network itself goes.

    Rounds are played by the two in turn; the heuristic says what it would do in both (DAgger). After each, one pass
    over the samples of the last rounds.

    Args:
        actor: the network; changed in place.
        env: the environment.
        config: rounds, learning rate, minibatch.
        seed: of scenarios and of the order of samples.
        run: is told the loss of every round, and the steps.

    Source: Ross, Gordon & Bagnell (2011), A reduction of imitation learning to no-regret online learning.
    """
    teacher = heuristics.load(env)
    optimiser = torch.optim.Adam(actor.parameters(), lr=config.imitation_rate)
    generator = torch.Generator(env.device).manual_seed(seed)
    vectors, targets = [], []
    for number in range(config.imitation):
        started = time.perf_counter()
        scenario = env.sample(config.environments, seed, first=number * config.environments)
        vector, target = play_and_ask(env, actor if number % 2 else teacher, teacher, scenario)
        vectors.append(vector)
        targets.append(target)
        seen, wanted = torch.cat(vectors[-REMEMBERED:]), torch.cat(targets[-REMEMBERED:])
        optimiser.param_groups[0]["lr"] = config.imitation_rate * (1 - number / config.imitation)
        losses = []
        for batch in torch.randperm(len(seen), generator=generator, device=env.device).split(config.minibatch):
            optimiser.zero_grad()
            loss = actor.imitation_loss(seen[batch], wanted[batch])
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        samples = scenario.episodes * scenario.horizon
        run.steps += samples
        run.log({"imitation_loss": float(torch.stack(losses).mean())}, samples, time.perf_counter() - started)


@torch.inference_mode()
def play_and_ask(env: Env, player: Policy, teacher: Policy, scenario: Scenario) -> tuple[torch.Tensor, torch.Tensor]:
    """Play a scenario, and in every period ask the teacher what it would do.

    Args:
        env: the environment.
        player: decides what is ordered.
        teacher: is only asked.
        scenario: the episodes, ``(batch, T, ...)``.

    Returns:
        Observations, ``(T * batch, len(env.legend()))``; and the teacher's actions: options ``(T * batch,)``, or shares
        of the most that may be ordered, ``(T * batch, N)``.
    """
    vectors, targets = [], []
    for observation, _ in play(env, player, scenario):
        action = teacher(observation)
        vectors.append(observation.vector())
        targets.append(action if env.options is not None else (env.orders(action) / env.largest_order).clamp(max=1))
    return torch.cat(vectors).clone(), torch.cat(targets).clone()
