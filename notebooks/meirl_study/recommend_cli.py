"""The verb for a chain of one's own, added to ``python -m meirl``; its report needs the extra ``book``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from meirl.envs import make
from meirl.learn.config import check_seed

from . import page, recommend
from .chapter import PROJECT, shown
from .own_cli import EnvName
from .study import Profile

SEEDS = 5  # agents: of fewer, a bootstrap's 95 % interval covers less than it says


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
    seeds: Annotated[int | None, typer.Option(min=5, max=100, help="agents to train; default: 5")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="environment steps of each; 0: the profile's")] = None,
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
    _keep_own_files([Path(env), demand, today], out)
    if train:
        check_seed(seed + (seeds or SEEDS) - 1)
    elif seeds is not None or steps is not None:
        raise ValueError("--seeds and --steps are of agents: give --train too")
    _keep_what_others_made(env, demand, out)
    path = recommend.prepare(env, demand, out)  # what cannot be used is refused before anything starts
    recommend.today(make(path), today)
    given = {"profile": profile, "seed": seed, "train": train, "seeds": seeds or SEEDS, "steps": steps or 0}
    files = {"chain": str(path.resolve()), "out": str(out.resolve()), "today": str(today.resolve()) if today else ""}
    made = page.write(PROJECT / "notebooks" / "recommend.md", {**given, **files}, out)
    numbers = json.loads((out / "report.json").read_text(encoding="utf-8"))
    s = numbers["saving"]
    saves = shown(s["percent"], s["percent_low"], s["percent_high"], ".1f", " %")
    typer.echo(f"{numbers['rule']}: {recommend.saved(s)} {saves} of today's cost")
    typer.echo(f"{numbers['reinforcement_learning']['why']}\n{made}")


def _keep_own_files(given: Iterable[Path | None], out: Path) -> None:
    """Refuse a folder with the user's own files, which a report would write over; one with a report of ours is fine."""
    if (out / "report.json").exists():
        return
    for file in filter(None, given):
        if file.is_file() and file.resolve().parent == out.resolve():
            raise ValueError(f"--out: {file} is in that folder and might be written over: choose another one")


def _keep_what_others_made(env: str, demand: Path | None, out: Path) -> None:
    """Refuse a folder where a report would write over files that no report of the same chain and record has left."""
    there = [out / name for name in ("chain.yaml", "demand.csv", "today.yaml") if (out / name).is_file()]
    if not there or (out / "report.json").exists():
        return
    with TemporaryDirectory() as draft:  # one that was stopped has the same files as the one that is to come
        recommend.prepare(env, demand, Path(draft))
        for file in there:
            ours = Path(draft) / file.name
            if not ours.exists() or ours.read_bytes() != file.read_bytes():
                raise ValueError(f"--out: {file} is there already and would be written over: choose another folder")
