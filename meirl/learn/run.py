"""A training run on disk: checkpoints that survive a kill, the history, the manifest."""

import json
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from .. import files
from ..config import first_line, validated
from ..envs import Env, ObservationSet
from ..evaluation import held_out
from ..rollout import Policy, simulate
from .networks import finite

FORMAT = "meirl-checkpoint-1"
MOST_BYTES = 2**29  # of a checkpoint; the largest networks that are allowed need 300 MB


def _all_finite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for key, value in state.items():
        finite(value, key)
    return state


State = Annotated[dict[str, torch.Tensor], AfterValidator(_all_finite)]


class Kept(BaseModel):
    """What ``policy.pt`` holds: the best weights, and what they belong to."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)
    algo: str
    env: str
    observation: ObservationSet
    inputs: list[str] | None = None  # runs of version 1.0 do not tell
    seed: int
    parameters: str
    config: str
    best: State
    best_cost: float = Field(ge=0)


class Checkpoint(Kept):
    """What ``checkpoint.pt`` holds besides: all that it takes to go on."""

    network: State
    optimiser: dict[str, Any]
    history: list[dict[str, float]]
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)


class OtherRunError(ValueError):
    """The folder holds another run: one with another configuration, environment or seed."""

    key = ""  #: what differs


def run_folder(root: Path, env: str, algo: str, preset: str, seed: int, observation: str = "full") -> Path:
    """Where a run is kept: ``root/env/algo/preset/seed-N``; ``root/published-observation/...`` if that is seen."""
    other = f"{observation}-observation"
    seen = root if observation == "full" or root.name == other else root / other
    return seen / Path(env).stem / algo / Path(preset).stem / f"seed-{seed}"


class Run(AbstractContextManager["Run"]):
    """One training run: its history, its best weights by validation cost, and the checkpoint to resume from.

    As a context it ends its progress bar and gives its folder up to other writers, however it ends.
    """

    policy: Policy  #: the network: what it is now or, once the run is finished, the best one by validation cost
    history: list[dict[str, float]]  #: one dict a validation, in order
    best: dict[str, torch.Tensor]  #: the network's state at its lowest validation cost so far
    best_cost: float  #: that cost, in units of ``cost_unit``
    steps: int  #: environment steps at the last validation

    def __init__(
        self, env: Env, algo: str, config: Any, seed: int, network: torch.nn.Module, out: Path | None = None,
        *, resume: bool = False, progress: bool = True,
    ) -> None:  # fmt: skip
        self.env, self.algo, self.config, self.seed, self.out = env, algo, config, seed, out
        self.network, self.policy, self.best, self.best_cost = network, network, _copied(network), float("inf")
        self.history, self.steps, self._seconds, self._trained = [], 0, 0.0, False
        self._updates: list[dict[str, float]] = []  # diagnostics since the last validation
        self._validation = held_out(env, "validation", config.validation_episodes)
        self._saved: dict[str, Any] | None = None
        with ExitStack() as held:  # if anything fails, the folder is given up
            if out is not None:
                self._found(out, resume)  # a refusal writes nothing, not even a lock
                held.enter_context(files.only_writer(out))
                self._saved = self._found(out, resume)  # as somebody else left it
                out.mkdir(exist_ok=True)
                if self._saved is None:
                    files.write(out / "config.json", config.model_dump_json(indent=2))
            desc = f"{algo} {env.name}"
            bar = tqdm(total=config.steps, unit="step", unit_scale=True, disable=not progress, desc=desc)
            self._bar, self._held = held.enter_context(bar), held.pop_all()

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def identity(self) -> dict[str, Any]:
        """What must agree before a checkpoint may be continued or loaded."""
        return {
            "format": FORMAT, "algo": self.algo, "env": self.env.name, "observation": self.env.observation,
            "inputs": self.env.legend(), "seed": self.seed, "parameters": self.env.parameters.model_dump_json(),
            "config": self.config.model_dump_json(),
        }  # fmt: skip

    def _found(self, out: Path, resume: bool) -> dict[str, Any] | None:
        """The checkpoint in the run's folder, None without one; an error if this run may not go on from it."""
        if not (path := out / "checkpoint.pt").exists():
            return None
        if not resume:
            raise ValueError(f"{out} holds a run already: resume it, or choose another folder")
        saved, identity = load_checkpoint(path, Checkpoint), self.identity()
        # As models, not as text: a key that is younger than the run has its default.
        for key, model in {"config": self.config, "parameters": self.env.parameters}.items():
            with suppress(ValidationError):
                if _placeless(type(model).model_validate_json(saved[key])) == _placeless(model):
                    identity[key] = saved[key]
        if (identity["parameters"], Path(self.env.name).name) == (saved["parameters"], Path(saved["env"]).name):
            identity["env"] = saved["env"]  # the chain's file may have moved, with its record and its runs
        for key, expected in identity.items():
            if saved.get(key) != expected:
                hint = f"its {key} differs from this run's; delete the folder or choose another"
                error = OtherRunError(f"{path}: cannot resume: {hint}")
                error.key = key
                raise error
        return saved

    def restore(self, load: Callable[[Any], Any]) -> bool:
        """Continue from the checkpoint, if there is one; whether there is. ``load`` takes what `validate` was given.

        Raises:
            ValueError: if the state does not fit; names the file.
        """
        if (saved := self._saved) is None:
            return False
        try:
            for weights in ("best", "network"):
                self.network.load_state_dict(saved[weights])
            load(saved["optimiser"])
        except Exception as error:  # what is wrong in a state shows in many ways
            raise ValueError(f"{self.out}: checkpoint.pt does not fit: {first_line(error)}") from error
        self.best, self.best_cost, self.history = saved["best"], saved["best_cost"], saved["history"]
        self._seconds, self.steps = saved["seconds"], saved["steps"]
        self._bar.update(self.steps)
        return True

    def log(self, diagnostics: dict[str, float], samples: int, seconds: float) -> None:
        """Add an update: its environment steps, its time, and diagnostics that the next validation averages."""
        self._updates.append(diagnostics)
        self._trained = True
        self._seconds += seconds
        self._bar.update(samples)

    def validate(self, steps: int, training_cost: float, optimiser: dict[str, Any]) -> None:
        """Score the network on the validation scenarios, keep it if it is the best so far, write a checkpoint.

        ``training_cost`` is the mean of the last round of episodes, in units of ``cost_unit``; ``optimiser`` is the
        learner's own state, what `restore` is to give back. A ValueError if the training has diverged.
        """
        _all_finite(self.network.state_dict())
        with torch.inference_mode():
            costs = finite(simulate(self.env, self.policy, self._validation).cost, "the validation cost")
        cost = float(costs.mean()) / self.env.cost_unit
        played = (len(self.history) + 1) * self._validation.episodes * self.env.horizon
        row = {"steps": steps, "simulated_steps": steps + played, "seconds": self._seconds,
               "training_cost": training_cost, "validation_cost": cost}  # fmt: skip
        for key in self._updates[0] if self._updates else ():
            row[key] = sum(update[key] for update in self._updates) / len(self._updates)
        self.history.append(row)
        self.steps, self._updates = steps, []
        if cost < self.best_cost:
            self.best, self.best_cost = _copied(self.network), cost
        rate = steps / self._seconds if self._seconds else float("nan")
        self._bar.set_postfix_str(f"cost {cost:,.5g}, best {self.best_cost:,.5g}, {rate:,.0f} steps/s")
        self.save(optimiser)

    def save(self, optimiser: dict[str, Any]) -> None:
        """Write best weights, history and, last, the checkpoint, each atomically.

        The checkpoint is what a run goes on from. A kill before it is written leaves the one before, from which the
        others are made again; after it, nothing is missing.
        """
        if self.out is None:
            return
        kept = {**self.identity(), "best": self.best, "best_cost": self.best_cost}
        progress = {"steps": self.steps, "seconds": self._seconds, "history": self.history}
        learner = {"network": _copied(self.network), "optimiser": optimiser}
        files.write(self.out / "policy.pt", _bytes(kept))
        files.write(self.out / "history.csv", pd.DataFrame(self.history).to_csv(index=False))
        files.write(self.out / "checkpoint.pt", _bytes({**kept, **progress, **learner}))

    def finish(self) -> Self:
        """End the run: write the manifest, load the best weights into the network."""
        self.network.load_state_dict(self.best)
        if self.out is not None and (self._trained or not (self.out / "manifest.json").exists()):
            files.write(self.out / "manifest.json", json.dumps(files.jsonable(self.manifest()), indent=2))
        return self

    def manifest(self) -> dict[str, Any]:
        """Where a result comes from: commit, versions, device, time, steps."""
        return {
            "algo": self.algo, "env": self.env.name, "observation": self.env.observation, "seed": self.seed,
            "steps": self.steps, "simulated_steps": self.history[-1].get("simulated_steps") if self.history else 0,
            "seconds": round(self._seconds, 1), "best_validation_cost": self.best_cost,
            "device": str(self.env.device), "commit": files.commit(), "python": platform.python_version(),
            "torch": torch.__version__, "numpy": np.__version__, "machine": f"{platform.system()} {platform.machine()}",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip


def _placeless(model: BaseModel) -> dict[str, Any]:
    """The values of a model, but the file of a record, if it has one, by its name alone."""
    values = model.model_dump()
    if record := values.get("demand", {}).get("record"):
        record["file"] = Path(record["file"]).name
    return values


def load_checkpoint(path: Path, kind: type[Kept] = Kept) -> dict[str, Any]:
    """Read a checkpoint, which must hold what ``kind`` does, without pickle's powers.

    Raises:
        ValueError: if it is missing, damaged, too large, not one of meirl's or not finite; names the file and the key.
    """
    files.check_archive(path, MOST_BYTES)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path}: damaged, or no checkpoint: {first_line(error)}") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError(f"{path}: not a checkpoint of this version of meirl (expected format {FORMAT!r})")
    validated(kind, saved, str(path))
    return saved


def load_adam(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give Adam its moments back; its options stay those of the configuration. ValueError if they do not fit."""
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state["state"]})
    for parameter, moments in optimiser.state.items():
        shapes = {key: moment.shape for key, moment in moments.items()}
        if shapes != {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
            raise ValueError(f"the optimiser's state has {shapes}")


def _bytes(content: dict[str, Any]) -> bytes:
    torch.save(content, buffer := BytesIO())
    return buffer.getvalue()


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
