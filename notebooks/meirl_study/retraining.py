"""The study's agents trained again over seeds, by their best and by their last weights.

The preset ``as-published`` has every hyperparameter of the study, its defects switched on, and its agents see what the
study's saw. If our training were the study's, its one agent would be one more seed: so the question is whether its cost
lies where one more seed of ours would fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from scipy import stats

from meirl import files, held_out, rollout
from meirl.learn import load_checkpoint, load_policy

from . import study
from .chapter import Chapter
from .published import RESULTS, remeasured
from .study import Task
from .training import manifest

QUICK_STEPS = 16_000  # of the quick profile: one environment a worker is slow
WEIGHTS = {"best": "best weights by validation", "last": "last weights"}
"""Which weights of a run are tested, and what they are called."""
EVALUATED = {"PPO": "last", "A3C": "best"}
"""Those that the study evaluated."""


def tasks(chapter: Chapter, envs: Iterable[str]) -> list[Task]:
    """The study's agent of each environment, over few seeds, at its whole budget (unless it is quick)."""
    changes = chapter.changes | ({"steps": QUICK_STEPS} if chapter.quick else {})
    todo = []
    for name in envs:
        algo = str(RESULTS.loc[name, "agent"]).lower()
        options = {"preset": "as-published", "observation": "published", "changes": changes}
        todo += chapter.tasks(envs=[name], algos=[algo], seeds=chapter.few_seeds, **options)
    return todo


def trained_again(chapter: Chapter, envs: Iterable[str], jobs: int) -> pd.DataFrame:
    """Train the study's agents again (or only read the runs) and test both weights of every run.

    Args:
        chapter: gives seeds, episodes and the folder of the runs.
        envs: names of environments.
        jobs: runs at once.

    Returns:
        One row a run: ``env``, ``seed``; ``best`` and ``last``, mean cost on the test scenarios by these weights;
        ``best fill`` and ``last fill``, their fill rates; ``steps`` and ``minutes`` of its training.
    """
    todo = tasks(chapter, envs)
    best = study.run(todo, chapter.root, jobs=jobs, episodes=chapter.episodes, progress=False)
    means = best.groupby(["env", "seed"])[["cost", "fill_rate"]].mean()
    rows = []
    for task in todo:
        kept: Any = means.loc[(task.env, task.seed)]
        made = manifest(task, chapter.root)
        played = last(task.folder(chapter.root), chapter.episodes)
        rows.append({
            "env": task.env, "seed": task.seed, "best": kept["cost"], "best fill": kept["fill_rate"],
            "last": played["cost"].mean(), "last fill": played["fill_rate"].mean(), "steps": made["steps"],
            "minutes": made["seconds"] / 60,
        })  # fmt: skip
    return pd.DataFrame(rows)


def last(folder: Path, episodes: int) -> pd.DataFrame:
    """Play a run's last weights on the test scenarios; kept beside the run, like what its best ones make of them.

    Args:
        folder: of a finished run.
        episodes: test episodes.

    Returns:
        The table of `meirl.rollout.rollout`.
    """
    path, checkpoint = folder / "last.csv", folder / "checkpoint.pt"
    if path.exists() and path.stat().st_mtime >= checkpoint.stat().st_mtime:
        with suppress(ValueError):  # what cannot be read is played again, as in `study.run`
            table = pd.read_csv(path)
            if len(table) == episodes and "cost" in table:
                return table
    policy, env = load_policy(folder)
    cast(torch.nn.Module, policy).load_state_dict(load_checkpoint(checkpoint)["network"])
    table = rollout(env, policy, held_out(env, "test", episodes))
    files.write(path, table.to_csv(index=False))
    return table


def one_more(costs: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Where one more seed's cost would fall: a prediction interval, of logarithms, since seeds differ by factors.

    ``exp(m - h)`` to ``exp(m + h)``, ``h = t * s * sqrt(1 + 1 / n)``: m and s are mean and standard deviation of the n
    logarithms, t Student's quantile with n - 1 degrees of freedom.

    Args:
        costs: of n seeds, above 0.
        confidence: of the interval.

    Returns:
        Its ends; NaN for a single seed.
    """
    logs, count = np.log(costs), len(costs)
    if count < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + confidence) / 2, count - 1) * logs.std(ddof=1) * (1 + 1 / count) ** 0.5
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def landings(runs: pd.DataFrame, episodes: int) -> pd.DataFrame:
    """Does the repeated training land where the study's agent did?

    Args:
        runs: of `trained_again`.
        episodes: test episodes that they played.

    Returns:
        A row an environment and kind of weights, ``env`` and ``weights``, those that the study evaluated first.
        ``study``: cost of its own agent on these episodes; ``mean`` over our seeds, ``cheapest`` and ``dearest`` of
        them; ``low`` and ``high`` of `one_more`; ``cheaper``: how many of our ``seeds`` cost less than the study's;
        ``lands``: ``yes`` if its cost is in the interval, ``no`` if not, ``unknown`` with one seed.
    """
    theirs = remeasured(episodes).groupby("env")["cost"].mean()
    rows = []
    for name, table in runs.groupby("env", sort=False):
        first = EVALUATED[str(RESULTS.loc[str(name), "agent"])]
        for weights in sorted(WEIGHTS, key=lambda kind: kind != first):
            costs, cost = table[weights].to_numpy(), float(theirs[str(name)])
            low, high = one_more(costs)
            rows.append({
                "env": name, "weights": weights, "study": cost, "mean": costs.mean(), "cheapest": costs.min(),
                "dearest": costs.max(), "low": low, "high": high, "cheaper": int((costs < cost).sum()),
                "seeds": len(costs), "lands": "unknown" if len(costs) < 2 else "yes" if low <= cost <= high else "no",
            })  # fmt: skip
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """The table of `landings` for reading; ``forms`` are formats of the cost by environment."""
    rows = {}
    for row in table.to_dict("records"):
        form = forms[row["env"]]
        rows[f"{row['env']}, {WEIGHTS[row['weights']]}"] = {
            "the study's agent": f"{row['study']:{form}}", "mean of our seeds": f"{row['mean']:{form}}",
            "cheapest to dearest": f"{row['cheapest']:{form}} to {row['dearest']:{form}}",
            "one more seed, 95 %": f"{row['low']:{form}} to {row['high']:{form}}", "lands there": row["lands"],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def every_seed(runs: pd.DataFrame, form: str) -> pd.DataFrame:
    """The runs of `trained_again` of one environment for reading; ``form`` is that of the cost."""
    text = {}
    for weights in WEIGHTS:
        text[f"{weights} weights: cost"] = runs[weights].map(f"{{:{form}}}".format)
        text[f"{weights} weights: fill rate"] = runs[f"{weights} fill"].map("{:.1%}".format)
    table = pd.DataFrame({**text, "steps": runs["steps"].map("{:,}".format), "minutes": runs["minutes"].round(1)})
    return table.set_axis([f"seed {seed}" for seed in runs["seed"]])


def answer(table: pd.DataFrame, form: str) -> str:
    """The rows of `landings` of one environment in words, one sentence a kind of weights."""
    sentences = []
    for row, whose in zip(table.to_dict("records"), ("which the study evaluated", "for comparison"), strict=True):
        costs = {key: f"{row[key]:{form}}" for key in ("study", "mean", "cheapest", "dearest", "low", "high")}
        sentences.append(
            f"By its {WEIGHTS[row['weights']]}, {whose}: **{row['lands']}**. Our seeds cost {costs['mean']} on "
            f"average, from {costs['cheapest']} to {costs['dearest']}, so one more would cost between {costs['low']} "
            f"and {costs['high']} (95\N{NBSP}%); the study's own agent costs {costs['study']} on the same episodes, "
            f"more than {row['cheaper'] or 'none'} of our {row['seeds']} seeds."
        )
    return " ".join(sentences)
