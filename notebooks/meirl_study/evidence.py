"""The first page: what every policy costs, what each side was given, and what is claimed on what evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import Env
from meirl.evaluation import held_out
from meirl.heuristics import load, read_levels
from meirl.rollout import rollout

from . import searches, study
from .cells import OPPONENTS, Cells, estimates
from .chapter import Chapter
from .published import RESULTS

RULES = {"order nothing": "never-order", "baseline": "published", **OPPONENTS}
"""The policies of the page that are not trained, for `meirl_study.cells.played`."""
ROWS = {
    "order nothing": ("order nothing", "measured"),
    "published baseline, as reported": ("baseline", "published"),
    "published baseline, re-measured": ("baseline", "measured"),
    "published RL agent, as reported": ("RL agent", "published"),
    "published RL agent, re-measured": ("RL agent", "measured"),
    "best textbook rule, tuned": ("textbook rule", "measured"),
    "best rule designed for the chain, tuned": ("designed rule", "measured"),
    "PPO, published budget": ("PPO 1×", "measured"),
    "A3C, published budget": ("A3C 1×", "measured"),
    "PPO, ten times the budget": ("PPO 10×", "measured"),
    "A3C, ten times the budget": ("A3C 10×", "measured"),
}
"""Rows of the table for readers: policy and kind."""
NORMAL = 1.96  # standard errors in half of a 95 % interval
LARGE = 10_000  # costs above it are shown without decimals


def reported() -> pd.DataFrame:
    """What the study reports, with intervals over its test episodes, computed from its standard deviations.

    Returns:
        ``environment``, ``policy`` (``baseline`` and ``RL agent``), ``value``, ``low``, ``high``.
    """
    rows = []
    for name, theirs in RESULTS.iterrows():
        for policy, kind in (("baseline", "baseline"), ("RL agent", "agent")):
            cost = theirs[f"{kind}_cost"]
            half = NORMAL * theirs[f"{kind}_std"] / theirs["episodes"] ** 0.5
            rows.append([name, policy, cost, cost - half, cost + half])
    return pd.DataFrame(rows, columns=["environment", "policy", "value", "low", "high"])


def gather(cells: Cells) -> pd.DataFrame:
    """All evidence in one table, for `meirl_study.figures.evidence`.

    Args:
        cells: costs of every policy measured here.

    Returns:
        ``environment``, ``policy``, ``value``, ``low``, ``high``; ``kind``: ``published`` or ``measured``; ``never``:
        what ordering nothing costs there.
    """
    never = {name: cost.mean() for (name, policy), cost in cells.items() if policy == "order nothing"}
    table = pd.concat([reported().assign(kind="published"), estimates(cells).assign(kind="measured")])
    return table.assign(never=table["environment"].map(never)).reset_index(drop=True)


def markdown(table: pd.DataFrame) -> str:
    """The table of `gather` for readers: one row of `ROWS` each, one column an environment."""
    names = list(dict.fromkeys(table["environment"]))
    keys = table[["environment", "policy", "kind"]].itertuples(index=False, name=None)
    costs = table[["value", "low", "high"]].itertuples(index=False, name=None)
    texts = {key: number(*cost) for key, cost in zip(keys, costs, strict=True)}
    lines = [["policy", *names], ["---"] + ["---:"] * len(names)]
    lines += [[row, *(texts[(name, *key)] for name in names)] for row, key in ROWS.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, low: float, high: float) -> str:
    """A cost with half its interval, ``206.8 ± 1.0``; no-break spaces keep both on one line."""
    digits = 0 if value > LARGE else 1
    return f"{value:,.{digits}f}\N{NBSP}±\N{NBSP}{(high - low) / 2:,.{digits}f}"


def savings(table: pd.DataFrame, policy: str) -> pd.Series:
    """How much less a rule costs than the published agent as reported, in percent, by environment."""
    cost = table.pivot_table(index="environment", columns=["policy", "kind"], values="value")
    saved = 100 * (1 - cost[policy, "measured"] / cost["RL agent", "published"])
    return saved.reindex(table["environment"].unique())


def verdicts(compared: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """On how many environments each agent is cheaper and dearer than each rule, for the text.

    Args:
        compared: by opponent, a table of `meirl_study.comparison.against`.

    Returns:
        By agent, budget and opponent: ``ppo-10x-designed``: ``is cheaper on 3 and cannot be told apart on 1 of 4``.
    """
    words = {"cheaper": "is cheaper on", "undecided": "cannot be told apart on", "dearer": "is dearer on"}
    found = {}
    for opponent, table in compared.items():
        for learner, rows in table.groupby(level=1):
            single = rows["verdict"].tolist()
            counts = [f"{text} {single.count(word)}" for word, text in words.items() if word in single]
            key = f"{str(learner).lower().replace(' ', '-').replace('×', 'x')}-{opponent.split()[0]}"
            found[key] = f"{' and '.join(counts)} of {len(single)}"
    return found


def budgets(chapter: Chapter, preset: str) -> str:
    """The simulated steps of a preset's runs over all environments, in words: ``2.6 to 3.6 million``."""
    steps = [
        task.config().simulated_steps(chapter.envs[task.env]) / 1e6
        for task in chapter.tasks(preset=preset, seeds=chapter.seeds[:1])
    ]
    low, high = f"{min(steps):,.1f}", f"{max(steps):,.1f}"
    return f"{low} million" if low == high else f"{low} to {high} million"


ANSWER = (("ppo", "textbook rule"), ("ppo", "designed rule"), ("a3c", "designed rule"))
"""Rows of `answer`: learner and opponent."""


def answer(chapter: Chapter, compared: Mapping[str, pd.DataFrame]) -> str:
    """The answer in three rows with budgets, for the first page and the README: a Markdown table.

    Args:
        chapter: names the budgets.
        compared: by opponent, a table of `meirl_study.comparison.against`.
    """
    said = verdicts(compared)
    columns = {"1x": budgets(chapter, "tuned"), "10x": budgets(chapter, "long")}
    heading = ["", *(f"trained for {steps} simulated steps" for steps in columns.values())]
    lines = [heading, ["---"] * len(heading)]
    for learner, opponent in ANSWER:
        cells = (said[f"{learner}-{budget}-{opponent.split()[0]}"] for budget in columns)
        lines.append([f"{learner.upper()} against the best {opponent}, tuned", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def claims(compared: Mapping[str, pd.DataFrame], saving: Mapping[str, pd.Series]) -> dict[str, tuple[str, ...]]:
    """The claims of the first page for `ledger`, with their numbers.

    Args:
        compared: by opponent, a table of `meirl_study.comparison.against`.
        saving: by opponent, what `savings` gives.
    """
    found: dict[str, tuple[str, ...]] = {}
    made = {"1×": ("tuned", study.SEEDS["full"]), "10×": ("long", study.LONG_SEEDS["full"])}
    for opponent, values in saving.items():
        each = ", ".join(f"{value:.0f} %" for value in values)
        found[f"The {opponent} costs less than the published agent"] = (
            f"{each} less", "[the figure of all evidence](#fig-evidence)", "`make book PROFILE=full`",
            "levels that the published agent beats on our test scenarios",
        )  # fmt: skip
    for opponent, table in compared.items():
        for learner, rows in table.groupby(level=1, sort=False):
            ends = [
                f"{name}: {row['value']:+.1f} % ({row['low']:+.1f} to {row['high']:+.1f})"
                for name, row in rows.droplevel(1).iterrows()
            ]
            algo, budget = str(learner).split()
            preset, seeds = made[budget]
            found[f"{learner} against the {opponent}"] = (
                "; ".join(ends), "[the figure of differences](#fig-verdict)",
                f"`meirl study --profile full --algo {algo.lower()} --preset {preset} --seeds {seeds}`",
                "other seeds whose mean falls outside the interval",
            )  # fmt: skip
    return found


def given(chapter: Chapter) -> pd.DataFrame:
    """What each side was given: one row an environment and side.

    Returns:
        Index: environment, side. ``what``: the rule's name with its number of levels, or the agent's number of weights;
        ``steps``: simulated, in millions, validation included; ``minutes`` on one core; ``times``: searches or seeds,
        each of which took so many steps.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, env in chapter.envs.items():
        for side, which in OPPONENTS.items():
            levels = read_levels(env, which)
            made = levels.provenance
            count = made.get("searches", 1)
            rows[name, side] = {
                "what": f"{levels.rule}, {len(levels.levels)} levels", "steps": made["simulated_steps"] / 1e6 / count,
                "minutes": made["seconds"] / 60 / count, "times": count,
            }  # fmt: skip
        for learner, todo in _tasks(chapter, name).items():
            last = study.histories(todo, chapter.root).groupby("seed").last()
            rows[name, learner] = {
                "what": "network, 2 hidden layers", "steps": last["simulated_steps"].mean() / 1e6,
                "minutes": last["seconds"].mean() / 60, "times": len(last),
            }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


GIVEN = {"what": "what", "steps": "million steps each", "minutes": "minutes each", "times": "seeds"}
"""Columns of `given` with their headings."""


def in_millions(race: Mapping[str, Mapping[str, list[pd.DataFrame]]]) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """The tables of `effort` with their steps in millions, for a figure."""
    return {
        name: {
            method: [table.assign(simulated_steps=table["simulated_steps"] / 1e6) for table in tables]
            for method, tables in panel.items()
        }
        for name, panel in race.items()
    }


def _tasks(chapter: Chapter, name: str) -> dict[str, list[study.Task]]:
    """All agents of an environment, by what they are called."""
    found = {}
    for preset, budget in study.BUDGETS.items():
        seeds = chapter.seeds if preset == "tuned" else chapter.long_seeds
        for algo in ("ppo", "a3c"):
            todo = chapter.tasks(envs=[name], algos=[algo], preset=preset, seeds=seeds)
            found[f"{algo.upper()} {budget}"] = todo
    return found


def effort(chapter: Chapter, episodes: int) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """Cost against effort: every search and every run, relative to the designed rule on the same scenarios.

    Args:
        chapter: gives environments, seeds and the folder of the runs; searches that are not there are made.
        episodes: validation scenarios that the searches' candidates play.

    Returns:
        By environment and method a table for each seed: ``simulated_steps``, ``seconds`` and ``value``: cost in percent
        above that of the designed rule as committed, on the validation scenarios that gave the cost.
    """
    changes, seeds = (searches.QUICK, range(2)) if chapter.quick else ({}, searches.SEEDS)
    rules = {name: searches.raced(env).values() for name, env in chapter.envs.items()}
    raced = [task for task in searches.tasks(seeds, **changes) if task.rule in rules.get(task.env, ())]
    searches.run(raced, chapter.root, jobs=chapter.jobs, progress=False)
    return {name: _panel(chapter, env, raced, episodes) for name, env in chapter.envs.items()}


def _panel(
    chapter: Chapter, env: Env, raced: Sequence[searches.SearchTask], episodes: int
) -> dict[str, list[pd.DataFrame]]:
    scenario = held_out(env, "validation", episodes)
    best = rollout(env, load(env), held_out(env, "validation"))["cost"].to_numpy()
    panel = {}
    for side, rule in searches.raced(env).items():
        own = [task for task in raced if (task.env, task.rule) == (env.name, rule)]
        curves = [searches.curve(env, task, chapter.root, scenario) for task in own]
        panel[f"search, {side}"] = [relative(curve, "cost", best[:episodes].mean()) for curve in curves]
    for learner, todo in _tasks(chapter, env.name).items():
        count = todo[0].config().validation_episodes
        runs = study.histories(todo, chapter.root).groupby("seed")
        panel[learner] = [relative(run, "validation_cost", best[:count].mean()) for _, run in runs]
    return panel


def relative(table: pd.DataFrame, column: str, reference: float) -> pd.DataFrame:
    """Steps and seconds of a learning curve, and by how many percent the best cost so far exceeds a reference."""
    best = np.minimum.accumulate(table[column].to_numpy())
    return table[["simulated_steps", "seconds"]].assign(value=100 * (best / reference - 1)).reset_index(drop=True)


def ledger(claims: Mapping[str, tuple[str, ...]]) -> str:
    """Claims as a Markdown table: each with its number and interval, where it is shown, how to get it, what refutes it.

    Args:
        claims: by claim: number, figure or table, command, what would refute it.
    """
    lines = ["| claim | number | where | command | refuted by |", "|---|---|---|---|---|"]
    lines += [f"| {claim} | {' | '.join(cells)} |" for claim, cells in claims.items()]
    return "\n".join(lines)
