"""Experience: batched environments play segments of episodes; generalised advantage estimation scores them."""

from typing import NamedTuple

import numpy as np
import torch

from ..envs import Env
from .config import MOST_WORKERS, LearnerConfig, check_seed
from .networks import ActorCritic


class Segment(NamedTuple):
    """Consecutive periods of a batch of episodes: T periods, B environments."""

    vector: torch.Tensor  # (T + 1, B, observation): the last one follows the last action
    head: torch.Tensor  # (T, B, outputs): the actor's output when it acted
    draw: torch.Tensor  # (T, B) or (T, B, action): what it drew
    reward: torch.Tensor  # (T, B)
    terminal: bool  # whether the episode is over for good, so that nothing follows the last period


class Collector:
    """Plays rounds of episodes side by side with the current policy.

    Round ``k`` of worker ``w`` draws its scenarios and its actions from streams that depend only on (seed, w, k), so a
    run that is resumed between rounds continues exactly as if it had never stopped.
    """

    def __init__(
        self, env: Env, config: LearnerConfig, network: ActorCritic, seed: int, *, worker: int = 0, first_round: int = 0
    ) -> None:
        check_seed(seed)
        self.env, self.config, self.network = env, config, network
        self.seed, self.worker, self.round = seed, worker, first_round - 1
        self.generator = torch.Generator(env.device)
        self.start()

    def start(self) -> None:
        """Begin the next round of episodes."""
        self.round += 1
        entropy = np.random.SeedSequence((self.seed, self.worker, self.round))
        self.generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0]) >> 1)
        count, copies = self.config.environments, self.config.copies
        different, scenario_seed = count // copies, MOST_WORKERS * self.seed + self.worker
        scenario = self.env.sample(different, scenario_seed, first=self.round * different)
        self._exogenous = scenario.repeat(copies).periods()
        self._state, self.period = self.env.reset(count), 0
        self._cost = torch.zeros(count, dtype=self.env.dtype, device=self.env.device)

    @property
    def cost(self) -> float:
        """Mean cost so far of this round's episodes, in units of ``cost_unit``."""
        return float(self._cost.mean()) / self.env.cost_unit

    def collect(self, periods: int) -> Segment:
        """Play some periods of this round with the network as it is now."""
        with torch.inference_mode():
            played = self._play(periods)
        # Clones of inference tensors may take part in gradients again; playing without that mode takes longer.
        vector, head, draw, reward = (tensor.clone() for tensor in played)
        # The horizon is the end for whom it is in sight. Unseen, it would come as a surprise in states like any other:
        # to bootstrap there is right, to learn that nothing follows is one of the published defects.
        ends = self.env.sees_end or self.config.defect_terminal_horizon
        terminal = ends and self.period == self.env.horizon
        return Segment(vector, head, draw, reward, terminal)

    def _play(self, periods: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        env, network = self.env, self.network
        played = []
        for _ in range(periods):
            vector = env.observe(self._state, self.period).vector()
            head = network.head(vector)
            draw = network.sample(head, self.generator)
            orders = env.orders(network.squashed(draw))
            self._state, costs, _ = env.step(self._state, orders, next(self._exogenous))
            cost = costs.total
            if self.period >= env.parameters.warm_up:
                self._cost += cost
            self.period += 1
            played.append((vector, head, draw, cost))
        vectors, heads, draws, paid = zip(*played, strict=True)
        last = env.observe(self._state, self.period).vector()
        reward = torch.stack(paid) / -env.parameters.reward_unit
        return torch.stack([*vectors, last]), torch.stack(heads), torch.stack(draws), reward


def estimate(segment: Segment, value: torch.Tensor, config: LearnerConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages of a segment, without the luck of copies, and returns, the critic's targets, both ``(T, B)``.

    Args:
        segment: T periods of B environments.
        value: the critic before each period and after the last, ``(T + 1, B)``, in reward units.
        config: discount, lambda and copies.
    """
    bootstrap = value[1:].clone()
    if segment.terminal:
        bootstrap[-1] = 0.0
    advantage = gae(segment.reward, value[:-1], bootstrap, config.discount, config.gae_lambda)
    return without_luck(advantage, config.copies), advantage + value[:-1]


def gae(
    reward: torch.Tensor, value: torch.Tensor, next_value: torch.Tensor, discount: float, gae_lambda: float
) -> torch.Tensor:
    """Generalised advantage estimation over one segment, ``(T, B)``; equation :eq:`eq-gae` of the book.

    ``delta[t] = r[t] + discount * V[t + 1] - V[t]``, ``A[t] = delta[t] + discount * gae_lambda * A[t + 1]``.

    Args:
        reward: ``(T, B)``.
        value: the critic before each period, ``(T, B)``.
        next_value: the critic after each period, ``(T, B)``; the last row bootstraps the rest of the episode.
        discount: of rewards per period.
        gae_lambda: 0 gives one-step advantages, 1 Monte Carlo ones.

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
    """Subtract the mean advantage of the copies of each scenario, period by period; equation :eq:`eq-luck` of the book.

    Copies meet the same demand, lead times and capacities at the same time, so what their advantages share is luck,
    not the merit of an action. Nature does not react to actions, so this baseline adds no bias (but for the factor
    1 - 1 / copies, which normalising removes). It is common random numbers at work inside the learner.

    Args:
        advantage: ``(T, B)``, the copies laid out as by `Scenario.repeat`.
        copies: environments that share a scenario; 1 changes nothing.

    Source: Mao et al. (2019), Variance reduction for reinforcement learning in input-driven environments.
    """
    if copies == 1:
        return advantage
    groups = advantage.unflatten(1, (copies, -1))
    return (groups - groups.mean(1, keepdim=True)).flatten(1)


def normalised(advantage: torch.Tensor) -> torch.Tensor:
    """Advantages of any shape with mean 0 and std 1 over all of them; a single one only loses its mean."""
    centred = advantage - advantage.mean()
    return centred / (centred.square().mean().sqrt() + 1e-8)


def explained_variance(predicted: torch.Tensor, observed: torch.Tensor) -> float:
    """Share of the variance of returns that the critic explains: 1 perfect, 0 no better than the mean, NaN undefined.

    ``1 - var(observed - predicted) / var(observed)``, of values and returns of any one shape.
    """
    variance = observed.var() if observed.numel() > 1 else 0.0
    return float(1 - (observed - predicted).var() / variance) if variance > 0 else float("nan")
