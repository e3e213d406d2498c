"""Experience: batched environments play segments of episodes; generalised advantage estimation scores them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from .envs import Env
from .envs.scenario import Model, NonNegative, Positive, Probability
from .evaluation import FIRST_RESERVED_SEED
from .networks import ActorCritic, NetworkConfig

MOST_WORKERS = 1_000  # a worker's scenario seed is MOST_WORKERS * seed + worker


class LearnerConfig(Model):
    """Hyperparameters that PPO and A3C share."""

    steps: int = Field(2_560_000, ge=1, description="environment steps in all; the study: 2.56 M (PPO), 3.65 M (A3C)")
    environments: int = Field(32, ge=1, description="episodes that a learner plays side by side")
    copies: int = Field(
        1, ge=1, description="environments that meet the same scenario; their mean advantage is subtracted as luck"
    )
    segment: int = Field(20, ge=1, description="periods played by every environment between two updates")
    discount: Probability = Field(0.99, description="of rewards per period")
    gae_lambda: Probability = Field(0.95, description="0: one-step advantages, 1: Monte Carlo")
    learning_rate: Positive = Field(3e-4, description="of Adam")
    anneal: bool = Field(True, description="lower learning rate and entropy weight linearly to 0")
    max_gradient_norm: Positive = Field(0.5, description="the gradient is scaled down to this norm")
    value_weight: NonNegative = Field(0.5, description="weight of the critic's squared error in the loss")
    entropy: NonNegative = Field(0.0, description="weight of the entropy bonus at the start")
    normalise_advantages: bool = Field(True, description="to mean 0 and std 1 over the samples of a gradient step")
    evaluations: int = Field(20, ge=1, description="how often the policy is scored on validation scenarios")
    validation_episodes: int = Field(100, ge=1, description="episodes of each scoring")
    network: NetworkConfig = NetworkConfig()  # type: ignore[call-arg]
    defect_terminal_horizon: bool = Field(
        False, description="treat the horizon as a terminal state, although the agent does not see the time left"
    )

    @model_validator(mode="after")
    def _copies_divide_environments(self) -> LearnerConfig:
        if self.environments % self.copies:
            raise ValueError(f"copies must divide environments, got {self.copies} and {self.environments}")
        return self

    def steps_per_round(self, env: Env) -> int:
        """Environment steps in one round of episodes, all environments together."""
        return self.environments * env.horizon

    def rounds(self, env: Env) -> int:
        """Whole rounds that fit into the budget of steps; at least one."""
        return max(1, self.steps // self.steps_per_round(env))

    def is_due(self, env: Env, steps: int) -> bool:
        """Whether to validate at the end of the round that brought the count to ``steps``."""
        every = self.rounds(env) / min(self.evaluations, self.rounds(env))
        done = steps // self.steps_per_round(env)
        return int(done / every) > int((done - 1) / every) or done >= self.rounds(env)


class Segment(NamedTuple):
    """Consecutive periods of a batch of episodes: T periods, B environments."""

    vector: torch.Tensor  # (T + 1, B, observation): the last one follows the last action
    head: torch.Tensor  # (T, B, outputs): the actor's output when it acted
    draw: torch.Tensor  # (T, B) or (T, B, action): what it drew
    reward: torch.Tensor  # (T, B)
    terminal: (
        bool  # whether to treat the end as terminal; the horizon is not, so it is False unless a defect is studied
    )


class Collector:
    """Plays rounds of episodes side by side with the current policy.

    Round ``k`` of worker ``w`` draws its scenarios and its actions from streams that depend only on (seed, w, k), so a
    run that is resumed between rounds continues exactly as if it had never stopped.
    """

    def __init__(
        self, env: Env, config: LearnerConfig, network: ActorCritic, seed: int, *, worker: int = 0, first_round: int = 0
    ) -> None:
        if not 0 <= seed < FIRST_RESERVED_SEED // MOST_WORKERS:
            raise ValueError(f"seed must be from 0 to {FIRST_RESERVED_SEED // MOST_WORKERS - 1}, got {seed}")
        self.env, self.config, self.network = env, config, network
        self.seed, self.worker, self.round = seed, worker, first_round - 1
        self.generator = torch.Generator(env.device)
        self.start()

    def start(self) -> None:
        """Begin the next round of episodes."""
        self.round += 1
        entropy = np.random.SeedSequence((self.seed, self.worker, self.round))
        self.generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        count, copies = self.config.environments, self.config.copies
        different, scenario_seed = count // copies, MOST_WORKERS * self.seed + self.worker
        scenario = self.env.sample(different, scenario_seed, first=self.round * different)
        self._exogenous = scenario.repeat(copies).periods()
        self._state, self.period = self.env.reset(count), 0
        self._cost = torch.zeros(count, dtype=self.env.dtype, device=self.env.device)

    @property
    def cost(self) -> float:
        """Mean cost so far of this round's episodes, in units of ``cost_unit``."""
        return float(self._cost.mean()) / self.env.parameters.cost_unit

    def collect(self, periods: int) -> Segment:
        """Play some periods of this round with the network as it is now."""
        with torch.inference_mode():
            played = self._play(periods)
        # Clones of inference tensors may take part in gradients again.
        vector, head, draw, reward = (tensor.clone() for tensor in played)
        terminal = self.config.defect_terminal_horizon and self.period == self.env.horizon
        return Segment(vector, head, draw, reward, terminal)

    def _play(self, periods: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        env, network = self.env, self.network
        vectors, heads, draws, rewards = [], [], [], []
        observation = env.observe(self._state, self.period)
        for _ in range(periods):
            vector = observation.vector()
            head = network.head(vector)
            draw = network.sample(head, self.generator)
            orders = env.orders(network.squashed(draw))
            self._state, costs, _ = env.step(self._state, orders, next(self._exogenous))
            self.period += 1
            observation = env.observe(self._state, self.period)
            cost = costs.total
            self._cost += cost
            vectors.append(vector)
            heads.append(head)
            draws.append(draw)
            rewards.append(cost)
        vectors.append(observation.vector())
        reward = torch.stack(rewards) / -env.parameters.reward_unit
        return torch.stack(vectors), torch.stack(heads), torch.stack(draws), reward


def gae(
    reward: torch.Tensor, value: torch.Tensor, next_value: torch.Tensor, discount: float, gae_lambda: float
) -> torch.Tensor:
    """Generalised advantage estimation over one segment.

    Args:
        reward: ``(T, B)``.
        value: the critic before each period, ``(T, B)``.
        next_value: the critic after each period, ``(T, B)``; the last row bootstraps the rest of the episode.
        discount: of rewards per period.
        gae_lambda: 0 gives one-step advantages, 1 Monte Carlo ones.

    Returns:
        Advantages ``(T, B)``.

    Source: Schulman et al. (2016), equation 16.
    """
    delta = reward + discount * next_value - value
    advantage = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + discount * gae_lambda * running
        advantage[t] = running
    return advantage


def without_luck(advantage: torch.Tensor, copies: int) -> torch.Tensor:
    """Subtract the mean advantage of the copies of each scenario, period by period.

    Copies meet the same demand, lead times and capacities at the same time, so what their advantages share is luck,
    not the merit of an action. Nature does not react to actions, so this baseline adds no bias (but for the factor
    1 - 1 / copies, which normalising removes). It is common random numbers at work inside the learner.

    Args:
        advantage: ``(T, B)``, the copies laid out as by `Scenario.repeat`.
        copies: environments that share a scenario; 1 changes nothing.

    Returns:
        Advantages ``(T, B)``.

    Source: Mao et al. (2019), Variance reduction for reinforcement learning in input-driven environments.
    """
    if copies == 1:
        return advantage
    groups = advantage.unflatten(1, (copies, -1))
    return (groups - groups.mean(1, keepdim=True)).flatten(1)


def new_network(env: Env, config: NetworkConfig, seed: int) -> ActorCritic:
    """A network on the environment's device, its initial weights drawn from ``seed``, the global stream left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ActorCritic(env, config).to(env.device)


def normalised(advantage: torch.Tensor) -> torch.Tensor:
    """Advantages with mean 0 and std 1; a single one only loses its mean."""
    centred = advantage - advantage.mean()
    return centred / (centred.square().mean().sqrt() + 1e-8)


def explained_variance(predicted: torch.Tensor, observed: torch.Tensor) -> float:
    """Share of the variance of returns that the critic explains: 1 perfect, 0 no better than the mean."""
    variance = observed.var()
    return float(1 - (observed - predicted).var() / variance) if variance > 0 else float("nan")
