"""What each side knows: policies that are told nothing of a fact, and what that costs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Memory

from meirl.envs import Env, Observation, Scenario, make
from meirl.heuristics import RULES, Rule, tuning
from meirl.rollout import Policy, rollout

from ..statistics import bootstrap

FAR = 100_000  # periods: an end so far away that nobody reckons with it
FACTS = ("time left", "last demands")
"""Facts that can be withheld."""
Blindfold = Callable[[Observation], Observation]


def blindfold(env: Env, fact: str) -> Blindfold:
    """Withhold a fact from whoever looks at an observation.

    Args:
        env: the environment that will be observed.
        fact: one of `FACTS`. Without the *time left*, the end seems to be far away; without the *last demands*, demand
            seems to have been what the season leads to expect.

    Raises:
        ValueError: if the fact is not known.
    """
    if fact == "time left":
        endless = env.parameters.model_copy(update={"horizon": FAR})
        far = type(env)(env.name, endless, env.observation, env.device, env.dtype)
        return lambda observation: observation._replace(env=far)
    if fact == "last demands":
        return _as_expected
    raise ValueError(f"unknown fact {fact!r}: expected one of {', '.join(FACTS)}")


def _as_expected(observation: Observation) -> Observation:
    env, state = observation.env, observation.state
    season = env.expected_recent[observation.period] / env.parameters.demand.average
    recent = season[:, None] * env.expected_demand  # (REMEMBERED, locations)
    return observation._replace(state=state._replace(recent_demand=recent.expand_as(state.recent_demand)))


def blind(policy: Policy, hide: Blindfold) -> Policy:
    """A policy that does not see what is hidden."""
    return lambda observation: policy(hide(observation))


def blind_rule(rule: Rule, hide: Blindfold) -> Rule:
    """A rule that does not see what is hidden, so that its levels can be tuned without it."""
    return rule._replace(decide=lambda observation, levels: rule.decide(hide(observation), levels))


def worth(
    env: Env, policies: Mapping[str, Sequence[Policy]], scenario: Scenario, resamples: int = 2_000
) -> pd.DataFrame:
    """How much more policies cost that are told nothing of a fact, levels and weights unchanged.

    Args:
        env: the environment.
        policies: by name, one for a rule, one a training seed for an agent.
        scenario: what all play.
        resamples: of the bootstrap.

    Returns:
        Index: name and fact. Extra cost in percent, ``value``, with its interval ``low`` and ``high`` over training
        seeds and episodes.
    """
    rows = {}
    for name, each in policies.items():
        seeing = _costs(env, each, scenario)
        for fact in FACTS:
            hide = blindfold(env, fact)
            groping = _costs(env, [blind(policy, hide) for policy in each], scenario)
            lost = 100 * (groping - seeing) / seeing.mean()  # the same seeds and episodes with and without
            low, high = bootstrap(np.mean, lost, resamples=resamples)
            rows[name, fact] = {"value": lost.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def against(agents: np.ndarray, rules: Mapping[str, np.ndarray], resamples: int = 2_000) -> pd.DataFrame:
    """What agents cost more than each of some rules that played the same episodes.

    Args:
        agents: costs, ``(seeds, episodes)``.
        rules: costs by name, ``(episodes,)``.
        resamples: of the bootstrap.

    Returns:
        Index: name. Extra cost in percent of the rule's, ``value``, with its interval ``low`` and ``high`` over
        training seeds and episodes.
    """
    rows = {}
    for name, cost in rules.items():
        percent = 100 * (agents - cost) / cost.mean()
        low, high = bootstrap(np.mean, percent, resamples=resamples)
        rows[name] = {"value": percent.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _costs(env: Env, policies: Sequence[Policy], scenario: Scenario) -> np.ndarray:
    """``(seeds, episodes)``."""
    return np.stack([rollout(env, policy, scenario)["cost"].to_numpy() for policy in policies])


def tuned_blind(name: str, rule: str, fact: str, options: Mapping[str, Any], root: Path) -> Policy:
    """Tune a rule anew without a fact; made once, then read.

    Args:
        name: of the environment.
        rule: name of the rule.
        fact: one of `FACTS`.
        options: of `meirl.heuristics.tuning.tune`.
        root: where searches are kept.

    Returns:
        The rule with the levels found, blind.
    """
    levels = Memory(root, verbose=0).cache(_search_blind)(name, rule, fact, dict(options))
    env = make(name)
    return blind_rule(RULES[rule], blindfold(env, fact)).policy(env, levels)


def _search_blind(name: str, rule: str, fact: str, options: dict[str, Any]) -> list[float]:
    env = make(name)
    search = partial(tuning.tune, env, blind_rule(RULES[rule], blindfold(env, fact)), progress=False)
    return list(search(**options).tuned.levels.values())
