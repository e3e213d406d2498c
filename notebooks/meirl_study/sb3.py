"""Stable-Baselines3's view: train its agents on the native batched environment. Needs the extra ``meirl[bench]``."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from meirl.envs.gym import InventoryVectorEnv


class InventoryVecEnv(VecEnv):
    """Stable-Baselines3 `VecEnv` over `InventoryVectorEnv`; takes the same arguments.

    ``info`` of each environment has the period's ``cost``; at the horizon also ``terminal_observation`` and
    ``TimeLimit.truncated``, so that Stable-Baselines3 bootstraps the value. Only the first seed of `seed` is used: it
    names the stream from which all episodes come.
    """

    def __init__(self, name: str, num_envs: int = 1, **options: Any) -> None:
        self.env = InventoryVectorEnv(name, num_envs, **options)
        self._actions: np.ndarray | None = None
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)

    def reset(self) -> np.ndarray:
        """Begin new episodes, those of a new stream after `seed`."""
        seen, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Play one period of every episode."""
        assert self._actions is not None
        seen, reward, _, truncated, played = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{"cost": cost} for cost in played["cost"].tolist()]
        for i in np.flatnonzero(truncated):
            infos[i] |= {"terminal_observation": played["final_obs"][i], "TimeLimit.truncated": True}
        return seen, reward.astype(np.float32), truncated, infos

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Attribute of the batched environment, once for each index."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the batched environment, so for all."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the batched environment once; its result for each index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False for _ in self._get_indices(indices)]
