"""The command line: ``python -m meirl COMMAND``. Each command is a few lines that call the module of its name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from .envs import NAMES, make

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

EnvName = Annotated[str, typer.Option("--env", help=f"{', '.join(NAMES)}, or a YAML file of your own")]


@app.callback()
def meirl() -> None:
    """Deep RL against well-tuned heuristics in multi-echelon inventory."""


@app.command()
def replay(env: EnvName, file: Annotated[Path, typer.Argument(help="a recorded trace, .npz")]) -> None:
    """Replay a recorded trace; print the largest absolute error of every recorded field as JSON."""
    from .replay import replay as play

    print(json.dumps(play(make(env, observation="published", dtype=torch.float64), file), indent=2))


@app.command()
def bench(
    part: Annotated[list[str] | None, typer.Option(help="environment, training or sb3; all if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure speed: environments on one core, training with 1 and 2 workers, and PPO against Stable-Baselines3."""
    from .bench import against_sb3, environment_speed, training_speed

    parts: dict[str, Any] = {"environment": environment_speed, "training": training_speed, "sb3": against_sb3}
    if unknown := set(part or ()) - parts.keys():
        raise ValueError(f"unknown part {unknown.pop()!r}: expected one of {', '.join(parts)}")
    tables = {name: parts[name]() for name in part or parts}
    if as_json:
        print(json.dumps({name: table.to_dict("records") for name, table in tables.items()}, indent=2))
        return
    for name, table in tables.items():
        typer.echo(f"{name}\n{table.to_string(index=False, float_format=_number)}\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


@app.command()
def train(
    env: EnvName,
    algo: Annotated[str, typer.Option(help="ppo, a3c or pathwise")],
    preset: Annotated[
        str, typer.Option(help="tuned, published, as-published (defects included), or a YAML file")
    ] = "tuned",
    observation: Annotated[str, typer.Option(help="full or published")] = "full",
    seed: Annotated[int, typer.Option(help="of weights, scenarios and actions")] = 0,
    steps: Annotated[int | None, typer.Option(help="environment steps; the preset's if not given")] = None,
    workers: Annotated[int | None, typer.Option(help="A3C's processes; the preset's if not given")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu; A3C needs cpu")] = None,
    out: Annotated[Path, typer.Option(help="runs go to OUT/<env>/<algo>/<preset>/seed-N")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="continue a run that was stopped")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="also log for TensorBoard")] = False,
) -> None:
    """Train an agent; keep config, weights, history and manifest in a folder."""
    from .device import pick_device
    from .runs import learner, run_folder
    from .runs import preset as load

    changes = {"steps": steps, "workers": workers}
    config = load(algo, preset, env, **{key: value for key, value in changes.items() if value is not None})
    where = pick_device(device) if device or algo != "a3c" else "cpu"
    folder = run_folder(out, env, algo, preset, seed)
    chain = make(env, observation=observation, device=where)  # type: ignore[arg-type]
    done = learner(algo).train(chain, config, seed, folder, resume=resume, tensorboard=tensorboard)
    typer.echo(f"best validation cost {done.best_cost:,.2f}; kept in {folder}")


@app.command()
def tune(
    env: EnvName,
    heuristic: Annotated[str, typer.Option(help="a rule by name, or best: the rule that is best so far")],
    seed: Annotated[int, typer.Option(help="of the training scenarios and the search")] = 0,
    episodes: Annotated[int, typer.Option(min=1, help="training episodes that every candidate plays")] = 64,
    generations: Annotated[int, typer.Option(min=1, help="generations of the search")] = 60,
    out: Annotated[Path | None, typer.Option(help="YAML file to write; default: where evaluate finds it")] = None,
) -> None:
    """Search for a heuristic's best levels; write them, with their provenance, to a small file."""
    from . import heuristics, tuning

    chain = make(env)
    name = heuristics.best(chain) if heuristic == "best" else heuristic
    rule = heuristics.rule(chain, name)
    found = tuning.tune(chain, rule, seed=seed, episodes=episodes, generations=generations).tuned
    path = out or heuristics.tuned_file(chain, name)
    cost = found.provenance["validation_cost"]
    if out is None and path.exists() and (old := heuristics.read(chain, name).provenance["validation_cost"]) < cost:
        typer.echo(f"validation cost {cost:,.2f}; kept {path}, which costs {old:,.2f} (--out FILE writes it elsewhere)")
        return
    tuning.write(found, path)
    typer.echo(f"validation cost {cost:,.2f}; levels written to {path}")


@app.command()
def evaluate(
    env: EnvName,
    heuristic: Annotated[
        str | None, typer.Option(help="never-order, published, best, a tuned rule, or a tuned YAML file")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="folder of a training run")] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="test episodes; default: all 1,000")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Play the fixed test scenarios; print mean cost, standard error, tail, cost parts and fill rate."""
    from . import heuristics
    from .evaluation import held_out, summarise
    from .rollout import rollout
    from .runs import load_policy, trained_on

    if heuristic is not None and policy is None:
        chain = make(env)
        controller = heuristics.load(chain, heuristic)
    elif policy is not None and heuristic is None:
        chain = make(env, observation=trained_on(policy))
        controller, _ = load_policy(policy, chain)
    else:
        raise ValueError("give either --heuristic NAME or --policy DIR")
    summary = summarise(rollout(chain, controller, held_out(chain, "test", episodes)))
    if as_json:
        print(json.dumps({"env": env, "policy": heuristic or str(policy), **summary}, indent=2))
        return
    parts: dict[str, float] = summary.pop("cost_parts")  # type: ignore[assignment]
    for key, value in {**summary, **{f"cost, {part}": cost for part, cost in parts.items()}}.items():
        typer.echo(f"{key.replace('_', ' '):<26}{value:>16,.4f}")


@app.command()
def study(
    profile: Annotated[str, typer.Option(help="quick (short runs) or full (the presets' budgets)")] = "quick",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="training seeds of each cell; default: quick 2, full 10")
    ] = None,
    algo: Annotated[list[str] | None, typer.Option(help="only this algorithm; may be repeated")] = None,
    env: Annotated[list[str] | None, typer.Option(help="only this environment; may be repeated")] = None,
    preset: Annotated[
        str, typer.Option(help="tuned, published, as-published (defects included), or a YAML file")
    ] = "tuned",
    observation: Annotated[str, typer.Option(help="full or published")] = "full",
    jobs: Annotated[int, typer.Option(help="runs at once; -1: one a core")] = -1,
    backend: Annotated[str, typer.Option(help="loky (this machine), dask or ray (extras of that name)")] = "loky",
    address: Annotated[str | None, typer.Option(help="of a Dask scheduler or a Ray cluster that is running")] = None,
    out: Annotated[
        Path, typer.Option(help="runs go to OUT/<profile>/..., the table to OUT/<profile>/results.csv.gz")
    ] = Path("runs"),
) -> None:
    """Train and test every algorithm on every environment over seeds; resume what was stopped, skip what is done."""
    from .runs import ALGORITHMS
    from .study import SEEDS, changes, run, tasks

    altered = changes(profile)
    todo = tasks(
        range(seeds or SEEDS[profile]), env or NAMES, algo or ALGORITHMS,
        preset=preset, observation=observation, changes=altered,
    )  # fmt: skip
    table = run(todo, out / profile, jobs=jobs, backend=backend, address=address)
    table.to_csv(out / profile / "results.csv.gz", index=False)
    by_seed = table.groupby(["env", "algo", "seed"])[["cost", "fill_rate"]].mean()
    typer.echo(by_seed.groupby(["env", "algo"]).agg(["mean", "std"]).to_string(float_format="{:,.3f}".format))


@app.command()
def smoke() -> None:
    """Train and evaluate every algorithm on every environment, briefly: does it all work here?"""
    from .evaluation import held_out, summarise
    from .rollout import rollout
    from .runs import ALGORITHMS, learner, preset

    for name in NAMES:
        chain = make(name)
        for algo in ALGORITHMS:
            config = preset(algo, "tuned", name, steps=8_000, environments=8, evaluations=1, validation_episodes=8)
            done = learner(algo).train(chain, config, 0, progress=False)
            summary = summarise(rollout(chain, done.policy, held_out(chain, "test", 32)))
            typer.echo(f"{algo} {name}: mean cost {summary['mean_cost']:,.2f}")


@app.command()
def book(
    profile: Annotated[
        str, typer.Option(help="quick (into _build/quick) or full (into book/: what is published)")
    ] = "quick",
    seed: Annotated[int, typer.Option(help="of all training and tuning")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu")] = "cpu",
    only: Annotated[list[str] | None, typer.Option(help="execute only pages whose names begin so, e.g. 03")] = None,
    jobs: Annotated[int, typer.Option(help="notebooks executed at once; 0: one a core")] = 0,
    html: Annotated[bool, typer.Option("--html", help="execute nothing, build what is committed under book/")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="execute notebooks/*.md into their .ipynb, build nothing")
    ] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="execute nothing, print what is committed as one PDF")] = False,
) -> None:
    """Execute the notebooks and build the book."""
    from . import book as maker
    from .pdf import make_pdf

    root, jobs = Path.cwd(), jobs or os.cpu_count() or 1
    if pairs:
        maker.make_pairs(root, only or (), jobs)
    elif pdf:
        typer.echo(f"open {make_pdf(root)}")
    elif html:
        typer.echo(f"open {maker.build(root, root / '_build' / 'html')}")
    else:
        typer.echo(f"open {maker.make_book(root, profile, seed, device, only or (), jobs)}")  # type: ignore[arg-type]


def main() -> None:
    """Run the command line; bad input is one clear line on standard error and exit code 2, not a traceback."""
    try:
        app()
    except ValueError as error:
        typer.echo(f"meirl: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
