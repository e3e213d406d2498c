"""How long the whole study still takes, from what its parts took before; and the part of it that all chapters share."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from joblib import cpu_count

from . import retraining, searches, study
from .chapter import Chapter
from .study import Task

CORE_MINUTES = {
    "search": 2.1, "ppo tuned": 0.9, "a3c tuned": 1.7, "ppo long": 6.5, "a3c long": 7.1, "ppo as-published": 2.6,
    "a3c as-published": 3.6,
}  # fmt: skip
"""What one search or run kept one core busy for, on average, where the published book was made."""
EXPERIMENTS = 430
"""Core minutes of all that only one chapter computes, controls among it, if it was never computed here."""


def runs(chapter: Chapter) -> list[Task]:
    """All runs that more than one chapter reads: the study at both budgets, and the published agents trained again."""
    long = chapter.tasks(preset="long", seeds=chapter.long_seeds)
    return [*chapter.tasks(), *long, *retraining.tasks(chapter, chapter.envs)]


def missing(chapter: Chapter) -> Counter[str]:
    """How many searches and runs are not there yet, by what `CORE_MINUTES` calls them."""
    left = [f"{task.algo} {task.preset}" for task in runs(chapter) if not study.finished(task, chapter.root)]
    left += ["search" for task in searches.tasks() if not (task.folder(chapter.root) / "levels.yaml").exists()]
    return Counter(left)


def sentence(chapter: Chapter, cores: int | None = None) -> str:
    """Say how long the study will take.

    Args:
        chapter: gives profile, seeds and the folder of the runs.
        cores: of this machine; None: as many as it has.

    Returns:
        A sentence with the hours, for the person who waits.
    """
    cores, left = cores or cpu_count(), missing(chapter)
    fresh = not (chapter.root / "threats").exists()
    minutes = sum(CORE_MINUTES[kind] * count for kind, count in left.items()) + EXPERIMENTS * fresh
    there = len(runs(chapter)) + len(searches.tasks()) - left.total()
    if not left and not fresh:
        return f"all {there} searches and runs are there: about twenty minutes"
    return (
        f"{left.total()} searches and runs to make, {there} are there: about {minutes / cores / 60 + 0.2:.1f} hours on "
        f"{cores} cores like those of the published book; what is stopped goes on where it was"
    )


def train(chapter: Chapter) -> pd.DataFrame:
    """Make all searches and `runs` that are missing, with bars for the time left; the table of `study.run`."""
    searches.run(searches.tasks(), chapter.root, jobs=chapter.jobs)
    return study.run(runs(chapter), chapter.root, jobs=chapter.jobs, episodes=chapter.episodes)
