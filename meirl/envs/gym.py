"""Gymnasium's view: ``gym.make("meirl/divergent-stationary-v0")`` and ``gym.make_vec``, over the same batched step.

Both classes take what `meirl.make` takes. The vector environment is one batched step; the single one a batch of one.
Nothing is drawn: a ``render_mode``, which Stable-Baselines3 gives unasked, changes nothing.

Seeding: ``reset(seed=s)`` starts the stream of seed ``s``, and every reset plays its next episode, or, with ``n``
environments, its next ``n``. So the k-th episode of a single environment meets the same demand as row k of
``env.sample(n, s)``. Without a seed, one of training is drawn from the operating system's entropy.
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from . import CONTROLS, NAMES, Scenario, make
from .scenario import BLOCK, FIRST_RESERVED_SEED

Info = dict[str, Any]  # Gymnasium's


class InventoryVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many chains in one batched step.

    All episodes end together. By default they are reset in the same step: it returns the first observations of the next
    episodes, and the last ones are in ``info["final_obs"]``. With ``autoreset_mode="NextStep"``, which Gymnasium's
    observation wrappers need, the step after the last one ignores its actions, pays nothing and returns the first
    observations. The costs and flows in ``info`` are those of the period just played (also as ``final_info``).
    """

    def __init__(
        self, name: str | Path, num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None, **options: Any,
    ) -> None:  # fmt: skip
        mode = AutoresetMode(autoreset_mode)
        if mode is AutoresetMode.DISABLED:
            raise ValueError("autoreset_mode must be SameStep or NextStep, got Disabled")
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self._same_step = mode is AutoresetMode.SAME_STEP
        self.chain, self.num_envs = make(name, **options), num_envs
        self.single_observation_space = self.chain.observation_space
        self.single_action_space = self.chain.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ahead: list[Scenario] | None = None
        self._seed = self._drawn = self._now = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Begin the next episodes of the stream, or the first ones of a new seed."""
        super().reset(seed=seed)
        if seed is not None or self._ahead is None:
            self._seed = int(self.np_random.integers(FIRST_RESERVED_SEED)) if seed is None else seed
            self._ahead, self._drawn = [], 0
        if not self._ahead:  # `Env.sample` draws whole blocks, so several are drawn ahead
            some = self.num_envs * -(-BLOCK // self.num_envs)
            drawn = self.chain.sample(some, self._seed, first=self._drawn)
            self._ahead = [drawn[i : i + self.num_envs] for i in range(0, some, self.num_envs)]  # type: ignore[misc]
            self._drawn += some
        self._periods, self._now = list(self._ahead.pop(0).periods()), 0
        with torch.inference_mode():
            self._state = self.chain.reset(self.num_envs)
        return self._seen(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Play one period of every episode."""
        never = np.zeros(self.num_envs, bool)
        if not self._same_step and self.is_over:
            return self.reset()[0], np.zeros(self.num_envs), never, never.copy(), {}
        seen, reward, played = self.play(actions)
        info, over = self._masked(played), np.full(self.num_envs, self.is_over)
        # Learners bootstrap what is truncated: right, unless the end is in sight.
        terminated, truncated = (over, never) if self.chain.sees_end else (never, over)
        if self.is_over and self._same_step:
            info |= self._masked({"final_obs": seen, "final_info": self._masked(played)})
            seen = self.reset()[0]
        return seen, reward, terminated, truncated, info

    @property
    def is_over(self) -> bool:
        """Whether the episodes have been played to the end."""
        return self._now == self.chain.horizon

    @torch.inference_mode()
    def play(self, actions: Any) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Play one period and reset nothing: observations, rewards, costs and flows.

        `ResetNeeded` if the episodes are over or have not begun, ValueError if the actions are not what is expected.
        """
        env = self.chain
        if self._ahead is None or self.is_over:
            raise ResetNeeded(f"{env.name}: the episode is over or has not begun: call reset() first")
        chosen = np.array(actions)  # a copy: PyTorch takes no array that runs backwards
        if chosen.shape != (expected := (self.num_envs, *env.action_space.shape)):  # type: ignore[misc]
            raise ValueError(f"{env.name}: actions must have shape {expected}, got {chosen.shape}")
        if chosen.dtype.kind not in "fiub":
            raise ValueError(f"{env.name}: actions must be numbers, got {actions!r}")
        action = torch.as_tensor(chosen, dtype=env.dtype if chosen.dtype.kind == "f" else None, device=env.device)
        self._state, costs, flows = env.step(self._state, env.orders(action), self._periods[self._now])
        self._now += 1
        parts = {"cost": costs.total, **costs._asdict(), **flows._asdict()}
        info = {key: value.cpu().numpy().copy() for key, value in parts.items()}  # the state shares memory with some
        return self._seen(), -info["cost"].astype(np.float64) / env.parameters.reward_unit, info

    @torch.inference_mode()
    def _seen(self) -> np.ndarray:
        """The observation vectors, ``(num_envs, numbers)``."""
        return self.chain.observe(self._state, self._now).vector().cpu().numpy().astype(np.float32)

    def _masked(self, info: Info) -> Info:
        """Gymnasium's vector infos say for every key which environments have it: here always all."""
        return {**info, **{f"_{key}": np.ones(self.num_envs, bool) for key in info}}


class InventoryEnv(gymnasium.Env[np.ndarray, Any]):
    """One chain as a Gymnasium environment.

    Observation: the environment's observation set, float32; ``unwrapped.chain.legend()`` names each number. Action:
    `Box` (divergent chain) or `Discrete` (MEIS). Reward: ``-cost / reward_unit``. At the horizon an episode is
    ``terminated`` if the observation shows the time left (`Env.sees_end`), else ``truncated``. ``info`` has the
    period's cost and every field of `Costs` and `Flows`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it so

    def __init__(self, name: str | Path, render_mode: str | None = None, **options: Any) -> None:
        self._one = InventoryVectorEnv(name, 1, **options)
        self.chain = self._one.chain
        self.observation_space, self.action_space = self.chain.observation_space, self.chain.action_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Begin the next episode of the stream, or the first one of a new seed."""
        super().reset(seed=seed)
        return self._one.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Play one period."""
        seen, reward, info = self._one.play(np.asarray(action)[None])
        over, sees_end = self._one.is_over, self.chain.sees_end
        info = {key: value[0] for key, value in info.items()}
        return seen[0], float(reward[0]), over and sees_end, over and not sees_end, info


def register() -> None:
    """Register ``meirl/<name>-v0`` for every environment; done when ``meirl`` is imported."""
    single, many = (f"{__name__}:{kind.__name__}" for kind in (InventoryEnv, InventoryVectorEnv))
    for name in (*NAMES, *CONTROLS):
        gymnasium.register(f"meirl/{name}-v0", single, vector_entry_point=many, kwargs={"name": name})
