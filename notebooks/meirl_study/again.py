"""The tuned rules searched again, around the levels that the book plays: what those leave, and whose verdict it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.envs import Env, Scenario
from meirl.evaluation import estimate, held_out, interval
from meirl.heuristics import RULES, best_rule, levels_file, read_levels, tuning
from meirl.learn import load as load_agent
from meirl.rollout import rollout

from .cells import LEARNERS, OPPONENTS
from .chapter import PROJECT, verdict

FILE = Path(__file__).with_name("second-searches.jsonl")
"""One search a line. Those with ``search`` 2 were made by ``meirl tune --near --generations 35 --seed SEED``: around
the committed levels, or, for a rule that has none, around the best of its first searches, ``search`` 1."""
RESULTS = PROJECT / "book" / "_static" / "results.csv"
"""Mean cost of every published run on the 1,000 test scenarios."""

Played = Mapping[tuple[str, str], np.ndarray]
"""By environment and rule, the cost of every episode, ``(2, episodes)``: with the levels of before, and of after."""


def searches(envs: Mapping[str, Env]) -> pd.DataFrame:
    """All searches of some environments, and before them what is committed, as search 1 with the seed -1.

    Returns:
        ``env``, ``rule``, ``search``, ``seed``, ``generations``, ``simulated_steps`` (of all seeds, where committed),
        ``validation_cost`` and ``levels`` by name. Environments come in the order of ``envs``.
    """
    again = pd.read_json(FILE, lines=True)
    again = again[again["env"].isin(envs)]
    committed = []
    for name, rule in dict.fromkeys(zip(again["env"], again["rule"], strict=True)):
        if levels_file(envs[name], rule).exists():
            levels = read_levels(envs[name], rule)
            made = {key: levels.provenance[key] for key in ("generations", "simulated_steps", "validation_cost")}
            committed.append({"env": name, "rule": rule, "search": 1, "seed": -1, **made, "levels": levels.levels})
    order = {name: place for place, name in enumerate(envs)}
    both = pd.concat([pd.DataFrame(committed), again], ignore_index=True)
    return both.sort_values("env", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The levels with the lowest validation cost before and after the second search.

    Args:
        table: of `searches`.

    Returns:
        Index: environment, rule; ``levels before`` and ``after``, ``validation before`` and ``after``.
    """
    rows: dict[Any, dict[str, Any]] = {}
    for cell, found in table.groupby(["env", "rule"], sort=False):
        cheapest = found.sort_values("validation_cost").drop_duplicates("search").set_index("search")
        rows[cell] = {
            f"{what} {when}": cheapest.loc[search, column]
            for search, when in ((1, "before"), (2, "after"))
            for what, column in (("levels", "levels"), ("validation", "validation_cost"))
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def play(envs: Mapping[str, Env], cells: pd.DataFrame, tests: Mapping[str, Scenario]) -> Played:
    """Play every rule with its levels of before and of after.

    Args:
        envs: the environments by name.
        cells: of `best`.
        tests: the test scenarios of every environment.
    """
    both = zip(cells.index, cells[["levels before", "levels after"]].to_numpy(), strict=True)
    return {
        (name, rule): np.stack([costs(envs[name], rule, levels, tests[name]) for levels in pair])
        for (name, rule), pair in both
    }


def costs(env: Env, rule: str, levels: Mapping[str, float], scenario: Scenario) -> np.ndarray:
    """Cost of a rule with levels by name in every episode, ``(episodes,)`` in units of ``cost_unit``."""
    return rollout(env, RULES[rule].policy(env, in_order(env, rule, levels)), scenario)["cost"].to_numpy()


def in_order(env: Env, rule: str, levels: Mapping[str, float]) -> list[float]:
    """Levels by name in the order in which the rule reads them."""
    return [levels[name] for name in RULES[rule].ranges(env)]


def validated(envs: Mapping[str, Env], table: pd.DataFrame) -> float:
    """Compute the validation costs of all searches again: the largest relative distance from what they reported."""
    worst = 0.0
    for (name, rule), found in table.groupby(["env", "rule"]):
        env = envs[str(name)]
        rows = np.array([in_order(env, str(rule), levels) for levels in found["levels"]])
        now = tuning.mean_costs(env, RULES[str(rule)], rows, held_out(env, "validation"))
        worst = max(worst, float(np.abs(now / found["validation_cost"] - 1).max()))
    return worst


def effort(table: pd.DataFrame) -> pd.DataFrame:
    """Million simulated steps of all seeds of the ``first`` and of the ``second`` search, by environment and rule."""
    steps = table.groupby(["env", "rule", "search"], sort=False)["simulated_steps"].sum() / 1e6
    cells = dict.fromkeys(zip(table["env"], table["rule"], strict=True))
    return pd.DataFrame({cell: {"first": steps[*cell, 1], "second": steps[*cell, 2]} for cell in cells}).T


def gains(cells: pd.DataFrame, played: Played) -> pd.DataFrame:
    """What the second search changed on test scenarios, paired by episode.

    Args:
        cells: of `best`.
        played: of `play`.

    Returns:
        ``cells`` without their levels, with the mean costs ``before`` and ``after`` on test scenarios, and ``value``
        with ``low`` and ``high``, the change in per cent of the cost before.
    """
    rows = {
        cell: {"before": before.mean(), "after": after.mean(), **estimate(100 * (after - before) / before.mean())}
        for cell, (before, after) in played.items()
    }
    return cells.filter(like="validation").join(pd.DataFrame.from_dict(rows, orient="index"))


def ranges(env: Env, rule: str, cells: pd.DataFrame) -> pd.DataFrame:
    """Where the first search of a committed rule looked in the end, and where both ended: one row a level.

    Returns:
        ``low`` and ``high`` of the last search box; ``before`` and ``after``, the level; ``share``, where in its range
        that of before lies.
    """
    box = pd.DataFrame(read_levels(env, rule).provenance["box"], ["low", "high"]).T
    for when in ("before", "after"):
        box[when] = pd.Series(cells.loc[(env.name, rule), f"levels {when}"])
    return box.assign(share=(box["before"] - box["low"]) / (box["high"] - box["low"]))


def strongest(cells: pd.DataFrame, name: str, textbook: bool) -> tuple[str, int]:
    """The opponent after both searches: of all rules of a kind on an environment, that with the lowest validation cost.

    Returns:
        The rule, and 0 for its levels of before, 1 for those of after: the row of `Played`.
    """
    costs = cells.loc[name, ["validation before", "validation after"]]
    costs = costs[[RULES[rule].textbook or not textbook for rule in costs.index]]
    row, column = divmod(int(costs.to_numpy(float).argmin()), 2)
    return str(costs.index[row]), column


def verdicts(
    envs: Mapping[str, Env], cells: pd.DataFrame, tests: Mapping[str, Scenario], played: Played
) -> pd.DataFrame:
    """Every agent against both opponents, as the book has them, and as they are after the second search.

    An agent's cost is the mean of its published runs, `RESULTS`. The interval puts two parts together, as of
    independent errors: that over training seeds, and that over test episodes, paired, of the one agent of its algorithm
    that comes with the package. So it is near to what the book has, and not the same.

    Args:
        envs: the environments by name.
        cells: of `best`.
        tests: all 1,000 test scenarios of every environment.
        played: of `play` on these.

    Returns:
        Index: environment, opponent (a key of `meirl_study.cells.OPPONENTS`), agent. ``rule`` and ``levels``: the
        opponent after the second search; ``changed``, whether it is another than the book's, or has other levels;
        ``before`` and ``value``: what the agent costs more than the opponent of before, and than that of after, in per
        cent of its cost, ``low`` and ``high`` of ``value``; ``said`` and ``says``: the verdicts.

    Raises:
        ValueError: if the published runs met other levels than those that are committed now.
    """
    published = {cell: runs.to_numpy() for cell, runs in pd.read_csv(RESULTS).groupby(["env", "policy"])["cost"]}
    rows: dict[Any, dict[str, Any]] = {}
    for name, env in envs.items():
        agents = {algo: rollout(env, load_agent(algo.lower(), name)[0], tests[name])["cost"] for algo in ("PPO", "A3C")}
        for opponent in OPPONENTS:
            textbook = opponent == "textbook rule"
            (rule, when), known = strongest(cells, name, textbook), best_rule(env, textbook=textbook)
            before, after = played[name, known][0], played[name, rule][when]
            if not math.isclose(before.mean(), published[name, opponent][0], rel_tol=1e-5):
                raise ValueError(f"{RESULTS.name}: the {opponent} on {name} has another cost than with its levels now")
            for learner in LEARNERS:
                runs, agent = published[name, learner], agents[learner.split()[0]].to_numpy()
                old, new = (against(runs, agent, each) for each in (before, after))
                said, says = (verdict(each["low"], each["high"]) for each in (old, new))
                rows[name, opponent, learner] = {
                    "rule": rule, "levels": ("before", "after")[when], "changed": bool(when) or rule != known,
                    "before": old["value"], **new, "said": said, "says": says,
                }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def against(runs: np.ndarray, agent: np.ndarray, rule: np.ndarray) -> dict[str, float]:
    """What an agent costs more than a rule, in per cent of the rule's cost: ``value``, ``low``, ``high``.

    Args:
        runs: mean cost of every training seed, ``(seeds,)``.
        agent: cost of one of them, or of one like them, in every episode, ``(episodes,)``.
        rule: cost of the rule in these, ``(episodes,)``.
    """
    (low, high), (paired_low, paired_high) = interval(runs), interval(agent - rule)
    lead, half = runs.mean() - rule.mean(), math.hypot(high - low, paired_high - paired_low) / 2
    percent = 100 / rule.mean()
    return {"value": percent * lead, "low": percent * (lead - half), "high": percent * (lead + half)}
