"""What every chapter begins and ends with: its set-up, its verdicts, and the numbers that its text shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from meirl import Env, Scenario, device, held_out, heuristics, make, rollout
from meirl.envs import NAMES

from . import study
from .study import Task

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout that `meirl_study` is installed from."""
EPISODES = {"quick": 100, "full": 1_000}
"""Test episodes of every policy, by profile."""


@dataclass(frozen=True)
class Chapter:
    """The set-up of a chapter: profile, seeds, environments on their device, and where runs are kept."""

    profile: str
    seed: int
    device: torch.device

    @property
    def quick(self) -> bool:
        """Whether everything is shortened, so that the chapter takes less than a minute."""
        return self.profile == "quick"

    @property
    def episodes(self) -> int:
        """Test episodes of every policy."""
        return EPISODES[self.profile]

    @property
    def seeds(self) -> range:
        """Training seeds of every cell at the published budget."""
        return range(self.seed, self.seed + study.SEEDS[self.profile])

    @property
    def long_seeds(self) -> range:
        """Training seeds of every cell at ten times that budget."""
        return range(self.seed, self.seed + study.LONG_SEEDS[self.profile])

    @property
    def few_seeds(self) -> range:
        """Training seeds of experiments beside the study."""
        return range(self.seed, self.seed + study.FEW_SEEDS[self.profile])

    @property
    def changes(self) -> dict[str, Any]:
        """What the profile changes in PPO's presets."""
        return study.profile_changes(self.profile)

    @property
    def jobs(self) -> int:
        """Runs at once: starting processes takes longer than a quick run."""
        return 1 if self.quick else -1

    @cached_property
    def root(self) -> Path:
        """Where this profile's runs are kept: in the checkout, or, without one, in the folder that Python runs in."""
        home = PROJECT if (PROJECT / "_config.yml").exists() else Path.cwd()
        return home / "runs" / self.profile

    @cached_property
    def envs(self) -> dict[str, Env]:
        """Every environment by name, on the chapter's device."""
        return {name: make(name, device=self.device) for name in NAMES}

    @cached_property
    def units(self) -> dict[str, str]:
        """Unit of each environment's cost, for axes and tables."""
        return {name: unit(env) for name, env in self.envs.items()}

    @cached_property
    def forms(self) -> dict[str, str]:
        """Format of each environment's cost: whole units, or tenths of a multiple."""
        return {name: ",.0f" if env.parameters.cost_unit == 1 else ",.1f" for name, env in self.envs.items()}

    @cached_property
    def tests(self) -> dict[str, Scenario]:
        """The test scenarios of every environment."""
        return {name: held_out(env, "test", self.episodes) for name, env in self.envs.items()}

    def play(self, name: str, rule: str = "best") -> pd.DataFrame:
        """Play a heuristic with its committed levels on the test scenarios; the table of `meirl.rollout`."""
        return rollout(self.envs[name], heuristics.load(self.envs[name], rule), self.tests[name])

    def study(self, **which: Any) -> pd.DataFrame:
        """Train (or only read) cells of the study and test them.

        Args:
            **which: ``envs``, ``algos`` and ``seeds`` of `meirl_study.study.tasks`, all if not given; anything else
                goes into each `meirl_study.study.Task`.

        Returns:
            The table of `meirl_study.study.run`.
        """
        todo = self.tasks(**which)
        return study.run(todo, self.root, jobs=self.jobs, episodes=self.episodes, progress=False)

    def both_budgets(self, **which: Any) -> pd.DataFrame:
        """`study` at the published budget and at ten times it, arguments as there but for ``preset`` and ``seeds``."""
        long = self.study(preset="long", seeds=self.long_seeds, **which)
        return pd.concat([self.study(**which), long], ignore_index=True)

    def tasks(self, **which: Any) -> list[Task]:
        """The tasks of `study`, arguments as there."""
        return study.tasks(which.pop("seeds", self.seeds), **{"profile": self.profile, **which})


def setup(profile: str, seed: int, where: str) -> Chapter:
    """Check a chapter's parameters and make its set-up; from then on PyTorch computes in one thread.

    Args:
        profile: ``quick`` or ``full``.
        seed: first seed of all training and tuning.
        where: device, see `meirl.pick_device`.

    Raises:
        ValueError: if one of them is not known.
    """
    study.profile_changes(profile)
    pd.set_option("display.max_colwidth", None)  # a table shows its cells whole
    torch.set_num_threads(1)  # batches are small, and pages are made side by side: more cost many times what they give
    return Chapter(profile, seed, device.pick_device(where))


def unit(env: Env) -> str:
    """Unit of an environment's cost: ``units of cost``, or a multiple such as ``10,000s``."""
    size = env.parameters.cost_unit
    return "units of cost" if size == 1 else f"{size:,.0f}s"


def verdict(low: float, high: float) -> str:
    """What the interval of a cost difference says: ``beats``, ``loses to`` or ``cannot be told apart from``.

    Args:
        low: lower end of the interval of our cost minus the opponent's.
        high: its upper end.
    """
    if high < 0:
        return "beats"
    return "loses to" if low > 0 else "cannot be told apart from"


def shown(value: float, low: float, high: float, form: str = ",.1f", unit: str = "") -> str:
    """A number with its interval, as the text has it: ``5.0 % (4.2 to 5.9)``; nothing rounds to ``-0.0``."""
    text, *ends = (number(each, form) for each in (value, low, high))
    return f"{text}{unit} ({' to '.join(ends)})"


def number(value: float, form: str) -> str:
    """A number by its format, without the minus of what rounds to ``-0.0``."""
    return re.sub(r"^-(?=[0.]+%?$)", "", format(value, form))


def glue_all(values: Mapping[str, Any]) -> None:
    """Glue values for the text by name; numbers of any kind become plain ones, whole numbers stay whole."""
    from myst_nb import glue  # only a notebook needs it

    for name, value in values.items():
        plain = value.item() if hasattr(value, "item") else value
        glue(name, plain, display=False)
