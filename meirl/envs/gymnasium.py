"""Gymnasium's view: ``gym.make("meirl/divergent-stationary-v0")`` and ``gym.make_vec``, over the same batched step.

Both classes take what `meirl.make` takes (``observation="published"``, changed parameters, ...). The vector environment
is native: one batched step, not many single environments.

Seeding: ``reset(seed=s)`` starts the stream of seed ``s``, and every reset plays its next episode, or, with ``n``
environments, its next ``n``. So the k-th episode of a single environment meets the same demand as row k of
``env.sample(n, s)``. Without a seed, one is drawn from the operating system's entropy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from . import NAMES, Env, Exogenous, make
from .scenario import BLOCK, Scenario


class _Batch:
    """A number of episodes that start and end together: what both adapters share."""

    def __init__(self, name: str | Path, episodes: int, options: dict[str, Any]) -> None:
        if episodes < 1:
            raise ValueError(f"num_envs must be at least 1, got {episodes}")
        self.env: Env = make(name, **options)
        self.episodes = episodes
        self.ahead: Iterator[Scenario] | None = None
        self.periods: Iterator[Exogenous]
        self.now = 0

    @property
    def is_over(self) -> bool:
        """Whether the episodes have been played to the end."""
        return self.now == self.env.horizon

    def stream(self, seed: int) -> Iterator[Scenario]:
        """Endless scenarios of a seed, one a reset. `Env.sample` draws whole blocks, so several are drawn ahead."""
        first, some = 0, self.episodes * -(-BLOCK // self.episodes)
        while True:
            drawn = self.env.sample(some, seed, first=first)
            for i in range(0, some, self.episodes):
                yield drawn[i : i + self.episodes]  # type: ignore[misc]
            first += some

    def reset(self, seed: int | None, generator: np.random.Generator) -> np.ndarray:
        """Begin the next episodes, those of a new seed if one is given."""
        if seed is not None or self.ahead is None:
            self.ahead = self.stream(int(generator.integers(2**63)) if seed is None else seed)
        self.periods, self.now = next(self.ahead).periods(), 0
        with torch.inference_mode():
            self.state = self.env.reset(self.episodes)
        return self.see()

    @torch.inference_mode()
    def see(self) -> np.ndarray:
        """The observation vectors, ``(episodes, numbers)``."""
        return self.env.observe(self.state, self.now).vector().cpu().numpy().astype(np.float32)

    @torch.inference_mode()
    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, bool, dict[str, np.ndarray]]:
        """Play one period: observations, rewards, whether this was the last one, costs and flows."""
        if self.ahead is None or self.is_over:
            raise ResetNeeded(f"{self.env.name}: the episode is over or has not begun: call reset() first")
        chosen = np.asarray(actions)
        expected = (self.episodes, *self.env.action_space.shape)  # type: ignore[misc]
        if chosen.shape != expected:
            raise ValueError(f"{self.env.name}: actions must have shape {expected}, got {chosen.shape}")
        action = torch.as_tensor(chosen, device=self.env.device)
        if action.is_floating_point():
            action = action.to(self.env.dtype)
        self.state, costs, flows = self.env.step(self.state, self.env.orders(action), next(self.periods))
        self.now += 1
        parts = {"cost": costs.total, **costs._asdict(), **flows._asdict()}
        info = {key: value.cpu().numpy().copy() for key, value in parts.items()}  # the state shares memory with some
        reward = -info["cost"].astype(np.float64) / self.env.parameters.reward_unit
        return self.see(), reward, self.is_over, info


class InventoryEnv(gymnasium.Env[np.ndarray, Any]):
    """One chain as a Gymnasium environment.

    Observation: the environment's observation set, float32; ``unwrapped.chain.legend()`` names each number. Action:
    `Box` (divergent chain) or `Discrete` (MEIS). Reward: ``-cost / reward_unit``. An episode never terminates; it is
    ``truncated`` at the horizon. ``info`` has the period's cost and every field of `Costs` and `Flows`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it so

    def __init__(self, name: str | Path, **options: Any) -> None:
        self._batch = _Batch(name, 1, options)
        self.chain = self._batch.env
        self.observation_space, self.action_space = self.chain.observation_space, self.chain.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next episode of the stream, or the first one of a new seed."""
        super().reset(seed=seed)
        return self._batch.reset(seed, self.np_random)[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one period."""
        seen, reward, last, info = self._batch.step(np.asarray(action)[None])
        return seen[0], float(reward[0]), False, last, {key: value[0] for key, value in info.items()}


class InventoryVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many chains in one batched step.

    All episodes have the same length, so all end together. By default they are reset in the same step: the step that
    ends them returns the first observations of the next ones, and the last observations are in ``info["final_obs"]``.
    With ``autoreset_mode="NextStep"``, which Gymnasium's observation wrappers need, the step after the last one ignores
    its actions, pays nothing and returns the first observations. ``metadata["autoreset_mode"]`` says which holds. The
    costs and flows in ``info`` describe the period just played (when reset in the same step, also as ``final_info``).
    """

    def __init__(
        self,
        name: str | Path,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **options: Any,
    ) -> None:
        mode = AutoresetMode(autoreset_mode)
        if mode is AutoresetMode.DISABLED:
            raise ValueError("autoreset_mode must be SameStep or NextStep, got Disabled")
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._batch = _Batch(name, num_envs, options)
        self.chain, self.num_envs = self._batch.env, num_envs
        self.single_observation_space = self.chain.observation_space
        self.single_action_space = self.chain.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the next episodes of the stream, or the first ones of a new seed."""
        super().reset(seed=seed)
        return self._batch.reset(seed, self.np_random), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one period of every episode."""
        never = np.zeros(self.num_envs, bool)
        if not self._same_step and self._batch.is_over:
            return self._batch.reset(None, self.np_random), np.zeros(self.num_envs), never, never.copy(), {}
        seen, reward, last, played = self._batch.step(actions)
        info = self._masked(played)
        if last and self._same_step:
            info |= self._masked({"final_obs": seen, "final_info": self._masked(played)})
            seen = self._batch.reset(None, self.np_random)
        return seen, reward, never, np.full(self.num_envs, last), info

    def _masked(self, info: dict[str, Any]) -> dict[str, Any]:
        """Gymnasium's vector infos say for every key which environments have it: here always all."""
        return {**info, **{f"_{key}": np.ones(self.num_envs, bool) for key in info}}


def register() -> None:
    """Register ``meirl/<name>-v0`` for every environment; done when ``meirl`` is imported."""
    for name in NAMES:
        gymnasium.register(
            id=f"meirl/{name}-v0",
            entry_point=f"{__name__}:{InventoryEnv.__name__}",
            vector_entry_point=f"{__name__}:{InventoryVectorEnv.__name__}",
            kwargs={"name": name},
        )
