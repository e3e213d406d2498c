"""The cells: hyperparameters that differ between them, learning curves in percent of a rule, and every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.config import load_yaml
from meirl.envs import NAMES, make
from meirl.evaluation import cvar, estimate, held_out
from meirl.heuristics import load
from meirl.learn import preset
from meirl.rollout import rollout

from .cells import OPPONENTS, Cells
from .chapter import Chapter, verdict
from .statistics import bootstrap, crossed
from .study import BUDGETS, Task, histories

TRIALS = Path(__file__).parent / "presets" / "trials.yaml"
HEADINGS = {
    "cost": "mean cost", "difference": "against the designed rule [%]", "low": "low", "high": "high",
    "fill_rate": "fill rate", "cvar95": "CVaR, worst 5 %", "minutes": "minutes of training",
}  # fmt: skip
"""Columns of `data_sheet` with their headings."""


def tasks(chapter: Chapter, algo: str, env: str) -> dict[str, list[Task]]:
    """The runs of one cell by budget, ``1×`` and ``10×``."""
    seeds = {"tuned": chapter.seeds, "long": chapter.long_seeds}
    return {
        budget: chapter.tasks(envs=[env], algos=[algo], preset=name, seeds=seeds[name])
        for name, budget in BUDGETS.items()
    }


def hyperparameters(algo: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sort the hyperparameters of a learner's presets into those that differ between runs and those that do not.

    Args:
        algo: name of the learner.

    Returns:
        A table of those that differ, one column an environment: the value at both budgets, or ``value → value`` where
        ten times the budget has another; the first row counts all that a run simulates. And the others by name, without
        defects that are off.
    """
    values = {}
    for name in NAMES:
        columns = []
        for budget in BUDGETS:
            config = preset(algo, budget, name)
            shape = {f"network: {key}": value for key, value in config.network}
            steps = {"simulated steps": config.simulated_steps(make(name)), "steps": config.steps}
            columns.append({**steps, **dict(config), **shape})
        values[name] = {key: (columns[0][key], columns[1][key]) for key in columns[0] if key != "network"}
    table = pd.DataFrame(values)
    pairs = {key: set(row) for key, row in table.iterrows()}
    differ = [key for key, found in pairs.items() if len(found) > 1 or len(set(next(iter(found)))) > 1]
    same = {str(key): table.loc[key].iloc[0][0] for key in table.index if key not in differ}
    kept = {key: value for key, value in same.items() if not ("defect" in key and not value)}
    return table.loc[differ].map(_arrow), kept


def _arrow(pair: tuple[Any, Any]) -> str:
    """A hyperparameter at both budgets."""
    first, second = (f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value) for value in pair)
    return first if first == second else f"{first} → {second}"


def in_words(values: Mapping[str, Any]) -> str:
    """Hyperparameters in a row, as Markdown: each name as code, then its value."""
    return ", ".join(f"`{key}` {value}" for key, value in values.items())


def trials() -> str:
    """How many settings the presets of an environment were chosen from, in words, from `TRIALS`."""
    counts = {algo: pd.DataFrame(rows).T for algo, rows in load_yaml(TRIALS).items()}
    words = []
    for algo, table in counts.items():
        committed, tried = table["committed"], table["tried"].dropna()
        text = f"{algo.upper()} {_span(committed)} committed"
        words.append(f"{text} and {_span(tried)} trained and compared" if len(tried) else text)
    return ", ".join(words)


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def curves(chapter: Chapter, algo: str, env: str) -> pd.DataFrame:
    """Validation costs of all runs of a cell, in percent of the designed rule on the same validation scenarios.

    Args:
        chapter: gives the runs, which must be there.
        algo: name of the learner.
        env: name of the environment.

    Returns:
        One row a validation: ``budget``, ``seed``, ``millions`` of simulated steps, validation included, ``percent``.
    """
    tables = []
    for budget, todo in tasks(chapter, algo, env).items():
        rule = on_validation(chapter, env, "designed rule", todo[0].config().validation_episodes)
        history = histories(todo, chapter.root)
        table = {"seed": history["seed"], "millions": history["simulated_steps"] / 1e6}
        tables.append(pd.DataFrame({"budget": budget, **table, "percent": 100 * history["validation_cost"] / rule}))
    return pd.concat(tables, ignore_index=True)


def on_validation(chapter: Chapter, env: str, opponent: str, episodes: int | None = None) -> float:
    """Mean cost of a rule of `cells.OPPONENTS` on so many validation scenarios, or on all."""
    here = chapter.envs[env]
    return float(rollout(here, load(here, OPPONENTS[opponent]), held_out(here, "validation", episodes))["cost"].mean())


def textbook_percent(chapter: Chapter, env: str) -> float:
    """Cost of the textbook rule on the validation scenarios in percent of the designed rule's."""
    return 100 * on_validation(chapter, env, "textbook rule") / on_validation(chapter, env, "designed rule")


def by_seed(results: pd.DataFrame, rule: pd.DataFrame) -> pd.DataFrame:
    """Compare every run of a cell with a rule, paired episode by episode, and their mean over seeds too.

    Args:
        results: of `meirl_study.study.run`, one cell at one budget.
        rule: of `meirl.rollout.rollout`, on the same episodes.

    Returns:
        Index: ``seed 0`` ..., ``mean over seeds``. ``cost``, ``fill_rate``, ``cvar95``, and the ``difference`` to the
        rule in percent of its cost, with its 95 % interval ``low`` ... ``high``: of a seed over episodes (Student's t),
        of the mean over seeds and episodes (`meirl_study.statistics.bootstrap`).
    """
    base, percent = rule["cost"].to_numpy(), 100 / rule["cost"].mean()
    rows = {}
    for seed, run in results.groupby("seed"):
        found = estimate(percent * (run["cost"].to_numpy() - base))
        rows[f"seed {seed}"] = measures(run) | {
            "difference": found["value"],
            "low": found["low"],
            "high": found["high"],
        }
    seeds = pd.DataFrame(rows).T
    low, high = bootstrap(np.mean, percent * (crossed(results) - base))
    return pd.concat([seeds, pd.DataFrame({"mean over seeds": {**seeds.mean(), "low": low, "high": high}}).T])


def cheaper_seeds(sheet: pd.DataFrame, budget: str) -> str:
    """How many seeds of a budget cost less than the designed rule in `data_sheet`: ``7 of 10 at 1×``."""
    rows = sheet[sheet.index.str.startswith(f"{budget}, seed")]
    return f"{int((rows['difference'] < 0).sum())} of {len(rows)} at {budget}"


def measures(run: pd.DataFrame) -> dict[str, float]:
    """Mean ``cost``, ``fill_rate`` and ``cvar95`` of one policy's test episodes."""
    return {"cost": run["cost"].mean(), "fill_rate": run["fill_rate"].mean(), "cvar95": cvar(run["cost"].to_numpy())}


def data_sheet(chapter: Chapter, algo: str, env: str, results: pd.DataFrame) -> pd.DataFrame:
    """Every seed of a cell at both budgets, and both rules.

    Args:
        chapter: gives rules and runs.
        algo: name of the learner.
        env: name of the environment.
        results: of `meirl_study.study.run`, the runs of `tasks`.

    Returns:
        Index: ``1×, seed 0`` ..., ``10×, mean over seeds``, then the rules; columns of `HEADINGS`.
    """
    rules = {opponent: chapter.play(env, name) for opponent, name in OPPONENTS.items()}
    sheets = {}
    for budget, todo in tasks(chapter, algo, env).items():
        here = results[results["preset"] == todo[0].preset]
        sheets[budget] = by_seed(here, rules["designed rule"]).assign(minutes=np.nan)
        seconds = {f"seed {task.seed}": manifest(task, chapter.root)["seconds"] for task in todo}
        for row, value in {**seconds, "mean over seeds": np.mean(list(seconds.values()))}.items():
            sheets[budget].loc[row, "minutes"] = value / 60
        sheets[budget] = sheets[budget].rename(index=f"{budget}, {{}}".format)
    best = rules["designed rule"]["cost"].mean()
    sheets["rules"] = pd.DataFrame(
        {name: measures(rule) | {"difference": 100 * (rule["cost"].mean() / best - 1)} for name, rule in rules.items()}
    ).T
    return pd.concat(sheets.values())[list(HEADINGS)]


def overview(costs: Cells, against: Mapping[str, pd.DataFrame], forms: Mapping[str, str]) -> str:
    """All cells at both budgets as a Markdown table, each agent with a link to its data sheet.

    Args:
        costs: matrices of `meirl_study.cells.matrices`, of agents and rules.
        against: by opponent, a table of `meirl_study.comparison.against`.
        forms: format of the cost, by environment.
    """
    lines = [["environment", "agent", "mean cost", *(f"against the {opponent} [%]" for opponent in against)]]
    lines.append(["---", "---", "---:"] + ["---"] * len(against))
    for name, agent in next(iter(against.values())).index:
        algo, budget = agent.split()
        cell = [
            name,
            f"[{algo}](06-{algo.lower()}-{name}.html)\N{NBSP}{budget}",
            f"{costs[name, agent].mean():{forms[name]}}",
        ]
        for table in against.values():
            row = table.loc[(name, agent)]
            cell.append(f"{row['value']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f}), {row['verdict']}")
        lines.append(cell)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counted(against: Mapping[str, pd.DataFrame], budget: str) -> str:
    """In how many cells agents of a budget have which verdict, in words.

    Args:
        against: by opponent, a table of `meirl_study.comparison.against`.
        budget: ``1×`` or ``10×``.

    Returns:
        For example ``3 of 8 cells cost less than the textbook rule and 2 cost more``; the rest cannot be told apart.
    """
    words = []
    for opponent, table in against.items():
        rows = table[table.index.get_level_values(1).str.endswith(f" {budget}")]
        less, more = (int((rows["verdict"] == word).sum()) for word in ("cheaper", "dearer"))
        words.append(f"{less} of {len(rows)} cells cost less than the {opponent} and {more} cost more")
    return "; ".join(words)


def gaps(chapter: Chapter, algo: str, env: str, results: pd.DataFrame) -> pd.DataFrame:
    """How much more a cell's agents cost than both rules, paired by episode.

    Args:
        chapter: gives the rules.
        algo: name of the learner.
        env: name of the environment.
        results: of `meirl_study.study.run`, the runs of `tasks`.

    Returns:
        Index: budget and opponent. ``value``, ``low``, ``high`` in percent of the rule's cost, over training seeds and
        episodes.
    """
    rows = {}
    for name, budget in BUDGETS.items():
        ours = crossed(results[(results["preset"] == name) & (results["algo"] == algo)])
        for opponent, rule in OPPONENTS.items():
            cost = chapter.play(env, rule)["cost"].to_numpy()
            percent = 100 * (ours - cost) / cost.mean()
            low, high = bootstrap(np.mean, percent)
            rows[budget, opponent] = {"value": percent.mean(), "low": low, "high": high}
    return pd.DataFrame(rows).T


def sentence(gaps: pd.DataFrame, budget: str, agent: str) -> str:
    """The rows of `gaps` at one budget in words: ``PPO beats the textbook rule (-3.0 %; -3.2 to -2.8), ...``."""
    words = [
        f"{verdict(row['low'], row['high'])} the {opponent} "
        f"({row['value']:+.1f}\N{NBSP}%; {row['low']:+.1f} to {row['high']:+.1f})"
        for opponent, row in gaps.loc[budget].iterrows()
    ]
    return f"{agent} {' and '.join(words)}"


def manifest(task: Task, root: Path) -> dict[str, Any]:
    """What a finished run says about its making."""
    made: dict[str, Any] = json.loads((task.folder(root) / "manifest.json").read_text(encoding="utf-8"))
    return made
