"""Choices made on validation scenarios: would others have been made on other scenarios, and what would that change?"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from joblib import Memory

from meirl.envs import Env, Scenario, make
from meirl.evaluation import estimate
from meirl.heuristics import RULES, levels_file, read_levels
from meirl.learn import Run, ppo, preset
from meirl.rollout import Policy, rollout

from .. import searches

FRESH = 500_000_000  # a stream of scenarios that nobody trains, tunes, validates or tests on
SHARES = (0.25, 0.5, 0.75)  # of a search: where its best candidates so far are candidates of ours


def fresh(env: Env, episodes: int) -> Scenario:
    """Scenarios that nothing else is drawn from."""
    return env.sample(episodes, FRESH)


def candidates(env: Env, todo: Sequence[searches.SearchTask], root: Path) -> list[Policy]:
    """Levels of a rule to choose from: what every search ended with, what it had on the way, and the committed ones.

    Args:
        env: the environment.
        todo: searches for one rule of it, which have been made.
        root: folder of the runs.

    Returns:
        Policies without duplicates, the committed levels, if there are any, first.
    """
    rule, rows = todo[0].rule, []
    if levels_file(env, rule).exists():
        rows.append(list(read_levels(env, rule).levels.values()))
    for task in todo:
        levels = searches.found(task, root).levels
        history = pd.read_csv(task.folder(root) / "history.csv")[list(levels)]
        rows += [list(levels.values()), *(history.iloc[int(share * len(history))].tolist() for share in SHARES)]
    return [RULES[rule].policy(env, list(row)) for row in dict.fromkeys(map(tuple, rows))]


def costs(env: Env, policies: Sequence[Policy], scenario: Scenario) -> np.ndarray:
    """Costs of candidates on the same episodes, ``(candidates, episodes)`` in units of ``cost_unit``."""
    return np.stack([rollout(env, policy, scenario)["cost"].to_numpy() for policy in policies])


def checkpoints(env: Env, config: Any, seed: int) -> list[Policy]:
    """Train PPO and keep its network as it was at every validation, in order; a run keeps only the best."""
    kept: list[Policy] = []
    validate = Run.validate

    def validate_and_keep(run: Run, *arguments: Any) -> None:
        validate(run, *arguments)
        kept.append(copy.deepcopy(run.network))

    with mock.patch.object(Run, "validate", validate_and_keep):
        ppo.train(env, config, seed, progress=False)
    return kept


def checkpoint_costs(name: str, changes: Mapping[str, Any], seed: int, episodes: int, root: Path) -> np.ndarray:
    """What the checkpoints of a run of PPO cost on fresh episodes; trained once, then read.

    Args:
        name: of the environment.
        changes: of the tuned preset.
        seed: of training.
        episodes: of `fresh`.
        root: where the result is kept.

    Returns:
        ``(checkpoints, episodes)``.
    """
    return Memory(root, verbose=0).cache(_checkpoint_costs)(name, dict(changes), seed, episodes)


def _checkpoint_costs(name: str, changes: dict[str, Any], seed: int, episodes: int) -> np.ndarray:
    env = make(name)
    networks = checkpoints(env, preset("ppo", "tuned", name, **changes), seed)
    return costs(env, networks, fresh(env, episodes))


def repeated(
    costs: np.ndarray, sizes: Iterable[int], experiments: int, generator: np.random.Generator, *, common: bool = True
) -> pd.DataFrame:
    """Repeat a choice on many other validation sets: the candidate with the lowest mean cost is chosen.

    Args:
        costs: of every candidate on the same episodes, ``(candidates, episodes)``; their means are the truth.
        sizes: episodes of a validation set.
        experiments: validation sets, drawn from the episodes with replacement.
        generator: draws them.
        common: all candidates are scored on the same episodes; else each on its own.

    Returns:
        Index: size. In percent of the cost of the candidate that is best in truth: ``value``, by how much the chosen
        one costs more, on average, and ``worst``, the 95th percentile of that. ``best``: share of sets that choose the
        best. By how much the chosen one costs more in truth than on the set that chose it, in percent: ``optimism``
        with its interval ``optimism_low`` and ``optimism_high`` over experiments.
    """
    count, episodes = costs.shape
    truth, rows = costs.mean(1), {}
    for n in sizes:
        chosen, scores = np.empty(experiments, int), np.empty(experiments)
        for k in range(experiments):
            drawn = generator.integers(0, episodes, (1 if common else count, n))
            means = np.take_along_axis(costs, np.broadcast_to(drawn, (count, n)), 1).mean(1)
            chosen[k], scores[k] = means.argmin(), means.min()
        extra = 100 * (truth[chosen] / truth.min() - 1)
        rows[n] = {
            "value": extra.mean(), "worst": float(np.quantile(extra, 0.95)), "best": (chosen == truth.argmin()).mean(),
            **estimate(100 * (1 - scores / truth[chosen]), "optimism"),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def search_seeds(
    envs: Mapping[str, Env], todo: Sequence[searches.SearchTask], root: Path, tests: Mapping[str, Scenario]
) -> pd.DataFrame:
    """What the levels that searches with other seeds ended with cost on the test scenarios.

    Args:
        envs: environments by name.
        todo: searches, which have been made.
        root: folder of the runs.
        tests: test scenarios by environment.

    Returns:
        One row an environment and rule: ``seeds``; ``sd`` over them, and what the ``worst`` of them costs more than
        the best, in percent of their mean.
    """
    rows = {}
    for name, rule in dict.fromkeys((task.env, task.rule) for task in todo):
        own = [searches.found(task, root) for task in todo if (task.env, task.rule) == (name, rule)]
        policies = [RULES[rule].policy(envs[name], list(levels.levels.values())) for levels in own]
        means = costs(envs[name], policies, tests[name]).mean(1)
        spread = {"sd": means.std(ddof=1), "worst": means.max() - means.min()}
        rows[name, rule] = {"seeds": len(means)} | {key: 100 * value / means.mean() for key, value in spread.items()}
    return pd.DataFrame.from_dict(rows, orient="index")
