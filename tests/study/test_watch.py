"""What the page *Watch an episode* is given: exact numbers, small, of the study's chains only."""

import json
import re

import numpy as np
import pytest
import torch

import meirl
from meirl import heuristics
from meirl_study import behaviour, watch
from meirl_study.chapter import Chapter


@pytest.fixture(scope="module")
def played():
    """A chapter with two environments and two rules instead of agents, and what the page is given of it."""
    chapter = Chapter("quick", 0, torch.device("cpu"))
    chapter.__dict__["envs"] = {name: meirl.make(name) for name in ("divergent-nonstationary", "meis-stationary")}

    def rules(_, env):
        return {"order nothing": heuristics.load(env, "never-order"), "textbook rule": heuristics.load(env, "textbook")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "policies", rules)
        return chapter, watch.chains(chapter)


@pytest.mark.parametrize(
    "values", [[0.0, 7, 65_535], [0.5, 3.25, 655.35], [12_000.4, 900.0]], ids=["whole", "hundredths", "large"]
)
def test_numbers_come_out_as_they_went_in(values):
    given = torch.tensor(values, dtype=torch.float64)
    out = watch.unpacked(watch.packed(given))
    assert np.abs(out - np.array(values)).max() <= (0.5 if max(values) > 655.35 and values[0] % 1 else 1e-12)


@pytest.mark.parametrize("values", [[-1.0], [float("inf")], [float("nan")], [65_536.0]])
def test_numbers_that_do_not_fit_are_refused(values):
    with pytest.raises(ValueError, match="0 to 65535"):
        watch.packed(torch.tensor(values))


def test_rounding_changes_capacities_only_and_hardly_a_cost():
    env = meirl.make("divergent-nonstationary")
    scenario = env.sample(8, seed=3)
    near = watch.rounded(scenario)
    for field in ("demand", "direct_demand", "lead_time"):
        assert torch.equal(getattr(near, field), getattr(scenario, field))
    assert not torch.equal(near.outbound_capacity, scenario.outbound_capacity)
    assert (near.supplier_capacity - scenario.supplier_capacity).abs().max() < 0.00501
    rule = heuristics.load(env, "textbook")
    costs = [meirl.rollout(*each)["cost"].mean() for each in ((env, rule, scenario), (watch.rounding(env), rule, near))]
    assert costs[1] == pytest.approx(costs[0], rel=3e-3)


def test_unlimited_capacities_stay_unlimited():
    scenario = meirl.make("divergent-stationary").sample(1, seed=0)
    assert watch.rounded(scenario).supplier_capacity.isinf().all()


def test_the_page_is_given_the_draws_and_the_orders_as_they_were(played):
    chapter, chains = played
    for name, env in chapter.envs.items():
        chain, scenario = chains[name], watch.rounded(chapter.tests[name][: watch.SCENARIOS["quick"]])
        shape = (chain["scenarios"], chain["periods"])
        demand = watch.unpacked(chain["draws"]["demand"]).reshape(*shape, env.retailers)
        np.testing.assert_array_equal(demand, scenario.demand)
        lead = watch.unpacked(chain["draws"]["lead"]).reshape(*shape, env.nodes)
        np.testing.assert_array_equal(lead, scenario.lead_time)
        assert ("outbound" in chain["draws"]) == bool(scenario.outbound_capacity.isfinite().all())
        assert [p["name"] for p in chain["policies"]] == ["order nothing", "published rule", "textbook rule"]
        rule = heuristics.load(env, "textbook")
        seen = meirl.rollout(env, rule, scenario)
        found = chain["policies"][-1]
        assert found["mean"] == pytest.approx(seen["cost"].mean(), rel=1e-5)
        assert found["fill"] == pytest.approx(seen["fill_rate"].mean(), rel=1e-5)
        orders = watch.unpacked(found["orders"]).reshape(chain["episodes"], env.horizon, env.nodes)
        assert orders.sum() == pytest.approx(
            watch.trajectory(env, rule, scenario[: chain["episodes"]])["orders"].sum(), rel=1e-3
        )
        assert watch.means(chains)[name].loc["textbook rule"].to_dict() == {
            "mean cost": found["mean"], "fill rate": found["fill"],
        }  # fmt: skip


def test_the_textbook_rule_comes_with_its_tuned_levels_within_their_sliders(played):
    chapter, chains = played
    for name, env in chapter.envs.items():
        rule = chains[name]["rule"]
        assert rule["name"] == heuristics.best_rule(env, textbook=True)
        assert {x["name"]: x["value"] for x in rule["levels"]} == heuristics.read_levels(env, rule["name"]).levels
        assert all(x["low"] <= x["value"] <= x["high"] for x in rule["levels"])


@pytest.mark.parametrize("name", meirl.envs.NAMES)
def test_the_textbook_rule_of_every_environment_can_be_played_in_the_browser(name):
    assert watch.textbook(meirl.make(name))["name"] in watch.RULES


def test_a_chain_or_a_rule_that_the_browser_does_not_have_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="kunnumkal-topaloglu: the browser's simulator has only"):
        watch.parameters(meirl.make("kunnumkal-topaloglu"))
    monkeypatch.setattr(watch, "best_rule", lambda *_, **__: "fair-shares")
    with pytest.raises(ValueError, match="no rule 'fair-shares', only base-stock"):
        watch.textbook(meirl.make("divergent-stationary"))


def test_the_page_holds_its_data_and_nothing_ends_its_script_early(played):
    _, chains = played
    chains = {**chains, "</script>": next(iter(chains.values()))}
    text = watch.page(chains)
    (data,) = re.findall(r'<script type="application/json" id="watch-data">(.*?)</script>', text)
    assert json.loads(data) == json.loads(json.dumps(chains))
    assert 'src="../_static/chain.js"' in text
    assert "http" not in text
