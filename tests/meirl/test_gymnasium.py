"""Gymnasium's view: its own checkers, equality of single and batched stepping, the contract at the horizon, seeding."""

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, NormalizeObservation, RecordEpisodeStatistics

import meirl
from meirl.envs import Costs, Flows, scenario
from meirl.envs.gym import InventoryEnv
from meirl.envs.scenario import FIRST_RESERVED_SEED


@pytest.fixture
def single(name, observation):
    return gym.make(f"meirl/{name}-v0", observation=observation)


def vector(name, n, **options):
    return gym.make_vec(f"meirl/{name}-v0", num_envs=n, **options)


def test_single_passes_gymnasiums_checker_without_warnings(single):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(single.unwrapped)


def test_vector_construction_and_spaces_raise_no_warnings(name, observation):
    with warnings.catch_warnings():  # make_vec warns if the autoreset mode is not declared
        warnings.simplefilter("error")
        envs = vector(name, 5, observation=observation)
        assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        first, info = envs.reset(seed=1)
        assert first in envs.observation_space
        assert info == {}
        assert gym.vector.utils.batch_space(envs.single_action_space, 5) == envs.action_space
        for _ in range(5):
            seen, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
            assert seen in envs.observation_space
            assert reward.shape == terminated.shape == truncated.shape == (5,)
            assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
        assert envs.single_observation_space.shape == (len(envs.chain.legend()),)
        envs.close()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_vector_works_under_gymnasiums_own_wrappers(name, mode):
    """They read the masks in `info` and the autoreset mode; those that change observations want the next step."""
    horizon = meirl.make(name).horizon
    envs = vector(name, 3, autoreset_mode=mode)
    envs = DictInfoToList(RecordEpisodeStatistics(envs if mode == "SameStep" else NormalizeObservation(envs)))
    envs.reset(seed=0)
    total = np.zeros(3)
    for _ in range(horizon):
        _, reward, terminated, _, infos = envs.step(envs.action_space.sample())
        total += reward
    assert terminated.all()
    assert len(infos) == 3
    for i, info in enumerate(infos):
        assert info["episode"]["l"] == horizon
        assert info["episode"]["r"] == pytest.approx(total[i], rel=1e-5)
        if mode == "SameStep":
            assert info["final_info"]["cost"] == info["cost"]


def test_single_and_vector_are_equal_step_by_step(name, observation):
    """Row i of a batch is the i-th episode of a single environment with the same seed, across the reset too."""
    n, periods = 2, meirl.make(name).horizon + 3
    envs = vector(name, n, observation=observation)
    first, _ = envs.reset(seed=7)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(periods)]
    steps = [envs.step(a) for a in actions]
    one = gym.make(f"meirl/{name}-v0", observation=observation)
    for i in range(n):
        seen, _ = one.reset(seed=7 if i == 0 else None)
        np.testing.assert_allclose(seen, first[i], rtol=1e-6)
        for action, (batch_seen, reward, *over, info) in zip(actions[: periods - 3], steps, strict=False):
            seen, r, terminated, truncated, single_info = one.step(action[i])
            expected = info["final_obs"][i] if terminated or truncated else batch_seen[i]
            np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6)
            assert r == pytest.approx(reward[i], rel=1e-5)
            assert [terminated, truncated] == [flags[i] for flags in over]
            for key in single_info:
                np.testing.assert_allclose(single_info[key], info[key][i], rtol=1e-5, atol=1e-3, err_msg=key)
    # the batch went on with episodes 2 and 3
    seen, _ = one.reset()
    np.testing.assert_allclose(seen, steps[-4][0][0], rtol=1e-6)
    for action, (batch_seen, *_) in zip(actions[-3:], steps[-3:], strict=True):
        np.testing.assert_allclose(one.step(action[0])[0], batch_seen[0], rtol=1e-5, atol=1e-6)


def test_rewards_and_infos_are_those_of_the_rollout(name):
    """The adapter against `meirl.rollout` on the same scenario, with the same constant action."""
    env = meirl.make(name)
    action = torch.zeros(3, env.nodes) if env.chain == "divergent" else torch.tensor([1, 5, 9])
    table = meirl.rollout(env, lambda _: action, env.sample(3, seed=11))
    envs = vector(name, 3)
    envs.reset(seed=11)
    cost, reward, demand, filled = 0, 0, 0, 0
    for _ in range(env.horizon):
        _, r, _, _, info = envs.step(action.numpy())
        cost, reward = cost + info["cost"].astype(float), reward + r
        demand, filled = demand + info["demand"].sum(1), filled + info["filled"].sum(1)
        assert set(Costs._fields) | set(Flows._fields) | {"cost"} <= set(info)
    np.testing.assert_allclose(cost / env.parameters.cost_unit, table["cost"], rtol=1e-5)
    np.testing.assert_allclose(reward, -cost / env.parameters.reward_unit, rtol=1e-5)
    np.testing.assert_allclose(filled / demand, table["fill_rate"], rtol=1e-5)


def test_the_horizon_terminates_an_episode_if_it_is_in_sight_and_else_truncates_it(name, observation):
    """The full observation shows the time left, so nothing is to be bootstrapped; the published one does not."""
    envs, one = vector(name, 2, observation=observation), gym.make(f"meirl/{name}-v0", observation=observation)
    horizon = envs.chain.horizon
    start, _ = envs.reset(seed=3)
    one.reset(seed=3)
    for t in range(horizon):
        action, last = envs.action_space.sample(), t == horizon - 1
        seen, _, terminated, truncated, info = envs.step(action)
        assert (terminated == (last and observation == "full")).all()
        assert (truncated == (last and observation == "published")).all()
        assert ("final_obs" in info) == last
        assert one.step(action[0])[2:4] == (last and observation == "full", last and observation == "published")
    assert info["_final_obs"].all()
    np.testing.assert_array_equal(seen, start)  # the next episodes start from full shelves again
    assert not np.allclose(info["final_obs"], start)


def test_next_step_mode_plays_the_same_and_resets_one_step_later(name):
    same, later = vector(name, 2), vector(name, 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert later.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    same.reset(seed=4), later.reset(seed=4)
    same.action_space.seed(0)
    for _ in range(same.chain.horizon):
        action = same.action_space.sample()
        seen, reward, *over, info = same.step(action)
        seen_later, reward_later, *over_later, info_later = later.step(action)
        np.testing.assert_array_equal(reward, reward_later)
        np.testing.assert_array_equal(over, over_later)
    assert over[0].all(), "terminated"
    assert "final_obs" not in info_later
    np.testing.assert_array_equal(info["final_obs"], seen_later)
    first, reward, terminated, truncated, info = later.step(action)  # the actions are ignored
    np.testing.assert_array_equal(first, seen)
    assert (reward.sum(), terminated.any(), truncated.any(), info) == (0, False, False, {})
    np.testing.assert_array_equal(same.step(action)[0], later.step(action)[0])


def test_environments_in_turn_draw_a_block_once_each(monkeypatch):
    drawn, real = [], scenario._draw_demand
    monkeypatch.setattr(scenario, "_draw_demand", lambda *given: drawn.append(0) or real(*given))
    envs = [InventoryEnv("lost-sales", horizon=60) for _ in range(3)]
    for episode in range(4):
        for seed, env in enumerate(envs):
            env.reset(seed=None if episode else seed)
    assert len(drawn) == len(envs)


def test_seeding_repeats_and_every_reset_is_a_fresh_episode(single):
    env = single.unwrapped
    still = np.zeros(env.action_space.shape, env.action_space.dtype)

    def demands(**reset):
        env.reset(**reset)
        return np.stack([env.step(still)[4]["demand"] for _ in range(40)])

    a, b, a_again, other = demands(seed=5), demands(), demands(seed=5), demands(seed=6)
    np.testing.assert_array_equal(a, a_again)
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, other)
    scenario = env.chain.sample(2, seed=5)
    np.testing.assert_allclose(a, scenario.demand[0, :40])
    np.testing.assert_allclose(b, scenario.demand[1, :40])


@pytest.mark.parametrize("n", [1, 5, 32, 40])
def test_resets_walk_through_the_stream_in_order(n):
    """However many environments there are, the episodes are those of `sample`, none skipped, none twice."""
    envs = vector("divergent-stationary", n, horizon=2)
    resets = -(-100 // n)
    expected = envs.unwrapped.chain.sample(n * resets, seed=9).demand[:, 0].reshape(resets, n, -1)
    for k in range(resets):
        envs.reset(seed=9 if k == 0 else None)
        np.testing.assert_allclose(envs.step(envs.action_space.sample())[4]["demand"], expected[k])


def test_without_a_seed_runs_differ():
    def draw():
        env = gym.make("meirl/meis-stationary-v0")
        env.reset()
        return env.step(0)[4]["demand"]

    assert not np.array_equal(draw(), draw())


def test_a_seed_that_nobody_gave_is_one_of_training(monkeypatch):
    """Those from `FIRST_RESERVED_SEED` on play what judges: the later part of a record."""
    env, seeds = gym.make("meirl/meis-stationary-v0", horizon=2).unwrapped, []
    real = env.chain.sample
    monkeypatch.setattr(env.chain, "sample", lambda count, seed, first: seeds.append(seed) or real(count, seed, first))
    for _ in range(20):
        env._one._ahead = None
        env.reset()
    assert len(set(seeds)) == 20
    assert max(seeds) < FIRST_RESERVED_SEED


def test_infos_and_observations_share_no_memory_with_the_environment(name):
    """Whoever changes what was returned changes nothing else."""
    a, b = vector(name, 2), vector(name, 2)
    a.reset(seed=0), b.reset(seed=0)
    action = np.full(a.action_space.shape, -1.0 if name.startswith("divergent") else 0)  # never order
    for _ in range(50):  # until there is a backlog
        seen, *_, info = a.step(action)
        expected, *_ = b.step(action)
        np.testing.assert_array_equal(seen, expected)
        seen[:] = 1e6
        backlog = info["backlog"].any()
        for value in info.values():
            value[:] = 0
    assert backlog


def test_the_spaces_contain_every_observation(name, observation):
    envs = vector(name, 8, observation=observation)
    envs.reset(seed=2)
    for _ in range(envs.chain.horizon):
        seen, *_ = envs.step(envs.action_space.sample())
        assert seen in envs.observation_space


def test_parameters_can_be_changed_by_keyword():
    env = gym.make("meirl/divergent-nonstationary-v0", horizon=7, retailers=2, demand={"shock": None})
    assert env.action_space.shape == (3,)
    env.reset(seed=0)
    assert [env.step(env.action_space.sample())[2] for _ in range(7)] == [False] * 6 + [True]


def test_a_render_mode_changes_nothing():
    with pytest.warns(UserWarning, match="render_mode='rgb_array' that is not in the possible render_modes"):
        env = gym.make("meirl/meis-stationary-v0", render_mode="rgb_array")
    assert env.render_mode is None
    assert gym.make_vec("meirl/meis-stationary-v0", num_envs=2, render_mode=None).num_envs == 2


def test_a_copy_goes_on_as_the_environment_does(name, observation):
    env = InventoryEnv(name, observation=observation, horizon=6)
    env.reset(seed=3)
    action = env.action_space.sample()
    env.step(action)
    twin = copy.deepcopy(env)
    for _ in range(2):
        while not env._one.is_over:
            (seen, *given), (other, *same) = env.step(action), twin.step(action)
            np.testing.assert_array_equal(seen, other)
            assert given[:3] == same[:3]
        np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])


def test_bad_use_is_refused(name):
    env = gym.make(f"meirl/{name}-v0").unwrapped
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(env.action_space.sample())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape .*, got \(1, 9\)"):
        env.step(np.zeros(9, np.float32))
    with pytest.raises(ValueError, match="actions must be numbers, got"):
        env.step(np.full(env.action_space.shape, "3"))
    envs = vector(name, 3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="actions must have shape"):
        envs.step(envs.action_space.sample()[:2])
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        vector(name, 0)
    with pytest.raises(ValueError, match="autoreset_mode must be SameStep or NextStep, got Disabled"):
        vector(name, 2, autoreset_mode="Disabled")


def test_a_refused_action_leaves_the_episode_where_it_is():
    env = gym.make("meirl/divergent-stationary-v0", horizon=3).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="got nan"):
        env.step(np.full(4, np.nan))
    demand = [env.step(np.zeros(4))[4]["demand"] for _ in range(3)]
    np.testing.assert_array_equal(demand, env.chain.sample(1, 0).demand[0])


def test_actions_may_be_any_view_of_an_array(name):
    one, other = vector(name, 3), vector(name, 3)
    one.reset(seed=0), other.reset(seed=0)
    actions = one.action_space.sample()
    assert np.array_equal(one.step(actions[::-1])[1], other.step(actions[::-1].copy())[1])


def test_steps_after_the_horizon_need_a_reset():
    env = gym.make("meirl/meis-stationary-v0", horizon=2).unwrapped
    env.reset(seed=0)
    assert [env.step(0)[2] for _ in range(2)] == [False, True]
    with pytest.raises(ResetNeeded):
        env.step(0)
