"""Chapter 7: learners against the best heuristic and against each other, over episodes and training seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .cells import Cells
from .chapter import verdict
from .published import RESULTS
from .statistics import (
    bootstrap,
    effect_sizes,
    holm,
    interquartile_mean,
    probability_of_improvement,
    variance_components,
    versus,
)

LEARNERS = ("PPO", "A3C")
BEST = "best heuristic"
BASELINE = "published baseline"
LEVEL = 0.05  # of the tests
OVER = {"over episodes": "episodes_", "over seeds": "seeds_", "over both": ""}
"""The three intervals of a difference: headings, and prefixes of ``low`` and ``high`` in tables of `versus`."""
WORDS = {"beats": "cheaper", "loses to": "dearer", "cannot be told apart from": "undecided"}
"""What tables say for the verdicts of `meirl_study.chapter.verdict`."""


def environments(cells: Cells) -> list[str]:
    """Names of the environments, in order."""
    return list(dict.fromkeys(name for name, _ in cells))


def against_best(cells: Cells, resamples: int) -> pd.DataFrame:
    """Compare both learners with the best heuristic on every environment, paired by episode.

    Args:
        cells: matrices of costs.
        resamples: of the bootstrap.

    Returns:
        Index: environment and learner. Columns of `meirl_study.statistics.versus`, the difference and its intervals in
        percent of the heuristic's cost; ``p_holm`` corrected for all rows; ``verdict`` at `LEVEL`: ``cheaper``,
        ``dearer`` or ``undecided``.
    """
    columns = ["value", *(f"{prefix}{end}" for prefix in OVER.values() for end in ("low", "high"))]
    tables = {}
    for name in environments(cells):
        best = cells[name, BEST][0]
        differences = versus({algo: cells[name, algo] for algo in LEARNERS}, best, resamples)
        tables[name] = differences.assign(**(100 * (differences[columns] / best.mean())))
    table = pd.concat(tables).assign(p_holm=lambda t: holm(t["p"].to_numpy()))
    direction = np.where(table["value"] < 0, "cheaper", "dearer")
    return table.assign(verdict=np.where(table["p_holm"] < LEVEL, direction, "undecided"))


def differences(compared: pd.DataFrame) -> pd.DataFrame:
    """The differences of `against_best` with their three intervals, as text."""
    text: dict[str, Any] = {"difference [%]": compared["value"].map("{:+.1f}".format)}
    for heading, prefix in OVER.items():
        ends = compared[[f"{prefix}low", f"{prefix}high"]].to_numpy()
        text[heading] = [f"{low:+.1f} to {high:+.1f}" for low, high in ends]
    return pd.DataFrame(text, index=compared.index)


def tests(compared: pd.DataFrame) -> pd.DataFrame:
    """Probability of improvement, corrected p-value and verdict of `against_best`, as text."""
    text = {
        "probability of improvement": compared["probability_of_improvement"].map("{:.2f}".format),
        "p, corrected": compared["p_holm"].map("{:.2g}".format),
        "verdict": compared["verdict"],
    }
    return pd.DataFrame(text)


def with_verdict(compared: pd.DataFrame, word: str) -> str:
    """Name the rows of `against_best` with a verdict: ``PPO on meis-stationary, ...`` or ``none``."""
    rows = compared.index[compared["verdict"] == word]
    return ", ".join(f"{algo} on {name}" for name, algo in rows) or "none"


def sources_of_error(cells: Cells) -> pd.DataFrame:
    """Where the uncertainty of a difference to the best heuristic comes from, one row a learner and environment.

    Returns:
        Columns of `meirl_study.statistics.variance_components`.
    """
    keys = [(name, algo) for name in environments(cells) for algo in LEARNERS]
    return pd.DataFrame({key: variance_components(cells[key] - cells[key[0], BEST][0]) for key in keys}).T


def overall(cells: Cells, resamples: int) -> pd.DataFrame:
    """Costs relative to the best heuristic over all environments, one row a learner.

    Returns:
        ``interquartile mean`` over all runs, its interval ``low`` and ``high``, which draws the seeds of every
        environment anew (a stratified bootstrap), ``mean`` and ``worst run``.

    Source: Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.
    """
    rows = {}
    for algo in LEARNERS:
        scores = [cells[name, algo].mean(1) / cells[name, BEST].mean() for name in environments(cells)]
        low, high = stratified(_middle, scores, resamples)
        rows[algo] = {
            "interquartile mean": _middle(*scores), "low": low, "high": high, "mean": np.mean(scores),
            "worst run": np.max(scores),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def _middle(*scores: np.ndarray) -> float:
    return interquartile_mean(np.concatenate(scores))


def stratified(
    statistic: Callable[..., float], groups: Sequence[np.ndarray], resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap of a statistic of several samples, each drawn anew on its own."""
    found = stats.bootstrap(
        groups, statistic, vectorized=False, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed)
    )
    return found.confidence_interval.low, found.confidence_interval.high


def duel(cells: Cells, resamples: int) -> pd.DataFrame:
    """PPO against A3C on every environment: both learnt, so the seeds of both are drawn anew.

    Returns:
        How much more PPO costs, ``PPO against A3C [%]``, and its interval ``over both``; ``probability that a PPO run
        is cheaper``; ``PPO``: ``cheaper``, ``dearer`` or ``undecided``.
    """
    rows = {}
    for name in environments(cells):
        pair = [cells[name, algo] for algo in LEARNERS]
        low, high = bootstrap(_extra, *pair, resamples=resamples)
        runs = [cost.mean(1, keepdims=True) for cost in pair]
        rows[name] = {
            "PPO against A3C [%]": f"{_extra(*pair):+.1f}",
            "over both": f"{low:+.1f} to {high:+.1f}",
            "probability that a PPO run is cheaper": probability_of_improvement(*runs),
            "PPO": WORDS[verdict(low, high)],
        }
    return pd.DataFrame(rows).T


def _extra(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 100 * (ours.mean() / theirs.mean() - 1)


def published_cells(cells: Cells) -> pd.DataFrame:
    """The four published cells beside ours, with the study's own statistics.

    Returns:
        Index: environment, agent, opponent. ``cost``, cost of the ``opponent``, ``saved [%]``, ``t, unpaired`` and
        ``Cohen's d``; ``paired d`` of ours, whose statistics are means over training seeds.
    """
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for name, theirs in RESULTS.iterrows():
        rows[str(name), "as published", BASELINE] = as_published(theirs)
        cost = cells[str(name), theirs["agent"]]
        for opponent in (BASELINE, BEST):
            other = cells[str(name), opponent][0]
            effects = pd.DataFrame([effect_sizes(run, other) for run in cost]).mean()
            rows[str(name), f"our {theirs['agent']}", opponent] = {
                "cost": cost.mean(), "opponent": other.mean(), "saved [%]": 100 * (1 - cost.mean() / other.mean()),
                "t, unpaired": effects["unpaired_t"], "Cohen's d": effects["cohen_d"], "paired d": effects["paired_d"],
            }  # fmt: skip
    return pd.DataFrame(rows).T


def as_published(theirs: pd.Series) -> dict[str, float]:
    """Statistics of a row of `meirl_study.published.RESULTS`, from its means and standard deviations alone."""
    count, (ours, other) = theirs["episodes"], theirs[["agent_std", "baseline_std"]].astype(float)
    test = stats.ttest_ind_from_stats(theirs["agent_cost"], ours, count, theirs["baseline_cost"], other, count)
    return {
        "cost": theirs["agent_cost"], "opponent": theirs["baseline_cost"], "saved [%]": theirs["claimed_percent"],
        "t, unpaired": test.statistic,
        "Cohen's d": (theirs["agent_cost"] - theirs["baseline_cost"]) / ((ours**2 + other**2) / 2) ** 0.5,
    }  # fmt: skip
