"""Agents that differ in one respect from the tuned one: a fault, a discount, what they see; at its whole budget."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
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


TUNED = Variant()
"""The study's own agent, at the published budget."""
_TANH = {"squash": "tanh", "final_log_std": None}
PUBLISHED_EYES = "published observation"
TANH, *TANH_FAULTS = "tanh, learned noise (no defect)", "... and no Jacobian", "... and tanh twice"
"""Two faults show only in a policy with a tanh and learned noise, so they are compared with that."""
FAULTS: dict[str, Variant] = {
    "tuned": TUNED,
    "discount 0.95": Variant({"discount": 0.95}),
    TANH: Variant({"network": _TANH}),
    TANH_FAULTS[0]: Variant({"network": {**_TANH, "defect_no_jacobian": True}}),
    TANH_FAULTS[1]: Variant({"network": {**_TANH, "defect_double_tanh": True}}),
}
"""Faults and choices of the published PPO, each alone, in an agent that is otherwise tuned."""
SIGHT = {"tuned": TUNED, PUBLISHED_EYES: Variant({}, "published")}
"""The tuned agent, and one that sees what the published agent saw."""


def folder(root: Path, variant: str) -> Path:
    """Where the runs of a variant are kept."""
    return root / "variants" / re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")


def train_variants(
    variants: Mapping[str, Variant], env: str, seeds: Sequence[int], root: Path, changes: Mapping[str, Any],
    *, episodes: int, jobs: int = -1,
) -> pd.DataFrame:  # fmt: skip
    """Train (or only read) every variant of PPO over the same seeds and play the test scenarios.

    Args:
        variants: by name; `TUNED` is the study's own agent, at the published budget.
        env: name of the environment.
        seeds: training seeds.
        root: folder of the study's runs.
        changes: common to all variants, such as the profile's.
        episodes: test episodes of each run.
        jobs: runs at once; -1: one a core.

    Returns:
        Mean cost of each run in units of ``cost_unit``; index: seeds; columns: variants.
    """
    costs = {}
    for name, variant in variants.items():
        where = root if variant == TUNED else folder(root, name)
        own = {**changes, **variant.changes}
        todo = study.tasks(seeds, [env], ["ppo"], observation=variant.observation, changes=own)
        table = study.run(todo, where, jobs=jobs, episodes=episodes, progress=False)
        costs[name] = table.groupby("seed")["cost"].mean()
    return pd.DataFrame(costs)


def agents(root: Path, variant: str, env: str, seeds: Iterable[int], on: Env | None = None) -> list[Any]:
    """Load the agents of a variant of PPO.

    Args:
        root: folder of the study's runs.
        variant: its name.
        env: name of the environment it was trained on.
        seeds: training seeds.
        on: the environment they are to play; None: their own.

    Returns:
        Their policies, networks both, one a seed.

    Raises:
        ValueError: if a run is missing, or does not fit the environment.
    """
    where, seen = folder(root, variant), on.observation if on else "full"
    return [load_policy(run_folder(where, env, "ppo", "tuned", seed, seen), on)[0] for seed in seeds]


def effects(costs: pd.DataFrame, comparisons: int = 0) -> pd.DataFrame:
    """Compare variants with the first one over training seeds.

    Args:
        costs: mean cost of a run; index: seeds; columns: variants, the reference first.
        comparisons: how many intervals are to hold together (Bonferroni); 0: those of the table.

    Returns:
        One row a variant: ``mean_cost`` with ``mean_cost_low`` and ``mean_cost_high`` (Student's t, 95 %), and the
        extra cost over the reference in percent, as in `extra`.
    """
    reference, *others = costs.columns
    confidence = 1 - 0.05 / (comparisons or len(others))
    rows = {reference: {**estimate(costs[reference].to_numpy(), "mean_cost"), "value": 0.0, "low": 0.0, "high": 0.0}}
    for name in others:
        own = costs[name].to_numpy()
        rows[name] = {**estimate(own, "mean_cost"), **extra(own, costs[reference].to_numpy(), confidence)}
    return pd.DataFrame.from_dict(rows, orient="index")


def extra(ours: np.ndarray, theirs: np.ndarray, confidence: float = 0.95) -> dict[str, float]:
    """Ratio of the geometric means of two samples of costs, as extra cost in percent, with its interval.

    Welch's on logarithms: the samples are independent and need not vary alike, as seeds of different agents do not.

    Args:
        ours: costs of runs, ``(n,)``.
        theirs: costs of other runs, ``(m,)``.
        confidence: of the interval.

    Returns:
        ``value``, ``low``, ``high``.
    """
    one, two = np.log(ours), np.log(theirs)
    ends = stats.ttest_ind(one, two, equal_var=False).confidence_interval(confidence)
    logarithms = {"value": one.mean() - two.mean(), "low": ends.low, "high": ends.high}
    return {key: float(100 * np.expm1(value)) for key, value in logarithms.items()}


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
        f"{str(name).removeprefix('... and ')} {row['value']:+.1f} % ({row['low']:+.1f} to {row['high']:+.1f})"
        for name, row in clear.iterrows()
    ]
    return ", ".join(texts) or "none"


def noise(root: Path, variant: str, env: str, seeds: Iterable[int]) -> float:
    """Standard deviation of PPO's actions before they are squashed, in the weights that were kept: mean over seeds."""
    kept = agents(root, variant, env, seeds)
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


def core_minutes(where: Path) -> float:
    """Minutes that one core was busy with all runs of one process each in a folder, by their manifests."""
    return sum(json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in study.manifests(where)) / 60
