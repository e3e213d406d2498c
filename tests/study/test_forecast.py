"""How long a study takes is said before it begins."""

from collections import Counter

import pytest
import torch

from meirl_study import forecast, searches, study
from meirl_study.chapter import Chapter


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    monkeypatch.setattr(Chapter, "root", tmp_path)
    return Chapter("quick", 0, torch.device("cpu"))


def make(task, root):
    folder = task.folder(root)
    folder.mkdir(parents=True)
    for name in ("manifest.json", "test.csv"):
        (folder / name).touch()


def test_every_kind_of_run_has_a_cost(chapter):
    assert set(forecast.missing(chapter)) == set(forecast.CORE_MINUTES)


def test_what_is_there_is_not_waited_for(chapter):
    runs = forecast.runs(chapter)
    before = forecast.missing(chapter)
    make(runs[0], chapter.root)
    kind = f"{runs[0].algo} {runs[0].preset}"
    runs[1].folder(chapter.root).mkdir(parents=True)  # stopped before its end
    assert forecast.missing(chapter) == before - Counter([kind])


def test_the_sentence_has_the_hours_of_so_many_cores(chapter):
    minutes = forecast.EXPERIMENTS + sum(
        forecast.CORE_MINUTES[kind] * count for kind, count in forecast.missing(chapter).items()
    )
    assert f"about {minutes / 2 / 60 + 0.2:.1f} hours on 2 cores" in forecast.sentence(chapter, 2)


def test_nothing_to_make_is_said(chapter):
    for task in forecast.runs(chapter):
        make(task, chapter.root)
    for task in searches.tasks():
        folder = task.folder(chapter.root)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "levels.yaml").touch()
    (chapter.root / "threats").mkdir()
    assert "are there: about twenty minutes" in forecast.sentence(chapter)


def test_runs_are_made_once_with_a_bar(chapter, monkeypatch):
    asked = []
    for engine in (searches, study):
        monkeypatch.setattr(engine, "run", lambda todo, root, **options: asked.append((len(todo), root, options)))
    forecast.train(chapter)
    assert asked == [
        (len(searches.tasks()), chapter.root, {"jobs": 1}),
        (len(forecast.runs(chapter)), chapter.root, {"jobs": 1, "episodes": chapter.episodes}),
    ]
