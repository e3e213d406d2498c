"""A tuned rule as a starting point: a network imitates it, then gradients through the simulator, or PPO, improve it.

All randomness is drawn beforehand, and a step is differentiable. So the cost of an episode is a differentiable function
of the network's weights, and its gradient needs no critic, no exploration and no score function: it is what
``backward`` gives, equation :eq:`eq-pathwise` of the book. This is hindsight differentiable policy optimisation.

A gradient only sees what a slightly larger order would change. Where that is nothing, as for a retailer at its
backorder cap, it is blind to what lies beyond. Therefore the network first imitates the best tuned rule, and then
follows the gradient: this improves a rule, and what it reaches costs the rule's search too. ``imitation: 0`` starts
from nothing. Discrete actions have no gradient: there the network imitates, and that is all.

`warm_start` gives PPO the same beginning, so that the two can be compared.

Source: Alvo, Russo & Kanoria (2023), Neural inventory control in networks via hindsight differentiable policy
optimization.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from meirl import files, heuristics
from meirl.config import Model, Positive
from meirl.envs import Env, Observation, Scenario, make
from meirl.learn import ppo, preset
from meirl.learn.networks import ActorCritic, mlp, seeded
from meirl.learn.run import Run, load_adam
from meirl.rollout import Policy, play

from .study import Task, anew_if_older

REMEMBERED = 8  # rounds: imitation learns from the last so many, which bounds its time and memory
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From observations ``(samples, numbers)`` and what the rule did there, actions of that many samples, to a scalar."""


class Config(Model):
    """Hyperparameters of the pathwise learner."""

    steps: int = Field(2_560_000, ge=1, description="environment steps in all, imitation included, validation aside")
    environments: int = Field(64, ge=1, description="episodes played side by side, new ones in every round")
    imitation: int = Field(20, ge=0, description="rounds that imitate the best tuned rule; 0 starts from nothing")
    imitation_rate: Positive = Field(3e-3, description="learning rate of the imitation, lowered linearly to 0")
    minibatch: int = Field(1000, ge=1, description="samples in a gradient step of the imitation")
    learning_rate: Positive = Field(5e-4, description="of Adam along the gradient, lowered linearly to 0")
    max_gradient_norm: Positive = Field(1.0, description="the gradient is scaled down to this norm")
    evaluations: int = Field(10, ge=1, description="how often the policy is scored on validation scenarios")
    validation_episodes: int = Field(100, ge=1, description="episodes of each scoring")
    hidden: tuple[int, ...] = Field((128, 128), description="units of each hidden layer")

    def rounds(self, env: Env) -> int:
        """Rounds of episodes that fit into the budget: all that imitate, and one at least.

        Where actions are discrete there is no gradient to follow, so no round after the imitation.
        """
        if env.options is not None:
            return self.imitation
        return max(self.imitation, 1, self.steps // (self.environments * env.horizon))


class Actor(nn.Module):
    """A network as a deterministic policy: ``Observation -> action``.

    Its last layer has one output a node, or, where actions are discrete, one logit an option.
    """

    def __init__(self, env: Env, config: Config) -> None:
        super().__init__()
        self.env, self.discrete = env, env.options is not None
        self.layers = mlp((len(env.legend()), *config.hidden, env.options or env.nodes), "tanh")

    def forward(self, observation: Observation) -> torch.Tensor:
        """The likeliest option, ``(batch,)``; or what orders a share of the largest order, ``(batch, N)``."""
        out = self.layers(observation.vector())
        return out.argmax(1) if self.discrete else self.env.action(self.env.largest_order * out.sigmoid())

    def imitation_loss(self, vector: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with what the rule did: its option, or its orders as shares of the largest; a `Loss`."""
        out = self.layers(vector)
        if self.discrete:
            return nn.functional.cross_entropy(out, action)
        share = (self.env.orders(action) / self.env.largest_order).clamp(max=1)
        return nn.functional.binary_cross_entropy_with_logits(out, share)


Network = Actor


def train(
    env: Env, config: Config, seed: int, out: Path | None = None,
    *, resume: bool = False, progress: bool = True,
) -> Run:  # fmt: skip
    """Improve a policy along the gradient of its simulated cost; arguments and result as in `meirl.learn.ppo.train`.

    Raises:
        ValueError: also if actions are discrete and nothing is imitated.
    """
    if env.options is not None and not config.imitation:
        raise ValueError(f"{env.name}: actions are discrete, there is no gradient to follow: imitation must be >= 1")
    torch.set_num_threads(1)  # the tensors are small: more threads cost more than they give
    actor = seeded(Network, env, config, seed)
    optimiser = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
    with Run(env, "pathwise", config, seed, actor, out, resume=resume, progress=progress) as run:
        if not run.restore(partial(load_adam, optimiser)) and config.imitation:
            imitate(actor, actor.imitation_loss, env, config, config.imitation, config.environments, run)
            run.validate(run.steps, float("nan"), optimiser.state_dict())
        rounds, size, per = config.rounds(env), config.environments * env.horizon, env.cost_unit
        every = max(1, (rounds - config.imitation) // config.evaluations)
        for number in range(max(run.steps // size, config.imitation), rounds):
            started = time.perf_counter()
            done = (number - config.imitation) / (rounds - config.imitation)
            optimiser.param_groups[0]["lr"] = config.learning_rate * (1 - done)
            scenario = env.sample(config.environments, seed, first=number * config.environments)
            cost, norm = update(actor, env, scenario, optimiser, config.max_gradient_norm)
            run.log({"gradient_norm": norm}, size, time.perf_counter() - started)
            if (rounds - 1 - number) % every == 0:
                run.validate((number + 1) * size, cost * env.parameters.cost_unit / per, optimiser.state_dict())
        return run.finish()


def update(
    actor: Actor,
    env: Env,
    scenario: Scenario,
    optimiser: torch.optim.Optimizer,
    largest_norm: float,
) -> tuple[float, float]:
    """Play whole episodes and take one step along the gradient of their mean cost: equation :eq:`eq-pathwise`.

    Args:
        actor: the policy; changed in place.
        env: the environment.
        scenario: the episodes, ``(batch, T, ...)``.
        optimiser: of the actor's parameters.
        largest_norm: the gradient of a period's mean reward is scaled down to it.

    Returns:
        Mean cost of an episode, in units of ``cost_unit``; and the norm of the gradient before it is cut.
    """
    costs = [step.costs.total.mean() for _, step in play(env, actor, scenario)]
    cost = torch.stack(costs).sum()
    optimiser.zero_grad()
    (cost / scenario.horizon / env.parameters.reward_unit).backward()
    norm = nn.utils.clip_grad_norm_(actor.parameters(), largest_norm)
    optimiser.step()
    return float(cost.detach()) / env.parameters.cost_unit, float(norm)


def imitate(network: nn.Module, loss: Loss, env: Env, config: Config, rounds: int, environments: int, run: Run) -> None:
    """Learn to do what the best tuned rule does, where it goes and where the network itself goes.

    Rounds are played by the two in turn; the rule says what it would do in both (DAgger). After each, one pass over the
    samples of the last rounds.

    Args:
        network: a policy; changed in place.
        loss: of the network.
        env: the environment.
        config: learning rate and minibatch.
        rounds: how many.
        environments: episodes in each.
        run: gives the seed of scenarios and of the order of samples; is told the loss of every round, and the steps.

    Source: Ross, Gordon & Bagnell (2011), A reduction of imitation learning to no-regret online learning.
    """
    teacher = heuristics.load(env)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.imitation_rate)
    generator = torch.Generator(env.device).manual_seed(run.seed)
    vectors, actions = [], []
    for number in range(rounds):
        started = time.perf_counter()
        scenario = env.sample(environments, run.seed, first=number * environments)
        vector, action = play_and_ask(env, network if number % 2 else teacher, teacher, scenario)
        vectors.append(vector)
        actions.append(action)
        seen, wanted = torch.cat(vectors[-REMEMBERED:]), torch.cat(actions[-REMEMBERED:])
        optimiser.param_groups[0]["lr"] = config.imitation_rate * (1 - number / rounds)
        losses = []
        for batch in torch.randperm(len(seen), generator=generator, device=env.device).split(config.minibatch):
            optimiser.zero_grad()
            now = loss(seen[batch], wanted[batch])
            now.backward()
            optimiser.step()
            losses.append(now.detach())
        samples = scenario.episodes * scenario.horizon
        run.steps += samples
        run.log({"imitation_loss": float(torch.stack(losses).mean())}, samples, time.perf_counter() - started)


@torch.no_grad()
def play_and_ask(env: Env, player: Policy, teacher: Policy, scenario: Scenario) -> tuple[torch.Tensor, torch.Tensor]:
    """Play a scenario, and in every period ask the teacher what it would do.

    Args:
        env: the environment.
        player: decides what is ordered.
        teacher: is only asked.
        scenario: the episodes, ``(batch, T, ...)``.

    Returns:
        Observations, ``(T * batch, len(env.legend()))``; and the teacher's actions: options ``(T * batch,)``, or
        ``(T * batch, N)``.
    """
    vectors, actions = [], []
    for observation, _ in play(env, player, scenario):
        vectors.append(observation.vector())
        actions.append(teacher(observation))
    return torch.cat(vectors), torch.cat(actions)


def warm_start(task: Task, root: Path) -> None:
    """Leave a run of PPO that has only imitated the best tuned rule: `meirl_study.study.run` goes on from there.

    Its imitation plays as many steps as that of the pathwise preset, and they count as PPO's. If the run is there
    already, nothing happens; one of other settings is treated as `meirl_study.study.run` does.

    Args:
        task: of PPO.
        root: folder of the runs.
    """
    torch.set_num_threads(1)
    folder, env, config = task.folder(root), make(task.env, observation=task.observation), task.config()
    rule = preset("pathwise", "tuned", task.env)
    rounds = max(1, min(rule.imitation * rule.environments // config.environments, config.rounds(env) // 2))
    network = seeded(ppo.Network, env, config, task.seed)
    begin = partial(Run, env, task.algo, config, task.seed, network, folder, resume=True, progress=False)

    def loss(vector: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return actor_critic_loss(network, vector, action)

    # Were a run of older settings left there, the study would set it aside and begin one that has imitated nothing.
    with files.only_writer(folder, wait=True), anew_if_older(task, folder, begin) as run:
        if not (folder / "checkpoint.pt").exists():
            imitate(network, loss, env, rule, rounds, config.environments, run)
            run.validate(run.steps, float("nan"), ppo.new_optimiser(network, config).state_dict())


def actor_critic_loss(network: ActorCritic, vector: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """How far the deterministic policy of an actor-critic is from actions: a `Loss`, once it has a network.

    The mean squared difference of actions in [-1, 1]; or the cross-entropy with options.
    """
    head = network.head(vector)
    return (network.mode(head) - action).square().mean() if network.gaussian else -network.log_prob(head, action).mean()
