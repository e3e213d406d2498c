"""The study's verbs of the command line, added to ``python -m meirl``. Each is a few lines that call its module.

A verb's docstring is its ``--help``: what it does and leaves behind, then an example.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from meirl import files
from meirl.envs import NAMES, ObservationSet, make
from meirl.evaluation import held_out, summarise
from meirl.learn import ALGORITHMS, find_learner, preset
from meirl.rollout import rollout

from . import agents as checkpoints
from . import bench as measures
from . import published, speed
from . import replay as trace
from . import study as engine

EnvName = Annotated[str, typer.Option("--env", help=f"{', '.join(NAMES)}, or a YAML file of your own")]


def replay(
    env: EnvName,
    file: Annotated[Path, typer.Argument(help="a recorded trace, .npz: decisions, draws, results")],
    tolerance: Annotated[float, typer.Option(min=0, help="largest error that is no difference")] = 1e-6,
) -> None:
    """Replay a recorded trace; print the largest absolute error of every recorded field as JSON.

    0 everywhere is a perfect match with the implementation that recorded it. The exit code is 1 if an error is larger
    than the tolerance, or no number, which is null.

    Example: python -m meirl replay --env meis-stationary tests/traces/meis_stationary_random.npz
    """
    errors = trace.replay(make(env, observation="published", dtype=torch.float64), file)
    print(json.dumps(files.jsonable(errors), indent=2))
    if different := [key for key, error in errors.items() if not error <= tolerance]:
        typer.echo(f"meirl: {file}: differs by more than {tolerance:g}: {', '.join(different)}", err=True)
        raise typer.Exit(1)


def agents(
    checkout: Annotated[
        Path, typer.Option(help=f"your checkout of {published.REPOSITORY}, at commit {published.COMMIT[:7]}")
    ],
    out: Annotated[Path, typer.Option(help="every episode goes to this CSV file")] = Path("published-agents.csv"),
) -> None:
    """Play the published study's own trained agents on the test scenarios, from your checkout of its repository.

    Only tensors are read from its checkpoints. Prints costs and service beside what the study reports.

    Example: python -m meirl agents --checkout ../multi-echelon-rl-inventory
    """
    table = checkpoints.play(checkout)
    checkpoints.write(out, table)
    typer.echo(checkpoints.agreement(table).T.to_string(float_format="{:,.2f}".format, na_rep="not reported"))
    typer.echo(f"every episode: {out}")


def bench(
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="environment, training, sb3, batch, limit or cost; may be repeated; all but cost if not given"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure speed: of environments and training, against Stable-Baselines3, by batch size, against matrix products.

    Takes minutes; let nothing else run meanwhile. The part ``cost``, seconds of training until the designed rule's cost
    is passed, reads the study's runs under runs/full and trains those that are not there, which takes hours.

    Example: python -m meirl bench --part environment
    """
    parts: dict[str, Any] = {
        "environment": speed.environment_speed, "training": speed.training_speed, "sb3": speed.against_sb3,
        "batch": measures.batch_speed, "limit": measures.distance_to_limit, "cost": measures.time_to_cost,
    }  # fmt: skip
    if unknown := set(part or ()) - parts.keys():
        raise ValueError(f"unknown part {unknown.pop()!r}: expected one of {', '.join(parts)}")
    tables = {name: parts[name]() for name in part or [name for name in parts if name != "cost"]}
    if as_json:
        records = {name: table.to_dict("records") for name, table in tables.items()}
        print(json.dumps(files.jsonable(records), indent=2))
        return
    for name, table in tables.items():
        typer.echo(f"{name}\n{table.to_string(index=False, float_format=_number)}\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def study(
    profile: Annotated[engine.Profile, typer.Option(help="short runs, or the presets' whole budgets")] = "quick",
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1_000, help="training seeds of each cell; default: quick 2, full 10")
    ] = None,
    algo: Annotated[list[str] | None, typer.Option(help="only this algorithm; may be repeated")] = None,
    env: Annotated[list[str] | None, typer.Option(help="only this environment; may be repeated")] = None,
    preset: Annotated[
        str, typer.Option(help="tuned, long, published, as-published (defects included), or a YAML file")
    ] = "tuned",
    observation: Annotated[ObservationSet, typer.Option(help="what agents see")] = "full",
    jobs: Annotated[int, typer.Option(help="runs at once; -1: one a core")] = -1,
    backend: Annotated[str, typer.Option(help="loky (this machine), dask or ray (extras of that name)")] = "loky",
    address: Annotated[str | None, typer.Option(help="of a Dask scheduler or a Ray cluster that is running")] = None,
    out: Annotated[
        Path, typer.Option(help="runs go to OUT/<profile>/..., the table to OUT/<profile>/results.csv.gz")
    ] = Path("runs"),
) -> None:
    """Train and test every algorithm on every environment over seeds; resume what was stopped, skip what is done.

    Each run is kept in a folder of its own, so a study may be killed at any time; start it again with the same options.
    No run is deleted: a quick one of other settings is renamed, which is said, a full one refused.

    Example: python -m meirl study --env meis-stationary --algo ppo --seeds 2
    """
    todo = engine.tasks(
        range(seeds or engine.SEEDS[profile]), env or NAMES, algo or ALGORITHMS,
        profile=profile, preset=preset, observation=observation,
    )  # fmt: skip
    table = engine.run(todo, out / profile, jobs=jobs, backend=backend, address=address)
    results = gzip.compress(table.to_csv(index=False).encode(), mtime=0)
    files.write(out / profile / "results.csv.gz", results)
    by_seed = table.groupby(["env", "algo", "seed"])[["cost", "fill_rate"]].mean()
    typer.echo(by_seed.groupby(["env", "algo"]).agg(["mean", "std"]).to_string(float_format="{:,.3f}".format))


def smoke() -> None:
    """Train and evaluate every algorithm on every environment, briefly: does it all work here?

    Prints a line for each of them, and keeps nothing.

    Example: python -m meirl smoke
    """
    for name in NAMES:
        chain = make(name)
        for algo in ALGORITHMS:
            config = preset(algo, "tuned", name, steps=8_000, environments=8, evaluations=1, validation_episodes=8)
            done = find_learner(algo).train(chain, config, 0, progress=False)
            summary = summarise(rollout(chain, done.policy, held_out(chain, "test", 32)))
            typer.echo(f"{algo} {name}: mean cost {summary['mean_cost']:,.2f}")
