"""Short runs of agents that differ in one respect from a tuned one: a fault, a discount, what they see."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from meirl.envs import Env, ObservationSet
from meirl.evaluation import estimate
from meirl.learn import load_policy, run_folder
from meirl.learn.experience import Collector
from meirl.learn.networks import ActorCritic, seeded

from .. import study


class Variant(NamedTuple):
    """An agent that differs from the tuned one in one respect."""

    changes: dict[str, Any] = {}  # noqa: RUF012  # of the preset; never modified
    observation: ObservationSet = "full"


_TANH = {"squash": "tanh", "final_log_std": None}
_PUBLISHED_NETWORK = {"hidden": (64, 64, 64), "activation": "relu", "policy_gain": math.sqrt(2)}
TERMINAL = "horizon as terminal state"
PUBLISHED_EYES = "published observation"
TANH, *TANH_FAULTS = "tanh, learned noise (no defect)", "... and no Jacobian", "... and tanh twice"
"""Two faults show only in a policy with a tanh and learned noise, so they are compared with that."""
DEFECTS_ALONE: dict[str, dict[str, Variant]] = {
    "ppo": {
        "tuned": Variant(),
        TANH: Variant({"network": _TANH}),
        TANH_FAULTS[0]: Variant({"network": {**_TANH, "defect_no_jacobian": True}}),
        TANH_FAULTS[1]: Variant({"network": {**_TANH, "defect_double_tanh": True}}),
        TERMINAL: Variant({"defect_terminal_horizon": True}),
        "critic on unscaled returns": Variant({"network": {"normalise_returns": False}}),
        "discount 0.95": Variant({"discount": 0.95}),
        PUBLISHED_EYES: Variant({}, "published"),
    },
    "a3c": {
        "tuned": Variant(),
        "published network and start": Variant({"network": _PUBLISHED_NETWORK, "entropy": 0.001}),
        TERMINAL: Variant({"defect_terminal_horizon": True}),
        "critic on unscaled returns": Variant({"network": {"normalise_returns": False}}),
        "one update an episode": Variant({"environments": 1, "copies": 1, "segment": 365}),
        "learning rate 0.0001": Variant({"learning_rate": 1e-4}),
        PUBLISHED_EYES: Variant({}, "published"),
    },
}
"""Each published fault or choice alone, in an agent that is otherwise tuned; indented ones add to the line above."""


def discounts(tried: Iterable[float], tuned: float) -> dict[str, Variant]:
    """Variants that train with other discounts than the tuned one, which comes first, and one with `TERMINAL`."""
    others = {f"discount {discount:g}": Variant({"discount": discount}) for discount in tried if discount != tuned}
    return {"tuned": Variant(), **others, TERMINAL: DEFECTS_ALONE["ppo"][TERMINAL]}


def by_discount(table: pd.DataFrame, tuned: float) -> pd.DataFrame:
    """The rows of `effects` for `discounts`, without `TERMINAL`, by discount: a text, smallest first."""
    rows = table.drop(TERMINAL).rename({"tuned": f"discount {tuned:g}"})
    return rows.rename(lambda label: label.removeprefix("discount ")).sort_index()


def train_variants(
    variants: Mapping[str, Variant], env: str, algo: str, seeds: Iterable[int], root: Path, budget: Mapping[str, Any],
    *, episodes: int, jobs: int = -1,
) -> pd.DataFrame:  # fmt: skip
    """Train (or only read) every variant over the same seeds and play the test scenarios.

    Args:
        variants: by name.
        env: name of the environment.
        algo: ``ppo`` or ``a3c``.
        seeds: training seeds.
        root: folder of these runs; every variant has its own below it.
        budget: changes common to all variants, such as fewer steps.
        episodes: test episodes of each run.
        jobs: runs at once; -1: one a core.

    Returns:
        Mean cost of each run in units of ``cost_unit``; index: seeds; columns: variants.
    """
    costs = {}
    for name, variant in variants.items():
        same = {"observation": variant.observation, "changes": {**budget, **variant.changes}}
        todo = study.tasks(seeds, [env], [algo], **same)
        table = study.run(todo, folder(root, name), jobs=jobs, episodes=episodes, progress=False)
        costs[name] = table.groupby("seed")["cost"].mean()
    return pd.DataFrame(costs)


def folder(root: Path, variant: str) -> Path:
    """Where the runs of a variant are kept."""
    return root / re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")


def agents(root: Path, variant: str, env: str, algo: str, seeds: Iterable[int], on: Env | None = None) -> list[Any]:
    """Load the agents of a variant.

    Args:
        root: folder of all variants' runs.
        variant: its name.
        env: name of the environment it was trained on.
        algo: ``ppo`` or ``a3c``.
        seeds: training seeds.
        on: the environment they are to play; None: their own.

    Returns:
        Their policies, networks both, one a seed.

    Raises:
        ValueError: if a run is missing, or does not fit the environment.
    """
    where = folder(root, variant)
    return [load_policy(run_folder(where, env, algo, "tuned", seed), on)[0] for seed in seeds]


def effects(costs: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Compare variants with the first one over training seeds.

    Args:
        costs: mean cost of a run; index: seeds; columns: variants, the reference first.
        confidence: that *all* the intervals of the comparisons hold together.

    Returns:
        One row a variant: ``mean_cost`` with ``mean_cost_low`` and ``mean_cost_high`` (Student's t, 95 %), and the
        ratio of geometric means to the reference, as extra cost in percent: ``value``, ``low``, ``high``. These
        intervals are Dunnett's (1955), for many treatments against one control, on logarithms: a few seeds a variant
        are enough, since the spread over seeds is estimated from all variants together.
    """
    control, *others = (np.log(costs[name].to_numpy()) for name in costs)
    together = stats.dunnett(*others, control=control, random_state=0).confidence_interval(confidence)
    extra = np.array([control.mean(), *(other.mean() for other in others)]) - control.mean()
    ends = zip(extra, [0.0, *together.low], [0.0, *together.high], strict=True)
    rows = {}
    for name, logarithms in zip(costs, ends, strict=True):
        percent = dict(zip(("value", "low", "high"), 100 * np.expm1(logarithms), strict=True))
        rows[name] = {**estimate(costs[name].to_numpy(), "mean_cost"), **percent}
    return pd.DataFrame.from_dict(rows, orient="index")


def told_apart(table: pd.DataFrame, sign: int) -> str:
    """Name the variants that an interval without zero tells from the reference.

    Args:
        table: of `effects`.
        sign: 1: those that cost more; -1: those that cost less.

    Returns:
        A list for the text, each with its extra cost and the interval; ``none`` if there is none.
    """
    clear = table[sign * table["low" if sign > 0 else "high"] > 0]
    texts = [
        f"{str(name).removeprefix('... and ')} {row['value']:+.0f} % ({row['low']:+.0f} to {row['high']:+.0f})"
        for name, row in clear.iterrows()
    ]
    return ", ".join(texts) or "none"


def noise(root: Path, variant: str, env: str, seeds: Iterable[int]) -> float:
    """Standard deviation of PPO's actions before they are squashed, in the weights that were kept: mean over seeds."""
    kept = agents(root, variant, env, "ppo", seeds)
    return float(np.mean([agent.log_std.exp().mean().item() for agent in kept]))


def first_entropy(env: Env, config: Any, seed: int) -> float:
    """Entropy of an untrained policy over its first episode.

    Args:
        env: the environment.
        config: of the learner.
        seed: of its weights and of the episode.

    Returns:
        The mean over periods, in nats.
    """
    network = seeded(ActorCritic, env, config, seed)
    first = Collector(env, config, network, seed).collect(env.horizon)
    return float(network.entropy(first.head).mean())
