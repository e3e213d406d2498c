"""Tables, code and settings that chapters show."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import meirl
from meirl.learn import a3c, experience, networks, ppo, preset
from meirl_study import exhibits, pathwise, statistics

ROOT = Path(__file__).resolve().parents[2]
SHOWN = [
    experience.gae, experience.without_luck, ppo.clipped_surrogate, ppo.update, networks.ActorCritic.mode,
    networks.ActorCritic.update_return_scale, a3c.compute_gradient, a3c.SharedLearner.apply, meirl.rollout, meirl.make,
    statistics.bootstrap, pathwise.train,
]  # fmt: skip


@pytest.mark.parametrize("thing", SHOWN, ids=lambda thing: thing.__qualname__)
def test_a_link_leads_to_the_page_that_documents_the_module(thing):
    page, name = exhibits.api_link(thing).split(".html#")
    text = (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")
    assert f".. automodule:: {thing.__module__}\n" in text
    assert name == f"{thing.__module__}.{thing.__qualname__}"


def test_links_by_package():
    assert exhibits.api_link(experience.gae) == "api-learn.html#meirl.learn.experience.gae"
    assert exhibits.api_link(meirl.make) == "api-envs.html#meirl.envs.make"
    assert exhibits.api_link(meirl.rollout) == "api.html#meirl.rollout.rollout"
    assert exhibits.api_link(exhibits.source) == "api-study.html#meirl_study.exhibits.source"
    # What is private has no entry: its class has, or its module.
    assert exhibits.api_link(experience.Collector._play) == "api-learn.html#meirl.learn.experience.Collector"
    assert exhibits.api_link(networks.ActorCritic.__init__).endswith("#meirl.learn.networks.ActorCritic")
    assert exhibits.api_link(a3c._learn) == "api-learn.html#module-meirl.learn.a3c"
    with pytest.raises(ValueError, match=r"pandas\.\S*DataFrame is not in the API reference"):
        exhibits.api_link(pd.DataFrame)


def test_a_copy_without_the_book_shows_code_without_a_link(monkeypatch):
    monkeypatch.setattr(exhibits, "reference", dict)
    assert exhibits.source(meirl.make).data.startswith("`meirl/envs/__init__.py`, line ")


@pytest.mark.parametrize("thing", SHOWN, ids=lambda thing: thing.__qualname__)
def test_source_names_the_line_where_the_code_is(thing):
    link, code = exhibits.source(thing).data.split("\n\n", 1)
    file, line = link.removeprefix("[`").split("](")[0].split("`, line ")
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert link.endswith(f"]({exhibits.api_link(thing)})")
    assert lines[int(line) - 1].strip() == code.removeprefix("```python\n").splitlines()[0]
    assert inspect.getdoc(thing).splitlines()[0] not in code
    assert '"""' not in code
    assert code.endswith("\n```")


def test_source_is_the_same_every_time():
    assert exhibits.source(ppo.update).data == exhibits.source(ppo.update).data
    assert " at 0x" not in exhibits.source(ppo.update).data


def test_settings_show_every_hyperparameter_but_defects_that_are_off():
    config = preset("ppo", "tuned", "divergent-stationary")
    shown = exhibits.settings(config).data
    assert f"| `clip` | {config.clip} | {type(config).model_fields['clip'].description} |" in shown
    assert f"| network: `hidden` | {config.network.hidden} |" in shown
    assert "defect" not in shown
    assert "`defect_no_jacobian`" in exhibits.settings(preset("ppo", "as-published", "divergent-stationary")).data


def test_a_table_for_reading_formats_what_it_is_told():
    table = pd.DataFrame({"cost": [1234.5, np.nan], "name": ["a", "b"]}, index=["x", "y"])
    shown = exhibits.table(table, {"cost": ",.0f"})
    assert shown.to_dict("list") == {"cost": ["1,234", "nan"], "name": ["a", "b"]}
    assert list(shown.index) == ["x", "y"]
    small = pd.DataFrame({"gap": [-0.04, -0.06]}, index=pd.Index(["x", "y"], name="chain"))
    shown = exhibits.table(small, {"gap": ".1f"})
    assert shown["gap"].tolist() == ["0.0", "-0.1"]
    assert shown.index.name is None
