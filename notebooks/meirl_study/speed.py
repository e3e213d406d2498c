"""How fast is it here? One function a part, each returns a tidy table; ``python -m meirl bench`` prints them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
import pandas as pd
import torch

from meirl.envs import NAMES, Env, ObservationSet, make
from meirl.learn import find_learner, ppo, preset
from meirl.learn.experience import Collector, Segment
from meirl.learn.networks import ACTIVATIONS, seeded

SPEED_GOALS = {1: 8_000, 1_024: 1_500_000}  # environment steps a second on one core, by batch size
TRAINING_GOAL = 60_000  # environment steps a second


def environment_speed(
    names: Sequence[str] = NAMES, batches: Sequence[int] = tuple(SPEED_GOALS), repeats: int = 25,
    observation: ObservationSet = "full",
) -> pd.DataFrame:  # fmt: skip
    """Time whole episodes of random orders on one core, in float32, sampling and stepping apart.

    The scenario and the orders are drawn beforehand, so ``steps_per_second`` is the environment's step alone. Each
    figure is the best of ``repeats``: other work on the machine can only make a run slower.

    Args:
        names: environments.
        batches: numbers of episodes played side by side.
        repeats: how often each is timed.
        observation: the observation set; MEIS keeps a book of open orders for ``published``.

    Returns:
        One row an environment and batch: ``steps_per_second``, ``target`` (NaN for other batch sizes) and
        ``sampled_per_second`` (environment steps' worth of scenario).
    """
    rows = []
    with one_core():
        for name in names:
            env = make(name, observation=observation)
            for batch in batches:
                steps = batch * env.horizon
                rows.append({
                    "environment": name, "observation": observation, "batch": batch,
                    "steps_per_second": steps / best(_episode(env, batch), repeats),
                    "target": SPEED_GOALS.get(batch, float("nan")),
                    "sampled_per_second": steps / best(partial(env.sample, batch, seed=0), 3),
                })  # fmt: skip
    return pd.DataFrame(rows)


def training_speed(
    names: Sequence[str] = NAMES, workers: Sequence[int] = (1, 2), steps: int = 640_000, **changes: Any
) -> pd.DataFrame:
    """Time training with the tuned presets, validation at its usual rhythm included, the start of processes excluded.

    Args:
        names: environments.
        workers: A3C's numbers of processes.
        steps: environment steps of each run.
        **changes: of the presets.

    Returns:
        One row a run: ``environment``, ``algo``, ``workers`` (1 for PPO), ``steps_per_second`` and ``target``.
    """
    rows = []
    for name in names:
        for algo, count in [("ppo", 1), *(("a3c", count) for count in workers)]:
            processes = {"workers": count} if algo == "a3c" else {}
            config = preset(algo, "tuned", name, **{"steps": steps, "evaluations": 5, **processes, **changes})
            history = pd.DataFrame(find_learner(algo).train(make(name), config, 0, progress=False).history)
            # From the first validation on: before it processes start and libraries load.
            played, seconds = (history[column].iloc[-1] - history[column].iloc[0] for column in ("steps", "seconds"))
            rows.append({
                "environment": name, "algo": algo, "workers": count, "steps_per_second": played / seconds,
                "target": TRAINING_GOAL,
            })  # fmt: skip
    return pd.DataFrame(rows)


def against_sb3(name: str = "divergent-nonstationary", rounds: int = 3, **changes: Any) -> pd.DataFrame:
    """Time our PPO and Stable-Baselines3's in one run: same network, batches, environments and chain, same core.

    Stable-Baselines3 is timed twice: as anyone would use it, on that many single Gymnasium environments
    (``DummyVecEnv``), and on `meirl_study.sb3.InventoryVecEnv`, which steps them as one batch.

    Args:
        name: the environment.
        rounds: rollouts with their updates that are timed, after one to warm up.
        **changes: of the preset.

    Returns:
        A row each with ``steps_per_second`` and how many times as fast ours is, ``ours_times``.

    Raises:
        ValueError: if Stable-Baselines3 is not installed.
    """
    try:
        from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

        from .sb3 import InventoryVecEnv
    except ImportError:
        raise ValueError("Stable-Baselines3 is not installed: pip install 'meirl[bench]'") from None
    config = preset("ppo", "tuned", name, max_kl=1e9, **changes)  # so that all do all their passes
    single: list[Callable[[], Any]] = [partial(gymnasium.make, f"meirl/{name}-v0")] * config.environments
    environments: dict[str, Callable[[], VecEnv]] = {
        "Stable-Baselines3 PPO, Gymnasium environments": lambda: DummyVecEnv(single),
        "Stable-Baselines3 PPO, batched environment": lambda: InventoryVecEnv(name, config.environments),
    }
    with one_core():
        speed = {label: _sb3_speed(create(), config, rounds) for label, create in environments.items()}
        speed["meirl PPO"] = ppo_speed(make(name), config, rounds)
    table = pd.DataFrame(speed.items(), columns=["learner", "steps_per_second"]).assign(environment=name)
    return table.assign(ours_times=speed["meirl PPO"] / table["steps_per_second"])


def _sb3_speed(environments: Any, config: ppo.Config, rounds: int) -> float:
    """Environment steps a second of Stable-Baselines3's PPO, after one rollout to warm up."""
    from stable_baselines3 import PPO

    network = {"net_arch": list(config.network.hidden), "activation_fn": ACTIVATIONS[config.network.activation]}
    agent = PPO(
        "MlpPolicy", environments, n_steps=config.segment, batch_size=config.minibatch, n_epochs=config.epochs,
        policy_kwargs=network, device="cpu", seed=0,
    )  # fmt: skip
    size = config.environments * config.segment
    agent.learn(size)
    start = time.perf_counter()
    agent.learn(rounds * size, reset_num_timesteps=False)
    return rounds * size / (time.perf_counter() - start)


def ppo_speed(env: Env, config: ppo.Config, rounds: int) -> float:
    """Environment steps a second of our PPO, after one rollout to warm up."""
    network = seeded(ppo.Network, env, config, 0)
    optimiser = ppo.new_optimiser(network, config)
    collector = Collector(env, config, network, 0)
    for i in range(rounds + 1):
        if i == 1:
            start = _now(env)
        if collector.period + config.segment > env.horizon:
            collector.start()
        segment = collector.collect(config.segment)
        ppo.update(network, optimiser, segment, config, collector.generator, config.entropy)
    return rounds * config.environments * config.segment / (_now(env) - start)


def _now(env: Env) -> float:
    """The time once an accelerator has done all that it was asked to do."""
    if env.device.type == "cuda":
        torch.cuda.synchronize(env.device)
    elif env.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def ready(env: Env, network: ppo.Network, config: ppo.Config) -> tuple[torch.optim.Optimizer, Segment, torch.Generator]:
    """What an update needs: the optimiser, a segment of experience, and the generator that shuffles it."""
    collector = Collector(env, config, network, 0)
    return ppo.new_optimiser(network, config), collector.collect(config.segment), collector.generator


def _episode(env: Env, batch: int) -> Callable[[], object]:
    """A function that plays one batch of episodes, with everything random drawn already."""
    generator = torch.Generator().manual_seed(0)
    periods = list(env.sample(batch, seed=0).periods())
    if env.options is None:
        actions = [torch.rand(batch, env.nodes, generator=generator) * 2 - 1 for _ in periods]
    else:
        actions = [torch.randint(env.options, (batch,), generator=generator) for _ in periods]
    orders = [env.orders(action) for action in actions]

    @torch.inference_mode()
    def play() -> object:
        state = env.reset(batch)
        for quantities, exogenous in zip(orders, periods, strict=True):
            state, _, _ = env.step(state, quantities, exogenous)
        return state

    return play


def best(play: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several calls, after one to warm up."""
    play()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        play()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@contextmanager
def one_core() -> Iterator[None]:
    """Run PyTorch on a single thread, then as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
