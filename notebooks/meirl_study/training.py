"""Chapter 6's page of one cell: every seed beside the best heuristic, the published agent trained again, the effort."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from meirl.evaluation import cvar, estimate

from .study import Task, histories

HEADINGS = {
    "cost": "mean cost", "fill_rate": "fill rate", "cvar95": "CVaR, worst 5 %", "difference": "difference",
    "difference_low": "low", "difference_high": "high",
}  # fmt: skip
"""Columns of `by_seed` with their headings."""


def by_seed(results: pd.DataFrame, rule: pd.DataFrame) -> pd.DataFrame:
    """Compare every run of a cell with a rule, paired episode by episode, and their mean over seeds too.

    Args:
        results: of `meirl_study.study.run`, one cell.
        rule: of `meirl.rollout.rollout`, on the same episodes.

    Returns:
        Index: ``seed 0`` ..., ``mean over seeds``, ``best heuristic``. ``cost``, ``fill_rate``, ``cvar95``, and the
        ``difference`` to the rule with its 95 % interval ``difference_low`` ... ``difference_high``: of a seed over
        episodes, of the mean over seeds (Student's t).
    """
    rows = {}
    for seed, run in results.groupby("seed"):
        rows[f"seed {seed}"] = measures(run) | estimate(run["cost"].to_numpy() - rule["cost"].to_numpy(), "difference")
    seeds = pd.DataFrame(rows).T
    mean = {**seeds.mean(), **estimate(seeds["difference"].to_numpy(), "difference")}
    return pd.concat([seeds, pd.DataFrame({"mean over seeds": mean, "best heuristic": measures(rule)}).T])


def measures(run: pd.DataFrame) -> dict[str, float]:
    """Mean ``cost``, ``fill_rate`` and ``cvar95`` of one policy's test episodes."""
    return {"cost": run["cost"].mean(), "fill_rate": run["fill_rate"].mean(), "cvar95": cvar(run["cost"].to_numpy())}


def kept_and_last(results: pd.DataFrame, todo: Sequence[Task], root: Path) -> pd.DataFrame:
    """What runs cost by the weights that validation chose, and by their last ones.

    Args:
        results: of `meirl_study.study.run`.
        todo: the tasks behind it.
        root: folder of the runs.

    Returns:
        One row a seed: ``cost`` and ``fill_rate`` on test scenarios by the weights that were kept, and ``last``, the
        cost on validation scenarios by the last ones.
    """
    found = results.groupby("seed")[["cost", "fill_rate"]].mean()
    return found.assign(last=histories(todo, root).groupby("seed")["validation_cost"].last())


def trained_again(theirs: pd.Series, found: pd.DataFrame, steps: int, of_steps: int, form: str) -> str:
    """What became of the published agent when it was trained again, in words.

    Args:
        theirs: a row of `meirl_study.published.RESULTS`.
        found: of `kept_and_last`.
        steps: of training here.
        of_steps: in the study.
        form: format of a cost.

    Returns:
        A paragraph; with several seeds it ends with the factor between the dearest and the cheapest.
    """
    seeds = "; ".join(
        f"**{row['cost']:{form}}** with seed {seed} (fill rate {row['fill_rate']:.1%}; by its last weights, "
        f"on validation scenarios, {row['last']:{form}})"
        for seed, row in found.iterrows()
    )
    text = (
        f"With its one seed the study reports {theirs['agent_cost']:{form}}. Trained again, for {steps:,} of "
        f"{of_steps:,} steps, it costs on the test scenarios, by the weights that validation chose: {seeds}."
    )
    if len(found) > 1:
        spread = found.max() / found.min()
        text += (
            f" Between seeds the cost differs by a factor of {spread['cost']:.1f} by the weights that were kept, "
            f"{spread['last']:.1f} by the last ones."
        )
    return text


def effort(todo: Sequence[Task], root: Path) -> pd.DataFrame:
    """What runs took, from their manifests.

    Returns:
        One row a seed: ``steps``, ``seconds``, ``steps per second``, ``best validation cost``.
    """
    rows = []
    for task in todo:
        made: dict[str, Any] = json.loads((task.folder(root) / "manifest.json").read_text(encoding="utf-8"))
        rows.append([made["steps"], made["seconds"], made["steps"] / made["seconds"], made["best_validation_cost"]])
    columns = ["steps", "seconds", "steps per second", "best validation cost"]
    return pd.DataFrame(rows, pd.Index([task.seed for task in todo], name="seed"), columns)
