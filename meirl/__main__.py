"""The command line: ``python -m meirl COMMAND``. Each command is a few lines that call the module of its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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


def main() -> None:
    """Run the command line; bad input is one clear line on standard error and exit code 2, not a traceback."""
    try:
        app()
    except ValueError as error:
        typer.echo(f"meirl: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
