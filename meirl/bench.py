"""How fast is it here? One function a part, each returns a tidy table; ``python -m meirl bench`` prints them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pandas as pd
import torch

from .envs import NAMES, Env, make

TARGETS = {1: 8_000, 1_024: 1_500_000}  # environment steps a second on one core, by batch size


def environment_speed(
    names: Sequence[str] = NAMES, batches: Sequence[int] = tuple(TARGETS), repeats: int = 25, observation: str = "full"
) -> pd.DataFrame:
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
    with _one_core():
        for name in names:
            env = make(name, observation=observation)  # type: ignore[arg-type]
            for batch in batches:
                steps = batch * env.horizon
                rows.append({
                    "environment": name, "observation": observation, "batch": batch,
                    "steps_per_second": steps / _best(_episode(env, batch), repeats),
                    "target": TARGETS.get(batch, float("nan")),
                    "sampled_per_second": steps / _best(partial(env.sample, batch, seed=0), 3),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _episode(env: Env, batch: int) -> Callable[[], object]:
    """A function that plays one batch of episodes, with everything random drawn already."""
    generator = torch.Generator().manual_seed(0)
    periods = list(env.sample(batch, seed=0).periods())
    if env.chain == "divergent":
        actions = [torch.rand(batch, env.nodes, generator=generator) * 2 - 1 for _ in periods]
    else:
        actions = [torch.randint(int(env.action_space.n), (batch,), generator=generator) for _ in periods]  # type: ignore[attr-defined]
    orders = [env.orders(action) for action in actions]

    @torch.inference_mode()
    def play() -> object:
        state = env.reset(batch)
        for quantities, exogenous in zip(orders, periods, strict=True):
            state, _, _ = env.step(state, quantities, exogenous)
        return state

    return play


def _best(play: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several calls, after one to warm up."""
    play()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        play()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@contextmanager
def _one_core() -> Iterator[None]:
    """Run PyTorch on a single thread, then as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
