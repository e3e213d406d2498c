"""Stable-Baselines3 on the native batched environment: its contract, and its own agent training on it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

import meirl
from meirl.learn import preset
from meirl_study import sb3
from meirl_study.sb3 import InventoryVecEnv

SHORT = {"environments": 4, "copies": 1, "segment": 10, "minibatch": 20, "epochs": 2, "validation_episodes": 2}


@pytest.fixture(autouse=True)
def _leave_global_generators_alone():
    """Stable-Baselines3 seeds NumPy, Python and PyTorch globally; other tests must not depend on that."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(state)  # noqa: NPY002


def test_it_steps_as_the_gymnasium_vector_environment_does(name, observation):
    """Same observations, rewards and ends; the last observation where Stable-Baselines3 looks for it.

    It bootstraps where ``TimeLimit.truncated`` is true: only where the time left is not in sight.
    """
    ours = InventoryVecEnv(name, 3, observation=observation)
    theirs = gym.make_vec(f"meirl/{name}-v0", num_envs=3, observation=observation)
    ours.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset(seed=5)[0])
    theirs.action_space.seed(0)
    for _ in range(theirs.chain.horizon + 1):
        action = theirs.action_space.sample()
        seen, reward, done, infos = ours.step(action)
        expected, expected_reward, terminated, truncated, info = theirs.step(action)
        np.testing.assert_array_equal(seen, expected)
        np.testing.assert_allclose(reward, expected_reward, rtol=1e-6)
        np.testing.assert_array_equal(done, terminated | truncated)
        assert [i["cost"] for i in infos] == info["cost"].tolist()
        assert [i.get("TimeLimit.truncated", False) for i in infos] == truncated.tolist()
        if done.any():
            assert truncated.all() == (observation == "published")
            assert all("TimeLimit.truncated" in i for i in infos)
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


@pytest.mark.filterwarnings("ignore:.*render_modes")
def test_their_own_ways_to_make_an_environment_work():
    venv = make_vec_env("meirl/meis-stationary-v0", 2, seed=0, env_kwargs={"horizon": 5})
    assert venv.reset().shape == (2, *venv.observation_space.shape)
    PPO("MlpPolicy", "meirl/lost-sales-v0", n_steps=4, batch_size=4, device="cpu").learn(8)


def test_their_ppo_gets_our_settings():
    config = preset("ppo", "tuned", "divergent-nonstationary")
    given = sb3.arguments(config)
    agent = PPO("MlpPolicy", InventoryVecEnv("divergent-nonstationary", config.environments), device="cpu", **given)
    assert agent.rollout_buffer.buffer_size == config.segment
    assert (agent.batch_size, agent.n_epochs) == (config.minibatch, config.epochs)
    assert (agent.gamma, agent.gae_lambda) == (config.discount, config.gae_lambda)
    assert [agent.lr_schedule(remaining) for remaining in (1, 0.5, 0)] == pytest.approx(
        [config.learning_rate, config.learning_rate / 2, 0]
    )
    assert agent.clip_range(1.0) == config.clip
    assert 1.5 * agent.target_kl == pytest.approx(config.max_kl)
    assert tuple(layer.out_features for layer in agent.policy.mlp_extractor.policy_net[::2]) == config.network.hidden
    assert agent.policy.log_std.tolist() == [config.network.log_std] * 4


@pytest.mark.parametrize(("settings", "steps"), [("ours", 160), ("defaults", 2_048)])
def test_their_ppo_is_trained_as_long_as_ours_and_tested_at_its_best(settings, steps, monkeypatch):
    watches = []

    class Kept(sb3.Watch):
        def __init__(self, *args):
            super().__init__(*args)
            watches.append(self)

    monkeypatch.setattr(sb3, "Watch", Kept)
    name = "meis-stationary"
    table = sb3.cost(name, settings, 1, 5, steps=160, evaluations=4, **SHORT)
    assert table["episode"].tolist() == list(range(5))
    assert set(table["steps"]) == {steps}
    assert set(table["learner"]) == {f"Stable-Baselines3, {sb3.SETTINGS[settings]}"}
    assert (table["seconds"] > 0).all()
    (watch,) = watches
    if settings == "ours":
        assert [row["steps"] for row in watch.history] == [40, 80, 120, 160]
    # What was tested is the policy with the lowest validation cost.
    env = meirl.make(name)
    watch.model.policy.load_state_dict(watch.best)
    validation = meirl.rollout(env, watch.policy, meirl.held_out(env, "validation", 2))["cost"].mean()
    assert validation == pytest.approx(min(row["validation_cost"] for row in watch.history))
    test = meirl.rollout(env, watch.policy, meirl.held_out(env, "test", 5))["cost"]
    np.testing.assert_allclose(table["cost"], test)


def test_settings_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="settings must be one of defaults, ours, got 'theirs'"):
        sb3.cost("meis-stationary", "theirs", 0, 1)
