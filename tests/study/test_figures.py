"""Every figure is drawn, from made data; the house style; the palette of its PNG."""

import inspect
import re
from functools import cache
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.pylabtools import print_figure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import meirl
from meirl import heuristics
from meirl_study import figures
from meirl_study.figures import style

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
UNITS = dict(zip(meirl.NAMES, ["units of cost", "units of cost", "10,000s", "10,000s"], strict=True))
REFERENCE = {"best heuristic": 250.0, "published agent": 900.0}


def estimates(index) -> pd.DataFrame:
    """Estimates with intervals that are not symmetric."""
    value = np.linspace(300, 900, len(index))
    return pd.DataFrame({"value": value, "low": value - 40, "high": value + 90}, index=index)


def history(**more: float) -> pd.DataFrame:
    """A learner's history of five validations."""
    steps, cost = np.arange(1, 6) * 10_000, np.geomspace(3_000, 300, 5)
    columns = {"steps": steps, "seconds": steps / 5_000, "training_cost": cost * 1.2, "validation_cost": cost}
    return pd.DataFrame({**columns, **{key: np.full(5, value) for key, value in more.items()}})


def placed(*policies: str) -> pd.DataFrame:
    """A row a policy and environment, with an estimate."""
    rows = [{"environment": name, "policy": policy} for name in meirl.NAMES for policy in policies]
    return pd.DataFrame(rows).join(estimates(range(len(rows))))


def played(name: str) -> tuple[meirl.Env, dict[str, np.ndarray]]:
    env = meirl.make(name)
    return env, meirl.trajectory(env, heuristics.load(env), env.sample(1, seed=0))


def runs() -> pd.DataFrame:
    rows = [(name, algo, 2.0 * k) for name in meirl.NAMES for algo in ("PPO", "A3C") for k in range(3)]
    return pd.DataFrame(rows, columns=["env", "algo", "value"]).assign(low=-1.0, high=3.0)


def episodes() -> pd.DataFrame:
    rows = [(name, policy) for name in meirl.NAMES for policy in ("rule", "PPO") for _ in range(20)]
    cost = np.random.default_rng(0).lognormal(7, 0.5, len(rows))
    return pd.DataFrame(rows, columns=["env", "policy"]).assign(cost=cost)


def seen() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    position = np.random.default_rng(0).normal(100, 20, (2, 30, 4))
    return dict.fromkeys(("base stock", "PPO"), (position, 120 - position))


def wrong() -> pd.DataFrame:
    columns = pd.MultiIndex.from_product([meirl.NAMES, ["common", "independent"]])
    return pd.DataFrame(np.linspace(0.5, 0, 24).reshape(3, 8), index=[4, 8, 16], columns=columns)


def services() -> pd.DataFrame:
    share = np.linspace(0.1, 0.9, 8)
    names = [f"policy {i}" for i in range(8)]
    return pd.DataFrame({"fill_rate": share, "published_service_level": 0.9 + share / 10, "cost": 1.0}, index=names)


def budgets() -> pd.DataFrame:
    """Two seeds at either budget."""
    rows = [(budget, seed, k * times, 130 - 10 * k + seed) for budget, times in (("1×", 1), ("10×", 10))
            for seed in range(2) for k in range(1, 5)]  # fmt: skip
    return pd.DataFrame(rows, columns=["budget", "seed", "millions", "percent"])


def parts() -> pd.DataFrame:
    index = pd.MultiIndex.from_product([meirl.NAMES, ["best heuristic", "PPO"]])
    return pd.DataFrame(100.0, index=index, columns=list(style.PARTS))


def efforts() -> dict[str, list[pd.DataFrame]]:
    """Two seeds of a search and of a learner at two budgets, in percent of the rule; not equally far."""

    def curve(seed: int, far: int) -> pd.DataFrame:
        return pd.DataFrame({"simulated_steps": np.arange(1, far) / 10, "value": 20.0 / np.arange(1, far) - 5 + seed})

    tried = {"search, designed rule": 9, "PPO 1×": 5, "PPO 10×": 12}
    return {method: [curve(seed, far + seed) for seed in range(2)] for method, far in tried.items()}


def fronts() -> dict[str, pd.DataFrame]:
    points = pd.DataFrame({"fill_rate": [0.5, 0.7, 0.9], "cost": [300.0, 250, 400]})
    return {"designed rule": points, "PPO 10×": points[:1]}


def against() -> pd.DataFrame:
    return estimates(pd.MultiIndex.from_product([meirl.NAMES, ["PPO 1×", "A3C 10×"]]))


def watched() -> dict[str, dict[str, np.ndarray]]:
    """An episode of 30 periods, two nodes, one of which has customers."""
    one = {"on hand": np.ones((30, 2)), "orders": np.eye(30, 2), "backlog": np.ones((30, 1)),
           "cost so far": np.arange(30.0)}  # fmt: skip
    return {"order nothing": one | {"cost so far": 9 * one["cost so far"]}, "PPO 10×": one}


@cache
def made() -> dict[str, list[tuple]]:
    """What every figure is drawn from, once or more."""
    line = np.linspace(0, 1, 11)
    env = meirl.make("divergent-nonstationary")
    cheap = {algo: [history().rename(columns={"validation_cost": "cost"})] * 2 for algo in ("search", "PPO")}
    percent = {"a panel": estimates(["one", "two"]), "another": estimates(["three"])}
    surface = pd.DataFrame(np.add.outer(line, line) * 1_000 + 100, index=line, columns=line)
    cloud = np.random.default_rng(0).lognormal(7, 1, (50, 2))
    wide = estimates(["a", "b"]).eval("episodes_low = low\nepisodes_high = high\nseeds_low = low\nseeds_high = high")
    bounds = {name: {"best heuristic": np.arange(1.0, 9.0), "bound": np.arange(4.0)} for name in meirl.NAMES}
    shares = placed("RL agent", "PPO").assign(kind="measured", never=1_000.0)
    shares.loc[shares["policy"] == "RL agent", "kind"] = "published"
    return {
        "behaviour": [(watched(), ["warehouse", "retailer 1"], "units of cost")],
        "cell_curves": [({"PPO": budgets()}, {"PPO": 120.0}), (dict.fromkeys("abcd", budgets()),
                        dict(zip("abcd", (104.0, 180.0) * 2, strict=True)), 2)],
        "chain": [(meirl.make(name),) for name in meirl.NAMES],
        "cost_parts": [(parts(), UNITS)],
        "cost_surface": [(surface, ("x", "y"), "units", ((0.1, 0.5), (0.2, 0.4)), {"here": (0.5, 0.6)})],
        "curves": [({"one": (line, line), "two": (line, line**2)}, ("x [-]", "y [-]"))],
        "duel": [({policy: played("divergent-stationary")[1] for policy in ("rule", "PPO")},)],
        "effort": [({name: efforts() for name in meirl.NAMES}, "simulated_steps", "simulated steps [millions]")],
        "episode": [played("divergent-nonstationary"), (*played("meis-stationary"), 50)],
        "equal_effort": [(dict.fromkeys(meirl.NAMES[1:3], cheap), UNITS, dict.fromkeys(meirl.NAMES, REFERENCE))],
        "evidence": [(shares,)],
        "forest": [(percent, "change [%]")],
        "frontier": [({name: fronts() for name in meirl.NAMES}, UNITS)],
        "gaps": [(placed("nothing", "PPO", "lower bound"), UNITS)],
        "hindsight": [(bounds, UNITS)],
        "dual_curve": [(pd.DataFrame({"value": [7.0, 8], "low": [6.0, 7], "high": [8.0, 9]}, [1, 2]), {"a": 75.0})],
        "intervals": [(wide, "difference [%]")],
        "ladder": [(estimates(["as published", "tuned"]), "10,000s", REFERENCE), (estimates(["a"]), "10,000s")],
        "opponents": [({"textbook rule": against(), "designed rule": against()},)],
        "optimality": [({"a": estimates(["rule", "PPO"]) - 298, "b": estimates(["PPO"])}, {"a": {"PPO": 2.0}})],
        "ordering": [(seen(), np.linspace(5, 20, 30), {0: "warehouse", 1: "retailer 1"})],
        "pays": [({"1 worker": history(), "2 workers": history()}, "10,000s", REFERENCE)],
        "same_luck": [({"common": cloud, "independent": cloud[:, ::-1]}, "units")],
        "searches": [({"one": pd.DataFrame({"simulated_steps": [1e5, 2e6], "best_cost": [5e3, 200]})}, "10,000s")],
        "seed_spread": [(runs(),)],
        "services": [({name: services() for name in meirl.NAMES[2:]},)],
        "shared_luck": [(cloud, cloud - cloud.mean(1, keepdims=True))],
        "stressors": [(e, e.sample(2, seed=0)) for e in (env, meirl.make("divergent-stationary"))],
        "surrogate": [(line * 2, {"good": line, "bad": -line}, 0.2)],
        "sweep": [({"one": estimates([4, 8])}, ("x", "y")), ({"one": estimates([4, 8])}, ("x", "y"), "xy", REFERENCE)],
        "tails": [(episodes(), UNITS)],
        "training": [(history(kl=0.1, clip_fraction=0.2, entropy=3, explained_variance=0.5), "units", REFERENCE),
                     (history(gradient_norm=0.1, entropy=3, explained_variance=0.5), "units", {})],
        "wrong_choice": [(wrong(), 0.05)],
    }  # fmt: skip


def draw(name: str, values: tuple) -> Figure:
    if name == "sweep":
        return figures.sweep(*values[:2], **dict(zip(("log", "reference"), values[2:], strict=False)))
    return getattr(figures, name)(*values)


def texts(figure: Figure) -> set[str]:
    figure.canvas.draw()
    return {text.get_text() for text in figure.findobj(plt.Text) if text.get_text()}


@pytest.mark.parametrize("name", figures.__all__)
def test_a_figure_is_drawn_and_its_png_has_a_palette(name):
    for values in made()[name]:
        figure = draw(name, values)
        assert not plt.get_fignums()  # closed: a notebook shows it once
        figure.set_dpi(50)  # quick to draw
        png = print_figure(figure, dpi=figure.dpi)  # as a notebook does
        image = Image.open(BytesIO(png))
        assert image.mode == "P"
        assert image.convert("RGB").getcolors(256)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert len(texts(figure)) > 3


def test_every_figure_is_used_by_a_notebook():
    code = "\n".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("*.md"))
    assert set(re.findall(r"\bfigures\.(\w+)\(", code)) == set(figures.__all__)


def test_the_same_figure_gives_the_same_bytes_less_than_half_of_those_without_a_palette():
    one, two, three = (draw("curves", *made()["curves"]) for _ in range(3))
    png, plain = print_figure(one, dpi=one.dpi), BytesIO()
    assert print_figure(two, dpi=two.dpi) == png
    FigureCanvasAgg(three).print_figure(plain, dpi=three.dpi, bbox_inches="tight")
    assert len(png) < len(plain.getvalue()) / 2


def test_a_palette_keeps_the_colours_of_a_map():
    figure = draw("cost_surface", *made()["cost_surface"])
    image = Image.open(BytesIO(print_figure(figure, dpi=figure.dpi))).convert("RGB")
    plain = BytesIO()
    FigureCanvasAgg(figure).print_figure(plain, dpi=figure.dpi, bbox_inches="tight")
    difference = np.asarray(image, int) - np.asarray(Image.open(plain).convert("RGB"), int)
    assert np.abs(difference).mean() < 0.5
    assert np.quantile(np.abs(difference), 0.99) <= 8


def test_whiskers_reach_from_the_value_to_both_ends():
    table = pd.DataFrame({"value": [5.0, 1.0], "low": [4.0, 2.0], "high": [8.0, 3.0]})
    assert style.whiskers(table).tolist() == [[1.0, 1.0], [3.0, 2.0]]
    other = table.rename(columns={"low": "seeds_low", "high": "seeds_high"})
    assert style.whiskers(other, "seeds_").tolist() == [[1.0, 1.0], [3.0, 2.0]]


@pytest.mark.parametrize("name", ["evidence", "forest", "gaps", "intervals", "ladder", "seed_spread", "sweep"])
def test_a_missing_column_is_named(name):
    table, *rest = made()[name][0]
    lacking = (
        {key: value.drop(columns="low") for key, value in table.items()}
        if isinstance(table, dict)
        else table.drop(columns="low")
    )
    with pytest.raises((ValueError, KeyError), match="low"):
        draw(name, (lacking, *rest))


def test_a_missing_end_names_what_is_expected():
    with pytest.raises(ValueError, match="columns value, seeds_low, seeds_high: missing seeds_low, seeds_high"):
        style.whiskers(estimates(["a"]), "seeds_")


def test_every_series_looks_different_with_and_without_colour():
    line = np.linspace(0, 1, 5)
    figure = figures.curves({f"line {i}": (line, line * i) for i in range(4)}, ("x", "y"))
    drawn = figure.axes[0].lines
    assert len({line.get_color() for line in drawn}) == len({line.get_linestyle() for line in drawn}) == 4
    assert {line.get_marker() for line in drawn} == {""}
    figure = figures.hindsight({name: {f"{i}": line + i for i in range(4)} for name in meirl.NAMES}, UNITS)
    drawn = figure.axes[0].lines
    assert len({line.get_marker() for line in drawn}) == len({line.get_color() for line in drawn}) == 4


def test_what_lies_off_the_axis_says_what_it_costs():
    table = placed("cheap", "dear", "another", "lower bound")
    table.loc[table["policy"] == "dear", ["value", "low", "high"]] = 12_345.0
    ax = figures.gaps(table, UNITS).axes[0]
    assert [text.get_text() for text in ax.texts] == ["12,345 →"]
    assert ax.get_xlim()[1] < 12_345


def test_the_house_style_ends_with_the_figure():
    with plt.rc_context({"font.size": 3.0}):
        figures.curves({"a": (np.arange(3), np.arange(3))}, ("x", "y"))
        assert plt.rcParams["font.size"] == 3


def test_panels_of_a_row_share_the_label_on_the_left():
    labels = [ax.get_ylabel() for ax in draw("wrong_choice", *made()["wrong_choice"]).axes]
    assert labels == ["experiments that pick\nthe worse policy [%]", ""] * 2
    labels = [ax.get_ylabel() for ax in draw("tails", *made()["tails"]).axes]
    assert labels == ["share of episodes\nthat cost more", ""] * 2


def test_wrong_choices_are_shown_in_percent_with_the_aim():
    first = draw("wrong_choice", *made()["wrong_choice"]).axes[0]
    aim, common, independent = first.lines
    assert set(aim.get_ydata()) == {5}
    assert common.get_ydata()[0] == 50
    assert [line.get_label() for line in (common, independent)] == ["common", "independent"]


def test_a_shock_is_shaded_and_only_a_capacity_that_there_is_is_drawn():
    with_capacity, without = (figures.stressors(*values) for values in made()["stressors"])
    assert len(with_capacity.axes) == 4
    assert with_capacity.axes[0].get_xlim() == (0, 240)  # two seasons
    assert len(without.axes) == 3
    assert without.axes[0].get_xlim() == (0, 60)


def test_a_chain_names_its_nodes_and_costs():
    assert "lead time\n2" in texts(figures.chain(meirl.make("two-echelon")))
    shown = " ".join(texts(figures.chain(meirl.make("meis-stationary"))))
    for text in ("factory", "middle", "leaf 2", "holding 0.03", "shortage 2", "lead time\n1–10"):
        assert text in shown
    shown = " ".join(texts(figures.chain(meirl.make("divergent-stationary", supplier_capacity={"mean": 70}))))
    for text in ("supplier", "≈ 70 a period", "warehouse", "retailer 3", "own demand"):
        assert text in shown


def test_an_episode_gives_a_node_the_same_colour_in_every_panel():
    env, record = played("divergent-nonstationary")
    stock, *orders, waiting, _ = figures.episode(env, record).axes
    colours = [line.get_color() for line in stock.lines]
    assert [line.get_color() for line in waiting.lines] == colours
    assert [mpl.colors.to_hex(ax.patches[0].get_facecolor()).upper() for ax in orders] == [c.upper() for c in colours]
    shown = waiting.lines[1].get_ydata()
    assert np.array_equal(shown, record["backlog"][0, :, 0])
    assert np.isnan(waiting.lines[0].get_ydata()).all()  # nobody waits at the warehouse


def test_an_episode_shows_the_orders_of_every_node_in_a_row_of_its_own():
    env, record = played("meis-stationary")
    _, *orders, _, _ = figures.episode(env, record, 50).axes
    shown = [ax.patches[0].get_data()[0] for ax in orders]
    assert np.array_equal(shown, record["orders"][0, :50].T)
    assert [ax.get_yticks()[-1] for ax in orders] == [20_000, 12_000, 12_000]


def test_curves_of_effort_hold_what_each_seed_had_by_then():
    first, second = (pd.DataFrame({"steps": steps, "value": value})
                     for steps, value in (([1.0, 4.0], [9.0, 3.0]), ([2.0, 8.0], [7.0, 1.0])))  # fmt: skip
    grid, values = figures.verdict.together([first, second], "steps")
    assert (grid[0], grid[-1]) == (2.0, pytest.approx(8.0))  # from where all have begun to where the last ends
    assert values[:, 0].tolist() == [9, 7]
    assert values[:, -1].tolist() == [3, 1]  # the first keeps what it had


def test_what_nobody_faces_has_no_backlog_to_draw():
    axes = draw("behaviour", *made()["behaviour"]).axes
    assert [len(ax.lines) for ax in axes[::2]] == [2, 2, 1, 1]  # stock, orders; customers; cost
    assert 29 < axes[-1].get_ylim()[1] < 40  # the second dearest costs 29 in all, the dearest leaves the axis


def test_a_policy_looks_the_same_in_whatever_company():
    few, many = style.looks(["PPO 10×", "some rule"]), style.looks(["textbook rule", "A3C 1×", "PPO 1×", "PPO 10×"])
    assert few["PPO 10×"] == many["PPO 10×"] == style.policy("PPO, from the rule")
    assert many["PPO 1×"]["color"] == many["PPO 10×"]["color"] == style.BLUE
    assert (many["PPO 1×"]["linestyle"], many["PPO 1×"]["mfc"]) == ("--", "white")
    assert few["some rule"]["color"] not in {look["color"] for name, look in few.items() if name != "some rule"}
    assert style.policy("published PPO")["color"] != style.BLUE  # the study's agent is not ours


def test_lines_to_compare_with_have_the_colour_of_their_policy():
    figure = figures.searches({"a": pd.DataFrame({"simulated_steps": [1, 2], "best_cost": [9, 8]})}, "units",
                              {"textbook rule (s-S)": 7.0, "random levels": 6.0})  # fmt: skip
    textbook, other = figure.axes[0].lines[-2:]
    assert textbook.get_color() == style.ORANGE
    assert other.get_color() not in (style.ORANGE, style.BLUE)


def test_learning_curves_have_the_colour_of_their_learner_and_a_legend_that_has_none():
    figure = figures.cell_curves({"PPO, a": budgets(), "A3C, a": budgets()}, {"PPO, a": 120.0, "A3C, a": 120.0}, 2)
    ppo, a3c = figure.axes
    assert {line.get_linestyle() for line in ppo.lines[:2]} == {"--", "-"}
    assert {line.get_color() for line in ppo.lines[:2]} == {style.BLUE}
    assert {line.get_color() for line in a3c.lines[:2]} == {style.VERMILION}
    named = {line.get_label(): line.get_color() for line in a3c.lines if "budget" in line.get_label()}
    assert len(named) == 2
    assert set(named.values()) == {style.GREY}


def test_public_functions_say_what_they_draw():
    for name in figures.__all__:
        assert inspect.getdoc(getattr(figures, name)), name


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"mean": 3, "low": 1, "high": 10}, "3"),
        ({"mean": 2, "low": 1, "high": 10, "tail_probability": 0.2, "tail_extra": 4}, "2–6"),
        ({"mean": [4, 1, 1, 2], "standard_deviation": [0, 0, 0, 0], "low": 1, "high": 9}, "1–4"),
        ({"mean": 2, "standard_deviation": 1, "low": 1, "high": 10}, "1–10"),
        ({"mean": 2, "low": 2, "high": 2, "tail_probability": 0.5, "tail_extra": 4}, "2"),
    ],
)
def test_a_chain_shows_the_lead_times_that_are_drawn(changes, shown):
    env = meirl.make("divergent-stationary", lead_time=changes)
    drawn = env.sample(200, 0).lead_time
    assert {str(drawn.min().item()), str(drawn.max().item())} <= {*shown.split("–"), "7", "8", "9"}
    texts = [text.get_text() for text in figures.chain(env).axes[0].texts]
    assert texts.count(f"lead time\n{shown}") == 2
