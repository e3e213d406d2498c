"""The page *Watch an episode* in a real browser: its simulator against traces and our rules, and what readers do."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

import meirl
from meirl import heuristics
from meirl.envs import NAMES, Scenario
from meirl.rollout import trajectory
from meirl_study import behaviour, replay, watch
from meirl_study.chapter import Chapter

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
TRACES = sorted((ROOT / "tests" / "traces").glob("*.npz"))
PLAY = """
const [chain, orders, draws] = arguments, seen = [], sum = (values) => values.reduce((a, b) => a + b, 0);
const now = draws.map((period) => ({ supply: Infinity, outbound: Infinity, direct: 0, ...period }));
const decide = orders ? (_, t) => orders[t] : Chain.rule(chain, chain.levels);
const total = Chain.play(chain, now, decide, (s, { cost, lost }) => seen.push(structuredClone(
  { cost, lost, stock: s.stock, owed: s.owed, coming: s.due.map(sum), waiting: s.waiting })));
return [total, seen];
"""


@pytest.fixture(scope="module")
def simulator(chrome):
    """Plays a chain in the browser: from a chain, orders (None: its rule) and draws by period to totals and periods."""
    chrome.get("about:blank")
    script = (STATIC / "chain.js").read_text(encoding="utf-8")
    return lambda chain, orders, draws: chrome.execute_script(script + PLAY, chain, orders, draws)


def described(env) -> dict:
    return {"kind": env.chain, "parameters": watch.parameters(env)}


def recorded_draws(trace: dict[str, np.ndarray]) -> list[dict]:
    """What nature did in a trace, period by period, as the simulator wants it; what is unlimited is left out."""
    names = {"exo_demand": "demand", "exo_lead_time": "lead", "exo_warehouse_demand": "direct",
             "exo_supplier_capacity": "supply", "exo_warehouse_capacity": "outbound",
             "exo_middle_capacity": "outbound"}  # fmt: skip
    limited = {ours: trace[key].tolist() for key, ours in names.items() if np.isfinite(trace.get(key, np.inf)).all()}
    return [{key: values[t] for key, values in limited.items()} for t in range(len(trace["cost"]))]


def draws(scenario) -> list[dict]:
    """The same of the first episode of a scenario."""
    fields = {key: getattr(scenario, name)[0] for key, name in watch.DRAWS.items()}
    limited = {key: values.tolist() for key, values in fields.items() if values.isfinite().all()}
    return [{key: values[t] for key, values in limited.items()} for t in range(scenario.horizon)]


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_the_browsers_simulator_replays_recorded_traces(path, simulator):
    chain, variant, _ = path.stem.split("_")
    env = meirl.make(f"{chain}-{variant}", observation="published", dtype=torch.float64)
    trace = replay.Trace(path).fields
    orders = replay.RECORDS[type(env)](env, replay.Trace(path)).orders().tolist()
    _, seen = simulator(described(env), orders, recorded_draws(trace))
    played = {key: np.array([period[key] for period in seen], dtype=float) for key in seen[0]}
    fields = {"cost": "cost", "stock": "on_hand", "owed": "backlog", "coming": "on_order"}
    if chain == "divergent":
        for side in ("on_hand", "in_transit"):
            trace[side] = np.column_stack([trace[f"{side}_warehouse"], trace[f"{side}_retailer"]])
        fields = {"cost": "cost", "lost": "lost_sales", "stock": "on_hand", "owed": "backorder", "coming": "in_transit",
                  "waiting": "outstanding_retailer"}  # fmt: skip
    for ours, theirs in fields.items():
        np.testing.assert_allclose(played[ours], trace[theirs], rtol=0, atol=1e-6, err_msg=theirs)


RULES = [(env, rule) for env in NAMES for rule in watch.RULES if heuristics.RULES[rule].kind.chain in env]


@pytest.mark.parametrize(("name", "rule"), RULES)
def test_the_browsers_rules_order_as_ours(name, rule, simulator, monkeypatch):
    # In whole units, so that there is no rounding: an order of 1e-15 would replace the one that waits.
    env = meirl.make(name, dtype=torch.float64, **{"lost_share": 0} if "divergent" in name else {})
    if env.options is None:
        monkeypatch.setattr(env, "action", lambda orders: orders)
        monkeypatch.setattr(env, "orders", lambda orders: torch.minimum(orders, env.largest_order))
    box, generator = heuristics.RULES[rule].ranges(env), np.random.default_rng(0)
    levels = generator.uniform([r.low for r in box.values()], [r.high for r in box.values()]).round()
    scenario = Scenario(*(field.round() for field in env.sample(1, seed=5)))
    total, _ = simulator(described(env) | {"rule": watch.RULES[rule], "levels": levels.tolist()}, None, draws(scenario))
    table = meirl.rollout(env, heuristics.RULES[rule].policy(env, levels), scenario)
    assert total["cost"] / env.cost_unit == pytest.approx(table["cost"][0], rel=1e-9)
    assert total["filled"] / total["demand"] == pytest.approx(table["fill_rate"][0], rel=1e-9)


# --- the page --------------------------------------------------------------------------------------------------------
PARTS = re.compile(r'^<div id="(?:watch|beat)".*?^</div>', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def played():
    """An environment's chapter and what the page is given of it, with rules in place of trained agents."""
    chapter = Chapter("quick", 0, torch.device("cpu"))
    chapter.__dict__["envs"] = {name: meirl.make(name) for name in ("divergent-nonstationary", "meis-stationary")}
    rules = {"order nothing": "never-order", "textbook rule": "textbook", "designed rule": "best"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "policies", lambda _, env: {k: heuristics.load(env, v) for k, v in rules.items()})
        return chapter, watch.chains(chapter)


@pytest.fixture(scope="module")
def address(played, tmp_path_factory) -> str:
    """A page with nothing but the notebook's interactive parts, opened as a file."""
    text = (ROOT / "notebooks" / "07-watch-an-episode.md").read_text(encoding="utf-8")
    parts = PARTS.findall(text)
    assert len(parts) == 2
    path = tmp_path_factory.mktemp("page") / "page.html"
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Watch</title><p class="w-wait">Wait</p>'
    )
    path.write_text(head + "\n".join(parts) + watch.page(played[1], STATIC.as_uri()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(chrome, address):
    """The page as a reader opens it; afterwards: no error was written to its console."""
    chrome.get(address)
    WebDriverWait(chrome, 30).until(lambda _: find(chrome, "#watch").is_displayed())
    yield chrome
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []


def find(page: Chrome, selector: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, selector)


def texts(page: Chrome, selector: str) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)


def number(text: str) -> float:
    """A cost as the page writes it: ``1,963``, ``312.4K``, ``2.5M``."""
    value, unit = re.match(r"([\d.,]+)([KM]?)", text).groups()
    return float(value.replace(",", "")) * {"": 1, "K": 1e3, "M": 1e6}[unit]


def choose(page: Chrome, selector: str, value: str) -> None:
    Select(find(page, selector)).select_by_visible_text(value)


def to_the_end(page: Chrome) -> None:
    find(page, ".w-time").send_keys(Keys.END)


def at(page: Chrome) -> int:
    return int(re.search(r"\d+", find(page, ".w-clock").text).group())


@pytest.mark.parametrize("name", ["divergent-nonstationary", "meis-stationary"])
def test_every_policy_costs_on_the_page_what_it_costs_in_python(name, page, played):
    chapter, chains = played
    choose(page, "#watch .w-env", name)
    choose(page, ".w-episode", "2")
    to_the_end(page)
    assert at(page) == chains[name]["periods"]
    env, scenario = chapter.envs[name], watch.rounded(chapter.tests[name][1:2])
    names = texts(page, ".w-race span")
    assert names == ["order nothing", "published rule", "textbook rule", "designed rule", "your levels"]
    costs = dict(zip(names, map(number, texts(page, ".w-race output")), strict=True))
    rules = {"order nothing": "never-order", "published rule": "published", "textbook rule": "textbook",
             "designed rule": "best", "your levels": "textbook"}  # fmt: skip
    for policy, rule in rules.items():
        played_on = env if policy == "your levels" else watch.rounding(env)
        cost = meirl.rollout(played_on, heuristics.load(env, rule), scenario)["cost"][0]
        assert costs[policy] == pytest.approx(cost, rel=1e-3), policy


def test_stocks_orders_and_backlogs_are_those_of_the_moment(page, played):
    chapter, _ = played
    env = chapter.envs["divergent-nonstationary"]
    find(page, '.w-race input[value="2"]').click()
    to_the_end(page)
    find(page, ".w-time").send_keys(Keys.ARROW_LEFT * 3)
    scenario = watch.rounded(chapter.tests[env.name][:1])
    seen = trajectory(env, heuristics.load(env, "textbook"), scenario)
    t = at(page) - 1
    assert t == env.horizon - 4
    said = [
        [float(x.replace(",", "")) for x in re.findall(r"\d[\d,]*", text)] for text in texts(page, ".w-lane output")
    ]
    assert said[0] == [seen["demand"][0, t].sum()]
    for i in range(env.nodes):
        owed = [seen["backlog"][0, t, i - 1]] if i else []
        assert said[1 + i] == pytest.approx([seen["on_hand"][0, t, i], seen["orders"][0, t, i], *owed], abs=1.01)
    label = find(page, ".w-stage").get_attribute("aria-label")
    assert label.startswith(f"warehouse: {texts(page, '.w-lane output')[1]}; retailer 1: ")
    assert f"period {t + 1} of 500" in find(page, "#watch .w-say").text


def test_it_plays_pauses_and_stops_at_the_end(page):
    button, before = find(page, ".w-play"), at(page)
    button.click()
    assert button.text == "Pause"
    WebDriverWait(page, 10).until(lambda _: at(page) > before + 3)
    find(page, ".w-time").send_keys(" ")  # the space bar pauses too
    assert button.text == "Play"
    paused = at(page)
    time.sleep(0.3)
    assert at(page) == paused
    to_the_end(page)
    find(page, ".w-time").send_keys(Keys.ARROW_LEFT * 2)
    button.click()
    WebDriverWait(page, 10).until(lambda _: button.text == "Play")
    assert at(page) == 500
    button.click()  # from the beginning
    WebDriverWait(page, 10).until(lambda _: 1 <= at(page) < 100)


@pytest.mark.parametrize(("preference", "least", "most"), [("reduce", 1, 4), ("no-preference", 8, 80)])
def test_who_wants_less_motion_sees_few_pictures_a_second(preference, least, most, page):
    features = [{"name": "prefers-reduced-motion", "value": preference}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    find(page, ".w-play").click()
    pictures = page.execute_async_script(
        "const done = arguments[0], stage = document.querySelector('.w-stage'); let seen = 0;"
        "new MutationObserver(() => seen++).observe(stage, { childList: true }); setTimeout(() => done(seen), 1500);"
    )
    assert least <= pictures <= most


def test_a_drag_through_the_charts_moves_in_time(page):
    chart = page.find_elements(By.CSS_SELECTOR, ".w-chart")[2]
    ActionChains(page).move_to_element_with_offset(chart, 0, 5).click_and_hold().move_by_offset(1, 0).perform()
    middle = at(page)
    ActionChains(page).move_by_offset(int(chart.size["width"] / 4), 0).release().perform()
    assert middle == pytest.approx(250, abs=6)
    assert at(page) == pytest.approx(375, abs=6)


def test_the_tuned_levels_cost_what_the_textbook_rule_costs(page, played):
    _, chains = played
    for name in chains:
        choose(page, "#beat .w-env", name)
        assert Select(find(page, "#watch .w-env")).first_selected_option.text == name
        board = dict(zip(texts(page, ".w-board span"), map(number, texts(page, ".w-board output")), strict=True))
        for policy in chains[name]["policies"]:
            assert board[policy["name"]] == pytest.approx(policy["mean"], rel=1e-3)
        assert board["your levels"] == pytest.approx(board["textbook rule"], rel=2e-3)
        assert "as much as the textbook rule" in find(page, "#beat .w-say").text
        assert sorted(board.values()) == list(board.values())


def test_a_level_that_is_moved_is_played_at_once_here_and_above(page, played):
    chapter, _ = played
    env = chapter.envs["divergent-nonstationary"]
    level = page.find_elements(By.CSS_SELECTOR, ".w-levels input")[0]
    level.send_keys(Keys.HOME)
    levels = list(heuristics.read_levels(env, "textbook").levels.values())
    levels[0] = float(level.get_attribute("value"))
    assert texts(page, ".w-levels output")[0] == f"{levels[0]:,.0f}"
    policy = heuristics.RULES[heuristics.best_rule(env, textbook=True)].policy(env, levels)
    scenario = watch.rounded(chapter.tests[env.name][: watch.SCENARIOS["quick"]])
    costs = meirl.rollout(env, policy, scenario)["cost"]
    board = dict(zip(texts(page, ".w-board span"), map(number, texts(page, ".w-board output")), strict=True))
    assert board["your levels"] == pytest.approx(costs.mean(), rel=2e-3)
    assert re.search(r"[\d.]+ % more than the textbook rule", find(page, "#beat .w-say").text)
    find(page, ".w-mine").click()
    to_the_end(page)
    assert number(texts(page, ".w-race output")[-1]) == pytest.approx(costs[0], rel=2e-3)
    find(page, ".w-tuned").click()
    assert "as much as the textbook rule" in find(page, "#beat .w-say").text


def test_who_changes_the_chain_faster_than_it_is_unpacked_sees_the_last(page):
    page.execute_script(
        "const select = document.querySelector('.w-env'); for (const value of [1, 0, 1, 0, 1]) "
        "{ select.value = value; select.dispatchEvent(new Event('change')); }"
    )
    WebDriverWait(page, 30).until(lambda _: "middle" in texts(page, ".w-lane b"))
    time.sleep(0.5)  # for a load that comes too late
    assert Select(find(page, "#watch .w-env")).first_selected_option.text == "meis-stationary"
    assert texts(page, ".w-lane b") == ["customers ask", "middle", "leaf 1", "leaf 2", "cost so far"]
    assert texts(page, ".w-race span").count("your levels") == 1


def test_shuffled_levels_stay_within_their_sliders(page):
    before = texts(page, ".w-levels output")
    find(page, ".w-shuffle").click()
    assert texts(page, ".w-levels output") != before
    for slider in page.find_elements(By.CSS_SELECTOR, ".w-levels input"):
        low, value, high = (float(slider.get_attribute(key)) for key in ("min", "value", "max"))
        assert low <= value <= high


def test_nothing_is_wider_than_a_phone(page):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_scripts_are_short_and_the_data_small(played):
    lines = sum((STATIC / f"{name}.js").read_text(encoding="utf-8").count("\n") for name in ("chain", "watch"))
    assert lines <= 300
    sizes = {name: len(watch.page({name: chain})) for name, chain in played[1].items()}
    most = max(watch.SCENARIOS["full"] / watch.SCENARIOS["quick"], watch.EPISODES["full"] / watch.EPISODES["quick"])
    assert 2 * most * sum(sizes.values()) < 1_500_000  # at most: four environments, and all of it grows
