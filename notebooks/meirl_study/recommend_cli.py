"""The verb for a chain of one's own, added to ``python -m meirl``; its report needs the extra ``book``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from meirl.envs import make

from . import page, recommend
from .chapter import PROJECT
from .own_cli import EnvName
from .study import Profile


def recommend_(
    env: EnvName,
    out: Annotated[Path, typer.Option(help="folder of the report; made if need be")],
    demand: Annotated[
        Path | None, typer.Option(help="CSV of demand by date and location; default: the one that the chain names")
    ] = None,
    today: Annotated[
        Path | None, typer.Option(help="YAML file of today's levels; default: a textbook's formula")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="train PPO too, to see whether it is worth it")] = False,
    seeds: Annotated[int, typer.Option(min=2, max=100, help="agents to train")] = 3,
    steps: Annotated[int, typer.Option(min=0, help="environment steps of each; 0: the profile's")] = 0,
    profile: Annotated[Profile, typer.Option(help="full (for a decision) or quick (to try it out)")] = "full",
    seed: Annotated[int, typer.Option(min=0, help="of all searches and training")] = 0,
) -> None:
    """Recommend a rule with its levels for a chain with recorded demand; write a report.

    Leaves in the folder: report.html (one page, for people), report.json (its numbers), chain.yaml and demand.csv (as
    used), today.yaml and chain/ (levels of every rule), report.ipynb. What is tuned on the earlier part of the record
    is judged on the later part.

    Example: python -m meirl recommend --env chain.yaml --demand demand.csv --out report
    """
    for name, file in {"--env": Path(env), "--demand": demand, "--today": today}.items():
        if file is not None and file.suffix and not file.is_file():
            raise ValueError(f"{name}: no such file: {file}")
    path = recommend.prepare(env, demand, out)  # what cannot be used is refused before anything starts
    recommend.today(make(path), today)
    given = {"profile": profile, "seed": seed, "train": train, "seeds": seeds, "steps": steps}
    files = {"chain": str(path.resolve()), "out": str(out.resolve()), "today": str(today.resolve()) if today else ""}
    made = page.write(PROJECT / "notebooks" / "recommend.md", {**given, **files}, out)
    numbers = json.loads((out / "report.json").read_text(encoding="utf-8"))
    s = numbers["saving"]
    typer.echo(f"{numbers['rule']}: saves {s['percent']:.1f} % ({s['percent_low']:.1f} to {s['percent_high']:.1f})")
    typer.echo(f"{numbers['reinforcement_learning']['why']}\n{made}")
