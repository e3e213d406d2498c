"""Trained agents that come with the package: one of each cell, with a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from meirl import files
from meirl.envs import NAMES
from meirl.evaluation import estimate
from meirl.learn import AGENTS, ALGORITHMS

from . import study

LIMITS = (
    "One run, the best of several by validation cost: for what the algorithm does, read the mean over seeds. Trained "
    "for this chain with these parameters; elsewhere it may do anything. Sees the observation named here."
)


def ship(root: Path, preset: str = "long", agents: Path = AGENTS) -> None:
    """Copy the best run of each cell, by validation cost, into the package, with its card.

    Args:
        root: of the study's runs, all seeds trained and tested.
        preset: whose runs.
        agents: folder to write to.
    """
    for name in NAMES:
        for algo in ALGORITHMS:
            runs = study.manifests(root / name / algo / preset)  # without those that were set aside
            made = [(json.loads(path.read_text(encoding="utf-8")), path.parent) for path in runs]
            best, folder = min(made, key=lambda run: run[0]["best_validation_cost"])
            cell = agents / f"{name}-{algo}"
            cell.mkdir(parents=True, exist_ok=True)
            files.write(cell / "policy.pt", (folder / "policy.pt").read_bytes())
            text = yaml.safe_dump(card(best, folder, len(made), preset), sort_keys=False, width=120)
            files.write(cell / "card.yaml", text)


def card(made: dict[str, Any], folder: Path, seeds: int, preset: str) -> dict[str, Any]:
    """What an agent is: a mapping for ``card.yaml``.

    Args:
        made: the run's manifest.
        folder: of the run; its ``test.csv`` has the test episodes.
        seeds: how many runs it is the best of.
        preset: of its training.
    """
    test = pd.read_csv(folder / "test.csv")
    cost = {key: round(value, 4) for key, value in estimate(test["cost"].to_numpy(), "cost").items()}
    told = {key: made[key] for key in ("algo", "env", "observation", "seed", "simulated_steps", "seconds", "commit")}
    return {
        **told, "preset": preset, "best_of_seeds": seeds, "validation_cost": made["best_validation_cost"],
        "test_episodes": len(test), **cost, "fill_rate": round(float(test["fill_rate"].mean()), 4),
        "data": "scenarios drawn by the environment from the training seed; none of the test scenarios",
        "limits": LIMITS,
    }  # fmt: skip
