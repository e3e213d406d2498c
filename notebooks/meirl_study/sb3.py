"""Stable-Baselines3's view: train its agents on the native batched environment. Needs the extra ``meirl[bench]``.

`cost` is the outside reference of the chapter on PPO: its PPO on our environment, for as many steps, scored as ours is.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from meirl.envs import Env, Observation, make
from meirl.envs.gym import InventoryVectorEnv
from meirl.evaluation import held_out
from meirl.learn import ppo, preset
from meirl.learn.networks import ACTIVATIONS
from meirl.rollout import rollout

SETTINGS = {"defaults": "its defaults", "ours": "our settings"}
"""Hyperparameters of Stable-Baselines3's PPO in `cost`, and what a chapter calls them."""
ENVIRONMENTS, STEPS = 16, 128  # 2,048 steps between two updates, as many as by default with a single environment


class InventoryVecEnv(VecEnv):
    """Stable-Baselines3 `VecEnv` over `InventoryVectorEnv`; takes the same arguments.

    ``info`` of each environment has the period's ``cost``; at the horizon also ``terminal_observation`` and
    ``TimeLimit.truncated``: true if the time left is not in sight, so that Stable-Baselines3 bootstraps the value. Only
    the first seed of `seed` is used: it names the stream from which all episodes come.
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
        seen, reward, terminated, truncated, played = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{"cost": cost} for cost in played["cost"].tolist()]
        done = terminated | truncated
        for i in np.flatnonzero(done):
            infos[i] |= {"terminal_observation": played["final_obs"][i], "TimeLimit.truncated": bool(truncated[i])}
        return seen, reward.astype(np.float32), done, infos

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


def cost(name: str, settings: str, seed: int, episodes: int, **changes: Any) -> pd.DataFrame:
    """Train Stable-Baselines3's PPO for as many steps as our tuned preset, and play the test scenarios.

    Like our own runs, it is scored on the validation scenarios as often as the preset says, and its best policy by that
    is the one that is tested. It plays its deterministic action.

    Args:
        name: the environment.
        settings: one of `SETTINGS`.
        seed: of training.
        episodes: test episodes.
        **changes: of the preset.

    Returns:
        The table of `meirl.rollout`, one row a test ``episode``, with ``learner``, ``seed``, and of the training
        ``steps`` and ``seconds``, validation aside.

    Raises:
        ValueError: if the settings are unknown.
    """
    if settings not in SETTINGS:
        raise ValueError(f"settings must be one of {', '.join(SETTINGS)}, got {settings!r}")
    torch.set_num_threads(1)  # as ours
    config, env = preset("ppo", "tuned", name, **changes), make(name)
    if settings == "ours":
        venv: VecEnv = InventoryVecEnv(name, config.environments)
        if config.network.normalise_returns:
            venv = VecNormalize(venv, norm_obs=False, gamma=config.discount)
        agent = PPO("MlpPolicy", venv, seed=seed, device="cpu", **arguments(config))
    else:
        agent = PPO("MlpPolicy", InventoryVecEnv(name, ENVIRONMENTS), n_steps=STEPS, seed=seed, device="cpu")
    watch = Watch(env, config)
    agent.learn(config.steps, callback=watch)
    agent.policy.load_state_dict(watch.best)
    table = rollout(env, watch.policy, held_out(env, "test", episodes)).rename_axis("episode").reset_index()
    learner = f"Stable-Baselines3, {SETTINGS[settings]}"
    return table.assign(learner=learner, seed=seed, steps=agent.num_timesteps, seconds=watch.seconds)


def arguments(config: ppo.Config) -> dict[str, Any]:
    """Our hyperparameters as arguments of Stable-Baselines3's PPO.

    It has none for copies of a scenario and for noise that is lowered by schedule: it learns the noise. Its KL limit is
    exceeded at one and a half times the number.
    """
    rate = config.learning_rate
    network = {
        "net_arch": list(config.network.hidden), "activation_fn": ACTIVATIONS[config.network.activation],
        "log_std_init": config.network.log_std,
    }  # fmt: skip
    return {
        "n_steps": config.segment, "batch_size": config.minibatch, "n_epochs": config.epochs, "gamma": config.discount,
        "gae_lambda": config.gae_lambda, "clip_range": config.clip, "target_kl": config.max_kl / 1.5,
        "learning_rate": (lambda remaining: remaining * rate) if config.anneal else rate, "ent_coef": config.entropy,
        "vf_coef": config.value_weight, "max_grad_norm": config.max_gradient_norm, "policy_kwargs": network,
    }  # fmt: skip


class Watch(BaseCallback):
    """Scores an agent of Stable-Baselines3 on validation scenarios while it learns, as `meirl.learn.run.Run` does ours.

    ``best`` is the state of its policy at the lowest validation cost; ``history`` has one row a validation; ``seconds``
    is the time of training alone.
    """

    def __init__(self, env: Env, config: ppo.Config) -> None:
        super().__init__()
        self.env, self.every = env, config.steps / config.evaluations
        self.validation = held_out(env, "validation", config.validation_episodes)
        self.best: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.seconds, self._since = 0.0, time.perf_counter()

    def policy(self, observation: Observation) -> torch.Tensor:
        """The agent as a policy of ours: its deterministic action."""
        action, _ = self.model.predict(observation.vector().cpu().numpy(), deterministic=True)  # type: ignore[arg-type]
        return torch.from_numpy(action).to(self.env.device)

    def _on_training_start(self) -> None:
        self._since = time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:  # after an update
        if self.num_timesteps >= (len(self.history) + 1) * self.every:
            self._score()

    def _on_training_end(self) -> None:
        self._score()

    def _score(self) -> None:
        self.seconds += time.perf_counter() - self._since
        cost = float(rollout(self.env, self.policy, self.validation)["cost"].mean())
        if cost < min((row["validation_cost"] for row in self.history), default=np.inf):
            self.best = {key: value.detach().clone() for key, value in self.model.policy.state_dict().items()}
        self.history.append({"steps": self.num_timesteps, "seconds": self.seconds, "validation_cost": cost})
        self._since = time.perf_counter()
