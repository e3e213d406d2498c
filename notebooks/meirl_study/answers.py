"""Chapter "Known answers": how far rules and learners end from a known optimum, and what proves the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from meirl.envs import CONTROLS, NAMES, DivergentEnv, Env, make
from meirl.evaluation import held_out, interval
from meirl.heuristics import RULES
from meirl.rollout import Policy, rollout

from . import known
from .cells import Cells
from .chapter import Chapter
from .replay import replay
from .statistics import bootstrap

PASS = {
    "lost-sales": {"PPO": 1.5, "A3C": 3.0, "pathwise": 1.0, "rule": 1.5},
    "two-echelon": {"PPO": 2.0, "A3C": 4.0, "pathwise": 1.0, "rule": 0.5},
    "kunnumkal-topaloglu": {"PPO": 2.0, "A3C": 2.0, "rule": 0.5},
}
"""Percent above the optimum within which a learner, or the rule designed for the chain, has to end; set beforehand."""
QUICK = {"lost-sales": 25.0, "two-echelon": 400.0, "kunnumkal-topaloglu": 100.0}
"""Percent within which a quick run has to end, at a fraction of the budget: it learns, and nothing is broken."""
EPISODES = {"quick": 200, "full": 5_000}
"""Test episodes of every policy, by profile: shorter ones than the study's, and smaller differences."""
SHORTER = {
    "steps": 150_000, "environments": 32, "copies": 4, "segment": 50, "minibatch": 400, "evaluations": 3,
    "validation_episodes": 32,
}  # fmt: skip
"""What the quick profile changes in the presets of PPO; A3C has no minibatch."""
IMITATING = {"steps": 60_000, "environments": 16, "imitation": 4, "evaluations": 2, "validation_episodes": 32}
"""What it changes in that of the pathwise learner."""
ALMOST_SURE = 0.999  # confidence of the check that nothing is below the optimum: it looks at many policies
FORMS = {"lost-sales": ".3f", "two-echelon": ".2f", "kunnumkal-topaloglu": ",.0f"}
SERIAL = ((5, 38), (10, 19))  # mean demand and backorder cost of the serial chains
SHORT = 100  # periods of an episode of `coverage`, which needs many: a warm-up, and 60 that count


@dataclass(frozen=True)
class Controls(Chapter):
    """A chapter's set-up with controls for environments."""

    names: tuple[str, ...] = CONTROLS

    @property
    def episodes(self) -> int:
        """Test episodes of every policy."""
        return EPISODES[self.profile]

    @property
    def seeds(self) -> range:
        """Training seeds of every learner; one of each in the quick profile."""
        return super().seeds[:1] if self.quick else super().seeds

    @cached_property
    def envs(self) -> dict[str, Env]:
        """The controls by name, on the chapter's device."""
        return {name: make(name, device=self.device) for name in self.names}

    @cached_property
    def forms(self) -> dict[str, str]:
        """Format of each control's cost."""
        return FORMS


    def learnt(self, algo: str) -> pd.DataFrame:
        """Train a learner on the controls, and test it: the table of `meirl_study.study.run`."""
        changes: dict[str, Any] = {}
        if self.quick:
            changes = SHORTER if algo == "ppo" else {k: v for k, v in SHORTER.items() if k != "minibatch"}
            changes = IMITATING if algo == "pathwise" else changes
        return self.study(envs=self.names, algos=[algo], changes=changes)


def controls(chapter: Chapter, *names: str) -> Controls:
    """The same set-up for controls, all if none is named."""
    return Controls(chapter.profile, chapter.seed, chapter.device, names or CONTROLS)


def optimum(env: Env) -> float:
    """The least that a control can cost, in units of `Env.cost_unit`: its optimum, or a bound that is nearly it."""
    assert isinstance(env, DivergentEnv)
    p = env.parameters
    if p.lost_share:
        return known.optimal_lost_sales(p.demand.mean, p.lost_sale_cost, p.lead_time.high + 1).cost
    return known.balance_bound(env)


def gaps(costs: Cells, optima: Mapping[str, float], confidence: float = 0.95) -> pd.DataFrame:
    """How much more than the optimum policies cost, in percent, over training seeds and episodes.

    Args:
        costs: matrices of costs.
        optima: by environment.
        confidence: of the intervals.

    Returns:
        Index: environment and policy. ``cost``; ``value``, ``low``, ``high`` in percent.
    """
    rows = {}
    for (name, policy), cost in costs.items():
        low, high = bootstrap(np.mean, cost, confidence=confidence, resamples=4_000)
        means = {"value": cost.mean(), "low": low, "high": high}
        above = {key: 100 * (mean / optima[name] - 1) for key, mean in means.items()}
        rows[name, policy] = {"cost": cost.mean(), **above}
    return pd.DataFrame.from_dict(rows, orient="index")


def impossible(costs: Cells, optima: Mapping[str, float]) -> list[str]:
    """Policies that cost less than the optimum by more than their interval: a bug, here or in the optimum."""
    table = gaps(costs, optima, ALMOST_SURE)
    return [f"{policy} on {name}" for name, policy in table.index[table["high"] < 0].tolist()]


def missed(table: pd.DataFrame, quick: bool) -> list[str]:
    """Learners and rules that end further from the optimum than `PASS`, or, in a quick run, `QUICK`, allows.

    Args:
        table: of `gaps`.
        quick: whether the runs were shortened.
    """
    found = []
    for name, policy in table.index.tolist():
        value, kind = float(table["value"][name, policy]), "rule" if policy == "designed rule" else policy.split()[0]
        limit = PASS[name].get(kind, np.inf)
        if quick and kind != "rule":
            limit = max(limit, QUICK[name])
        if value > limit:
            found.append(f"{policy} on {name}: {value:.1f} % above the optimum, not within {limit:g} %")
    return found


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
    return chain, known.relaxed(known.demand_distribution(chain.parameters.demand), 1, (1, 2, backorder), (4, 1))


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
