"""Statistics of trained policies: crossed samples of training seeds and episodes.

Several training seeds play the same episodes, so costs form a matrix ``(seeds, episodes)``. Both are samples, of how
training may turn out and of what nature may do; they are crossed, and their uncertainties differ. So every question has
to say which of the two is drawn anew:

- *episodes*: would these agents do so on other episodes?
- *seeds*: would agents trained with other seeds do so on these episodes?
- *both*: would the algorithm do so again?

Costs are in units of the environment's ``cost_unit``, lower is better; a difference is ours minus the reference's, so
below 0 we are cheaper. A value and its interval are called ``value``, ``low``, ``high`` in every table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

Over = Literal["episodes", "seeds", "both"]


def crossed(table: pd.DataFrame, column: str = "cost") -> np.ndarray:
    """Arrange one cell of `meirl_study.study.run`'s table (one algorithm on one environment) as a matrix.

    Args:
        table: one row a seed and episode, with the columns ``seed`` and ``episode``.
        column: what to arrange.

    Returns:
        ``(seeds, episodes)``, both in ascending order.

    Raises:
        ValueError: if a seed lacks an episode, or has it twice, or a value is no number.

    >>> crossed(pd.DataFrame({"seed": [0, 0, 1, 1], "episode": [0, 1, 0, 1], "cost": [5.0, 7.0, 6.0, 9.0]}))
    array([[5., 7.],
           [6., 9.]])
    """
    if table.duplicated(["seed", "episode"]).any():
        raise ValueError("more than one row for the same seed and episode: select one cell of the study first")
    # An episode that no seed has a number for would be left out else, and what follows it be paired wrongly.
    values = table.pivot_table(index="seed", columns="episode", values=column, dropna=False).to_numpy()
    if np.isnan(values).any():
        raise ValueError(f"{column}: the seeds have not played the same episodes, or a value is no number")
    return values


def bootstrap(
    statistic: Callable[..., float],
    *costs: np.ndarray,
    over: Over = "both",
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of any statistic of one or more policies that played the same episodes.

    Each resample draws rows i and columns j with replacement and computes the statistic of ``costs[i][:, j]``. Episodes
    are drawn once for all policies, which keeps the pairing; training seeds for each policy on its own.

    Args:
        statistic: of as many matrices as there are policies.
        *costs: of each policy, ``(seeds, episodes)``; one row where nothing is trained.
        over: what is drawn anew: ``episodes``, ``seeds`` or ``both``. What is not drawn anew is held fixed.
        confidence: of the interval.
        resamples: how many samples are drawn.
        seed: of the draws.

    Returns:
        Its ends, in the statistic's unit; a point if there is nothing to draw, as with the seeds of a heuristic.

    Raises:
        ValueError: if the policies have not played the same number of episodes, or ``over`` is unknown.

    Source: Owen (2007), The pigeonhole bootstrap, for drawing both factors of crossed samples.
    """
    if over not in ("episodes", "seeds", "both"):
        raise ValueError(f"over must be episodes, seeds or both, got {over!r}")
    episodes = costs[0].shape[1]
    if any(cost.shape[1] != episodes for cost in costs):
        counts = ", ".join(str(cost.shape[1]) for cost in costs)
        raise ValueError(f"the policies played {counts} episodes: expected the same")
    seeds = [] if over == "episodes" else [len(cost) for cost in costs if len(cost) > 1]
    sizes = seeds if over == "seeds" or episodes == 1 else [episodes, *seeds]
    if not sizes:
        return statistic(*costs), statistic(*costs)
    rng = np.random.default_rng(seed)
    values = [statistic(*_resample(costs, over, rng)) for _ in range(resamples)]
    return _percentiles(np.array(values), min(sizes), confidence)


def _resample(costs: Sequence[np.ndarray], over: Over, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw columns together, then rows of each matrix apart."""
    episodes = costs[0].shape[1]
    columns = rng.integers(episodes, size=episodes) if over != "seeds" else np.arange(episodes)
    rows = [rng.integers(len(c), size=len(c)) if over != "episodes" else np.arange(len(c)) for c in costs]
    # What is not drawn stays as it is: a copy of it would take as long as the draw.
    drawn = costs if over == "episodes" else [cost.take(row, 0) for cost, row in zip(costs, rows, strict=True)]
    return [cost if over == "seeds" else cost.take(columns, 1) for cost in drawn]


def _percentiles(values: np.ndarray, size: int, confidence: float) -> tuple[float, float]:
    """Percentile interval, widened for small samples.

    Plain percentiles are too narrow with ten seeds: they miss the factor sqrt(n / (n - 1)) of the standard error, and
    Student's t. So the tails are cut where a normal distribution has the t quantile instead of its own:
    ``Phi(-sqrt(n / (n - 1)) * t(n - 1))``. Below five samples that is so far out that the interval is just the range of
    the resamples, which no widening can leave: it covers less than it says.

    Args:
        values: the statistic of every resample, ``(resamples,)``.
        size: n, of the smallest sample that was drawn from.
        confidence: of the interval.

    Source: Hesterberg (2015), What teachers should know about the bootstrap.
    """
    quantile = stats.t.ppf((1 + confidence) / 2, size - 1)
    tail = stats.norm.cdf(-np.sqrt(size / (size - 1)) * quantile)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def variance_components(costs: np.ndarray) -> pd.Series:
    """Split the squared standard error of a mean into what training seeds, episodes and both together contribute.

    Two-way analysis of variance with one observation a cell and both factors random: cost(s, e) = mean + seed effect(s)
    + episode effect(e) + rest(s, e). With S seeds and E episodes the variance of the mean of all is
    ``var(seed) / S + var(episode) / E + var(rest) / (S E)``; each variance is estimated from its mean square.

    Args:
        costs: ``(seeds, episodes)``, at least two of each; or paired differences.

    Returns:
        ``seeds``, ``episodes``, ``interaction``: shares of ``standard_error`` squared (in the unit of the costs); and
        ``degrees_of_freedom`` (Satterthwaite), for a t-test over both.

    Raises:
        ValueError: if there are fewer than two seeds or episodes.

    >>> by_source = variance_components(np.array([[0.0, 2.0], [4.0, 6.0]]))  # seeds differ by 4, episodes by 2
    >>> by_source[["seeds", "episodes", "interaction"]].tolist()
    [0.8, 0.2, 0.0]
    """
    count = np.array(costs.shape)
    if (count < 2).any():
        raise ValueError(f"need at least 2 seeds and 2 episodes, got {count[0]} and {count[1]}")
    rows, columns = costs.mean(1), costs.mean(0)
    rest = costs - rows[:, None] - columns + costs.mean()
    residual = (rest**2).sum() / (count - 1).prod()
    squares = np.array([count[1] * rows.var(ddof=1), count[0] * columns.var(ddof=1), residual])
    parts = np.array([*np.clip(squares[:2] - residual, 0, None), residual]) / costs.size
    total = parts.sum()
    freedoms = np.array([*(count - 1), (count - 1).prod()])
    freedom = total**2 / ((squares / costs.size) ** 2 / freedoms).sum() if total else np.inf
    shares = dict(zip(("seeds", "episodes", "interaction"), parts / (total or 1), strict=True))
    return pd.Series({**shares, "standard_error": np.sqrt(total), "degrees_of_freedom": freedom})


def probability_of_improvement(costs: np.ndarray, reference: np.ndarray) -> float:
    """Probability that a run of one policy is cheaper than one of the other on the same episode; ties count half.

    The share of ``costs[i, e] < reference[j, e]`` over all seeds i of one, seeds j of the other and episodes e.

    Args:
        costs: ``(seeds, episodes)``; means over episodes, ``(seeds, 1)``, compare whole runs instead.
        reference: the other policy, ``(its seeds, episodes)``.

    Returns:
        A share: 0.5 if neither is better.

    >>> probability_of_improvement(np.array([[1.0, 5.0], [3.0, 3.0]]), np.array([[2.0, 4.0]]))
    0.5
    """
    return float((1 + np.sign(reference[None] - costs[:, None]).mean()) / 2)


def effect_sizes(costs: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare two policies on the same episodes with the paired statistics, and beside them with the published ones.

    Paired ones divide by the standard deviation of the difference, in which what is common to both, an episode's luck,
    cancels (equation :eq:`eq-pairing` of the book); the published ones divide by that of the costs, luck and all.

    Args:
        costs: one cost an episode, ``(episodes,)``.
        reference: costs of the other policy on the same episodes.

    Returns:
        ``difference``; ``paired_d`` (its mean in standard deviations of the difference), ``paired_t``, ``paired_p``;
        ``cohen_d`` (in pooled standard deviations of the costs), ``unpaired_t``, ``unpaired_p`` (Student's). NaN where
        nothing varies.
    """
    difference = costs - reference
    spread, pooled = difference.std(ddof=1), np.sqrt((costs.var(ddof=1) + reference.var(ddof=1)) / 2)
    paired, unpaired = stats.ttest_rel(costs, reference), stats.ttest_ind(costs, reference)
    return {
        "difference": float(difference.mean()),
        "paired_d": float(difference.mean() / spread) if spread else float("nan"),
        "paired_t": float(paired.statistic), "paired_p": float(paired.pvalue),
        "cohen_d": float(difference.mean() / pooled) if pooled else float("nan"),
        "unpaired_t": float(unpaired.statistic), "unpaired_p": float(unpaired.pvalue),
    }  # fmt: skip


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values for the number of tests: the chance of any false discovery stays below the level.

    The smallest of n is multiplied by n, the next by n - 1 and so on; none is smaller than the one before it.

    Args:
        p_values: of the tests, ``(n,)``.

    Returns:
        Adjusted p-values, at most 1, in the same order.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> holm([0.04, 0.01, 0.03]).round(3).tolist()
    [0.06, 0.03, 0.06]
    """
    p = np.asarray(p_values, float)
    order = p.argsort()
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)[order.argsort()]


def versus(costs: Mapping[str, np.ndarray], reference: np.ndarray, resamples: int = 2_000) -> pd.DataFrame:
    """Compare trained policies with one that is not trained, uncertainty over episodes and training seeds apart.

    Args:
        costs: of each policy, ``(seeds, episodes)``; one row where nothing is trained.
        reference: costs of the reference policy on the same episodes, ``(episodes,)``.
        resamples: of the bootstrap.

    Returns:
        One row a policy: its mean ``cost``; ``value``, the mean paired difference to the reference, with its 95 %
        bootstrap intervals ``episodes_low`` ... ``episodes_high``, ``seeds_low`` ... ``seeds_high`` and over both
        ``low`` ... ``high``, ready for `meirl_study.figures.intervals`; ``probability_of_improvement``; ``p`` of a
        t-test over both and ``p_holm``, adjusted for the number of rows.
    """
    rows = {}
    for name, cost in costs.items():
        difference = cost - reference
        ends: dict[str, float] = {}
        overs: dict[Over, str] = {"episodes": "episodes_", "seeds": "seeds_", "both": ""}
        for over, prefix in overs.items():
            ends[f"{prefix}low"], ends[f"{prefix}high"] = bootstrap(np.mean, difference, over=over, resamples=resamples)
        rows[name] = {
            "cost": cost.mean(), "value": difference.mean(), **ends,
            "probability_of_improvement": probability_of_improvement(cost, reference[None]), "p": _p_value(difference),
        }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def _p_value(difference: np.ndarray) -> float:
    """Two-sided p of a mean difference of 0, over episodes and, if there are several, training seeds."""
    if len(difference) == 1:
        return float(stats.ttest_1samp(difference[0], 0).pvalue)
    parts = variance_components(difference)
    t = difference.mean() / parts["standard_error"]
    return float(2 * stats.t.sf(abs(t), parts["degrees_of_freedom"]))
