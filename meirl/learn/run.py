"""A training run on disk: checkpoints that survive a kill, the history, the manifest."""

import json
import platform
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from tqdm import tqdm

from .. import files
from ..envs import Env
from ..evaluation import held_out
from ..rollout import Policy, simulate

FORMAT = "meirl-checkpoint-1"


class OtherRunError(ValueError):
    """The folder holds another run: one with another configuration, environment or seed."""


def run_folder(root: Path, env: str, algo: str, preset: str, seed: int) -> Path:
    """Where a run is kept: ``root/env/algo/preset/seed-N``."""
    return root / Path(env).stem / algo / Path(preset).stem / f"seed-{seed}"


class Run:
    """One training run: its history, its best weights by validation cost, and the checkpoint to resume from."""

    history: list[dict[str, float]]  #: one dict a validation, in order
    best: dict[str, torch.Tensor]  #: the network's state at its lowest validation cost so far
    best_cost: float  #: that cost, in units of ``cost_unit``
    steps: int  #: environment steps at the last validation

    def __init__(
        self, env: Env, algo: str, config: Any, seed: int, network: torch.nn.Module, out: Path | None = None,
        *, resume: bool = False, progress: bool = True,
    ) -> None:  # fmt: skip
        self.env, self.algo, self.config, self.seed, self.out = env, algo, config, seed, out
        self.network, self.best, self.best_cost = network, _copied(network), float("inf")
        self.history, self.steps, self._seconds, self._trained = [], 0, 0.0, False
        self._updates: list[dict[str, float]] = []  # diagnostics since the last validation
        self._validation = held_out(env, "validation", config.validation_episodes)
        name = f"{algo} {env.name}"
        self._bar = tqdm(total=config.steps, unit="step", unit_scale=True, disable=not progress, desc=name)
        if out is not None:
            existing = out / "checkpoint.pt"
            if existing.exists() and not resume:
                raise ValueError(f"{out} holds a run already: resume it, or choose another folder")
            out.mkdir(parents=True, exist_ok=True)
            files.write(out / "config.json", config.model_dump_json(indent=2))

    def identity(self) -> dict[str, Any]:
        """What must agree before a checkpoint may be continued or loaded."""
        return {
            "format": FORMAT, "algo": self.algo, "env": self.env.name, "observation": self.env.observation,
            "inputs": self.env.legend(), "seed": self.seed, "parameters": self.env.parameters.model_dump_json(),
            "config": self.config.model_dump_json(),
        }  # fmt: skip

    def restore(self) -> Any:
        """Continue from the checkpoint, if there is one; return the learner's own state in it, or None.

        An `OtherRunError` names what differs, if the checkpoint is of another run.
        """
        if self.out is None or not (self.out / "checkpoint.pt").exists():
            return None
        saved = load_checkpoint(self.out / "checkpoint.pt")
        identity = self.identity()
        # As models, not as text: a key that is younger than the run has its default.
        for key, model in {"config": self.config, "parameters": self.env.parameters}.items():
            with suppress(ValidationError, KeyError):
                if type(model).model_validate_json(saved[key]) == model:
                    identity[key] = saved[key]
        for key, expected in identity.items():
            if saved.get(key) != expected:
                hint = f"its {key} differs from this run's; delete the folder or choose another"
                raise OtherRunError(f"{self.out / 'checkpoint.pt'}: cannot resume: {hint}")
        self.network.load_state_dict(saved["network"])
        self.best, self.best_cost, self.history = saved["best"], saved["best_cost"], saved["history"]
        self._seconds, self.steps = saved["seconds"], saved["steps"]
        self._bar.update(self.steps)
        return saved["optimiser"]

    def log(self, diagnostics: dict[str, float], samples: int, seconds: float) -> None:
        """Add an update: its environment steps, its time, and diagnostics that the next validation averages."""
        self._updates.append(diagnostics)
        self._trained = True
        self._seconds += seconds
        self._bar.update(samples)

    def validate(self, steps: int, training_cost: float, optimiser: dict[str, Any]) -> None:
        """Score the network on the validation scenarios, keep it if it is the best so far, write a checkpoint.

        Args:
            steps: environment steps so far.
            training_cost: mean cost of the last round of episodes, in units of ``cost_unit``.
            optimiser: the learner's own state, what `restore` is to give back.
        """
        with torch.inference_mode():
            cost = float(simulate(self.env, self.policy, self._validation).cost.mean()) / self.env.cost_unit
        validated = (len(self.history) + 1) * self._validation.episodes * self.env.horizon
        row = {"steps": steps, "simulated_steps": steps + validated, "seconds": self._seconds,
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
        """Write checkpoint, best weights and history, each atomically."""
        if self.out is None:
            return
        common = {**self.identity(), "best": self.best, "best_cost": self.best_cost}
        progress = {"steps": self.steps, "seconds": self._seconds, "history": self.history}
        learner = {"network": _copied(self.network), "optimiser": optimiser}
        for name, content in {"checkpoint.pt": {**common, **progress, **learner}, "policy.pt": common}.items():
            torch.save(content, buffer := BytesIO())
            files.write(self.out / name, buffer.getvalue())
        files.write(self.out / "history.csv", pd.DataFrame(self.history).to_csv(index=False))

    def finish(self) -> Self:
        """Close the run: write the manifest, load the best weights into the network."""
        self._bar.close()
        self.network.load_state_dict(self.best)
        if self.out is not None and (self._trained or not (self.out / "manifest.json").exists()):
            files.write(self.out / "manifest.json", json.dumps(self.manifest(), indent=2))
        return self

    def manifest(self) -> dict[str, Any]:
        """Where a result comes from: commit, versions, device, time, steps."""
        return {
            "algo": self.algo, "env": self.env.name, "observation": self.env.observation, "seed": self.seed,
            "steps": self.steps, "simulated_steps": self.history[-1]["simulated_steps"] if self.history else 0,
            "seconds": round(self._seconds, 1), "best_validation_cost": self.best_cost,
            "device": str(self.env.device), "commit": files.commit(), "python": platform.python_version(),
            "torch": torch.__version__, "numpy": np.__version__, "machine": f"{platform.system()} {platform.machine()}",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    @property
    def policy(self) -> Policy:
        """The trained policy; the best one by validation cost once the run is finished."""
        return self.network


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without pickle's powers; ValueError if it is missing, damaged or not one of meirl's."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint: {path} does not exist") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path}: damaged, or no checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError(f"{path}: not a checkpoint of this version of meirl (expected format {FORMAT!r})")
    return saved


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
