"""The verbs recommend and compare, and the page that a report is."""

import json
import re
import runpy
import sys

import pandas as pd
import pytest
import yaml

import meirl
from meirl.learn import find_learner, preset
from meirl_study import own, own_cli, page, recommend_cli


@pytest.fixture
def chain(tmp_path):
    path = own.example(tmp_path / "mine")
    values = yaml.safe_load(path.read_text(encoding="utf-8")) | {"horizon": 30, "warm_up": 5}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def levels_file(path, warehouse):
    env = meirl.make("divergent-stationary")
    named = dict(zip(meirl.heuristics.RULES["base-stock"].ranges(env), [warehouse, 40.0, 40.0, 40.0], strict=True))
    path.write_text(yaml.safe_dump({"rule": "base-stock", "levels": named}), encoding="utf-8")
    return str(path)


# --- compare ---------------------------------------------------------------------------------------------------------


def test_two_policies_are_compared_on_the_same_episodes(tmp_path):
    file, name = levels_file(tmp_path / "ours.yaml", 100.0), "divergent-stationary"
    found = own_cli.compared(name, "base-stock", file, 40)
    env = meirl.make(name)
    policies = {x: meirl.heuristics.load(env, x) for x in ("base-stock", file)}
    table = meirl.compare(policies, env, meirl.held_out(env, "test", 40)).loc[file]
    for key in ("difference", "difference_low", "difference_high"):
        assert found[key] == pytest.approx(table[key])
    assert found["second"]["cost"] == pytest.approx(table["value"])
    assert found["percent"] == pytest.approx(100 * (found["second"]["cost"] / found["first"]["cost"] - 1))
    assert found["percent_low"] < found["percent"] < found["percent_high"]
    assert found["verdict"] == "loses to"
    assert own_cli.compared(name, file, "base-stock", 40)["verdict"] == "beats"
    assert own_cli.compared(name, file, file, 40)["verdict"] == "cannot be told apart from"


def test_a_verdict_does_not_contradict_its_interval(monkeypatch, capsys):
    tables = {"best": [100.0, 200.0], "textbook": [4.0, 9.0]}
    monkeypatch.setattr(
        own_cli, "_played", lambda _, name, __: pd.DataFrame({"cost": tables[name], "fill_rate": [1.0, 1.0]})
    )
    found = own_cli.compared("divergent-stationary", "best", "textbook", 2)
    assert found["verdict"] == "cannot be told apart from"
    assert found["percent_low"] < 0 < found["percent_high"]
    own_cli.compare("divergent-stationary", "best", "best", episodes=2)
    assert "cannot be told apart from best: +0.00 % (95 %: +0.00 to +0.00 %)" in capsys.readouterr().out


def test_a_policy_that_costs_nothing_has_no_percentages(tmp_path, capsys):
    env = meirl.make("divergent-stationary")
    free = {"horizon": 10, "holding_cost": {"warehouse": 0, "retailer": 0}}
    values = env.parameters.model_dump(mode="json", exclude_none=True) | free
    (tmp_path / "free.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    own_cli.compare(str(tmp_path / "free.yaml"), "never-order", "never-order", episodes=4)
    assert "never-order cannot be told apart from never-order: +nan % (95 %: +nan to +nan %)" in capsys.readouterr().out


def test_a_rules_name_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "s-S").mkdir()
    monkeypatch.chdir(tmp_path)
    assert own_cli.compared("meis-stationary", "s-S", "s-S", 2)["difference"] == 0


@pytest.mark.parametrize("observation", ["full", "published"])
def test_an_agent_is_compared_by_the_folder_of_its_run(tmp_path, observation):
    env = meirl.make("meis-stationary", observation=observation)
    config = preset("ppo", "tuned", env.name, steps=5840, environments=16, evaluations=1, validation_episodes=4)
    find_learner("ppo").train(env, config, 0, tmp_path / "run", progress=False)
    found = own_cli.compared("meis-stationary", "s-S", str(tmp_path / "run"), 8)
    assert found["second"]["cost"] > 0
    with pytest.raises(ValueError, match=r"a folder without policy\.pt"):
        own_cli.compared("meis-stationary", "s-S", str(tmp_path), 8)


def test_compare_prints_a_verdict_or_json(capsys, tmp_path):
    file = levels_file(tmp_path / "ours.yaml", 100.0)
    own_cli.compare("divergent-stationary", "best", file, episodes=20)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(rf"{re.escape(file)} loses to best: \+\d+\.\d\d % \(95 %: \+[\d.]+ to \+[\d.]+ %\)", last)
    own_cli.compare("divergent-stationary", "best", file, episodes=20, as_json=True)
    assert json.loads(capsys.readouterr().out)["verdict"] == "loses to"


def test_an_infinite_number_is_printed_as_null(capsys, monkeypatch):
    monkeypatch.setattr(own_cli, "compared", lambda *_: {"percent": float("nan")})
    own_cli.compare("divergent-stationary", "best", "textbook", as_json=True)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"percent": None}


def test_compare_and_score_need_no_package_of_the_extra_book(monkeypatch):
    for package in ("jupytext", "nbformat", "papermill", "markdown_it"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in ("own_cli", "page", "recommend_cli"):
        monkeypatch.delitem(sys.modules, f"meirl_study.{module}", raising=False)
        monkeypatch.delattr(f"meirl_study.{module}", raising=False)
    assert {"compare", "score"} <= runpy.run_module("meirl_study.own_cli").keys()
    with pytest.raises(ImportError, match="jupytext"):
        runpy.run_module("meirl_study.recommend_cli")


# --- a page ----------------------------------------------------------------------------------------------------------

NOTEBOOK = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A title

```{code-cell} ipython3
:tags: [parameters]

x = 1  # a number
```

```{code-cell} ipython3
from IPython.display import HTML, Markdown, display

if x < 0:
    raise ValueError("x must be positive")
if x == 0:
    1 / 0
display(Markdown(f"x is **{x}**"), HTML("<table><tr><td>cell</td></tr></table>"))
print("printed: not shown")
"a < b"
```

```{code-cell} ipython3
:tags: [remove-cell]

"hidden"
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: "A line & more."
---
import matplotlib.pyplot as plt

plt.plot([1, 2])
plt.show()
```
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.md"
    path.write_text(NOTEBOOK, encoding="utf-8")
    return path


def test_a_page_has_the_outputs_and_nothing_from_elsewhere(source, tmp_path):
    made = page.write(source, {"x": 3}, tmp_path / "out")
    text = made.read_text(encoding="utf-8")
    assert sorted(path.name for path in made.parent.iterdir()) == ["report.html", "report.ipynb"]
    assert "<title>A title</title>" in text
    assert "x is <strong>3</strong>" in text
    assert '<div class="scrolls" tabindex="0"><table>' in text
    assert "a &lt; b" in text
    assert 'alt="A line &amp; more."' in text
    assert "data:image/png;base64," in text
    for absent in ("hidden", "ValueError", "http:", "https:", "<script", "plt"):
        assert absent not in text, absent


@pytest.mark.parametrize(("x", "message"), [(-1, "^x must be positive$"), (0, "source.md: ZeroDivisionError")])
def test_a_notebook_that_fails_says_why_in_a_line_and_leaves_nothing(source, tmp_path, x, message):
    with pytest.raises(ValueError, match=message):
        page.write(source, {"x": x}, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_a_checkout_a_page_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="this command needs a checkout"):
        page.run(tmp_path / "nowhere.md", {}, tmp_path / "out.ipynb")


# --- recommend -------------------------------------------------------------------------------------------------------


def test_recommend_leaves_a_page_and_its_numbers(chain, tmp_path, capsys, monkeypatch):
    asked = {}

    def write(source, parameters, folder):
        asked.update(parameters, source=source.name)
        saving = {"value": 9, "low": 8, "high": 10, "percent": 5, "percent_low": 4, "percent_high": 6}
        numbers = {"rule": "s-S", "saving": saving,
                   "reinforcement_learning": {"why": "Do not bother."}}  # fmt: skip
        (folder / "report.json").write_text(json.dumps(numbers), encoding="utf-8")
        return folder / "report.html"

    monkeypatch.setattr(page, "write", write)
    recommend_cli.recommend_(str(chain), tmp_path / "out", chain.parent / "demand.csv", profile="quick", train=True)
    assert asked["source"] == "recommend.md"
    assert asked["chain"] == str((tmp_path / "out" / "chain.yaml").resolve())
    assert asked["profile"] == "quick"
    assert asked["train"]
    assert (asked["seeds"], asked["steps"]) == (5, 0)
    said = capsys.readouterr().out
    assert "s-S: saves 5.0 % (4.0 to 6.0) of today's cost" in said
    assert "Do not bother." in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "nowhere.yaml"}, "--env: no such file: nowhere.yaml"),
        ({"demand": "nowhere.csv"}, "--demand: no such file: nowhere.csv"),
        ({"today": "nowhere.yaml"}, "--today: no such file: nowhere.yaml"),
        ({"env": "divergent-stationary", "demand": None}, "no recorded demand: give a CSV"),
        ({"train": True, "seed": 20240503}, "seed must be from 0 to 1999999, got 20240507"),
        ({"seeds": 5}, "--seeds and --steps are of agents: give --train too"),
        ({"steps": 1000}, "--seeds and --steps are of agents: give --train too"),
    ],
)
def test_recommend_refuses_what_it_cannot_use_before_it_starts(chain, tmp_path, arguments, message):
    given = {"env": str(chain), "demand": str(chain.parent / "demand.csv"), "today": None} | arguments
    files = {key: file and tmp_path.__class__(file) for key in ("demand", "today") for file in [given.pop(key)]}
    with pytest.raises(ValueError, match=message):
        recommend_cli.recommend_(given.pop("env"), tmp_path / "out", **files, **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["chain", "demand"])
def test_recommend_does_not_write_over_its_users_files(chain, tmp_path, monkeypatch, which):
    def stop(*_):
        raise RuntimeError("prepared")

    out, demand = (
        (chain.parent, None) if which == "chain" else (tmp_path / "record", tmp_path / "record" / "demand.csv")
    )
    if demand:
        demand.parent.mkdir()
        demand.write_bytes((chain.parent / "demand.csv").read_bytes())
    monkeypatch.setattr(recommend_cli.recommend, "prepare", stop)
    with pytest.raises(ValueError, match=r"--out: .* is in that folder and might be written over"):
        recommend_cli.recommend_(str(chain), out, demand)
    (out / "report.json").write_text("{}", encoding="utf-8")  # then it is a report's folder
    with pytest.raises(RuntimeError, match="prepared"):
        recommend_cli.recommend_(str(chain), out, demand)


@pytest.mark.parametrize("name", ["chain.yaml", "demand.csv", "today.yaml"])
def test_recommend_writes_over_no_file_that_it_was_not_given(chain, tmp_path, monkeypatch, name):
    def stop(*_):
        raise RuntimeError("stopped")

    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("# of another chain", encoding="utf-8")
    monkeypatch.setattr(page, "write", stop)
    with pytest.raises(ValueError, match=rf"--out: .*{name} is there already and would be written over"):
        recommend_cli.recommend_(str(chain), out)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in out.iterdir()] == [(name, "# of another chain")]
    (out / name).unlink()
    for _ in range(2):  # a report that was stopped may be begun again
        with pytest.raises(RuntimeError, match="stopped"):
            recommend_cli.recommend_(str(chain), out)
