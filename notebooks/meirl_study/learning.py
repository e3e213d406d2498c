"""What chapters do with training runs: read their clock, compare them with rules, look at their orders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from meirl import heuristics
from meirl.envs import Env, Scenario
from meirl.evaluation import held_out
from meirl.learn import Run, find_learner, load_policy
from meirl.learn.networks import ActorCritic
from meirl.rollout import Policy, play, rollout

from . import exhibits, study
from .chapter import Chapter
from .luck import exploration_tax
from .rules import published_agent
from .statistics import bootstrap, crossed

HEADINGS = {
    "value": "mean cost", "cvar95": "CVaR", "fill_rate": "fill rate", "difference": "difference",
    "difference_low": "low", "difference_high": "high",
}  # fmt: skip
"""Columns of `meirl.compare` that a chapter shows, with their headings."""
OPPONENTS = {"textbook": "textbook rule", "best": "designed rule"}
"""What every agent is compared with: the name that `meirl.heuristics.load` knows, and what a chapter calls it."""


def train_alone(chapter: Chapter, algo: str, env: Env, config: Any, name: str) -> Run:
    """Train an agent whose clock the chapter reads.

    Args:
        chapter: gives profile, seed and root.
        algo: name of the learner.
        env: the environment.
        config: the learner's configuration.
        name: of the run's folder. At the full profile the run is kept there, so that its time is that of the one run
            that was made while nothing else ran; a quick run is made anew.

    Returns:
        The finished run.
    """
    folder = None if chapter.quick else chapter.root / "alone" / f"{name}-seed-{chapter.seed}"
    return find_learner(algo).train(env, config, chapter.seed, folder, resume=True, progress=False)


def clocked(run: Run) -> pd.DataFrame:
    """History of a run whose clock starts at the first report: before it, processes start.

    Returns:
        One row a validation, ``seconds`` from the first on.
    """
    history = pd.DataFrame(run.history)
    history["seconds"] -= history["seconds"].iloc[0]
    return history


def rate(history: pd.DataFrame) -> float:
    """Environment steps a second from the first report of a `clocked` history to the last."""
    steps, seconds = (history[column].iloc[-1] - history[column].iloc[0] for column in ("steps", "seconds"))
    return float(steps / seconds)


def rates_by_learner(speeds: pd.DataFrame) -> pd.DataFrame:
    """Arrange a table of `meirl_study.speed.training_speed` for reading.

    Returns:
        Environment steps a second: one row an environment, one column a learner and number of processes.
    """
    processes = speeds["workers"].map({1: "1 process"}).fillna(speeds["workers"].astype(str) + " processes")
    learner = (speeds["algo"].str.upper() + ", " + processes).rename("learner")
    return speeds.pivot_table(index="environment", columns=learner, values="steps_per_second")


def weights_apart(first: Run, second: Run) -> float:
    """The largest difference of any weight between the networks of two runs."""
    one, two = (torch.nn.utils.parameters_to_vector(run.network.parameters()) for run in (first, second))
    return float((one - two).detach().abs().max())


def reached(history: pd.DataFrame, cost: float) -> pd.Series | None:
    """When a run got below a cost for good: its first validation after which none is dearer; None if there is none.

    Args:
        history: of a run, one row a validation.
        cost: to pass, in units of ``cost_unit``.
    """
    above = np.flatnonzero(history["validation_cost"] >= cost)
    first = int(above[-1]) + 1 if len(above) else 0
    return history.iloc[first] if first < len(history) else None


def opponents(env: Env) -> dict[str, Policy]:
    """The two rules that every agent is compared with, by what a chapter calls them, the designed one first."""
    return {f"{OPPONENTS[kind]}, tuned": heuristics.load(env, kind) for kind in reversed(OPPONENTS)}


def references(env: Env, episodes: int) -> dict[str, float]:
    """Costs to compare a learning curve with.

    Args:
        env: the environment.
        episodes: validation episodes of the curve.

    Returns:
        By name: the tuned textbook rule and the best designed rule on the same validation scenarios, and the published
        agent as reported.
    """
    validation = held_out(env, "validation", episodes)
    costs = {}
    for kind, label in OPPONENTS.items():
        cost = rollout(env, heuristics.load(env, kind), validation)["cost"].mean()
        costs[f"{label} ({heuristics.read_levels(env, kind).rule})"] = float(cost)
    return {**costs, **published_agent(env)}


def budgets(env: Env, runs: Mapping[str, Run]) -> pd.DataFrame:
    """What every side was given: the two opponents, then the runs.

    Args:
        env: the environment.
        runs: finished runs by name.

    Returns:
        One row each: ``levels`` of a rule or weights of a network; ``simulated steps`` of its search or training,
        validation included, and its ``seconds``.
    """
    rows = {}
    for kind in reversed(OPPONENTS):
        file = heuristics.read_levels(env, kind)
        search = file.provenance
        rows[f"{OPPONENTS[kind]}, tuned"] = (len(file.levels), search["simulated_steps"], search["seconds"])
    for name, run in runs.items():
        weights = sum(weight.numel() for weight in run.network.parameters())
        rows[name] = (weights, run.history[-1]["simulated_steps"], run.history[-1]["seconds"])
    return pd.DataFrame.from_dict(rows, orient="index", columns=["numbers tuned", "simulated steps", "seconds"])


def comparison(compared: pd.DataFrame, form: str = ",.0f") -> pd.DataFrame:
    """A table of `meirl.compare` for reading; ``low`` and ``high`` are the ends of the difference's interval.

    Args:
        compared: the table.
        form: format of costs.

    Returns:
        Text under the headings of `HEADINGS`.
    """
    formats = dict.fromkeys(HEADINGS.values(), form) | {"fill rate": ".1%"}
    return exhibits.table(compared[list(HEADINGS)].rename(columns=HEADINGS), formats)


def networks(chapter: Chapter, algo: str, **which: Any) -> dict[str, ActorCritic]:
    """The study's networks of the chapter's first seed by environment, trained if they are not yet.

    Args:
        chapter: gives profile, seed and root.
        algo: name of the learner.
        **which: of `Chapter.study`, for example ``preset`` or ``envs``.
    """
    which |= {"algos": [algo], "seeds": [chapter.seed]}
    chapter.study(**which)
    folders = {task.env: task.folder(chapter.root) for task in chapter.tasks(**which)}
    return {name: cast(ActorCritic, load_policy(folder, chapter.envs[name])[0]) for name, folder in folders.items()}


def exploration_taxes(chapter: Chapter, networks: Mapping[str, ActorCritic]) -> pd.DataFrame:
    """The exploration tax of an agent in each environment, for reading.

    Args:
        chapter: gives environments, test scenarios and seed.
        networks: by environment.

    Returns:
        One row an environment: its cost ``as played`` and ``as trained``, as text, and in percent of the first the
        ``tax [%]`` with its interval ``low`` and ``high``.
    """
    rows = {}
    for name, network in networks.items():
        pair: Any = exploration_tax(chapter.envs[name], network, chapter.tests[name], chapter.seed)
        percent = 100 / pair.loc["as played", "value"]
        rows[name] = {
            **{how: format(cost, chapter.forms[name]) for how, cost in pair["value"].items()},
            "tax [%]": percent * pair.loc["as trained", "difference"],
            **{end: percent * pair.loc["as trained", f"difference_{end}"] for end in ("low", "high")},
        }
    return pd.DataFrame(rows).T


def trained(
    chapter: Chapter, learner: str, env: str, seeds: Sequence[int], folder: str = "", **changes: Any
) -> pd.DataFrame:
    """Train PPO's tuned preset (or only read its runs), and test it, for `beside`.

    Args:
        chapter: gives profile, root and test episodes.
        learner: what to call it.
        env: name of the environment.
        seeds: of training.
        folder: where runs that are not the study's are kept, in the chapter's root.
        **changes: of the preset.

    Returns:
        The table of `meirl_study.study.run` with ``learner`` and ``seconds``.
    """
    root = chapter.root / folder
    todo = chapter.tasks(envs=[env], algos=["ppo"], seeds=seeds, changes=chapter.changes | changes)
    table = study.run(todo, root, jobs=chapter.jobs, episodes=chapter.episodes, progress=False)
    manifests = {task.seed: task.folder(root) / "manifest.json" for task in todo}
    seconds = {seed: json.loads(path.read_text(encoding="utf-8"))["seconds"] for seed, path in manifests.items()}
    return table.assign(learner=learner, seconds=table["seed"].map(seconds))


def beside(runs: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compare learners that were trained with the same seeds and tested on the same episodes.

    Args:
        runs: one row a learner, seed and test episode: ``learner``, ``seed``, ``episode``, ``cost``, ``fill_rate``,
            ``seconds`` (of the whole training).
        reference: the learner that all are compared with.

    Returns:
        One row a learner: the mean ``cost``, that of its ``best seed`` and of its ``worst seed``, ``fill_rate``; the
        ``difference`` of its cost to the reference's, with its interval over seeds and episodes, ``low`` to ``high``;
        ``seconds``, the median over seeds.
    """
    costs = {str(learner): crossed(table) for learner, table in runs.groupby("learner", sort=False)}
    rows = {}
    for learner, table in runs.groupby("learner", sort=False):
        pair = costs[str(learner)], costs[reference]
        low, high = bootstrap(lambda a, b: float(a.mean() - b.mean()), *pair) if learner != reference else (0.0, 0.0)
        seeds = pair[0].mean(1)
        rows[learner] = {
            "cost": seeds.mean(), "best seed": seeds.min(), "worst seed": seeds.max(),
            "fill_rate": table["fill_rate"].mean(), "difference": pair[0].mean() - pair[1].mean(), "low": low,
            "high": high, "seconds": table.groupby("seed")["seconds"].first().median(),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def habits(env: Env, records: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """How policies order: what no mean cost shows.

    Args:
        env: the environment.
        records: of `meirl.trajectory`, by policy.

    Returns:
        One row a policy and node: ``periods with an order`` (a share), ``mean order`` in these, ``spread`` of what is
        ordered (standard deviation over all periods) and mean ``stock`` on hand, in units.
    """
    rows = {}
    for policy, record in records.items():
        orders, stock = (record[key].reshape(-1, env.nodes) for key in ("orders", "on_hand"))
        placed = orders > 0
        table = {
            "periods with an order": placed.mean(0), "mean order": orders.sum(0) / placed.sum(0).clip(min=1),
            "spread": orders.std(0), "stock": stock.mean(0),
        }  # fmt: skip
        rows[policy] = pd.DataFrame(table, index=pd.Index(env.node_names, name="node"))
    return pd.concat(rows, names=["policy"])


@torch.inference_mode()
def echelon_positions(env: Env, policy: Policy, scenario: Scenario) -> np.ndarray:
    """Echelon inventory positions that a policy meets.

    Args:
        env: a divergent chain.
        policy: what orders.
        scenario: the exogenous draws.

    Returns:
        Units, ``(episode, period, N)``; see `meirl.heuristics.inventory_position`.
    """
    seen = (observation for observation, _ in play(env, policy, scenario))
    return torch.stack([heuristics.inventory_position(s, echelon=True) for s in seen], 1).cpu().numpy()


def explained_by_position(position: np.ndarray, orders: np.ndarray, bins: int = 25) -> float:
    """Share of the variance of orders that the inventory position explains.

    Args:
        position: in units, of any shape.
        orders: in units, of the same shape.
        bins: of equally many orders each, by position; the mean within its bin is what a position tells of an order.

    Returns:
        A share, 1 if orders follow from the position alone.
    """
    placed = orders.ravel()
    bin_of = pd.Series(pd.qcut(position.ravel(), bins, duplicates="drop"))
    within = pd.Series(placed).groupby(bin_of, observed=True).transform("mean")
    return float(1 - np.var(placed - within) / np.var(placed))
