"""Fixed scenario sets, summaries and paired comparisons: how every policy in the book is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from .envs import Costs, Env, Scenario
from .rollout import Policy, rollout

# Streams are disjoint because seeds differ; training and tuning seeds stay below `FIRST_RESERVED_SEED`.
FIRST_RESERVED_SEED = 2_000_000_000
VALIDATION_SEED = FIRST_RESERVED_SEED + 1  # chooses checkpoints and re-scores tuned parameters
TEST_SEED = FIRST_RESERVED_SEED + 2  # only ever reported, never used to choose anything
VALIDATION_EPISODES, TEST_EPISODES = 200, 1_000


def held_out(env: Env, purpose: Literal["validation", "test"], episodes: int | None = None) -> Scenario:
    """Fixed scenarios, the same for every policy; a shorter set is the beginning of a longer one.

    Args:
        env: the environment.
        purpose: ``validation`` to choose with (checkpoints, tuned parameters), ``test`` only to report on.
        episodes: how many; `VALIDATION_EPISODES` or `TEST_EPISODES` if None.

    Returns:
        The scenarios.
    """
    if purpose == "validation":
        return env.sample(VALIDATION_EPISODES if episodes is None else episodes, VALIDATION_SEED)
    if purpose == "test":
        return env.sample(TEST_EPISODES if episodes is None else episodes, TEST_SEED)
    raise ValueError(f"purpose must be validation or test, got {purpose!r}")


def cvar(costs: np.ndarray, share: float = 0.05) -> float:
    """Mean of the worst ``share`` of episodes (conditional value at risk); at least one episode."""
    worst = max(1, round(share * len(costs)))
    return float(np.sort(costs)[-worst:].mean())


def summarise(table: pd.DataFrame) -> dict[str, object]:
    """Summarise a table of `rollout`: what ``meirl evaluate --json`` prints.

    Returns:
        ``mean_cost`` in units of ``cost_unit``, its ``standard_error`` and the ``std`` over episodes, ``cvar95`` (mean
        of the worst 5 %), the mean of every cost part, fill rates and the rest, and the number of ``episodes``.
    """
    cost = table["cost"].to_numpy()
    episodes = len(cost)
    std = float(cost.std(ddof=1)) if episodes > 1 else float("nan")
    other = [c for c in table.columns if not c.startswith("cost")]
    return {
        "mean_cost": float(cost.mean()),
        "standard_error": std / episodes**0.5,
        "std": std,
        "cvar95": cvar(cost),
        "cost_parts": {part: float(table[f"cost_{part}"].mean()) for part in Costs._fields},
        **{column: float(table[column].mean()) for column in other},
        "episodes": episodes,
    }


def compare(policies: Mapping[str, Policy], env: Env, scenario: Scenario, confidence: float = 0.95) -> pd.DataFrame:
    """Play all policies on the same scenarios and compare each with the first, episode by episode.

    Args:
        policies: policies by name; the first is the reference.
        env: the environment.
        scenario: common random numbers for all.
        confidence: of the intervals (Student's t over episodes).

    Returns:
        One row a policy: ``mean_cost``, its interval ``low`` and ``high``, ``cvar95``, ``fill_rate``, the paired
        ``difference`` to the first policy with ``difference_low`` and ``difference_high``.
    """
    costs: dict[str, np.ndarray] = {}
    rows = {}
    for name, policy in policies.items():
        table = rollout(env, policy, scenario)
        costs[name] = table["cost"].to_numpy()
        low, high = interval(costs[name], confidence)
        difference = costs[name] - next(iter(costs.values()))
        difference_low, difference_high = interval(difference, confidence)
        rows[name] = {
            "mean_cost": costs[name].mean(), "low": low, "high": high,
            "cvar95": cvar(costs[name]), "fill_rate": table["fill_rate"].mean(),
            "difference": difference.mean(), "difference_low": difference_low, "difference_high": difference_high,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def interval(sample: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of a sample; a constant sample gives a point."""
    error = float(stats.sem(sample)) if len(sample) > 1 else float("nan")
    if error == 0:
        return float(sample.mean()), float(sample.mean())
    low, high = stats.t.interval(confidence, len(sample) - 1, loc=sample.mean(), scale=error)
    return float(low), float(high)


# ---------------------------------------------------------------------------------------------------------------------
# Trained policies: several training seeds play the same episodes, so costs form a matrix (seed, episode). Both are
# samples, of how training may turn out and of what nature may do; they are crossed, and their uncertainties differ.

Over = Literal["episodes", "seeds", "both"]


def crossed(table: pd.DataFrame, column: str = "cost") -> np.ndarray:
    """Arrange one cell of `meirl.study.run`'s table as a matrix, ``(seeds, episodes)``.

    Raises:
        ValueError: if a seed lacks an episode, or has it twice.
    """
    if table.duplicated(["seed", "episode"]).any():
        raise ValueError("more than one row for the same seed and episode: select one cell of the study first")
    values = table.pivot_table(index="seed", columns="episode", values=column).to_numpy()
    if np.isnan(values).any():
        raise ValueError(f"{column}: the seeds have not played the same episodes")
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

    Episodes are drawn once for all policies, which keeps the pairing; training seeds for each policy on its own.
    Drawing both is the bootstrap of crossed samples (Owen 2007, the "pigeonhole bootstrap"). Percentiles are spread as
    Student's t is wider than the normal distribution (Hesterberg 2015), since with ten seeds plain ones are too narrow.

    Args:
        statistic: of as many matrices as there are policies.
        *costs: of each policy, ``(seeds, episodes)``; one row where nothing is trained.
        over: what is drawn anew: ``episodes`` (would these agents do so on other episodes?), ``seeds`` (would other
            agents do so on these?) or ``both``. What is not drawn anew is held fixed.
        confidence: of the interval.
        resamples: how many samples are drawn.
        seed: of the draws.

    Returns:
        Its ends; a point if there is nothing to draw, as with the seeds of a heuristic.

    Raises:
        ValueError: if the policies have not played the same number of episodes, or ``over`` is unknown.
    """
    if over not in ("episodes", "seeds", "both"):
        raise ValueError(f"over must be episodes, seeds or both, got {over!r}")
    episodes = costs[0].shape[1]
    if any(c.shape[1] != episodes for c in costs):
        raise ValueError(f"the policies played {', '.join(str(c.shape[1]) for c in costs)} episodes: expected the same")
    drawn = [episodes] * (over != "seeds") + [len(c) for c in costs if over != "episodes" and len(c) > 1]
    if not drawn:
        return statistic(*costs), statistic(*costs)
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for i in range(resamples):
        columns = rng.integers(episodes, size=episodes) if over != "seeds" else np.arange(episodes)
        rows = [rng.integers(len(c), size=len(c)) if over != "episodes" else np.arange(len(c)) for c in costs]
        values[i] = statistic(*(c[np.ix_(r, columns)] for c, r in zip(costs, rows, strict=True)))
    n = min(drawn)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def variance_components(costs: np.ndarray) -> pd.Series:
    """Split the squared standard error of a mean into what training seeds, episodes and both together contribute.

    Two-way analysis of variance with one observation a cell, both factors random.

    Args:
        costs: ``(seeds, episodes)``, at least two of each; or paired differences.

    Returns:
        ``seeds``, ``episodes``, ``interaction``: shares of ``standard_error`` squared; and ``degrees_of_freedom``
        (Satterthwaite), for a t-test over both.
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


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half of all values: less moved by outliers than a mean, more efficient than a median."""
    return float(stats.trim_mean(values, 0.25, axis=None))


def probability_of_improvement(costs: np.ndarray, reference: np.ndarray) -> float:
    """Probability that a run of one policy is cheaper than one of the other on the same episode; ties count half.

    Args:
        costs: ``(seeds, episodes)``; means over episodes, ``(seeds, 1)``, compare whole runs instead.
        reference: the other policy, ``(its seeds, episodes)``.
    """
    return float((1 + np.sign(reference[None] - costs[:, None]).mean()) / 2)


def effect_sizes(costs: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare two policies on the same episodes with the paired statistics, and beside them with the published ones.

    Args:
        costs: one cost an episode, ``(episodes,)``.
        reference: costs of the other policy.

    Returns:
        ``difference``; ``paired_d`` (its mean in standard deviations of the difference), ``paired_t``, ``paired_p``;
        ``cohen_d`` (in pooled standard deviations of the costs), ``unpaired_t``, ``unpaired_p`` (Student's).
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
    """Adjust p-values for the number of tests (Holm 1979): the chance of any false discovery stays below the level."""
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
        One row a policy: ``mean``, paired ``difference``; its 95 % bootstrap intervals ``episodes_low`` ...
        ``episodes_high``, ``seeds_low`` ... ``seeds_high`` and over both ``low`` ... ``high``;
        ``probability_of_improvement``; ``p`` of a t-test over both and ``p_holm``, adjusted for the number of rows.
    """
    rows = {}
    for name, cost in costs.items():
        difference = cost - reference
        bounds: dict[str, float] = {}
        for over, prefix in (("episodes", "episodes_"), ("seeds", "seeds_"), ("both", "")):
            ends = bootstrap(np.mean, difference, over=over, resamples=resamples)  # type: ignore[arg-type]
            bounds |= dict(zip((f"{prefix}low", f"{prefix}high"), ends, strict=True))
        rows[name] = {
            "mean": cost.mean(), "difference": difference.mean(), **bounds,
            "probability_of_improvement": probability_of_improvement(cost, reference[None]), "p": _p_value(difference),
        }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def _p_value(difference: np.ndarray) -> float:
    """Two-sided p of a mean difference of 0, over episodes and, if there are several, training seeds."""
    if len(difference) == 1:
        return float(stats.ttest_1samp(difference[0], 0).pvalue)
    _, _, _, error, freedom = variance_components(difference)
    return float(2 * stats.t.sf(abs(difference.mean()) / error, freedom))
