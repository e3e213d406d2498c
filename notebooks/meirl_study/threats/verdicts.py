"""What a study does to its own verdict: one seed, unpaired tests, selection, means alone, a confounded design."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from meirl.envs import Env, Scenario
from meirl.evaluation import cvar, estimate, held_out, interval
from meirl.learn import preset

from ..statistics import bootstrap


def _by_cell(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of every environment and algorithm, in order of appearance."""
    return list(table.groupby(["env", "algo"], sort=False))  # type: ignore[arg-type]


def run_costs(results: pd.DataFrame, best: Mapping[str, float]) -> pd.DataFrame:
    """Mean cost of every run.

    Args:
        results: of `meirl_study.study.run`.
        best: cost of the best rule by environment.

    Returns:
        One row a run: ``env``, ``algo``, ``seed``, ``cost`` (in units of ``cost_unit``) and ``percent``, the extra cost
        over the best rule.
    """
    runs = results.groupby(["env", "algo", "seed"], sort=False, as_index=False)["cost"].mean()
    return runs.assign(percent=100 * (runs["cost"] / runs["env"].map(best) - 1))


def over_seeds(results: pd.DataFrame, best: Mapping[str, float]) -> pd.DataFrame:
    """How far seeds lie apart; arguments as in `run_costs`.

    Returns:
        Index: environment and algorithm (capitals). In percent of the best rule's cost: the mean extra cost over it,
        ``value``, with its interval ``low`` and ``high`` over seeds; ``sd`` over seeds; the ``worst`` and the ``best``
        seed; ``error``, the standard error over episodes that a study with one seed reports; and ``against``, how many
        seeds alone have the opposite sign of the mean.
    """
    errors = {key: cell.groupby("seed")["cost"].sem().mean() for key, cell in _by_cell(results)}
    rows = {}
    for (name, algo), cell in _by_cell(run_costs(results, best)):
        percent = cell["percent"]
        rows[name, algo.upper()] = {
            **estimate(percent.to_numpy()),
            "sd": percent.std(), "worst": percent.max(), "best": percent.min(),
            "error": 100 * errors[name, algo] / best[name],
            "against": (np.sign(percent) != np.sign(percent.mean())).sum(),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def flips(runs: pd.DataFrame) -> float:
    """How often one seed of PPO and one of A3C name the other algorithm the cheaper one than their means do.

    Args:
        runs: of `run_costs`.

    Returns:
        Share of all pairs of seeds on the same environment, in percent.
    """
    wrong = []
    for _, cell in runs.groupby("env"):
        ppo, a3c = (cell.loc[cell["algo"] == algo, "cost"].to_numpy() for algo in ("ppo", "a3c"))
        order = np.sign(ppo[:, None] - a3c[None])
        wrong.append((order != np.sign(ppo.mean() - a3c.mean())).ravel())
    return float(100 * np.concatenate(wrong).mean())


def unpaired_width(costs: np.ndarray) -> dict[str, float]:
    """How much wider the interval of a difference is if pairs are ignored.

    Args:
        costs: of two policies on the same episodes, ``(episodes, 2)``.

    Returns:
        Mean ``difference``, first minus second; half widths of its 95 % interval, ``± paired`` (Student's t) and
        ``± unpaired`` (Welch's); their ``ratio``; and ``episodes saved``, its square: how many times as many episodes
        the unpaired test needs for the same width.
    """
    first, second = costs.T
    low, high = interval(first - second)
    test = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    ratio = (test.high - test.low) / (high - low)
    return {
        "difference": (first - second).mean(), "± paired": (high - low) / 2, "± unpaired": (test.high - test.low) / 2,
        "ratio": ratio, "episodes saved": ratio**2,
    }  # fmt: skip


def power(
    costs: np.ndarray, sizes: Iterable[int], experiments: int, generator: np.random.Generator, level: float = 0.05
) -> dict[str, pd.DataFrame]:
    """How often a test of two policies finds the better one.

    Args:
        costs: of both policies on the same episodes, ``(episodes, 2)``; the difference of their means is the truth.
        sizes: episodes a policy in an experiment.
        experiments: drawn from the episodes, with replacement.
        generator: draws them.
        level: of the two-sided test.

    Returns:
        ``paired test`` and ``unpaired test``, each by size: ``value``, the share of experiments in which the test is
        significant with the right sign, with its 95 % interval ``low`` and ``high`` over experiments. The paired t-test
        sees common episodes; in the unpaired one, Welch's, each policy has episodes of its own.
    """
    truth = np.sign(costs[:, 0].mean() - costs[:, 1].mean())
    rows: dict[str, dict[int, dict[str, float]]] = {"paired test": {}, "unpaired test": {}}
    for n in sizes:
        one, two = generator.integers(0, len(costs), (2, experiments, n))
        a, common, own = costs[one, 0], costs[one, 1], costs[two, 1]
        tests = stats.ttest_rel(a, common, axis=1), stats.ttest_ind(a, own, axis=1, equal_var=False)
        for name, test in zip(rows, tests, strict=True):
            share = float(np.mean((test.pvalue < level) & (np.sign(test.statistic) == truth)))
            half = 1.96 * np.sqrt(share * (1 - share) / experiments)
            rows[name][n] = {"value": share, "low": share - half, "high": share + half}
    return {name: pd.DataFrame.from_dict(own, orient="index") for name, own in rows.items()}


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
        Index: size; ``value``: true cost of the chosen candidate minus the cost it was chosen by, in percent of the
        former, with ``low`` and ``high``: a 95 % interval of that mean over experiments.
    """
    count, episodes = costs.shape
    truth, rows = costs.mean(1), {}
    for n in sizes:
        drawn = generator.integers(0, episodes, (experiments, 1 if common else count, n))
        scores = costs[np.arange(count)[:, None], drawn].mean(2)  # (experiment, candidate)
        chosen = scores.argmin(1)
        rows[n] = estimate(100 * (1 - scores.min(1) / truth[chosen]))
    return pd.DataFrame.from_dict(rows, orient="index")


def chosen_on(env: Env, algo: str, changes: Mapping[str, Any]) -> Scenario:
    """The validation scenarios that choose the checkpoints of tuned agents.

    Args:
        env: the environment.
        algo: ``ppo`` or ``a3c``.
        changes: of the preset, such as the profile's.
    """
    return held_out(env, "validation", preset(algo, "tuned", env.name, **changes).validation_episodes)


def selection_gaps(runs: pd.DataFrame, histories: pd.DataFrame, best: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Extra cost over the best rule, on the scenarios that chose a run's checkpoint and on those that only test it.

    Args:
        runs: of `run_costs`.
        histories: of the same runs, from `meirl_study.study.histories`.
        best: cost of the best rule on the validation scenarios, by environment and algorithm.

    Returns:
        Index: environment and algorithm (capitals); means over seeds, ``on validation [%]`` and ``on test [%]``;
        their difference ``gap`` with its interval ``gap_low`` and ``gap_high`` over seeds.
    """
    chosen_by = {key: cell.groupby("seed")["validation_cost"].min() for key, cell in _by_cell(histories)}
    rows = {}
    for (name, algo), cell in _by_cell(runs):
        test = cell.set_index("seed")["percent"]
        validation = 100 * (chosen_by[name, algo] / best[name, algo] - 1)
        gap = (test - validation).to_numpy()
        rows[name, algo.upper()] = {
            "on validation [%]": validation.mean(), "on test [%]": test.mean(), **estimate(gap, "gap")
        }  # fmt: skip
    return pd.DataFrame(rows).T


def lone_outlier(mean: float, std: float, episodes: int) -> tuple[float, float]:
    """The one cost that makes a whole standard deviation, and the cost of all other episodes, if those are equal.

    One value that lies ``d`` above n - 1 equal ones has the standard deviation ``d / sqrt(n)``.
    """
    distance = std * episodes**0.5
    others = mean - distance / episodes
    return others + distance, others


def tails(costs: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Put the tail of the costs beside their mean.

    Args:
        costs: by policy, ``(seeds, episodes)``; one row where nothing is trained.

    Returns:
        One row a policy: the mean, ``value``, with its interval ``low`` and ``high``; ``cvar`` (mean of the worst 5 %)
        with ``cvar_low`` and ``cvar_high``, both bootstrapped over seeds and episodes; ``worst``, the largest cost; and
        ``worst / median``.
    """
    rows = {}
    for policy, matrix in costs.items():
        means, worst = bootstrap(np.mean, matrix), bootstrap(lambda drawn: cvar(drawn.ravel()), matrix)
        rows[policy] = {
            "value": matrix.mean(), "low": means[0], "high": means[1],
            "cvar": cvar(matrix.ravel()), "cvar_low": worst[0], "cvar_high": worst[1],
            "worst": matrix.max(), "worst / median": matrix.max() / np.median(matrix),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """The difference between algorithms as a design with two of four cells has it, and as all four have it.

    Args:
        runs: of `run_costs`, both algorithms on all environments, over the same seeds.

    Returns:
        Index ``(design, variant)``: ``diagonal, as published`` (A3C on MEIS minus PPO on the divergent chain) or
        ``crossed`` (the mean over both chains); A3C minus PPO in percentage points of the best rule's cost, ``value``,
        with its interval ``low`` and ``high`` over seeds.
    """
    percent = runs.pivot_table(index="seed", columns=["env", "algo"], values="percent")
    rows = {}
    for design in ("diagonal, as published", "crossed"):
        for variant in ("stationary", "nonstationary"):
            chains = [f"divergent-{variant}", f"meis-{variant}"]
            seen = {"ppo": chains, "a3c": chains} if design == "crossed" else {"ppo": chains[:1], "a3c": chains[1:]}
            means = {a: percent[[(name, a) for name in names]].mean(axis=1) for a, names in seen.items()}
            rows[design, variant] = estimate((means["a3c"] - means["ppo"]).to_numpy())
    return pd.DataFrame(rows).T
