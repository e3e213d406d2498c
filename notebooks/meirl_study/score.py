"""Score a policy of your own: on the fixed test scenarios, and on others that nobody knew when it was made.

A policy is a function of NumPy arrays, or an agent with Stable-Baselines3's ``predict``. The seed of the test scenarios
is public, so whoever wants to can learn them by heart; hence a second set, whose seed is drawn when a policy is scored.
"""

from __future__ import annotations

import runpy
import secrets
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from meirl import files
from meirl.envs import Env, Observation, Scenario
from meirl.envs.scenario import FIRST_RESERVED_SEED
from meirl.evaluation import TEST_EPISODES, TEST_SEED, cvar, estimate, held_out
from meirl.heuristics import load as load_rule
from meirl.rollout import Policy, rollout

from .bounds import hindsight_bound

BOUNDED = 50  # episodes whose bound is computed: each is a linear program
COLUMNS = ("environment", "policy", "observation", "steps", "scenarios", "episodes", "cost", "cost_low", "cost_high",
           "cvar95", "fill_rate", "fill_rate_low", "fill_rate_high", "against_rule", "against_rule_low",
           "against_rule_high", "above_bound")  # fmt: skip
"""Of a row of scores; `rows` says what they mean."""

TABLE = Path(__file__).with_name("scores.csv")
"""The book's table: rows of everybody who sent one."""
FORMATS = {
    "million steps": ",.1f", "cost": ",.1f", "tail": ",.1f", "fill rate": ".1%", "against the rule [%]": "+.1f",
    "the same, second set [%]": "+.1f", "above the bound [%]": "+.1f",
}  # fmt: skip
"""Columns that a page shows, `shown`."""


@contextmanager
def running(target: str) -> Iterator[None]:
    """Let ``file.py:name`` import what lies beside the file; an error in it names its line."""
    path = target.rpartition(":")[0]
    folder = str(Path(path).resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except (ValueError, OSError) as error:
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        if not lines:
            raise
        raise ValueError(f"{path}, line {lines[-1].lineno}, in {lines[-1].name}: {error}") from error
    finally:
        sys.path.remove(folder)


def load(target: str) -> Any:
    """Load ``file.py:name``: the function or agent of that name, once the file has run.

    Raises:
        ValueError: if there is no such file or name, it can neither be called nor predict, or is a class.
    """
    path, _, name = target.rpartition(":")
    if not path or not name or not Path(path).is_file():
        raise ValueError(f"policy must be file.py:name, got {target!r}" + (f": no file {path}" if path else ""))
    with running(target):
        found = runpy.run_path(path)
    if name not in found:
        public = sorted(key for key, value in found.items() if callable(value) and not key.startswith("_"))
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(public) or 'nothing that can be called'}")
    if isinstance(found[name], type):
        raise ValueError(f"{target} is a class: give the name of an agent, such as agent = {name}()")
    if not callable(found[name]) and not hasattr(found[name], "predict"):
        raise ValueError(f"{target} is neither a function nor an agent with predict(): {type(found[name]).__name__}")
    return found[name]


def as_policy(agent: Any, env: Env) -> Policy:
    """Let a function of arrays, or an agent with ``predict``, control an environment.

    Args:
        agent: ``agent(vectors)`` or ``agent.predict(vectors, deterministic=True)[0]``, as Stable-Baselines3 has it:
            from the observation vectors ``(batch, numbers)``, float32, whose columns ``env.legend()`` names, to actions
            of ``env.action_space``, one an episode. What else an agent returns is its memory, which it gets back as
            ``state`` with ``episode_start`` in the next period, until the episodes end.
        env: the environment.

    Returns:
        The policy; it raises a ValueError if actions have the wrong shape or are not finite.
    """
    memory: dict[str, Any] = {}

    def predict(seen: np.ndarray) -> Any:
        actions, *rest = agent.predict(seen, deterministic=True, **memory)
        if rest and rest[0] is not None:
            memory.update(state=rest[0], episode_start=np.zeros(len(seen), bool))
        return actions

    decide = predict if hasattr(agent, "predict") else agent

    def policy(observation: Observation) -> torch.Tensor:
        if observation.period == 0:
            memory.clear()
        seen = observation.vector().cpu().numpy().astype(np.float32)
        actions, expected = np.asarray(decide(seen)), (len(seen), *(env.action_space.shape or ()))
        if actions.shape != expected or actions.dtype.kind not in "iuf" or not np.isfinite(actions).all():
            raise ValueError(
                f"period {observation.period}: the policy must return finite numbers of shape {expected}, one action "
                f"an episode, got {actions.dtype} of shape {actions.shape}"
            )
        return torch.as_tensor(actions, device=env.device, dtype=env.dtype if actions.dtype.kind == "f" else None)

    return policy


def rows(
    agent: Any, env: Env, name: str, steps: float | None = None, seed: int | None = None,
    episodes: int = TEST_EPISODES, bounded: int = BOUNDED,
) -> pd.DataFrame:  # fmt: skip
    """Score a policy on two sets of scenarios.

    Args:
        agent: see `as_policy`.
        env: with the observation that the policy is to see.
        name: of the policy, for the table.
        steps: simulated to make it, as its maker says; None: not said.
        seed: of the second set; None draws one. Of a chain with recorded demand it draws from the later part, as the
            test scenarios do: the earlier part is what policies are tuned on.
        episodes: of each set.
        bounded: episodes, the first of a set, whose bound is computed.

    Returns:
        Two rows, the columns `COLUMNS`: mean ``cost`` of an episode in units of ``cost_unit``, ``cvar95``, the mean of
        the worst 5 %, and ``fill_rate``, share; ``against_rule``: cost less that of the best tuned rule on the same
        episodes, in percent of the rule's mean; ``above_bound``: cost above the hindsight bound of the first episodes,
        in percent of that; with 95 % intervals (Student's t over episodes) in ``_low`` and ``_high``. ``scenarios`` is
        ``test`` or ``seed`` with its number.

    Raises:
        ValueError: if the seed is one that is kept for held-out scenarios, or actions do not fit the environment.
    """
    seed = secrets.randbelow(FIRST_RESERVED_SEED) if seed is None else seed
    if not 0 <= seed < FIRST_RESERVED_SEED:
        raise ValueError(f"seed must be from 0 to {FIRST_RESERVED_SEED - 1}, got {seed}")
    policy, rule = as_policy(agent, env), load_rule(env, "best")
    # Seeds behind those of the held-out sets draw from a record's later part.
    second = env.sample(episodes, seed if env.record is None else TEST_SEED + 1 + seed)
    sets = {"test": held_out(env, "test", episodes), f"seed {seed}": second}
    told = {"environment": env.name, "policy": name, "observation": env.observation, "steps": steps}
    table = [
        {**told, "scenarios": which, "episodes": episodes, **_row(policy, rule, env, scenario, bounded)}
        for which, scenario in sets.items()
    ]
    return pd.DataFrame(table, columns=list(COLUMNS))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Scores for reading, a row a policy: on the test scenarios, and beside it how it fared on the second set.

    If a policy was scored more than once, the last counts.
    """
    key = ["environment", "policy"]
    test, second = (
        table[(table["scenarios"] == "test") == first].drop_duplicates(key, keep="last").set_index(key)
        for first in (True, False)
    )
    columns = {
        "million steps": test["steps"] / 1e6, "cost": test["cost"], "tail": test["cvar95"],
        "fill rate": test["fill_rate"], "against the rule [%]": test["against_rule"],
        "the same, second set [%]": second["against_rule"].reindex(test.index),
        "above the bound [%]": test["above_bound"],
    }  # fmt: skip
    return pd.DataFrame(columns)


def check(path: Path) -> None:
    """Refuse a file that rows of scores cannot be added to: it has other columns, or its folder does not exist."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if path.exists() and list(pd.read_csv(path, nrows=0).columns) != list(COLUMNS):
        raise ValueError(f"{path} is no file of scores: expected the columns {', '.join(COLUMNS)}")


def append(path: Path, table: pd.DataFrame) -> None:
    """Add rows of scores to a CSV file, or begin one, one process after the other; a ValueError as of `check`."""
    check(path)
    with files.only_writer(path, wait=True):  # what another adds between reading and writing would be lost
        if path.exists():
            there = pd.read_csv(path)
            table = pd.concat([there, table], ignore_index=True) if len(there) else table
        files.write(path, table.to_csv(index=False))


def _row(policy: Policy, rule: Policy, env: Env, scenario: Scenario, bounded: int) -> dict[str, float]:
    played, opponent = rollout(env, policy, scenario), rollout(env, rule, scenario)["cost"].to_numpy()
    cost, some = played["cost"].to_numpy(), min(bounded, len(played))
    least = hindsight_bound(env, scenario[:some], jobs=1).mean()  # type: ignore[arg-type]
    return {
        **estimate(cost, "cost"), "cvar95": cvar(cost), **estimate(played["fill_rate"].to_numpy(), "fill_rate"),
        **estimate(100 * (cost - opponent) / opponent.mean(), "against_rule"),
        "above_bound": 100 * (cost[:some].mean() / least - 1),
    }  # fmt: skip
