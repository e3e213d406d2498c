"""Evaluation: learners against two opponents and against each other, over episodes and training seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .cells import LEARNERS, OPPONENTS, Cells, tail
from .chapter import verdict
from .published import RESULTS
from .statistics import bootstrap, effect_sizes, holm, probability_of_improvement, variance_components, versus

BASELINE = "published baseline"
LEVEL = 0.05  # of the tests
SMALLEST_P = 0.001  # below it nobody should believe a t-test's digits
OVER = {"over episodes": "episodes_", "over seeds": "seeds_", "over both": ""}
"""The three intervals of a difference: headings, and prefixes of ``low`` and ``high`` in tables of `versus`."""
WORDS = {"beats": "cheaper", "loses to": "dearer", "cannot be told apart from": "undecided"}
"""What tables say for the verdicts of `meirl_study.chapter.verdict`."""


def environments(cells: Cells) -> list[str]:
    """Names of the environments, in order."""
    return list(dict.fromkeys(name for name, _ in cells))


def against(cells: Cells, opponent: str, resamples: int, learners: Sequence[str] = LEARNERS) -> pd.DataFrame:
    """Compare learners with a rule on every environment, paired by episode.

    Args:
        cells: matrices of costs.
        opponent: the rule's name in them.
        resamples: of the bootstrap.
        learners: names of the agents in them.

    Returns:
        Index: environment and learner. Columns of `meirl_study.statistics.versus`, the difference and its intervals in
        percent of the rule's cost; ``p_holm`` corrected for all rows; ``verdict`` at `LEVEL`: ``cheaper``, ``dearer``
        or ``undecided``.
    """
    columns = ["value", *(f"{prefix}{end}" for prefix in OVER.values() for end in ("low", "high"))]
    tables = {}
    for name in environments(cells):
        rule = cells[name, opponent][0]
        differences = versus({learner: cells[name, learner] for learner in learners}, rule, resamples)
        tables[name] = differences.assign(**(100 * (differences[columns] / rule.mean())))
    table = pd.concat(tables).assign(p_holm=lambda t: holm(t["p"].to_numpy()))
    direction = np.where(table["value"] < 0, "cheaper", "dearer")
    return table.assign(verdict=np.where(table["p_holm"] < LEVEL, direction, "undecided"))


def differences(compared: pd.DataFrame) -> pd.DataFrame:
    """The differences of `against` with their three intervals and the corrected test, as text."""
    text: dict[str, Any] = {"difference [%]": compared["value"].map("{:+.1f}".format), "verdict": compared["verdict"]}
    for heading, prefix in OVER.items():
        ends = compared[[f"{prefix}low", f"{prefix}high"]].to_numpy()
        text[heading] = [f"{low:+.1f} to {high:+.1f}" for low, high in ends]
    text["p, corrected"] = compared["p_holm"].map(p_value)
    return pd.DataFrame(text, index=compared.index)


def p_value(p: float) -> str:
    """A p-value as text; one of a handful of seeds has no digits far out in its tail."""
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def with_verdict(compared: pd.DataFrame, word: str) -> str:
    """Name the rows of `against` with a verdict: ``PPO 1× on meis-stationary, ...`` or ``none``."""
    rows = compared.index[compared["verdict"] == word]
    return ", ".join(f"{learner} on {name}" for name, learner in rows) or "none"


def environments_with(compared: pd.DataFrame, learner: str, word: str) -> str:
    """Name the environments on which a learner has a verdict in a table of `against`: ``a, b and c``, or ``none``."""
    rows = compared.xs(learner, level=1)
    *others, last = rows.index[rows["verdict"] == word].tolist() or ["none"]
    return f"{', '.join(others)} and {last}" if others else last


def beside_cost(costs: Cells, fills: Cells, opponent: str, resamples: int) -> pd.DataFrame:
    """Compare learners with a rule in cost, tail and service, on the same episodes, over episodes and training seeds.

    Args:
        costs: matrices of costs.
        fills: matrices of fill rates, of the same cells.
        opponent: the rule's name in them.
        resamples: of the bootstrap.

    Returns:
        Index: environment and learner. ``value``, ``low``, ``high`` of the difference in mean cost, in percent of the
        rule's; the same with the prefix ``tail_`` of that in CVaR, and with ``fill_`` of that in the fill rate, in
        points. Intervals are for each row by itself, not corrected for their number.
    """
    rows = {}
    for name in environments(costs):
        for learner in LEARNERS:
            cost, rule = costs[name, learner], costs[name, opponent]
            filled = fills[name, learner], fills[name, opponent]
            percent = 100 * (cost - rule) / rule.mean()  # as in `against`, so that its intervals are the same
            rows[name, learner] = (
                _interval("", np.mean, percent, resamples=resamples)
                | _interval("tail_", _extra_tail, cost, rule, resamples=resamples)
                | _interval("fill_", _points, *filled, resamples=resamples)
            )
    return pd.DataFrame.from_dict(rows, orient="index")


def _interval(prefix: str, statistic: Callable[..., Any], *costs: np.ndarray, resamples: int) -> dict[str, float]:
    low, high = bootstrap(statistic, *costs, resamples=resamples)
    return {f"{prefix}value": float(statistic(*costs)), f"{prefix}low": low, f"{prefix}high": high}


def _extra(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 100 * (ours.mean() / theirs.mean() - 1)


def _extra_tail(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 100 * (tail(ours) / tail(theirs) - 1)


def _points(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 100 * (ours.mean() - theirs.mean())


def three_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `beside_cost` as text, in words where an interval leaves out 0."""
    text, words = {}, {"": ("cheaper", "dearer"), "tail_": ("better", "worse"), "fill_": ("less", "more")}
    headings = {"": "cost [%]", "tail_": "tail, CVaR [%]", "fill_": "fill rate [points]"}
    for prefix, (below, above) in words.items():
        ends = table[[f"{prefix}value", f"{prefix}low", f"{prefix}high"]].to_numpy()
        text[headings[prefix]] = [
            f"{value:+.1f} ({low:+.1f} to {high:+.1f}), {below if high < 0 else above if low > 0 else 'undecided'}"
            for value, low, high in ends
        ]
    return pd.DataFrame(text, index=table.index)


def sources_of_error(cells: Cells, opponent: str) -> pd.DataFrame:
    """Where the uncertainty of a difference to a rule comes from, one row an environment and learner.

    Returns:
        Columns of `meirl_study.statistics.variance_components`.
    """
    keys = [(name, learner) for name in environments(cells) for learner in LEARNERS]
    return pd.DataFrame({key: variance_components(cells[key] - cells[key[0], opponent][0]) for key in keys}).T


def overall(cells: Cells) -> pd.DataFrame:
    """Costs relative to each opponent, by environment, with their geometric mean; one row an opponent and learner.

    Four environments are no sample of anything: the mean has no interval, and the four values stand beside it.
    """
    rows = {}
    for opponent in OPPONENTS:
        for learner in LEARNERS:
            ratios = {name: cells[name, learner].mean() / cells[name, opponent].mean() for name in environments(cells)}
            rows[opponent, learner] = ratios | {"geometric mean": stats.gmean(list(ratios.values()))}
    return pd.DataFrame(rows).T


def duel(cells: Cells, resamples: int) -> pd.DataFrame:
    """PPO against A3C on every environment at each budget: both learnt, so the seeds of both are drawn anew.

    Returns:
        Index: environment and budget. How much more PPO costs, ``PPO against A3C [%]``, and its interval ``over both``;
        ``probability that a PPO run is cheaper``; ``PPO``: ``cheaper``, ``dearer`` or ``undecided``.
    """
    rows = {}
    for name in environments(cells):
        for ppo, a3c in zip(LEARNERS[::2], LEARNERS[1::2], strict=True):
            pair = [cells[name, ppo], cells[name, a3c]]
            low, high = bootstrap(_extra, *pair, resamples=resamples)
            runs = [cost.mean(1, keepdims=True) for cost in pair]
            rows[name, ppo.removeprefix("PPO ")] = {
                "PPO against A3C [%]": f"{_extra(*pair):+.1f}",
                "over both": f"{low:+.1f} to {high:+.1f}",
                "probability that a PPO run is cheaper": probability_of_improvement(*runs),
                "PPO": WORDS[verdict(low, high)],
            }
    return pd.DataFrame(rows).T


def published_cells(cells: Cells) -> pd.DataFrame:
    """The four published cells beside ours, with the study's own statistics.

    Returns:
        Index: environment, agent, opponent. ``cost``, cost of the ``opponent``, ``saved [%]``, ``t, unpaired`` and
        ``Cohen's d``; ``paired d`` of ours, whose statistics are means over training seeds.
    """
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for name, theirs in RESULTS.iterrows():
        rows[str(name), "as published", BASELINE] = as_published(theirs)
        agent = f"{theirs['agent']} 1×"
        cost = cells[str(name), agent]
        for opponent in (BASELINE, *OPPONENTS):
            other = cells[str(name), opponent][0]
            effects = pd.DataFrame([effect_sizes(run, other) for run in cost]).mean()
            rows[str(name), f"our {agent}", opponent] = {
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
