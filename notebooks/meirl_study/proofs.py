"""What proves the simulator: recorded traces, exact costs, a bound that a rule nearly reaches, intervals that cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from meirl.envs import NAMES, DivergentEnv, Env, make
from meirl.evaluation import held_out, interval
from meirl.heuristics import RULES
from meirl.rollout import Policy, rollout

from . import known
from .chapter import shown
from .replay import replay

SERIAL = ((5, 38), (10, 19))  # mean demand and backorder cost of the serial chains
SHORT = 100  # periods of an episode of `coverage`, which needs many: a warm-up, and 60 that count
TOGETHER = 100  # episodes of an interval of `coverage`
CHAINS: dict[str, dict[str, Any]] = {
    "one retailer: the optimum": {"retailers": 1}, "two retailers": {"retailers": 2}, "the control": {},
    "backorder cost 9": {"backorder_cost": 9}, "mean demand 5": {"demand": {"mean": 5}},
    "lead time 3": {"lead_time": {"mean": 3, "low": 3, "high": 3}}, "ships at once": {"ships": "at once"},
}  # fmt: skip
"""What the chains of `bounds_table` change in the control ``two-echelon``."""


def bounds_table(episodes: int) -> pd.DataFrame:
    """The bound of several chains, and what the rule that levels retailers costs with the bound's levels.

    Args:
        episodes: that each chain plays.
    """
    rows = {}
    for name, changes in CHAINS.items():
        env = make("two-echelon", **changes)
        assert isinstance(env, DivergentEnv)
        bound, levels = known.balance_bound(env), known.balance(env)
        rule = RULES["balanced-echelon"].policy(env, [levels.warehouse, levels.retailers / env.retailers])
        cost = rollout(env, rule, held_out(env, "test", episodes))["cost"].to_numpy()
        value, low, high = (100 * (mean / bound - 1) for mean in (float(cost.mean()), *interval(cost)))
        rows[name] = {
            "bound": f"{bound:.3f}", "V": str(levels.warehouse), "y": f"{levels.retailers / env.retailers:.1f}",
            "rule, above the bound [%]": shown(value, low, high, ".2f"),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


class Case(NamedTuple):
    """A policy whose mean cost is known exactly."""

    about: str
    source: str
    env: Env
    policy: Policy
    exact: float


def cases() -> list[Case]:
    """Policies of both chains whose exact cost is known; each is played on the simulator by `exact`."""
    found = []
    for periods in (2, 3, 4):
        shop = known.lost_sales(periods)
        best = known.optimal_lost_sales(periods=periods)
        about = f"lost sales, orders usable after {periods} periods: the optimal policy"
        found.append(Case(about, "value iteration", shop, known.playing(best.orders, shop), best.cost))
    for mean, backorder in SERIAL:
        chain, bound = serial(mean, backorder)
        rule = RULES["balanced-echelon"].policy(chain, [bound.warehouse, bound.retailers])
        about = f"two stages in series, demand {mean}, backorder cost {backorder}: optimal echelon levels"
        found.append(Case(about, "Clark & Scarf", chain, rule, bound.cost))
    for lead, levels in ((1, (16, 51)), (2, (26, 62))):
        leaf = one_leaf(lead)
        rule = RULES["s-S"].policy(leaf, [-1e9, -1e9, levels[0] + 0.5, levels[1]])
        cost = known.reorder_cost(levels, 10, (1, 9, 64), lead + 1)
        found.append(Case(f"MEIS, one leaf, lead time {lead}: the best (s, S)", "Zheng & Federgruen", leaf, rule, cost))
    return found


def serial(mean: float, backorder: float, horizon: int = 500) -> tuple[DivergentEnv, known.Bound]:
    """The control ``two-echelon`` with one retailer, and its optimum."""
    chain = make(
        "two-echelon", dtype=torch.float64, horizon=horizon, retailers=1, demand={"mean": mean},
        holding_cost={"warehouse": 1, "retailer": 2}, backorder_cost=backorder,
        initial_stock={"warehouse": 2 * mean, "retailer": 3 * mean},
    )  # fmt: skip
    assert isinstance(chain, DivergentEnv)
    return chain, known.balance(chain)


def one_leaf(lead: int) -> Env:
    """MEIS as a single node that pays a fixed cost for an order of any size: the middle never runs short."""
    return make(
        "meis-stationary", dtype=torch.float64, leaves=1, cost_unit=1, cost_per="period", warm_up=65,
        demand={"distribution": "poisson", "mean": 10, "noise": {"standard_deviation": 0}},
        lead_time={"mean": lead, "standard_deviation": 0, "low": lead, "high": lead}, max_backlog_duration=30,
        order_options={"middle": [1], "leaf": list(range(1, 61))}, pipeline_cost=0, shortage_cost=9,
        order_cost={"middle": 0, "leaf": {"least": 64, "per_unit": 0}}, holding_cost={"middle": 0, "leaf": 1},
        initial_stock={"middle": 100_000, "leaf": 40},
    )  # fmt: skip


def exact(episodes: int) -> pd.DataFrame:
    """Play policies whose exact cost is known.

    Args:
        episodes: test episodes of each.

    Returns:
        One row a case: where its ``exact`` cost is ``from``; the ``simulated`` cost with its ``standard error``, and
        their ``difference`` in standard errors.
    """
    rows = {}
    for case in cases():
        cost = rollout(case.env, case.policy, held_out(case.env, "test", episodes))["cost"]
        error = float(stats.sem(cost))
        rows[case.about] = {
            "from": case.source, "exact": case.exact, "simulated": cost.mean(), "standard error": error,
            "difference": (cost.mean() - case.exact) / error,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def traces(folder: Path) -> pd.DataFrame:
    """Replay the recorded traces in a folder; see `meirl_study.replay`.

    Returns:
        One row an environment: ``traces``, ``periods`` and ``numbers`` compared, and their ``largest error``.

    Raises:
        ValueError: if an environment has no trace there.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        env = make(name, observation="published", dtype=torch.float64)
        paths = sorted(folder.glob(f"{name.replace('-', '_')}_*.npz"))
        if not paths:
            raise ValueError(f"{folder} has no trace of {name}")
        errors = [replay(env, path) for path in paths]
        count = {"traces": len(paths), "periods": 0, "numbers": 0}
        for path, compared in zip(paths, errors, strict=True):
            with np.load(path) as recorded:
                fields = [recorded[key] for key in compared]
            count["periods"] += max(len(field) for field in fields)
            count["numbers"] += sum(field.size for field in fields)
        rows[name] = count | {"largest error": max(max(error.values()) for error in errors)}
    return pd.DataFrame.from_dict(rows, orient="index")


def coverage(samples: int, episodes: int) -> dict[str, float]:
    """How often a 95 % interval over episodes contains the true mean, on a chain whose mean is known exactly.

    The optimal policy of the serial chain plays ``samples`` times ``episodes`` episodes.

    Returns:
        ``share`` of the samples whose interval contains the exact cost, with its own 95 % interval ``low``, ``high``.
    """
    chain, bound = serial(*SERIAL[1], horizon=SHORT)
    rule = RULES["balanced-echelon"].policy(chain, [bound.warehouse, bound.retailers])
    cost = rollout(chain, rule, chain.sample(samples * episodes, seed=1))["cost"].to_numpy()
    ends = np.array([interval(sample) for sample in cost.reshape(samples, episodes)])
    covered = int(((ends[:, 0] <= bound.cost) & (bound.cost <= ends[:, 1])).sum())
    share = stats.binomtest(covered, samples)
    low, high = share.proportion_ci(0.95)
    return {"share": share.statistic, "low": low, "high": high}
