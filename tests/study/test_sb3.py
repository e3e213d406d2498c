"""Stable-Baselines3 on the native batched environment: its contract, and its own agent training on it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

import meirl
from meirl_study.sb3 import InventoryVecEnv


@pytest.fixture(autouse=True)
def _leave_global_generators_alone():
    """Stable-Baselines3 seeds NumPy, Python and PyTorch globally; other tests must not depend on that."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(state)  # noqa: NPY002


def test_it_steps_as_the_gymnasium_vector_environment_does(name):
    """Same observations, rewards and ends; the last observation where Stable-Baselines3 looks for it."""
    ours, theirs = InventoryVecEnv(name, 3), gym.make_vec(f"meirl/{name}-v0", num_envs=3)
    ours.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset(seed=5)[0])
    theirs.action_space.seed(0)
    for _ in range(theirs.chain.horizon + 1):
        action = theirs.action_space.sample()
        seen, reward, done, infos = ours.step(action)
        expected, expected_reward, _, truncated, info = theirs.step(action)
        np.testing.assert_array_equal(seen, expected)
        np.testing.assert_allclose(reward, expected_reward, rtol=1e-6)
        np.testing.assert_array_equal(done, truncated)
        assert [i["cost"] for i in infos] == info["cost"].tolist()
        assert [i.get("TimeLimit.truncated", False) for i in infos] == truncated.tolist()
        if truncated.any():
            np.testing.assert_array_equal([i["terminal_observation"] for i in infos], info["final_obs"])
    ours.reset(), theirs.reset()  # a seed counts once, then the stream goes on
    for _ in range(8):
        action = theirs.action_space.sample()
        np.testing.assert_array_equal(ours.step(action)[0], theirs.step(action)[0])


def test_it_is_a_vec_env_that_their_wrappers_accept():
    env = InventoryVecEnv("divergent-stationary", 2, horizon=4)
    assert isinstance(env, VecEnv)
    wrapped = VecNormalize(VecMonitor(env))
    wrapped.seed(1)
    wrapped.reset()
    for _ in range(4):
        _, _, done, infos = wrapped.step(np.zeros((2, 4), np.float32))
    assert done.all()
    assert [info["episode"]["l"] for info in infos] == [4, 4]
    assert env.get_attr("num_envs", [0]) == [2]
    assert env.env_is_wrapped(VecMonitor) == [False, False]
    assert [len(names) for names in env.get_attr("chain")[0].legend()[:1]] == [len("on hand, warehouse")]


@pytest.mark.parametrize("name", ["divergent-stationary", "meis-stationary"])
def test_their_ppo_trains_on_it_box_and_discrete_and_repeats_with_a_seed(name):
    def train():
        env = VecMonitor(InventoryVecEnv(name, 4, horizon=20))
        agent = PPO("MlpPolicy", env, n_steps=30, batch_size=60, n_epochs=2, seed=3, device="cpu")
        agent.learn(240)
        return agent, np.concatenate([p.detach().numpy().ravel() for p in agent.policy.parameters()])

    (agent, weights), (_, again) = train(), train()
    assert agent.num_timesteps == 240
    assert len(agent.ep_info_buffer) > 0
    np.testing.assert_array_equal(weights, again)
    action, _ = agent.predict(np.zeros((1, *agent.observation_space.shape), np.float32), deterministic=True)
    assert agent.action_space.contains(action[0])
    env = meirl.make(name, horizon=20)
    table = meirl.rollout(env, lambda o: torch.from_numpy(agent.predict(o.vector().numpy())[0]), env.sample(2, 0))
    assert np.isfinite(table["cost"]).all()
