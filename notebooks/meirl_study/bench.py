"""What speed is for: seconds until a cost is reached; how far from the machine's limit; how it grows with the batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from scipy import stats

from meirl.device import pick_device
from meirl.envs import NAMES, make
from meirl.evaluation import held_out
from meirl.heuristics import load
from meirl.learn import ppo, preset
from meirl.learn.networks import seeded
from meirl.rollout import rollout

from . import speed, study
from .learning import reached

SEEDS = range(3)
BATCHES = (64, 256, 1_024, 4_096, 16_384)
SEGMENT = 125  # periods between updates, in `batch_speed`
BY_DEVICE = Path(__file__).with_name("speed-by-device.csv")
"""What `batch_speed` measured on a machine with a graphics card; the file says which."""
ON_A_CARD = Path(__file__).with_name("runs-on-a-card.csv")
"""Long runs of PPO on that card with more environments than the preset has."""


def time_to_cost(
    names: Sequence[str] = NAMES, algos: Sequence[str] = ("ppo", "a3c"), seeds: Sequence[int] = SEEDS,
    preset: str = "long", root: Path = Path("runs/full"), jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Seconds of training until the designed rule's validation cost is passed, and stays passed, by environment.

    Runs that are not under ``root`` are trained, one at a time, so that nothing else slows them down.

    Args:
        names: environments.
        algos: learners.
        seeds: of training.
        preset: a preset's name, or a file: what another commit had, for comparison in one run.
        root: folder of the runs; those of a study are read.
        jobs: runs at once.

    Returns:
        One row an environment and learner: median ``seconds`` and million ``steps`` (validation included) over seeds,
        infinite where half of them never got there; and how many ``reached`` it of ``seeds``.
    """
    todo = study.tasks(seeds, names, algos, preset=preset)
    study.run(todo, root, jobs=jobs, progress=False)
    rows = []
    for (name, algo), runs in study.histories(todo, root).groupby(["env", "algo"], sort=False):
        env = make(str(name))
        config = next(task.config() for task in todo if (task.env, task.algo) == (name, algo))
        bar = rollout(env, load(env), held_out(env, "validation", config.validation_episodes))["cost"].mean()
        passed = pd.DataFrame([crossing(run, bar) for _, run in runs.groupby("seed")])
        rows.append({
            "environment": name, "algo": algo, "seconds": passed["seconds"].median(),
            "steps": passed["simulated_steps"].median() / 1e6,
            "reached": int((passed["seconds"] < float("inf")).sum()), "seeds": len(passed),
        })  # fmt: skip
    return pd.DataFrame(rows)


def crossing(history: pd.DataFrame, bar: float) -> pd.Series:
    """``seconds`` and ``simulated_steps`` when a run had `meirl_study.learning.reached` a bar; infinity if never."""
    effort = ["seconds", "simulated_steps"]
    found = reached(history[[*effort, "validation_cost"]], bar)
    return pd.Series(float("inf"), effort) if found is None else found[effort]


def batch_speed(
    names: Sequence[str] = NAMES, batches: Sequence[int] = BATCHES, device: str = "auto", rounds: int = 2
) -> pd.DataFrame:
    """Training speed of PPO by the number of environments, on whatever device there is; minibatches grow with it.

    Args:
        names: environments.
        batches: numbers of environments.
        device: see `meirl.pick_device`.
        rounds: segments with their updates that are timed, after one to warm up.

    Returns:
        One row an environment and batch: ``device`` and ``steps_per_second``.
    """
    where, rows = pick_device(device), []
    with speed.one_core():
        for name, batch in product(names, batches):
            shape = {"environments": batch, "minibatch": batch * SEGMENT // 8, "segment": SEGMENT}
            config = preset("ppo", "tuned", name, max_kl=1e9, **shape)
            rows.append({
                "environment": name, "device": str(where), "environments": batch,
                "steps_per_second": speed.ppo_speed(make(name, device=where), config, rounds),
            })  # fmt: skip
    return pd.DataFrame(rows)


def by_device() -> dict[str, pd.DataFrame]:
    """Read `BY_DEVICE`: training speed by the number of environments, over the four chains, a table a device.

    Returns:
        Index: ``environments``; ``value``, ``low`` and ``high``: geometric mean, smallest and largest of the chains'
        steps a second.
    """
    speeds = pd.read_csv(BY_DEVICE, comment="#").groupby(["device", "environments"])["steps_per_second"]
    table = speeds.agg(value=stats.gmean, low="min", high="max")
    return {str(device): table.loc[device] for device in table.index.unique("device")}


def distance_to_limit(names: Sequence[str] = NAMES, repeats: int = 3) -> pd.DataFrame:
    """Time of a PPO update over the time of its matrix products, at the speed at which this core multiplies.

    An update of n samples makes, in each of its passes, for each layer of actor and critic, three products: forward,
    gradient of the weights, gradient of the inputs (not for the first layer). They are timed by themselves, in the
    update's shapes; what is more than 1 is activations, losses, the optimiser and Python.

    Returns:
        One row an environment: microseconds a sample of an ``update`` and of its ``products``, and their ``ratio``.
    """
    rows = []
    with speed.one_core():
        for name in names:
            env, config = make(name), preset("ppo", "tuned", name, max_kl=1e9)
            network = seeded(ppo.Network, env, config, 0)
            optimiser, segment, generator = speed.ready(env, network, config)
            update = partial(ppo.update, network, optimiser, segment, config, generator, config.entropy)
            samples = segment.reward.numel()
            batches = config.epochs * samples / config.minibatch
            weights = [layer.weight for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
            products = sum(_product(config.minibatch, w, first=w.shape[1] == len(env.legend())) for w in weights)
            taken, least = speed.best(update, repeats) / samples, products * batches / samples
            rows.append({
                "environment": name, "update": 1e6 * taken, "products": 1e6 * least, "ratio": taken / least,
            })  # fmt: skip
    return pd.DataFrame(rows)


@torch.no_grad()
def _product(samples: int, w: torch.Tensor, first: bool, repeats: int = 50) -> float:
    """Seconds of the two or three matrix products of a linear layer with weights ``(outputs, inputs)``."""
    x, g = torch.rand(samples, w.shape[1]), torch.rand(samples, w.shape[0])
    jobs = [lambda: x @ w.T, lambda: g.T @ x, *([] if first else [lambda: g @ w])]
    total = 0.0
    for job in jobs:
        job()
        start = time.perf_counter()
        for _ in range(repeats):
            job()
        total += (time.perf_counter() - start) / repeats
    return total
