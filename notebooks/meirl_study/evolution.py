"""The opponents searched by CMA-ES with an agent's budget: what levels that takes, and who wins at equal effort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cmaes import CMA
from joblib import Parallel, delayed
from scipy import stats

from meirl.envs import Env, Scenario, make
from meirl.evaluation import estimate, held_out
from meirl.heuristics import RULES, Levels, best_rule, read_levels, tuning

from .again import RESULTS, costs
from .cells import OPPONENTS
from .chapter import verdict
from .processes import attended

EPISODES = 4
"""Scenarios that every candidate of a generation plays: few, and so many generations."""
SPREAD = 0.25
"""Standard deviation of the first generation, in ranges of the rule's levels."""


def search(env: Env, rule: str, steps: int, seed: int) -> Levels:
    """Search for a rule's levels with CMA-ES, which meets fresh training scenarios in every generation.

    It begins in the middle of the ranges in which the book's own search begins. The result is the mean of its Gaussian,
    averaged over the last fifth of the generations.

    Args:
        env: the environment.
        rule: name of the rule.
        steps: simulated in all, validation included; there is at least one generation.
        seed: of the scenarios and of the candidates.

    Source: Hansen & Ostermeier (2001), Completely derandomized self-adaptation in evolution strategies.
    """
    ranges = RULES[rule].ranges(env)
    low, high, least, most = np.array(list(ranges.values())).T
    limits = np.stack([least - low, most - low]) / (high - low)
    gaussian = CMA(np.full(len(low), 0.5), SPREAD, bounds=limits.T, seed=seed)
    validation = held_out(env, "validation")
    generation, scoring = gaussian.population_size * EPISODES * env.horizon, validation.episodes * env.horizon
    rounds, means = max(1, (steps - scoring) // generation), []
    for number in range(rounds):
        drawn = np.array([gaussian.ask() for _ in range(gaussian.population_size)])
        scenario = env.sample(EPISODES, seed, first=number * EPISODES)
        played = tuning.mean_costs(env, RULES[rule], low + drawn * (high - low), scenario)
        gaussian.tell(list(zip(drawn, played, strict=True)))
        means.append(np.clip(gaussian.mean, *limits))
    levels = low + np.mean(means[-max(1, rounds // 5) :], 0) * (high - low)
    cost = float(tuning.mean_costs(env, RULES[rule], levels[None], validation)[0])
    made = {"validation_cost": cost, "seed": seed, "simulated_steps": rounds * generation + scoring}
    return Levels(rule=rule, levels=dict(zip(ranges, levels.tolist(), strict=True)), provenance=made)


def kept(name: str, rule: str, steps: int, seed: int, root: Path) -> Levels:
    """`search`, made once: its levels stay in a folder."""
    env, path = make(name), root / "evolution" / f"{steps}-steps" / name / rule / f"seed-{seed}.yaml"
    if not path.exists():
        torch.set_num_threads(1)
        tuning.write(search(env, rule, steps, seed), path)
    return read_levels(env, path)


def play(
    envs: Mapping[str, Env], steps: Mapping[str, int], seeds: Sequence[int], tests: Mapping[str, Scenario], root: Path,
    jobs: int = -1,
) -> pd.DataFrame:  # fmt: skip
    """Search for the levels of both opponents in every environment, and play the test scenarios.

    Args:
        envs: the environments by name.
        steps: simulated by one search, by environment.
        seeds: of the searches.
        tests: the test scenarios of every environment.
        root: folder of the runs.
        jobs: searches at once; -1: one a core.

    Returns:
        One row a search. Index: environment, opponent (a key of `meirl_study.cells.OPPONENTS`), seed. ``rule``;
        ``steps``; ``book steps``, of all searches for the committed levels; ``validation`` and ``cost``, the mean costs
        on validation and on test scenarios; ``book``, the committed levels' cost on the latter.
    """
    rules = {
        (n, side): best_rule(env, textbook=side == "textbook rule") for n, env in envs.items() for side in OPPONENTS
    }
    book = {(name, side): read_levels(envs[name], rule) for (name, side), rule in rules.items()}
    before = {(name, side): _cost(envs[name], levels, tests[name]) for (name, side), levels in book.items()}
    cells = [(name, side, rule, seed) for (name, side), rule in rules.items() for seed in seeds]
    made = Parallel(jobs)(delayed(attended(kept))(name, rule, steps[name], seed, root) for name, _, rule, seed in cells)
    rows: dict[Any, dict[str, Any]] = {}
    for (name, side, rule, seed), levels in zip(cells, made, strict=True):
        rows[name, side, seed] = {
            "rule": rule, "steps": levels.provenance["simulated_steps"],
            "book steps": book[name, side].provenance["simulated_steps"],
            "validation": levels.provenance["validation_cost"], "cost": _cost(envs[name], levels, tests[name]),
            "book": before[name, side],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def _cost(env: Env, levels: Levels, scenario: Scenario) -> float:
    return float(costs(env, levels.rule, levels.levels, scenario).mean())


def summary(played: pd.DataFrame) -> pd.DataFrame:
    """What the searches of `play` gave, over their seeds.

    Returns:
        Index: environment, opponent. ``rule``, ``steps`` and ``book steps``; ``book`` and ``cost``, the latter a mean;
        ``value`` with ``low`` and ``high``: what the levels cost more than the book's, in per cent; ``chosen``: the
        same for the seed that costs least on validation scenarios.
    """
    rows: dict[Any, dict[str, Any]] = {}
    for cell, found in played.groupby(level=[0, 1], sort=False):
        change = 100 * (found["cost"] / found["book"] - 1)
        rows[cell] = {
            **{key: found[key].iloc[0] for key in ("rule", "steps", "book steps", "book")},
            "cost": found["cost"].mean(), **estimate(change.to_numpy()),
            "chosen": change.iloc[int(found["validation"].argmin())],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def verdicts(played: pd.DataFrame, agents: Sequence[str] = ("PPO 1×", "A3C 1×")) -> pd.DataFrame:
    """Agents against opponents that were searched with as many steps; every seed of either side counts.

    Args:
        played: of `play`.
        agents: as `RESULTS` names them.

    Returns:
        Index: environment, opponent, agent. ``value`` with ``low`` and ``high``: what the mean agent costs more than
        the mean search, in per cent of that, with Welch's 95 % interval over the seeds of both; ``says``: the verdict.
    """
    published = {cell: runs.to_numpy() for cell, runs in pd.read_csv(RESULTS).groupby(["env", "policy"])["cost"]}
    rows: dict[Any, dict[str, Any]] = {}
    for (name, opponent), found in played.groupby(level=[0, 1], sort=False)["cost"]:
        for agent in agents:
            runs, scale = published[name, agent], 100 / found.mean()
            low, high = stats.ttest_ind(runs, found, equal_var=False).confidence_interval()
            ends = {"value": scale * (runs.mean() - found.mean()), "low": scale * low, "high": scale * high}
            rows[name, opponent, agent] = {**ends, "says": verdict(ends["low"], ends["high"])}
    return pd.DataFrame.from_dict(rows, orient="index")
