"""Experiments for the chapter on threats: defects and stressors switched one at a time, verdicts drawn again and again.

Everything slow is kept on disk: trained agents as in `study`, searches by `joblib.Memory`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Memory, Parallel, delayed
from scipy import stats

from . import study, tuning
from .envs import Env, ObservationSet, make
from .evaluation import interval
from .heuristics import HEURISTICS
from .runs import load_policy, run_folder
from .tuning import Search

_BOTH: dict[str, dict[str, Any]] = {
    "season": {"demand.season.amplitude": 0.0},
    "shocks": {"demand.shock.probability": 0.0},
    "correlation": {"demand.noise.common": 0.0, "demand.noise.own": 1.0},  # the variance stays: 0.6² + 0.8² = 1
    "random lead times": {"lead_time.standard_deviation": 0.0},
    "lead-time tail": {"lead_time.tail_probability": 0.0},
}
_CAPACITIES = {"supplier_capacity": None, "outbound_capacity": None}
STRESSORS = {
    "divergent": {**_BOTH, "capacities": _CAPACITIES, "lost sales": {"lost_share": 0.0}},
    "meis": {**_BOTH, "capacities": {"outbound_capacity": None}, "cost of withdrawals": {"withdrawal_cost": 0.0}},
}
"""What makes Env-2 hard, by chain, and the parameters that switch it off. No switch changes what an agent sees."""


def without(name: str, off: Iterable[str]) -> dict[str, Any]:
    """Changes, as `make` takes them, that switch stressors off.

    Args:
        name: of a non-stationary environment.
        off: stressors of its chain; keys of `STRESSORS`.

    Returns:
        Nested parameters to change.

    Raises:
        ValueError: if the chain has no such stressor.
    """
    known = STRESSORS[name.split("-")[0]]
    changes: dict[str, Any] = {}
    for stressor in off:
        if stressor not in known:
            raise ValueError(f"unknown stressor {stressor!r} of {name}: expected one of {', '.join(known)}")
        for key, value in known[stressor].items():
            *groups, last = key.split(".")
            inner = changes
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
    return changes


def one_by_one(name: str) -> dict[str, dict[str, Any]]:
    """All designs of the experiment on stressors: every one, all but one, only one, none; as `make` takes them."""
    known = list(STRESSORS[name.split("-")[0]])
    designs = {"all stressors": without(name, [])}
    designs |= {f"without {one}": without(name, [one]) for one in known}
    designs |= {f"only {one}": without(name, [other for other in known if other != one]) for one in known}
    return designs | {"none": without(name, known)}


class Variant(NamedTuple):
    """An agent that differs from the tuned one in one respect."""

    changes: dict[str, Any] = {}  # noqa: RUF012  # of the preset; never modified
    observation: ObservationSet = "full"


_TANH = {"squash": "tanh", "final_log_std": None}
_PUBLISHED_NETWORK = {"hidden": (64, 64, 64), "activation": "relu", "policy_gain": math.sqrt(2)}
DEFECTS_ALONE: dict[str, dict[str, Variant]] = {
    "ppo": {
        "tuned": Variant(),
        "tanh, learned noise (no defect)": Variant({"network": _TANH}),
        "... and no Jacobian": Variant({"network": {**_TANH, "defect_no_jacobian": True}}),
        "... and tanh twice": Variant({"network": {**_TANH, "defect_double_tanh": True}}),
        "horizon as terminal state": Variant({"defect_terminal_horizon": True}),
        "critic on unscaled returns": Variant({"network": {"normalise_returns": False}}),
        "discount 0.95": Variant({"discount": 0.95}),
        "published observation": Variant({}, "published"),
    },
    "a3c": {
        "tuned": Variant(),
        "published network and start": Variant({"network": _PUBLISHED_NETWORK, "entropy": 0.001}),
        "horizon as terminal state": Variant({"defect_terminal_horizon": True}),
        "critic on unscaled returns": Variant({"network": {"normalise_returns": False}}),
        "one update an episode": Variant({"environments": 1, "copies": 1, "segment": 365}),
        "learning rate 0.0001": Variant({"learning_rate": 1e-4}),
        "published observation": Variant({}, "published"),
    },
}
"""Each published fault or choice alone, in an agent that is otherwise tuned; indented ones add to the line above."""


def trained(
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
        The table of `study.run` with a column ``variant``.
    """
    tables = []
    for name, variant in variants.items():
        same = {"observation": variant.observation, "changes": {**budget, **variant.changes}}
        todo = study.tasks(seeds, [env], [algo], **same)
        table = study.run(todo, folder(root, name), jobs=jobs, episodes=episodes, progress=False)
        tables.append(table.assign(variant=name))
    return pd.concat(tables, ignore_index=True)


def folder(root: Path, variant: str) -> Path:
    """Where the runs of a variant are kept."""
    return root / re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")


def agents(root: Path, variant: str, env: str, algo: str, seeds: Iterable[int], on: Env | None = None) -> list[Any]:
    """Policies of a variant's runs, one a seed; ``on``: the environment they are to play, else their own."""
    where = folder(root, variant)
    return [load_policy(run_folder(where, env, algo, "tuned", seed), on)[0] for seed in seeds]


def effects(costs: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Compare variants with the first one over training seeds.

    Args:
        costs: mean cost of a run; index: seeds; columns: variants, the reference first.
        confidence: that *all* the intervals of the comparisons hold together.

    Returns:
        One row a variant: ``mean_cost`` with ``low`` and ``high`` (Student's t), and the ratio of geometric means to
        the reference, as extra cost in percent: ``percent``, ``percent_low``, ``percent_high``. These intervals are
        Dunnett's (1955), for many treatments against one control, on logarithms: a few seeds a variant are enough,
        since the spread over seeds is estimated from all variants together.
    """
    control, *others = (np.log(costs[name].to_numpy()) for name in costs)
    together = stats.dunnett(*others, control=control, random_state=0).confidence_interval(confidence)
    extra = np.array([control.mean(), *(other.mean() for other in others)]) - control.mean()
    rows = {}
    for i, name in enumerate(costs):
        low, high = interval(costs[name].to_numpy())
        ends = (together.low[i - 1], together.high[i - 1]) if i else (0.0, 0.0)
        percent, percent_low, percent_high = (100 * np.expm1(value) for value in (extra[i], *ends))
        rows[name] = {
            "mean_cost": costs[name].mean(), "low": low, "high": high,
            "percent": percent, "percent_low": percent_low, "percent_high": percent_high,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


class Wanted(NamedTuple):
    """A search to make: everything that decides its result."""

    env: str
    rule: str
    changes: dict[str, Any]  # of the environment's parameters
    options: dict[str, Any]  # of `tuning.tune`


def searches(todo: Sequence[Wanted], root: Path, jobs: int = -1) -> list[Search]:
    """Make searches side by side, or read those that were made before from ``root``."""
    kept = Memory(root, verbose=0).cache(_search)
    return list(Parallel(n_jobs=jobs)(delayed(kept)(*wanted) for wanted in todo))


def _search(env: str, rule: str, changes: dict[str, Any], options: dict[str, Any]) -> Search:
    return tuning.tune(make(env, **changes), HEURISTICS[rule], progress=False, **options)


def power(
    costs: np.ndarray, sizes: Iterable[int], experiments: int, generator: np.random.Generator, level: float = 0.05
) -> pd.DataFrame:
    """How often a test of two policies finds the better one.

    Args:
        costs: of both policies on the same episodes, ``(episodes, 2)``; the difference of their means is the truth.
        sizes: episodes a policy in an experiment.
        experiments: drawn from the episodes, with replacement.
        generator: draws them.
        level: of the two-sided test.

    Returns:
        Index: size; ``paired``: share of experiments in which the paired t-test on common episodes is significant with
        the right sign; ``unpaired``: the same for Welch's t-test, each policy on episodes of its own.
    """
    truth, rows = np.sign(costs[:, 0].mean() - costs[:, 1].mean()), {}
    for n in sizes:
        one, two = generator.integers(0, len(costs), (2, experiments, n))
        a, common, own = costs[one, 0], costs[one, 1], costs[two, 1]
        paired = stats.ttest_rel(a, common, axis=1)
        unpaired = stats.ttest_ind(a, own, axis=1, equal_var=False)
        rows[n] = {
            name: float(np.mean((test.pvalue < level) & (np.sign(test.statistic) == truth)))
            for name, test in (("paired", paired), ("unpaired", unpaired))
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def optimism(
    costs: np.ndarray, sizes: Iterable[int], experiments: int, generator: np.random.Generator, *, common: bool
) -> pd.DataFrame:
    """By how much a candidate looks too good on the episodes that chose it.

    Args:
        costs: of every candidate on the same episodes, ``(candidates, episodes)``; their means are the truth.
        sizes: episodes a candidate is scored on.
        experiments: drawn from the episodes, with replacement.
        generator: draws them.
        common: all candidates are scored on the same episodes; else each on its own.

    Returns:
        Index: size; ``percent``: true cost of the chosen candidate minus the cost it was chosen by, in percent of the
        former, with ``low`` and ``high``: a 95 % interval of that mean over experiments.
    """
    count, episodes = costs.shape
    truth, rows = costs.mean(1), {}
    for n in sizes:
        drawn = generator.integers(0, episodes, (experiments, 1 if common else count, n))
        scores = costs[np.arange(count)[:, None], drawn].mean(2)  # (experiment, candidate)
        chosen = scores.argmin(1)
        too_good = 100 * (1 - scores.min(1) / truth[chosen])
        low, high = interval(too_good)
        rows[n] = {"percent": too_good.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")
