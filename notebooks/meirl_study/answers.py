"""Chapter "Known answers": how far rules and learners end from a known optimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meirl.config import load_yaml
from meirl.envs import CONTROLS, DivergentEnv, Env, make
from meirl.rollout import rollout

from . import known, study
from .cells import Cells, matrices, played
from .chapter import Chapter, number, shown
from .statistics import bootstrap

PASS = {
    "lost-sales": {"PPO": 1.5, "A3C": 3.0, "pathwise": 1.0, "rule": 1.5},
    "two-echelon": {"PPO": 2.0, "A3C": 4.0, "pathwise": 1.0, "rule": 0.5},
    "kunnumkal-topaloglu": {"PPO": 2.0, "A3C": 2.0, "rule": 0.5},
}
"""Percent above the optimum within which a learner, or the rule designed for the chain, has to end; set beforehand."""
QUICK = {
    "lost-sales": {"PPO": 10.0, "pathwise": 5.0}, "two-echelon": {"PPO": 200.0, "pathwise": 20.0},
    "kunnumkal-topaloglu": {"PPO": 150.0},
}  # fmt: skip
"""Percent within which a quick run has to end, at a fraction of the budget; A3C has hardly begun to learn by then."""
EPISODES = {"quick": 200, "full": 5_000}
"""Test episodes of every policy, by profile: shorter ones than the study's, and smaller differences."""
_BRIEF: dict[str, Any] = {
    "evaluations": 3, "validation_episodes": 32, "discount": 0.97, "gae_lambda": 0.95, "entropy": 0.0,
    "network": {"log_std": -1.0, "final_log_std": -3.0},
}  # fmt: skip
SHORTER: dict[str, dict[str, Any]] = {
    "ppo": {**_BRIEF, "steps": 130_000, "environments": 32, "copies": 4, "segment": 50, "minibatch": 400,
            "learning_rate": 2e-3},
    "a3c": {**_BRIEF, "steps": 60_000, "environments": 8, "copies": 4, "segment": 20, "learning_rate": 1e-3,
            "value_weight": 2.0, "workers": 1},
    "pathwise": {"steps": 75_000, "environments": 16, "imitation": 16, "evaluations": 1, "validation_episodes": 32},
}  # fmt: skip
"""What the quick profile changes in each learner's preset."""
OPEN: dict[str, Any] = {
    "discount": 0.99, "gae_lambda": 0.97, "network": {"log_std": 0.0, "final_log_std": -1.5},
}  # fmt: skip
"""Foresight and noise of PPO's preset for the chains of the study, most of them."""
TRIALS = Path(__file__).parent / "presets" / "trials-of-controls.yaml"
ALMOST_SURE = 0.999  # confidence of the check that nothing is below the optimum: it looks at many policies
TWO = ("lost-sales", "two-echelon")
"""The controls of the chapter; the third is that of the second study."""
OPTIMAL = "optimal policy"
FORMS = {"lost-sales": ".3f", "two-echelon": ".2f", "kunnumkal-topaloglu": ",.0f"}


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

    def costs(self, rules: Mapping[str, str], *algos: str) -> Cells:
        """Play rules, train learners and test them: matrices of costs.

        Args:
            rules: what a rule is called: a name for `meirl.heuristics.load`.
            *algos: names of learners.
        """
        studies = [
            self.study(envs=self.names, algos=[algo], changes=SHORTER[algo] if self.quick else {}) for algo in algos
        ]
        table = played(self, rules, *studies)
        return matrices(table.assign(policy=table["policy"].str.removesuffix(" 1×")))


def as_on_open_chains(chapter: Controls, count: int = 3) -> Cells:
    """Costs of PPO on the chapter's controls with the foresight and the noise of `OPEN`, and all else as it is.

    Args:
        chapter: gives the controls and the folder of the runs.
        count: training seeds, the first of the chapter's.
    """
    changes = {**(SHORTER["ppo"] if chapter.quick else {}), **OPEN}
    todo = chapter.tasks(envs=chapter.names, algos=["ppo"], seeds=chapter.seeds[:count], changes=changes)
    root = chapter.root / "variants" / "as-on-open-chains"
    table = study.run(todo, root, jobs=chapter.jobs, episodes=chapter.episodes, progress=False)
    return matrices(table.assign(policy="PPO"))


def noise(env: DivergentEnv, log_std: float) -> float:
    """Standard deviation of a retailer's order that exploration adds, in units, before it is cut off."""
    return float(np.exp(log_std) * env.largest_order[-1] / 2)


def tried(trials: Path = TRIALS) -> str:
    """How many settings the presets of a control were chosen from, in words."""
    counts = [count for rows in load_yaml(trials).values() for count in rows.values()]
    return f"{min(counts)} to {max(counts)}"


def controls(chapter: Chapter, *names: str) -> Controls:
    """The same set-up for controls, all if none is named."""
    return Controls(chapter.profile, chapter.seed, chapter.device, names or CONTROLS)


def optimum(env: Env) -> float:
    """The least that a control can cost, in units of `Env.cost_unit`: its optimum, or a bound that is nearly it."""
    assert isinstance(env, DivergentEnv)
    p = env.parameters
    if p.lost_share:
        return known.optimal_lost_sales(p.demand.average, p.lost_sale_cost, p.lead_time.high + 1).cost
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
            limit = QUICK[name].get(kind, np.inf)
        if value > limit:
            found.append(f"{policy} on {name}: {value:.1f} % above the optimum, not within {limit:g} %")
    return found


def panels(table: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, float]]]:
    """Arguments of `meirl_study.figures.optimality`: a table of `gaps` by control, and what was to be reached."""
    names = dict.fromkeys(table.index.get_level_values(0))
    tables = {name: table.loc[name] for name in names}
    kinds = {"designed rule": "rule"}
    marks = {
        name: {policy: PASS[name].get(kinds.get(policy, policy), np.nan) for policy in tables[name].index}
        for name in names
    }
    return tables, marks


def for_reading(table: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """A table of `gaps` as text: mean cost, percent above the optimum with its interval, and what was to be reached."""
    rows = {}
    for (name, policy), mark in _marks(table).items():
        row: Any = table.loc[(name, policy)]
        rows[name, policy] = {
            "mean cost": f"{row['cost']:{forms[name]}}",
            "above the optimum [%]": shown(row["value"], row["low"], row["high"], ".2f"),
            "to be reached [%]": "" if np.isnan(mark) else f"{mark:g}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _marks(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    found = panels(table)[1]
    return {(name, policy): found[name][policy] for name, policy in table.index.tolist()}


def texts(table: pd.DataFrame) -> dict[str, str]:
    """Gaps for the text: ``NAME-POLICY`` with its interval, and ``gap-POLICY``, over all controls."""
    found = {}
    for key in table.index.tolist():
        row: Any = table.loc[key]
        found["-".join(key)] = shown(row["value"], row["low"], row["high"], ".1f", " %")
    kinds: dict[str, list[float]] = {}
    for (_, policy), gap in zip(table.index.tolist(), table["value"].tolist(), strict=True):
        kinds.setdefault("rule" if policy == "designed rule" else policy, []).append(gap)
    for kind, values in kinds.items():
        ends = sorted({number(min(values), ".1f"), number(max(values), ".1f")}, key=float)
        found[f"gap-{kind}"] = f"{' to '.join(ends)} %"
    return found


def lost_sales_table(periods: tuple[int, ...]) -> pd.DataFrame:
    """Optimal cost of lost sales, computed here and as published, by periods until an order is usable and penalty."""
    columns = {}
    for count in periods:
        ours = {p: known.optimal_lost_sales(penalty=p, periods=count).cost for p in known.PENALTIES}
        columns[f"L = {count}"] = {
            f"p = {p}": f"{cost:.3f} | {float(known.PUBLISHED[count][p]):.2f}" for p, cost in ours.items()
        }
    return pd.DataFrame(columns)


def playing_optimum(chapter: Controls) -> Cells:
    """Costs of the policy that value iteration finds for the control ``lost-sales``, on the test scenarios."""
    env = chapter.envs["lost-sales"]
    assert isinstance(env, DivergentEnv)
    cost = rollout(env, known.playing(known.optimal_lost_sales().orders, env), chapter.tests["lost-sales"])["cost"]
    return {("lost-sales", OPTIMAL): cost.to_numpy()[None]}
