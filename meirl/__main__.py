"""The command line: ``python -m meirl COMMAND``; other packages add commands by the entry points ``meirl.commands``."""

import json
import math
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import files, heuristics
from .device import pick_device
from .envs import CONTROLS, NAMES, make
from .evaluation import held_out, summarise
from .heuristics import tuning
from .learn import find_learner, load_policy, run_folder
from .learn import preset as load_preset
from .rollout import rollout


class Commands(TyperGroup):
    """The commands of this file and, loaded when asked for, those of other packages."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        return [*super().list_commands(ctx), *sorted(other.name for other in entry_points(group="meirl.commands"))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; one whose packages are missing says what to install."""
        if not (others := [*entry_points(group="meirl.commands", name=cmd_name)]):
            return super().get_command(ctx, cmd_name)
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        try:
            single.command(cmd_name)(others[0].load())
        except ImportError as error:
            reason = f"{cmd_name} needs more packages ({error}): pip install 'meirl[book]'"

            @single.command(cmd_name, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
            def refuse() -> None:
                """Not installed: it comes with meirl's extra `book`."""
                raise ValueError(reason)

        return typer.main.get_command(single)


MOST_EPISODES = 10_000  # of one rollout

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
EnvName = Annotated[str, typer.Option("--env", help=f"{', '.join((*NAMES, *CONTROLS))}, or a YAML file of your own")]


@app.callback()
def meirl() -> None:
    """Deep RL against well-tuned heuristics in multi-echelon inventory."""


@app.command()
def train(
    env: EnvName,
    algo: Annotated[str, typer.Option(help="ppo, a3c or pathwise")],
    preset: Annotated[str, typer.Option(help="tuned, long, published, as-published, or a YAML file")] = "tuned",
    observation: Annotated[str, typer.Option(help="full or published")] = "full",
    seed: Annotated[int, typer.Option(help="of weights, scenarios and actions")] = 0,
    steps: Annotated[int | None, typer.Option(help="environment steps; the preset's if not given")] = None,
    workers: Annotated[int | None, typer.Option(help="A3C's processes; the preset's if not given")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu; A3C needs cpu")] = None,
    out: Annotated[Path, typer.Option(help="runs go to OUT/<env>/<algo>/<preset>/seed-N")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="continue a run that was stopped")] = False,
) -> None:
    """Train an agent; keep config, weights, history and manifest in a folder."""
    changes = {"steps": steps, "workers": workers}
    config = load_preset(algo, preset, env, **{key: value for key, value in changes.items() if value is not None})
    where = pick_device(device) if device or algo != "a3c" else "cpu"
    folder = run_folder(out, env, algo, preset, seed, observation)
    chain = make(env, observation=observation, device=where)  # type: ignore[arg-type]
    done = find_learner(algo).train(chain, config, seed, folder, resume=resume)
    typer.echo(f"best validation cost {done.best_cost:,.2f}; kept in {folder}")


@app.command()
def tune(
    env: EnvName,
    heuristic: Annotated[str, typer.Option(help="a rule by name, or best: the rule that is best so far")],
    seed: Annotated[int, typer.Option(help="of the training scenarios and the search")] = 0,
    episodes: Annotated[int, typer.Option(min=1, max=MOST_EPISODES, help="training episodes of every candidate")] = 64,
    generations: Annotated[int, typer.Option(min=1, max=100_000, help="generations of the search")] = 60,
    near: Annotated[bool, typer.Option("--near", help="search again, around the levels that evaluate finds")] = False,
    out: Annotated[Path | None, typer.Option(help="YAML file to write; default: where evaluate finds it")] = None,
) -> None:
    """Search for a heuristic's best levels; write them, with their provenance, to a small file.

    A search that is stopped goes on where it was when it is started again in the same way.
    """
    chain = make(env)
    name = heuristics.best_rule(chain) if heuristic == "best" else heuristic
    rule = heuristics.find_rule(chain, name)
    path = out or heuristics.levels_file(chain, name)
    if path.is_dir():
        raise ValueError(f"{path}: a folder: expected a file to write levels to")

    def to_beat() -> float:  # cost of the levels that are there by now, on the chain as it is by now
        if out is not None or not path.exists():
            return math.inf
        return rollout(chain, heuristics.load(chain, path), held_out(chain, "validation"))["cost"].mean()

    to_beat()  # what cannot be read is refused before all the searching
    box = tuning.near(chain, rule, heuristics.read_levels(chain, name).levels) if near else None
    kept = path.with_name(f".{path.name}.search")
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():  # if nothing can be written there, say so now; and leave nothing if the search is refused
        files.write(kept, b"")
        kept.unlink()
    found = tuning.tune(chain, rule, seed=seed, episodes=episodes, generations=generations, box=box, kept=kept).tuned
    cost = found.provenance["validation_cost"]
    if (old := to_beat()) < cost:  # another search may have written there meanwhile
        typer.echo(f"validation cost {cost:,.2f}; kept {path}, which costs {old:,.2f} (--out FILE writes it elsewhere)")
    else:
        tuning.write(found, path)
        typer.echo(f"validation cost {cost:,.2f}; levels written to {path}")
    kept.unlink(missing_ok=True)


@app.command()
def evaluate(
    env: EnvName,
    heuristic: Annotated[str | None, typer.Option(help="published, best, textbook, a rule or a YAML file")] = None,
    policy: Annotated[Path | None, typer.Option(help="folder of a training run")] = None,
    episodes: Annotated[int | None, typer.Option(min=1, max=MOST_EPISODES, help="test episodes; default: all")] = None,
    warm_up: Annotated[int | None, typer.Option(min=0, help="periods not counted; default: as in the file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Play the fixed test scenarios; print mean cost, standard error, tail, cost parts and fill rate."""
    changes: dict[str, Any] = {} if warm_up is None else {"warm_up": warm_up}
    if heuristic is not None and policy is None:
        chain = make(env, **changes)
        controller = heuristics.load(chain, heuristic)
    elif policy is not None and heuristic is None:
        controller, chain = load_policy(policy, env, **changes)
    else:
        raise ValueError("give either --heuristic NAME or --policy DIR")
    summary = summarise(rollout(chain, controller, held_out(chain, "test", episodes)))
    if as_json:
        print(json.dumps(files.jsonable({"env": env, "policy": heuristic or str(policy), **summary}), indent=2))
        return
    parts: dict[str, float] = summary.pop("cost_parts")  # type: ignore[assignment]
    for key, value in {**summary, **{f"cost, {part}": cost for part, cost in parts.items()}}.items():
        typer.echo(f"{key.replace('_', ' '):<26}{value:>16,.4f}")


def main() -> None:
    """Run the command line; bad input, or a file that cannot be written, is one clear line and exit code 2."""
    try:
        app(prog_name="meirl")  # else completion would look for a variable with blanks in its name
    except (ValueError, OSError) as error:
        typer.echo(f"meirl: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
