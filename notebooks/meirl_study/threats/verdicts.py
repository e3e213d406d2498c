"""What a study does to its own verdict: one seed, unpaired tests, selection, one wild episode, a confounded design."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from meirl.envs import Env, Scenario
from meirl.evaluation import estimate, held_out, interval
from meirl.learn import preset

from ..cells import LEARNERS, agent_names

PAIR = LEARNERS[:2]
"""PPO and A3C at the published budget."""
NORMAL = 1.96  # standard errors in half of a 95 % interval


def _by_cell(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of every environment and agent, in order of appearance."""
    return list(table.groupby(["env", "policy"], sort=False))  # type: ignore[arg-type]


def run_costs(results: pd.DataFrame, best: Mapping[str, float]) -> pd.DataFrame:
    """Mean cost of every run.

    Args:
        results: of `meirl_study.study.run`.
        best: cost of the designed rule by environment.

    Returns:
        One row a run: ``env``; ``policy``, the agent as `meirl_study.cells.agent_names` calls it; ``seed``; ``cost``
        (in units of ``cost_unit``) and ``percent``, the extra cost over the rule.
    """
    named = results.assign(policy=agent_names(results))
    runs = named.groupby(["env", "policy", "seed"], sort=False, as_index=False)["cost"].mean()
    return runs.assign(percent=100 * (runs["cost"] / runs["env"].map(best) - 1))


def over_seeds(results: pd.DataFrame, best: Mapping[str, float]) -> pd.DataFrame:
    """How far seeds lie apart; arguments as in `run_costs`.

    Returns:
        Index: environment and agent. In percent of the rule's cost: the mean extra cost over it, ``value``, with its
        interval ``low`` and ``high`` over seeds; ``sd`` over seeds; the ``worst`` and the ``best`` seed; ``error``, the
        standard error over episodes that a study with one seed reports; ``seeds``, and ``against``, how many of them
        alone have the opposite sign of the mean.
    """
    named = results.assign(policy=agent_names(results))
    errors = {key: cell.groupby("seed")["cost"].sem().mean() for key, cell in _by_cell(named)}
    rows = {}
    for (name, agent), cell in _by_cell(run_costs(results, best)):
        percent = cell["percent"]
        rows[name, agent] = {
            **estimate(percent.to_numpy()),
            "sd": percent.std(), "worst": percent.max(), "best": percent.min(),
            "error": 100 * errors[name, agent] / best[name],
            "seeds": len(percent), "against": (np.sign(percent) != np.sign(percent.mean())).sum(),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def flips(runs: pd.DataFrame, pair: Sequence[str]) -> float:
    """How often one seed of each of two agents names the other one the cheaper than their means do.

    Args:
        runs: of `run_costs`.
        pair: names of the agents.

    Returns:
        Share of all pairs of seeds on the same environment, in percent.
    """
    wrong = []
    for _, cell in runs.groupby("env"):
        one, other = (cell.loc[cell["policy"] == agent, "cost"].to_numpy() for agent in pair)
        order = np.sign(one[:, None] - other[None])
        wrong.append((order != np.sign(one.mean() - other.mean())).ravel())
    return float(100 * np.concatenate(wrong).mean())


def unpaired_width(costs: np.ndarray) -> dict[str, float]:
    """How much wider the interval of a difference is if pairs are ignored.

    Args:
        costs: of two policies on the same episodes, ``(episodes, 2)``.

    Returns:
        Mean ``difference``, first minus second; half widths of its 95 % interval, ``± paired`` (Student's t) and
        ``± unpaired`` (Welch's); their ``ratio``; and ``episodes, times``, its square: how many times as many episodes
        the unpaired test needs for the same width.
    """
    first, second = costs.T
    low, high = interval(first - second)
    test = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    ratio = (test.high - test.low) / (high - low)
    return {
        "difference": (first - second).mean(), "± paired": (high - low) / 2, "± unpaired": (test.high - test.low) / 2,
        "ratio": ratio, "episodes, times": ratio**2,
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


def chosen_on(env: Env, algo: str, changes: Mapping[str, Any]) -> Scenario:
    """The validation scenarios that choose the checkpoints of tuned agents.

    Args:
        env: the environment.
        algo: ``ppo`` or ``a3c``.
        changes: of the preset, such as the profile's.
    """
    return held_out(env, "validation", preset(algo, "tuned", env.name, **changes).validation_episodes)


def selection_gaps(
    results: pd.DataFrame, histories: pd.DataFrame, validation: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Extra cost over the designed rule, on the scenarios that chose a run's checkpoint and on those that only test it.

    Args:
        results: of `meirl_study.study.run`, agents with one preset.
        histories: of the same runs, from `meirl_study.study.histories`.
        validation: costs of the rule on the validation scenarios, by environment, ``(episodes,)``.
        test: those on the test scenarios.

    Returns:
        Index: environment and agent; means over seeds, ``on validation [%]`` and ``on test [%]``; their difference
        ``gap`` with its interval ``gap_low`` and ``gap_high``. The interval counts the luck of both scenario sets and
        of the seeds: its variance is the sum of the three, as if agents varied with the episodes as the rule does.
    """
    named = results.assign(policy=agent_names(results))
    curves = histories.assign(policy=agent_names(histories))
    chosen_by = {key: cell.groupby("seed")["validation_cost"].min() for key, cell in _by_cell(curves)}
    rows = {}
    for (name, agent), cell in _by_cell(named):
        rule, seen = test[name], validation[name]
        each = np.stack([run["cost"].to_numpy() for _, run in cell.groupby("seed")]) - rule
        on_test = 100 * each.mean(1) / rule.mean()
        on_validation = 100 * (chosen_by[name, agent].to_numpy() / seen.mean() - 1)
        gaps = on_test - on_validation
        luck = (100 * each.mean(0).std(ddof=1) / rule.mean()) ** 2 * (1 / len(rule) + 1 / len(seen))
        half = NORMAL * (gaps.var(ddof=1) / len(gaps) + luck) ** 0.5
        gap = gaps.mean()
        rows[name, agent] = {
            "on validation [%]": on_validation.mean(), "on test [%]": on_test.mean(),
            "gap": gap, "gap_low": gap - half, "gap_high": gap + half,
        }  # fmt: skip
    return pd.DataFrame(rows).T


def lone_outlier(mean: float, std: float, episodes: int) -> tuple[float, float]:
    """The one cost that makes a whole standard deviation, and the cost of all other episodes, if those are equal.

    One value that lies ``d`` above n - 1 equal ones has the standard deviation ``d / sqrt(n)``.
    """
    distance = std * episodes**0.5
    others = mean - distance / episodes
    return others + distance, others


def disagreements(beside: pd.DataFrame) -> str:
    """Where the tail or the service of an agent contradicts its cost, each by an interval without zero.

    Args:
        beside: of `meirl_study.comparison.beside_cost`.

    Returns:
        A list for the text, such as ``PPO 1× on meis-stationary (tail, service)``, or ``none``.
    """
    better = {  # 1: better than the rule, -1: worse, 0: undecided
        what: np.where(beside[f"{prefix}high"] < 0, sign, np.where(beside[f"{prefix}low"] > 0, -sign, 0))
        for what, prefix, sign in (("cost", "", 1), ("tail", "tail_", 1), ("service", "fill_", -1))
    }
    found = []
    for i, (name, agent) in enumerate(beside.index):
        against = [what for what in ("tail", "service") if better[what][i] * better["cost"][i] < 0]
        if against:
            found.append(f"{agent} on {name} ({', '.join(against)})")
    return ", ".join(found) or "none"


def changed(compared: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> str:
    """Where the verdict on an agent is another one at another budget.

    Args:
        compared: of `meirl_study.comparison.against`.
        pairs: an agent's names at the two budgets.

    Returns:
        A list for the text, such as ``PPO on meis-stationary (dearer, then cheaper)``, or ``none``.
    """
    found = []
    for short, long in pairs:
        for name in compared.index.unique(0):
            one, other = (compared.loc[(name, agent), "verdict"] for agent in (short, long))
            if one != other:
                found.append(f"{short.split()[0]} on {name} ({one}, then {other})")
    return ", ".join(found) or "none"


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """The difference between algorithms as a design with two of four cells has it, and as all four have it.

    Args:
        runs: of `run_costs`, both algorithms on all environments at the published budget, over the same seeds.

    Returns:
        Index ``(design, variant)``: ``diagonal`` (A3C on MEIS minus PPO on the divergent chain) or ``crossed`` (the
        mean over both chains); A3C minus PPO in percentage points of the rule's cost, ``value``, with its interval
        ``low`` and ``high`` over seeds.
    """
    percent = runs.pivot_table(index="seed", columns=["env", "policy"], values="percent")
    ppo, a3c = PAIR
    rows = {}
    for design in ("diagonal", "crossed"):
        for variant in ("stationary", "nonstationary"):
            chains = [f"divergent-{variant}", f"meis-{variant}"]
            seen = {ppo: chains, a3c: chains} if design == "crossed" else {ppo: chains[:1], a3c: chains[1:]}
            means = {a: percent[[(name, a) for name in names]].mean(axis=1) for a, names in seen.items()}
            rows[design, variant] = estimate((means[a3c] - means[ppo]).to_numpy())
    return pd.DataFrame(rows).T


def sides(contrast: pd.Series) -> str:
    """Who is the cheaper one by an interval of A3C minus PPO: an algorithm's name, or ``undecided``."""
    return "PPO" if contrast["low"] > 0 else "A3C" if contrast["high"] < 0 else "undecided"
