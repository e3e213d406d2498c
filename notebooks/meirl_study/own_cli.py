"""The verbs for policies of one's own, added to ``python -m meirl``; the extra ``study`` is enough for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from meirl import files, heuristics, rollout
from meirl.envs import Env, ObservationSet, Scenario, make
from meirl.evaluation import TEST_EPISODES, estimate, held_out
from meirl.learn import load_policy

from . import score as scores
from .chapter import number, unit, verdict

EnvName = Annotated[str, typer.Option("--env", help="name of an environment, or a YAML file of your own chain")]


def compare(
    env: EnvName,
    first: Annotated[
        str, typer.Argument(help="a rule's name, best, textbook, published, a levels file or a run's folder")
    ],
    second: Annotated[str, typer.Argument(help="the same; it is compared with the first")],
    episodes: Annotated[int | None, typer.Option(min=2, help="test episodes; default: all 1,000")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare two policies on the same test scenarios: mean costs, their paired difference with interval, a verdict.

    A run is one agent: to judge an algorithm, train several and compare them with python -m meirl study.

    Example: python -m meirl compare --env report/chain.yaml best report/today.yaml
    """
    found = compared(env, first, second, episodes)
    if as_json:
        print(json.dumps(files.jsonable(found), indent=2))
        return
    for name in ("first", "second"):
        each = found[name]
        typer.echo(f"{each['policy']:<40} mean cost {each['cost']:>14,.2f}   fill rate {each['fill_rate']:.1%}")
    percent, low, high = (number(found[key], "+.2f") for key in ("percent", "percent_low", "percent_high"))
    typer.echo(f"{second} {found['verdict']} {first}: {percent} % (95 %: {low} to {high} %)")


def score(
    policy: Annotated[str, typer.Argument(help="file.py:name of a function of arrays, or of an agent with predict()")],
    env: EnvName,
    name: Annotated[str | None, typer.Option(help="of the policy, for the table; default: its own")] = None,
    observation: Annotated[ObservationSet, typer.Option(help="published: what the study's agents saw")] = "full",
    steps: Annotated[float | None, typer.Option(min=0, help="simulated to make it, if you know")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of the second set of scenarios; default: drawn")] = None,
    episodes: Annotated[int, typer.Option(min=2, help="of each set")] = TEST_EPISODES,
    out: Annotated[Path | None, typer.Option(help="append the rows to this CSV file")] = None,
) -> None:
    """Score a policy of your own on the fixed test scenarios, and on others drawn for the occasion.

    It runs your file. A function gets the observations of all episodes, an array (episodes, numbers) whose columns
    meirl.make(NAME).legend() names, and returns their actions, of meirl.make(NAME).action_space: no units, but from -1
    (order nothing) to 1 (the most), or on MEIS the number of an order. An agent of Stable-Baselines3 fits as it is.

    Example: python -m meirl score mypolicy.py:order --env divergent-stationary
    """
    chain = make(env, observation=observation)
    if out is not None:
        scores.check(out)  # before all the playing
    with scores.running(policy):
        table = scores.rows(scores.load(policy), chain, name or policy, steps, seed, episodes)
    if out is not None:
        scores.append(out, table)
    text = table.drop(columns=["environment", "policy"]).T.to_string(header=False, float_format="{:,.2f}".format)
    typer.echo(f"{name or policy} on {env}\n{text}")


def compared(env: str, first: str, second: str, episodes: int | None = None) -> dict[str, Any]:
    """Play two policies on the same test scenarios.

    Returns:
        ``first`` and ``second``, each with ``policy``, ``cost`` and ``fill_rate``; ``difference`` of the second's cost
        to the first's in units of ``cost_unit``, and ``percent``, the same in percent of the first's mean (NaN if that
        is 0), with ``_low`` and ``_high`` (95 %, Student's t over episodes); ``verdict``.
    """
    chain = make(env)
    scenario = held_out(chain, "test", episodes)
    tables = [_played(chain, name, scenario) for name in (first, second)]
    ours, theirs = (table["cost"].to_numpy() for table in tables)
    sides = {
        side: {"policy": name, "cost": float(table["cost"].mean()), "fill_rate": float(table["fill_rate"].mean())}
        for side, name, table in zip(("first", "second"), (first, second), tables, strict=True)
    }
    ends = estimate(theirs - ours, "difference")
    # One interval for verdict, difference and percent: two could contradict each other. Nothing has no percent.
    percent = 100 / float(ours.mean()) if ours.any() else float("nan")
    share = {name.replace("difference", "percent"): percent * end for name, end in ends.items()}
    said = verdict(ends["difference_low"], ends["difference_high"])
    return {"env": env, **sides, **ends, **share, "verdict": said, "episodes": len(ours), "cost_unit": unit(chain)}


def _played(chain: Env, name: str, scenario: Scenario) -> pd.DataFrame:
    """The table of a policy by name; an agent plays in an environment that shows what it was trained to see."""
    if name in (*heuristics.RULES, "best", "textbook", "published"):  # whatever folder is called so
        return rollout(chain, heuristics.load(chain, name), scenario)
    if (Path(name) / "policy.pt").exists():
        policy, own = load_policy(Path(name), chain.name)
        return rollout(own, policy, scenario)
    if Path(name).is_dir():
        raise ValueError(f"{name}: a folder without policy.pt: expected that of a training run")
    return rollout(chain, heuristics.load(chain, name), scenario)
