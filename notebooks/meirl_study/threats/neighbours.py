"""Chains that nobody looked at: the four environments with other parameters, rules tuned and PPO trained on each.

Forms of rules were designed, and hyperparameters chosen, on four environments. On a neighbour of one of them nothing
was: does the order of textbook rule, designed rule and PPO stay?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from joblib import Memory, Parallel, delayed

from meirl import files
from meirl.config import merged
from meirl.envs import make
from meirl.evaluation import estimate, held_out
from meirl.heuristics import RULES, best_rule
from meirl.heuristics.tuning import Search
from meirl.learn import preset
from meirl.rollout import rollout

from .. import study
from ..own import tune_all, tuned

SPREAD = 0.5  # each parameter is multiplied by 2 to a power within plus or minus this: 0.71 to 1.41
_DEMAND = ("demand.mean", "demand.season.amplitude", "demand.shock.probability", "demand.noise.standard_deviation")
VARIED = {
    "divergent": (
        *_DEMAND, "backorder_cost", "lost_sale_cost", "lost_share", "holding_cost.retailer", "max_backorder",
        "order_cap", "initial_stock.retailer", "initial_stock.warehouse", "supplier_capacity.mean",
        "outbound_capacity.mean",
    ),
    "meis": (
        *_DEMAND, "shortage_cost", "withdrawal_cost", "holding_cost.leaf", "holding_cost.middle",
        "order_cost.leaf.per_unit", "order_cost.leaf.least", "initial_stock.leaf", "outbound_capacity.mean",
    ),
}  # fmt: skip
"""Parameters that a neighbour has otherwise, by chain; those that an environment lacks, or has at 0, stay so."""


class Neighbour(NamedTuple):
    """A chain near one of the four environments."""

    env: str
    number: int

    def changes(self) -> dict[str, Any]:
        """Its parameters, as `meirl.make` takes them: the number seeds the draw."""
        env = make(self.env)
        values = env.parameters.model_dump(mode="json")
        generator = np.random.default_rng([self.number, study.NAMES.index(self.env)])
        changed: dict[str, Any] = {}
        for path in VARIED[env.chain]:
            factor = 2 ** generator.uniform(-SPREAD, SPREAD)
            *groups, key = path.split(".")
            group: Any = values
            for name in groups:
                group = (group or {}).get(name)
            if group and group.get(key):
                leaf = {key: min(group[key] * factor, 1) if key in ("lost_share", "amplitude") else group[key] * factor}
                changed = merged(changed, reduce(lambda inner, name: {name: inner}, reversed(groups), leaf))
        if "order_cap" in changed:  # an action may ask for as much as is allowed
            changed["max_order"] = max(values["max_order"], changed["order_cap"])
        return changed


def designed_forms(chain: str) -> list[str]:
    """Names of the rules that were designed for a chain: no textbook has them, and the study did not publish them."""
    own = [rule for rule in RULES.values() if getattr(rule.kind, "chain", None) == chain and not rule.textbook]
    return [rule.name for rule in own if rule.name != "base-stock-misread"]


def rules_of(
    neighbours: Sequence[Neighbour], options: Mapping[str, Any], same: Mapping[str, Any], root: Path, jobs: int = -1
) -> list[dict[str, Search]]:
    """Tune every rule for every neighbour, or read what was tuned before.

    Args:
        neighbours: the chains.
        options: of `meirl.heuristics.tuning.tune`.
        same: changes of parameters common to all, such as a shorter horizon.
        root: where searches are kept.
        jobs: chains at once; -1: one a core.

    Returns:
        Of each chain, searches by rule, cheapest on validation scenarios first.
    """
    kept = Memory(root, verbose=0).cache(_tune)
    work = (delayed(kept)(near.env, {**near.changes(), **same}, dict(options)) for near in neighbours)
    return list(Parallel(n_jobs=jobs)(work))


def _tune(env: str, changes: dict[str, Any], options: dict[str, Any]) -> dict[str, Search]:
    return tune_all(make(env, **changes), **options)


def tasks(
    neighbours: Sequence[Neighbour], seed: int, changes: Mapping[str, Any], same: Mapping[str, Any], root: Path
) -> list[study.Task]:
    """PPO on every neighbour, with the hyperparameters of the environment it is near: nothing is chosen anew.

    Args:
        neighbours: the chains; each becomes a file.
        seed: of training.
        changes: of the preset, such as the profile's.
        same: as in `rules_of`.
        root: folder of the files.
    """
    todo = []
    for near in neighbours:
        path = root / f"{near.env}-{near.number}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        parameters = make(near.env, **{**near.changes(), **same}).parameters.model_dump(mode="json")
        files.write(path, yaml.safe_dump(parameters, sort_keys=False))
        config = preset("ppo", "tuned", near.env, **changes).model_dump(mode="json")
        todo.append(study.Task(str(path), "ppo", seed=seed, changes=config))
    return todo


def compare(
    neighbours: Sequence[Neighbour], found: Sequence[Mapping[str, Search]], results: pd.DataFrame,
    same: Mapping[str, Any], episodes: int,
) -> pd.DataFrame:  # fmt: skip
    """Put textbook rule, designed rule and PPO beside each other on every neighbour.

    Args:
        neighbours: the chains.
        found: of `rules_of`.
        results: of `meirl_study.study.run` for `tasks`.
        same: as there.
        episodes: test episodes.

    Returns:
        Index: environment and number. What the best of all rules costs more than the best textbook rule, in percent:
        ``form``, with its interval ``form_low`` and ``form_high`` over episodes; the same of PPO against the best of
        all rules, ``value``, ``low``, ``high``, and against the textbook rule, ``textbook`` and so on; ``own``, what
        the form designed for the environment costs more than the best form; ``best form``, its name.
    """
    rows = {}
    by_file = {Path(str(name)).stem: run["cost"].to_numpy() for name, run in results.groupby("env")}
    for near, searches in zip(neighbours, found, strict=True):
        env = make(near.env, **{**near.changes(), **same})
        test = held_out(env, "test", episodes)
        simple = next(name for name in searches if RULES[name].textbook)
        best, designed = next(iter(searches)), best_rule(make(near.env))
        cost = {
            name: rollout(env, tuned(env, searches[name]), test)["cost"].to_numpy() for name in (best, simple, designed)
        }
        ppo = by_file[f"{near.env}-{near.number}"]
        rows[near.env, near.number] = {
            **_extra(cost[best], cost[simple], "form"), **_extra(ppo, cost[best], "value"),
            **_extra(ppo, cost[simple], "textbook"), "own": _extra(cost[designed], cost[best], "own")["own"],
            "best form": best,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def _extra(ours: np.ndarray, theirs: np.ndarray, name: str) -> dict[str, float]:
    return estimate(100 * (ours - theirs) / theirs.mean(), name)
