"""How good it could be: how far policies are from what no policy can beat, and what improves a tuned rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Memory, Parallel, delayed

from meirl import heuristics
from meirl.envs import NAMES, make
from meirl.evaluation import held_out
from meirl.rollout import rollout

from . import information, study
from .bounds import hindsight_bound
from .cells import Cells
from .chapter import Chapter, number, shown, verdict
from .lagrangian import dual_curves
from .pathwise import warm_start
from .statistics import bootstrap

Array = np.ndarray
PRICED = "divergent-stationary"
"""The environment that prices bound too: its lead times are certain and no demand is lost."""
BOUND = "lower bound"
"""What tables and figures call it, beside the policies."""
PENALISED = "meis-nonstationary"
"""The environment whose plans in hindsight are charged for what they know of shocks."""
ROUNDING = 1e-6  # share of a bound by which a cost may be below it: sums in single precision
WORDS = {"beats": "costs less than", "loses to": "costs more than"}
"""What the text says for verdicts of `meirl_study.chapter.verdict`, if not the same."""


class Start(NamedTuple):
    """A learner that begins with a tuned rule, or its control that begins with nothing."""

    envs: tuple[str, ...]
    algo: str
    folder: str  # of its runs, below the chapter's; "": the chapter's own
    changes: dict[str, Any]  # of the tuned preset


# Who can already do it explores less and moves slower: with the preset's noise, what was imitated is lost at once.
CAREFUL: dict[str, Any] = {
    "learning_rate": 3e-4, "network": {"log_std": -1.5, "final_log_std": -2.5},
}  # fmt: skip
STARTS = {
    "gradient, from the rule": Start(NAMES[:2], "pathwise", "", {}),
    "gradient, from nothing": Start(NAMES[:2], "pathwise", "from-nothing", {"imitation": 0}),
    "PPO, from the rule": Start(NAMES[:2], "ppo", "from-the-rule", CAREFUL),
    "imitation of the rule": Start(NAMES[2:], "pathwise", "", {}),
}
"""By name. On MEIS a choice has no gradient, so there the network imitates and no more."""
SHORT = {
    "steps": 40_000, "environments": 16, "imitation": 2, "evaluations": 2, "validation_episodes": 16, "hidden": (32,),
}  # fmt: skip
"""What the profile ``quick`` changes in the pathwise preset."""


def programs(chapter: Chapter, episodes: int) -> dict[str, Array]:
    """Bound the first test episodes of every environment by relaxed programs; solved once, then read.

    By environment, one bound an episode, ``(episodes,)``; see `meirl_study.bounds.hindsight_bound`.
    """
    solve = _kept(chapter).cache(_relaxed, ignore=["jobs"])
    return {name: solve(name, episodes, jobs=chapter.jobs) for name in chapter.envs}


def prices(chapter: Chapter, episodes: int, iterations: int) -> Array:
    """Bound the first test episodes of `PRICED` by prices; solved once, then read.

    Bounds of every episode as the prices climb, ``(episodes, iterations)``; see `meirl_study.lagrangian.dual_curves`.
    """
    return _kept(chapter).cache(_priced, ignore=["jobs"])(PRICED, episodes, iterations, jobs=chapter.jobs)


def penalties(chapter: Chapter, episodes: int, training: int, iterations: int) -> Array:
    """Bound the mean cost on the first test episodes of `PENALISED` by penalised programs; solved once, then read.

    Weights are chosen on so many training episodes of the chapter's seed, in so many steps. One penalised cost an
    episode, ``(episodes,)``; see `meirl_study.information.penalised_bound`.
    """
    solve = _kept(chapter).cache(_charged, ignore=["jobs"])
    return solve(PENALISED, episodes, training, iterations, chapter.seed, jobs=chapter.jobs)


def _kept(chapter: Chapter) -> Memory:
    return Memory(chapter.root / "bounds", verbose=0)


def _relaxed(name: str, episodes: int, jobs: int) -> Array:
    env = make(name)
    return hindsight_bound(env, held_out(env, "test", episodes), jobs)


def _priced(name: str, episodes: int, iterations: int, jobs: int) -> Array:
    env = make(name)
    return dual_curves(env, held_out(env, "test", episodes), iterations, jobs)


def _charged(name: str, episodes: int, training: int, iterations: int, seed: int, jobs: int) -> Array:
    env = make(name)
    chosen = information.weights(env, env.sample(training, seed), iterations, jobs)
    return information.penalised_bound(env, held_out(env, "test", episodes), chosen, jobs)


def table(bounds: Mapping[str, Mapping[str, Array]]) -> pd.DataFrame:
    """Mean bounds, one row an environment and method, with intervals over episodes.

    Args:
        bounds: by environment and method, one bound an episode.

    Returns:
        ``episodes``, ``value``, ``low``, ``high``.
    """
    rows = {}
    for name, methods in bounds.items():
        for method, bound in methods.items():
            low, high = bootstrap(np.mean, bound[None])
            rows[name, method] = {"episodes": len(bound), "value": bound.mean(), "low": low, "high": high}
    return pd.DataFrame(rows).T


def tasks(chapter: Chapter, name: str) -> list[study.Task]:
    """The runs of one of `STARTS`, over the chapter's seeds (quick: one)."""
    start, seeds = STARTS[name], chapter.few_seeds[:1] if chapter.quick else chapter.few_seeds
    profile = (SHORT if start.algo == "pathwise" else chapter.changes) if chapter.quick else {}
    return chapter.tasks(envs=start.envs, algos=[start.algo], seeds=seeds, changes={**profile, **start.changes})


def root(chapter: Chapter, name: str) -> Path:
    """Where the runs of one of `STARTS` are kept."""
    return chapter.root / STARTS[name].folder


def improved(chapter: Chapter) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train (or only read) all of `STARTS` and test them.

    Returns:
        The table of `meirl_study.study.run` and that of `meirl_study.study.histories`, ``algo`` being the name.
    """
    tables, curves = [], []
    for name in STARTS:
        todo, where = tasks(chapter, name), root(chapter, name)
        if name == "PPO, from the rule":
            Parallel(n_jobs=chapter.jobs)(delayed(warm_start)(task, where) for task in todo)
        table = study.run(todo, where, jobs=chapter.jobs, episodes=chapter.episodes, progress=False)
        tables.append(table.assign(algo=name))
        curves.append(study.histories(todo, where).assign(algo=name))
    return pd.concat(tables, ignore_index=True), pd.concat(curves, ignore_index=True)


def spent(chapter: Chapter, curves: pd.DataFrame) -> pd.DataFrame:
    """What each of `STARTS` has simulated, the teacher's steps included: one row an environment and name.

    Args:
        chapter: gives the environments.
        curves: of `improved`.

    Returns:
        Millions of steps: ``search`` (all seeds of the search for the teacher's levels, validation included),
        ``imitation``, ``learning``, ``validation``, and ``in all``.
    """
    rows = {}
    for (env, name), runs in curves.groupby(["env", "algo"], sort=False):
        counts = ["steps", "simulated_steps"]
        ends = (runs.groupby("seed")[counts].nth(i).to_numpy().mean(0) for i in (0, -1))
        first, last = (dict(zip(counts, steps.tolist(), strict=True)) for steps in ends)
        taught = name != "gradient, from nothing"
        levels = heuristics.read_levels(chapter.envs[str(env)], "best")
        steps = {
            "search": taught * float(levels.provenance["simulated_steps"]),
            "imitation": taught * first["steps"],
            "learning": last["steps"] - taught * first["steps"],
            "validation": last["simulated_steps"] - last["steps"],
        }
        rows[env, name] = {key: value / 1e6 for key, value in (steps | {"in all": sum(steps.values())}).items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def panels(chapter: Chapter, curves: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """Learning curves of `improved` on the divergent chain, for `meirl_study.figures.equal_effort`.

    Returns:
        By environment and name, a table a seed with ``steps`` (simulated, validation included) and ``cost``; and by
        environment the cost of the designed rule on the same scenarios, under its name.
    """
    drawn: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for env, runs in curves[curves["env"].isin(STARTS["gradient, from the rule"].envs)].groupby("env", sort=False):
        chain = chapter.envs[str(env)]
        headed = runs[["algo", "seed", "simulated_steps", "validation_cost"]]
        headed = headed.rename(columns={"simulated_steps": "steps", "validation_cost": "cost"})
        drawn[str(env)] = {
            name: [table for _, table in own.groupby("seed")] for name, own in headed.groupby("algo", sort=False)
        }
        count = tasks(chapter, "gradient, from the rule")[0].config().validation_episodes
        cost = rollout(chain, heuristics.load(chain), held_out(chain, "validation", count))["cost"].mean()
        lines[str(env)] = {"designed rule": float(cost)}
    return drawn, lines


def respected(cells: Cells, bounds: Mapping[str, Array]) -> bool:
    """Whether no policy is below a bound in any episode, whatever its training seed.

    Args:
        cells: matrices of costs.
        bounds: by environment, of its first episodes.
    """
    return all(
        (cost[:, : len(bounds[name])] >= bounds[name] * (1 - ROUNDING)).all() for (name, _), cost in cells.items()
    )


def room(cells: Cells, bounds: Mapping[str, Array]) -> pd.DataFrame:
    """The most that could be saved: cost above the bound as a share of the cost, on the same episodes, in percent.

    Args:
        cells: matrices of costs.
        bounds: by environment, of its first episodes.

    Returns:
        Index: environment and policy. ``value``, ``low``, ``high``.
    """
    rows = {}
    for (name, policy), cost in cells.items():
        bound = bounds[name][None]
        same = cost[:, : bound.shape[1]]
        low, high = bootstrap(_room, same, bound)
        rows[name, policy] = {"value": _room(same, bound), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _room(cost: Array, bound: Array) -> float:
    return 100 * (1 - bound.mean() / cost.mean())


def cheapest(cells: Cells, name: str) -> tuple[str, list[str]]:
    """The policy with the lowest mean cost on an environment, and those that cannot be told apart from it."""
    here = {policy: cost for (env, policy), cost in cells.items() if env == name}
    winner = min(here, key=lambda policy: here[policy].mean())
    others = [policy for policy in here if policy != winner]
    return winner, [policy for policy in others if bootstrap(_more, here[policy], here[winner])[0] <= 0]


def _more(ours: Array, theirs: Array) -> float:
    return ours.mean() - theirs.mean()


def against(cells: Cells, names: Iterable[str], opponents: Iterable[str]) -> pd.DataFrame:
    """What policies cost more than each of some others, as text; one row an environment and policy.

    Args:
        cells: matrices of costs.
        names: of the policies.
        opponents: of the others; an empty text where an environment lacks one.

    Returns:
        Extra cost in percent with its interval over training seeds and episodes, one column an opponent.
    """
    rows = {}
    for (env, policy), cost in cells.items():
        if policy in names:
            rows[env, policy] = {
                other: _percent(cost, cells[env, other]) if other != policy and (env, other) in cells else ""
                for other in opponents
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _percent(ours: Array, theirs: Array) -> str:
    scale, (low, high) = 100 / theirs.mean(), bootstrap(_more, ours, theirs)
    return shown(scale * _more(ours, theirs), scale * low, scale * high, "+.1f")


def compared(row: pd.Series, opponent: str, form: str | None = None) -> str:
    """A row of `meirl_study.cells.against` in words: ``costs less than PPO (-3.0 %; difference -87,837 to -82,604)``.

    Args:
        row: of the table.
        opponent: what to call it.
        form: format of the difference's interval; None leaves it out.
    """
    ends = f"; difference {row['low']:+{form}} to {row['high']:+{form}}" if form else ""
    found = verdict(row["low"], row["high"])
    return f"{WORDS.get(found, found)} {opponent} ({number(row['percent'], '+.1f')} %{ends})"


def gained(history: pd.DataFrame) -> pd.Series:
    """How much the gradient lowered the validation cost after imitation, the first score of a run, by seed, in percent.

    Args:
        history: of `improved`, one environment and name.
    """
    scores = history.pivot_table(index="seed", columns="steps", values="validation_cost")
    return 100 * (1 - scores.min(axis=1) / scores.iloc[:, 0])
