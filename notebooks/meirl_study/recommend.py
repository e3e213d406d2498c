"""What to order on a chain of one's own: the rule that is best on its recorded demand, and what it is worth.

Everything is chosen on the earlier part of the record and judged on the later part. A report has: the recommended rule
with its levels, what it saves against today's, service and tail by location, what service costs, how much is left to
gain at all, and whether to bother with reinforcement learning.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from joblib import Parallel, delayed

from meirl import files
from meirl.config import load_yaml
from meirl.envs import Costs, Env, Scenario, make
from meirl.evaluation import cvar, estimate, held_out
from meirl.heuristics import RULES, Levels, read_levels, tuning
from meirl.rollout import Policy, simulate

from . import own, study
from .bounds import check, hindsight_bound
from .chapter import verdict
from .frontier import shortage
from .statistics import bootstrap, crossed, versus

WORTH = 0.05
"""Share of the cost that must be left to gain, or reinforcement learning is not worth the trouble."""
TAIL = 0.05  # share of the episodes that are the worst
EFFORT: dict[str, dict[str, Any]] = {
    "quick": {"episodes": 16, "generations": 10, "candidates": 2, "finalists": 5, "widen": False},
    "full": {"episodes": 64, "generations": 60, "candidates": 6},
}
"""Of every search, by profile: options of `meirl.heuristics.tuning.tune`."""
PLAYED = {"quick": 100, "full": 1_000}
BOUNDED = {"quick": 4, "full": 40}
FACTORS = {"quick": (0.5, 1.0, 2.0), "full": (0.25, 0.5, 1.0, 2.0, 4.0)}
"""Costs of shortage that the rule is tuned for, in multiples of the true one, by profile."""


def prepare(chain: str | Path, demand: str | Path | None, folder: Path) -> Path:
    """Copy a chain and its record to a folder, as they will be used: ``chain.yaml`` and ``demand.csv``.

    What the chain's file leaves open is decided here: the task is ``endless``, so that no rule runs the stock down at
    the end; and blocks keep their time of the year, if an episode is about a year and either part has a whole one.

    Args:
        chain: YAML file of the chain, or the name of an environment.
        demand: CSV of recorded demand; None: the one that the chain's file names.
        folder: of the report.

    Raises:
        ValueError: if chain or record cannot be used, or there is no record.
    """
    laid_over: dict[str, Any] = {"demand": {"record": {"file": str(Path(demand).resolve())}}} if demand else {}
    given = make(chain, **laid_over)
    if given.record is None:
        raise ValueError(f"{chain}: no recorded demand: give a CSV with --demand, or name it in the chain's file")
    check(given)  # `left` would refuse it, after all the searches
    named = Path(chain).suffix in (".yaml", ".yml")
    values = load_yaml(Path(chain)) if named else given.parameters.model_dump(mode="json", exclude_none=True)
    record, table = given.record.record.model_copy(update={"file": "demand.csv"}), given.record.table
    asked = (values["demand"].get("record") or {}) if isinstance(values.get("demand"), dict) else {}
    if "yearly" not in asked:
        shortest = min(table.cut(record), len(table.dates) - table.cut(record))
        whole = shortest >= table.year + record.block + table.week and given.horizon >= 0.9 * table.year
        record = record.model_copy(update={"yearly": bool(whole)})
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(given.record.record.file)
    if source.resolve() != (folder / "demand.csv").resolve():
        shutil.copyfile(source, folder / "demand.csv")
    values |= {"demand": {"record": record.model_dump()}, "endless": not named or values.get("endless", True)}
    values |= {given.parameters.count: given.retailers, "locations": given.node_names[1:]}
    files.write(folder / "chain.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    make(folder / "chain.yaml")
    return folder / "chain.yaml"


def today(env: Env, given: str | Path | None) -> tuple[Levels, str]:
    """Today's levels, and a sentence that says where they are from: a file, or else a textbook's formula."""
    if given:
        return read_levels(env, given), f"Today's levels are those of {Path(given).name}."
    how = (
        "You gave no levels of today. Those here are a stand-in, as a textbook or planning software sets them: demand "
        f"until the next order is there, and {own.Z} standard deviations of it as safety stock (95 % of cycles without "
        "a shortage), from the earlier part of the record."
    )
    return own.textbook(env), how


def search(env: Env, profile: str, seed: int, jobs: int = 1) -> dict[str, Levels]:
    """Tune every rule that fits, on the earlier part of the record; levels by rule, cheapest by validation first.

    Other rules have none beside the chain afterwards; files that bear no rule's name stay.
    """
    found = own.tune_all(env, jobs, seed=seed, **EFFORT[profile])
    folder = Path(env.name).with_suffix("")
    for name, each in found.items():
        tuning.write(each.tuned, folder / f"{name}.yaml")
    for path in folder.glob("*.yaml"):
        if path.stem in RULES and path.stem not in found:  # of an earlier run, of a chain that other rules fitted
            path.unlink()
    return {name: each.tuned for name, each in found.items()}


class Played(NamedTuple):
    """How a policy did on the test scenarios."""

    cost: np.ndarray  # of every episode, ``(episodes,)``, in units of ``cost_unit``
    parts: pd.Series  # mean cost by part
    service: pd.DataFrame  # by location and, last, of all together


def play(env: Env, policy: Policy, scenario: Scenario) -> Played:
    """Play a scenario.

    Returns:
        `Played`, with ``service`` by location: ``fill rate`` (share of demand met at once), the same in the worst 5 %
        of episodes (each location's own), ``on hand`` and ``waiting`` (mean units), ``lost`` (share of demand).
    """
    with torch.inference_mode():
        totals = simulate(env, policy, scenario)
    flows = {name: flow.double().cpu().numpy() for name, flow in totals.flows._asdict().items()}
    flows = {name: np.concatenate([flow, flow.sum(1, keepdims=True)], 1) for name, flow in flows.items()}
    periods = scenario.horizon - env.parameters.warm_up
    on_hand = totals.on_hand.double().cpu().numpy().mean(0) / periods
    in_all = {name: flow.sum(0) for name, flow in flows.items()}
    fill = _share(flows["filled"], flows["demand"], 1.0)
    service = pd.DataFrame({
        "fill rate": _share(in_all["filled"], in_all["demand"], 1.0),
        "worst 5 %": -cvar(-fill.T, TAIL),
        "on hand": [*on_hand[1:], on_hand[1:].sum()],
        "waiting": flows["backlog"].mean(0) / periods,
        "lost": _share(in_all["lost"], in_all["demand"], 0.0),
    }, [*env.node_names[1:], "all"])  # fmt: skip
    service.loc[env.node_names[0], "on hand"] = on_hand[0]
    parts = {name: float(part.double().mean()) / env.cost_unit for name, part in totals.costs._asdict().items()}
    assert set(parts) == set(Costs._fields)
    return Played(totals.cost.double().cpu().numpy() / env.cost_unit, pd.Series(parts), service)


def _share(part: np.ndarray, demand: np.ndarray, unasked: float) -> np.ndarray:
    """A part of demand as its share; ``unasked`` where nobody asked for anything."""
    return np.divide(part, demand, out=np.full_like(part, unasked), where=demand > 0)


def saving(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """What a policy saves against another on the same episodes: money an episode and percent, with 95 % intervals.

    Args:
        ours: cost of every episode, ``(episodes,)``.
        theirs: of the other policy.

    Returns:
        ``value``, ``low``, ``high`` and ``percent``, ``percent_low``, ``percent_high``; above 0, ours is cheaper.
    """

    def percent(a: np.ndarray, b: np.ndarray) -> float:
        return 100 * (1 - float(a.mean() / b.mean())) if a.any() or b.any() else 0.0  # of nothing, nothing is saved

    low, high = bootstrap(percent, ours[None], theirs[None])
    return {**estimate(theirs - ours), "percent": percent(ours, theirs), "percent_low": low, "percent_high": high}


def saved(saving: Mapping[str, float]) -> str:
    """What the intervals of a `saving` say, in money and in percent, in words that go before either number."""
    return {
        "beats": "saves",
        "loses to": "costs more than today's: the saving is",
        "cannot be told apart from": "cannot be told apart from today's in cost: the saving is",
    }[verdict(-max(saving["high"], saving["percent_high"]), -min(saving["low"], saving["percent_low"]))]


def left(env: Env, cost: np.ndarray, episodes: int, jobs: int = 1) -> dict[str, float]:
    """How far a policy is from what nobody can beat, even who knew all demand in advance, in percent of its cost.

    Args:
        env: the environment.
        cost: of every test episode.
        episodes: so many of them, the first ones, are bounded.
        jobs: of `meirl_study.bounds.hindsight_bound`.
    """
    cost = cost[:episodes]
    bound = hindsight_bound(env, held_out(env, "test", len(cost)), jobs)
    bound = np.where(np.isclose(bound, cost, 1e-5, 0), cost, bound)  # costs are sums in single precision
    return {**saving(bound, cost), "bound": float(bound.mean()), "episodes": len(cost)}


def service_costs(path: Path, rule: str, base: Levels, profile: str, seed: int, jobs: int = 1) -> pd.DataFrame:
    """Tune the rule as if shortage cost more or less: what better service costs in stock and orders.

    Args:
        path: the chain's file.
        rule: its name.
        base: the levels for the true cost of shortage.
        profile: ``quick`` or ``full``.
        seed: of the searches.
        jobs: searches at once.

    Returns:
        Index: the multiple of the cost of shortage. ``fill rate``, ``stock and orders`` (cost without shortage),
        ``cost`` (all of it, shortage at its true price), ``on hand`` (units in the chain) and every level.
    """

    def at(factor: float) -> dict[str, float]:
        torch.set_num_threads(1)
        env = make(path)
        levels = base
        if factor != 1:
            other = make(path, **shortage(env.parameters.model_dump(), factor))
            levels = tuning.tune(other, RULES[rule], seed=seed, progress=False, **EFFORT[profile]).tuned
        played = play(env, own.tuned(env, levels), held_out(env, "test", PLAYED[profile]))
        kept, stock = played.parts.drop(["shortage", "lost_sales"]).sum(), played.service["on hand"]
        known = {"fill rate": played.service["fill rate"]["all"], "stock and orders": kept, "cost": played.cost.mean()}
        return {**known, "on hand": stock["all"] + stock[env.node_names[0]], **levels.levels}

    rows = Parallel(n_jobs=jobs)(delayed(at)(factor) for factor in FACTORS[profile])
    return pd.DataFrame(rows, FACTORS[profile]).sort_values("fill rate")


def agents(
    path: Path, folder: Path, seeds: Sequence[int], steps: int, cost: np.ndarray, profile: str
) -> dict[str, Any]:
    """Train PPO over seeds at a budget and judge it against the recommended rule on the same episodes.

    Args:
        path: the chain's file.
        folder: where runs are kept.
        seeds: of training.
        steps: of each run, in the environment, as far as they make whole rounds of episodes.
        cost: of the rule, of every test episode.
        profile: ``quick`` or ``full``.

    Returns:
        ``saving`` against the rule, in percent, with its interval over seeds and episodes: ``percent``,
        ``percent_low``, ``percent_high``; ``cost``, ``seeds``, ``steps`` (that a run took) and ``fill rate``.
    """
    shorter = {"environments": 16, "copies": 2, "validation_episodes": 32} if profile == "quick" else {}
    todo = study.tasks(seeds, [str(path)], ["ppo"], changes={"steps": steps, **shorter})
    table = study.run(todo, folder, episodes=len(cost), jobs=1 if profile == "quick" else -1, progress=False)
    steps, costs = json.loads((todo[0].folder(folder) / "manifest.json").read_bytes())["steps"], crossed(table)
    row = versus({"PPO": costs}, cost).loc["PPO"]
    share = -100 / cost.mean()
    return {
        "percent": share * row["value"], "percent_low": share * row["high"], "percent_high": share * row["low"],
        "cost": float(costs.mean()), "fill rate": float(table["fill_rate"].mean()), "seeds": len(costs), "steps": steps,
    }  # fmt: skip


def advice(gap: Mapping[str, float], trained: Mapping[str, Any] | None) -> tuple[str, str]:
    """Whether to bother with reinforcement learning: a verdict, ``no``, ``unknown`` or ``maybe``, and why.

    *No*, if at most `WORTH` of the cost is left between the rule and a bound that knows the future (the upper end of
    the interval counts); or if agents were trained and are not cheaper than the rule, luck of seeds and episodes
    allowed for. *Maybe*, if they are. *Unknown*, if much is left and none was trained.
    """
    most = gap["percent_high"]
    if most <= 100 * WORTH:
        why = f"even a planner who knew all demand in advance would save at most {most:.1f} % more than this rule does"
        return "no", f"Do not bother with reinforcement learning here: {why}."
    if trained is None:
        return "unknown", (
            f"Nobody can save more than {most:.0f} % on top of this rule, and that only by knowing the future. How "
            "much of it an agent finds that does not know it, only training tells: run it again with `--train`."
        )
    low, high = trained["percent_low"], trained["percent_high"]
    budget = f"trained {trained['seeds']} times for {trained['steps']:,} steps, PPO"
    if low <= 0:
        worse = f"costs {-trained['percent']:.1f} % more" if trained["percent"] < 0 else "is not measurably cheaper"
        interval = f"(95 %: {-high:+.1f} to {-low:+.1f} %)"
        return "no", f"Do not bother with reinforcement learning here, at this budget: {budget} {worse} {interval}."
    return "maybe", (
        f"{budget[0].upper()}{budget[1:]} saves {trained['percent']:.1f} % on top of this rule ({low:.1f} to "
        f"{high:.1f} %). Is that worth a policy that nobody can read? If so, train longer and judge it again."
    )


def write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write the numbers of a report as JSON; what is not finite becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            return {str(key): plain(row) for key, row in value.to_dict("index").items()}
        if isinstance(value, Mapping | pd.Series):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not np.isfinite(value) else value

    files.write(path, json.dumps(plain(numbers), indent=2, allow_nan=False))
