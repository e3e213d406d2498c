"""For a chain of one's own: demand from a record instead of a formula, every rule tuned, service against cost."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from meirl.envs import Env, Scenario, make
from meirl.envs.scenario import FIRST_RESERVED_SEED
from meirl.evaluation import held_out
from meirl.heuristics import RULES, tuning
from meirl.heuristics.tuning import Search
from meirl.rollout import Policy, rollout

SHARE = 0.6  # of a record that training and tuning draw from, its beginning; what is held out draws from the rest


def with_demand(env: Env, record: np.ndarray, block: int = 28, season: int = 1) -> Env:
    """The same chain, whose customers' demand is drawn from a record.

    An episode strings together blocks of consecutive periods of the record, each from a random place, all locations
    together: what happens within a block, and at the same time elsewhere, stays as it was (a block bootstrap). Training
    and tuning draw from the first `SHARE` of the record, validation and test scenarios from the rest, so that what is
    tuned on the past is judged on what came later. All other randomness is the environment's own.

    Args:
        env: the chain; it is not changed.
        record: demand, ``(periods, R)`` units, one column a location with customers, oldest period first.
        block: periods of a block.
        season: length of the record's season: blocks keep their place in it. 1: there is none.

    Returns:
        An environment like any other, but its name makes the one without the record.

    Raises:
        ValueError: if the record has the wrong number of columns, is too short, or holds negative numbers.

    Source: Künsch (1989), The jackknife and the bootstrap for general stationary observations.
    """
    if record.ndim != 2 or record.shape[1] != env.retailers:
        raise ValueError(f"record must be (periods, {env.retailers}), one column a location, got {record.shape}")
    if not (record >= 0).all():
        raise ValueError("record must hold numbers >= 0")
    cut = int(SHARE * len(record))
    if min(cut, len(record) - cut) < block + season:
        raise ValueError(f"record of {len(record)} periods is too short for blocks of {block} and a season of {season}")
    own = copy.copy(env)

    def sample(episodes: int, seed: int, first: int = 0) -> Scenario:
        begin, end = (0, cut) if seed < FIRST_RESERVED_SEED else (cut, len(record))
        numbers = range(first, first + episodes)
        drawn = [blocks(record[begin:end], env.horizon, block, season, (seed, i), begin) for i in numbers]
        demand = torch.as_tensor(np.stack(drawn), dtype=env.dtype, device=env.device)
        return env.sample(episodes, seed, first)._replace(demand=demand)

    own.sample = sample  # type: ignore[method-assign]
    return own


def blocks(
    record: np.ndarray, horizon: int, block: int, season: int, seed: Iterable[int], start: int = 0
) -> np.ndarray:
    """One episode's demand, strung together of blocks of a record.

    Args:
        record: ``(periods, R)``.
        horizon: periods of the episode.
        block: periods of a block.
        season: a block for period t of the episode begins in the same place of the season as t.
        seed: of the draws.
        start: which period of the season the record begins in.

    Returns:
        ``(horizon, R)``.
    """
    generator, pieces = np.random.default_rng(list(seed)), []
    for period in range(0, horizon, block):
        first = (period - start) % season
        places = 1 + (len(record) - block - first) // season  # where a block may begin
        begin = first + season * generator.integers(places)
        pieces.append(record[begin : begin + block])
    return np.concatenate(pieces)[:horizon]


def tune_all(env: Env, **options: Any) -> dict[str, Search]:
    """Tune every rule for the environment's chain: the opponent is the best of all, not the one that one thought of.

    Args:
        env: the environment.
        **options: of `meirl.heuristics.tuning.tune`.

    Returns:
        Searches by rule, cheapest on validation scenarios first. Left out are rules without levels, the published
        misreading of the state, and, where there is no season, rules that only add one.
    """
    found = {}
    for name, rule in RULES.items():
        idle = "seasonal" in name and env.parameters.demand.season is None
        if isinstance(env, rule.kind) and rule.ranges(env) and not idle and name != "base-stock-misread":
            found[name] = tuning.tune(env, rule, progress=False, **options)
    return dict(sorted(found.items(), key=lambda item: item[1].tuned.provenance["validation_cost"]))


def tuned(env: Env, found: Search) -> Policy:
    """The rule with the levels that a search found, for an environment."""
    return RULES[found.tuned.rule].policy(env, list(found.tuned.levels.values()))


def for_service(
    env: str | Path, rule: str, costs: Iterable[dict[str, Any]], players: int, **options: Any
) -> pd.DataFrame:
    """Tune a rule for several costs of shortage and see how much it then serves and holds.

    Args:
        env: name or YAML file of the environment.
        rule: name of the rule.
        costs: what to change, as `meirl.make` takes it, one mapping a row.
        players: validation episodes to play.
        **options: of `meirl.heuristics.tuning.tune`.

    Returns:
        Index: the values changed. ``fill rate`` (share) and ``on hand`` (mean units in the chain).
    """
    rows, names = {}, ""
    for changes in costs:
        chain = make(env, **changes)
        policy = tuned(chain, tuning.tune(chain, RULES[rule], progress=False, **options))
        played = rollout(chain, policy, held_out(chain, "validation", players)).mean()
        names, label = ", ".join(changes), ", ".join(f"{value:g}" for value in changes.values())
        rows[label] = {"fill rate": played["fill_rate"], "on hand": played["on_hand"]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(names)
