"""Tuning a heuristic: differential evolution that plays a whole generation as one batch.

All candidates meet the same training scenarios (common random numbers). The best of the final population are scored
again on validation scenarios, and the winner is written to a small file. Test scenarios are never seen here.
"""

import hashlib
import json
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy
import torch
import yaml
from pydantic import TypeAdapter
from scipy.optimize import Bounds, OptimizeResult, differential_evolution
from tqdm import tqdm

from .. import files
from ..envs import Env, Scenario
from ..envs.scenario import FIRST_RESERVED_SEED
from ..evaluation import VALIDATION_EPISODES, held_out
from ..rollout import play
from .rule import Box, Levels, Range, Rule

ROWS = 4096  # episodes played at once: enough to keep a core busy, few enough to stay in its cache
WIDENINGS = 3  # times that a box may be widened
AT_BOUND = 0.01  # a level this close to its bound, as a share of the range, counts as at it


class Search(NamedTuple):
    """Result of `tune`."""

    tuned: Levels  #: the levels and their provenance
    history: pd.DataFrame  #: by generation: simulated_steps, seconds, best_cost on the training scenarios, best levels


@torch.inference_mode()
def mean_costs(env: Env, rule: Rule, candidates: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Mean cost of levels ``(candidates, k)`` on the same scenarios, ``(candidates,)`` in units of ``cost_unit``."""
    episodes = scenario.episodes
    together = min(len(candidates), max(1, ROWS // episodes))
    repeated = scenario.repeat(together)
    means = []
    for levels in torch.as_tensor(candidates).split(together):
        policy = rule.policy(env, levels.repeat_interleave(episodes, 0))
        played = play(env, policy, repeated[: len(levels) * episodes])  # type: ignore[arg-type]
        cost: Any = sum(step.costs.total for seen, step in played if seen.period >= env.parameters.warm_up)
        means.append(cost.reshape(len(levels), episodes).cpu().double().mean(1))  # no statistics, as `simulate` has
    return torch.cat(means).numpy() / env.cost_unit


def tune(
    env: Env, rule: Rule, *, seed: int = 0, episodes: int = 64, generations: int = 60, candidates: int = 6,
    finalists: int = 20, box: Box | None = None, widen: bool = True, progress: bool = True, kept: Path | None = None,
) -> Search:  # fmt: skip
    """Search for a rule's best levels; the `Search` has them, their provenance, and a history.

    In the provenance ``simulated_steps`` count the finalists' validation too, while ``seconds`` are of the search only.

    A level that ends at a bound of the search box means that the box, not the rule, decided. It is reported, the box is
    widened there and the search goes on from the population it has.

    Args:
        env: the environment.
        rule: the form of the policy.
        seed: of the training scenarios and of the search.
        episodes: training episodes that every candidate plays.
        candidates: population size per level.
        generations: generations of the search, fewer if the population converges; each widened box adds up to half.
        finalists: how many of the last population are scored again, on validation scenarios, which choose among them.
        box: search range of every level, by name; the rule's own if None.
        widen: widen a box whose bound was hit; False shows what a narrow box does.
        progress: show a progress bar.
        kept: file for what candidates cost, written after each generation; a search that was stopped finds them there
            and goes on, with the same result as one that was not. Delete it once the result is safe.

    Raises:
        ValueError: if the rule has no levels, others than ``box`` or another chain, or a number is impossible.
    """
    ranges = rule.ranges(env)
    if not ranges:
        raise ValueError(f"rule {rule.name!r} has no levels to tune")
    if box is not None and box.keys() != ranges.keys():
        raise ValueError(f"box: expected ranges of {', '.join(ranges)}, got {', '.join(box) or 'none'}")
    # In the order in which the rule reads its levels, whose natural limits hold in any box.
    box = {name: (box or ranges)[name]._replace(least=r.least, most=r.most) for name, r in ranges.items()}
    for name, r in box.items():
        if not r.least <= r.low <= r.high <= r.most:
            raise ValueError(
                f"box: {name}: expected {r.least:g} <= low <= high <= {r.most:g}, got {r.low:g}, {r.high:g}"
            )
    got = episodes, generations, candidates, finalists
    if min(got) < 1 or not 0 <= seed < FIRST_RESERVED_SEED:
        raise ValueError(f"need episodes, generations, candidates, finalists >= 1, a training seed; got {got}, {seed}")
    scenario, title = env.sample(episodes, seed), f"{env.name} {rule.name}"
    with tqdm(total=generations, desc=title, unit="generation", disable=not progress) as bar:
        effort = _Effort(env, rule, scenario, bar, kept)
        found, box, hits = _search(effort, box, seed, generations, candidates, widen)
    seconds = time.perf_counter() - effort.start
    levels, cost = effort.choose(found.population[np.argsort(found.population_energies)][:finalists])
    provenance = {
        "validation_cost": float(f"{cost:.9g}"), "validation_episodes": VALIDATION_EPISODES,
        "training_cost": float(f"{found.fun:.9g}"), "seed": seed, "training_episodes": episodes,
        "generations": len(effort.history), "population": len(found.population),
        "simulated_steps": effort.simulated, "seconds": round(seconds, 1),
        "box": {name: [round(r.low, 6), round(r.high, 6)] for name, r in box.items()}, "bounds_hit": hits,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "scipy": scipy.__version__},
    }  # fmt: skip
    named = dict(zip(box, levels.tolist(), strict=True))
    return Search(Levels(rule=rule.name, levels=named, provenance=provenance), pd.DataFrame(effort.history))


class _Effort:
    """Plays the candidates of a search, counts the simulated steps, keeps the history and shows the progress."""

    def __init__(self, env: Env, rule: Rule, scenario: Scenario, bar: tqdm, kept: Path | None) -> None:
        self.env, self.rule, self.scenario, self.names = env, rule, scenario, list(rule.ranges(env))
        self.start, self.simulated, self.bar, self.kept = time.perf_counter(), 0, bar, kept
        played = scenario.demand.cpu().numpy().tobytes()
        self.asked = f"{env.parameters.model_dump_json()} {rule.name}".encode() + played
        self.known: dict[str, tuple[list[float], float]] = {}  # of each generation: costs, and seconds so far
        if kept is not None and kept.exists():
            with suppress(ValueError, OSError):  # what cannot be read is played again
                self.known = TypeAdapter(dict[str, tuple[list[float], float]]).validate_json(kept.read_bytes())
        self.history: list[dict[str, float]] = []

    def costs(self, columns: np.ndarray) -> Any:
        """Mean costs of candidates, ``(k, candidates)`` as SciPy has them."""
        candidates = np.ascontiguousarray(columns.T.reshape(-1, len(columns)))
        self.simulated += len(candidates) * self.scenario.episodes * self.env.horizon
        key = hashlib.sha256(self.asked + candidates.tobytes()).hexdigest()[:16]
        costs, seconds = self.known.get(key, ([], 0.0))
        if len(costs) == len(candidates):
            self.start = min(self.start, time.perf_counter() - seconds)  # the clock goes on where it stopped
            return np.array(costs)
        found = mean_costs(self.env, self.rule, candidates, self.scenario)
        self.known[key] = (found.tolist(), time.perf_counter() - self.start)
        if self.kept is not None:
            files.write(self.kept, json.dumps(self.known))
        return found

    def report(self, intermediate_result: OptimizeResult) -> None:  # SciPy goes by the argument's name
        """Note what a generation has reached."""
        best, seconds = float(intermediate_result.fun), time.perf_counter() - self.start
        levels = dict(zip(self.names, intermediate_result.x.tolist(), strict=True))
        self.history.append({"simulated_steps": self.simulated, "seconds": seconds, "best_cost": best, **levels})
        self.bar.set_postfix(best_cost=f"{best:,.2f}")
        self.bar.update()

    def choose(self, finalists: np.ndarray) -> tuple[np.ndarray, float]:
        """Score the best candidates on validation scenarios, with levels rounded as they will be written."""
        candidates = np.array([[float(f"{level:.6g}") for level in row] for row in finalists])
        validation = held_out(self.env, "validation")
        self.simulated += len(candidates) * validation.episodes * self.env.horizon
        costs = mean_costs(self.env, self.rule, candidates, validation)
        return candidates[costs.argmin()], float(costs.min())


def _search(
    effort: _Effort, box: Box, seed: int, generations: int, candidates: int, widen: bool
) -> tuple[OptimizeResult, Box, list[str]]:
    """Search, and go on in a wider box while levels end at its bounds: SciPy's result, the last box, the bounds hit."""
    hits: list[str] = []
    population: Any = "latinhypercube"
    half = -(-generations // 2)  # of a widened box
    for attempt in range(1 + WIDENINGS):
        budget = half if attempt else generations
        low, high = zip(*((r.low, r.high) for r in box.values()), strict=True)
        found = differential_evolution(
            effort.costs, Bounds(low, high), init=population, popsize=candidates, maxiter=budget, seed=seed + attempt,
            vectorized=True, updating="deferred", polish=False, tol=1e-4, callback=effort.report,
        )  # fmt: skip
        population, at_bound = found.population, widened(box, found.x)
        hits += [f"{name}: {box[name].low:g} .. {box[name].high:g}" for name in at_bound]
        if not at_bound or not widen or attempt == WIDENINGS:
            break
        effort.bar.write(f"{', '.join(at_bound)} ended at a bound of the search box: widened, searching on")
        effort.bar.total = (effort.bar.total or 0) + half
        box = {**box, **at_bound}
    return found, box, hits


def near(env: Env, rule: Rule, levels: dict[str, float]) -> Box:
    """Ranges for a second search, around levels by name: 40 % of each to either side, and 5 % of the rule's range."""
    box = {}
    for name, r in rule.ranges(env).items():
        level = min(max(levels[name], r.least), r.most)
        reach = 0.4 * abs(level) + 0.05 * (r.high - r.low)
        box[name] = Range(max(r.least, level - reach), min(r.most, level + reach), r.least, r.most)
    return box


def widened(box: Box, levels: np.ndarray) -> Box:
    """The ranges that a search ended at the bound of, each doubled on that side, within the level's natural limits."""
    wider = {}
    for (name, r), level in zip(box.items(), levels, strict=True):
        width = r.high - r.low
        low = max(r.least, r.low - width) if level - r.low < AT_BOUND * width else r.low
        high = min(r.most, r.high + width) if r.high - level < AT_BOUND * width else r.high
        if (low, high) != (r.low, r.high):
            wider[name] = Range(low, high, r.least, r.most)
    return wider


def write(levels: Levels, path: Path) -> None:
    """Write levels as a small YAML file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, yaml.safe_dump(levels.model_dump(), sort_keys=False, default_flow_style=None, allow_unicode=True))
