"""Chapter 1's tables: stock that adds up, made draws, every parameter, and who sees what."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from meirl import envs as environments
from meirl import make
from meirl.envs import NAMES, OBSERVATION_SETS, Scenario
from meirl_study import figures, problem


def play(name: str, periods: int):
    """A few periods in which nodes order a lot or nothing: environment, first state, transitions, scenario."""
    env = make(name, dtype=torch.float64, max_backorder=20)
    scenario, start = env.sample(1, seed=3), env.reset(1)
    generator, state, played = torch.Generator().manual_seed(0), start, []
    for t in range(periods):
        orders = env.tensor(60 * torch.rand(1, env.nodes, generator=generator) * (t % 3 > 0))
        played.append(env.step(state, orders, scenario.at(t)))
        state = played[-1].state
    return env, start, played, scenario


@pytest.mark.parametrize("name", ["divergent-stationary", "divergent-nonstationary"])
def test_the_ledger_of_every_node_adds_up(name):
    env, start, played, scenario = play(name, 80)
    table = problem.ledger(env, start, played, scenario)
    assert list(table.columns) == list(range(80))
    for node in env.node_names:
        rows = table.loc[node]
        moved = rows.filter(regex=r"^\+", axis=0).sum() - rows.filter(regex="^-", axis=0).sum()
        assert (rows.loc["on hand before"] + moved - rows.loc["= on hand after"]).abs().max() <= 2  # whole units
        assert (rows.loc["on hand before"].iloc[1:].to_numpy() == rows.loc["= on hand after"].iloc[:-1]).all()
    assert (table.loc[("warehouse", "- to its own customers")] > 0).any()
    assert (table.loc[("retailer 3", "waiting after")] == 20).any()  # what is forgotten went to no customer


def test_the_ledger_shows_what_the_step_returned():
    env, start, played, scenario = play("divergent-stationary", 5)
    table, last = problem.ledger(env, start, played, scenario), played[-1]
    assert table.loc[("warehouse", "on hand before"), 0] == 500
    assert table.loc[("retailer 2", "asked for by customers"), 4] == last.flows.demand[0, 1]
    assert table.loc[("retailer 2", "in transit to it"), 4] == round(last.state.in_transit[0, :, 2].sum().item())
    assert table.loc[("retailer 2", "ordered, not shipped"), 4] == round(last.state.outstanding[0, 2].item())
    assert table.loc[("all", "cost of the period"), 4] == round(last.costs.total.item())


def test_stressors_measure_the_draws():
    demand = torch.tensor([[[1.0, 3], [3, 1]], [[1, 3], [3, 1]]])  # (episode, period, retailer): opposite, 4 in all
    scenario = Scenario(
        demand,
        direct_demand=torch.zeros(2, 2),
        supplier_capacity=torch.zeros(2, 2),
        outbound_capacity=torch.tensor([[3.9, 4], [4, 4]]),
        lead_time=torch.tensor([[[1, 5, 6], [1, 1, 4]], [[1, 1, 1], [1, 1, 1]]]),
        shock=torch.tensor([[1.0, 2], [1, 1]]),
    )
    row = problem.stressors({"made": scenario}).loc["made"]
    assert row["mean demand per retailer"] == 2
    assert row["standard deviation"] == 1
    assert round(row["correlation of two retailers"], 6) == -1
    assert row["periods in a shock"] == 0.25
    assert row["mean lead time"] == 2
    assert round(row["lead time of 5 or more"], 6) == round(2 / 12, 6)
    assert row["demand above outbound capacity"] == 0.25


def test_the_bottleneck_is_where_most_is_asked_of_what_can_pass():
    env = make("divergent-nonstationary")
    steady = env.sample(1, seed=0)._replace(
        demand=torch.full((1, 4, 3), 10.0), direct_demand=torch.full((1, 4), 5.0),
        supplier_capacity=torch.tensor([[100.0, 60, 60, 60]]), outbound_capacity=torch.tensor([[20.0, 40, 20, 40]]),
    )  # fmt: skip
    found = problem.bottleneck(env, steady)
    assert found["narrowest place"] == "warehouse to retailers"
    assert (found["asked for"], found["can pass"], found["load"]) == (30, 30, 1)
    assert found["load at the season's peak"] == pytest.approx(1.7)
    wide = steady._replace(outbound_capacity=torch.full((1, 4), 200.0))
    found = problem.bottleneck(env, wide)  # orders are capped at 80
    assert (found["narrowest place"], found["asked for"], found["can pass"]) == ("supplier to warehouse", 35, 65)


def test_on_meis_a_unit_is_ordered_twice():
    env = make("meis-stationary")
    scenario = env.sample(1, seed=0)._replace(demand=torch.full((1, 4, 2), 3_000.0))
    found = problem.bottleneck(env, scenario)
    assert found["can pass"] == pytest.approx(7_500)  # 20,000 units take a day at the middle and 5/3 at the leaves
    assert found["load"] == found["load at the season's peak"] == pytest.approx(0.8)


def test_every_parameter_is_listed_with_its_meaning():
    envs = make("divergent-stationary"), make("divergent-nonstationary")
    lines = problem.parameters(*envs).data.splitlines()
    assert lines[0] == "| parameter | symbol | stationary | nonstationary | meaning |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    rows = {row[0].strip("`").replace("\u200b", ""): row[1:] for row in cells}
    assert rows["backorder_cost"] == ["b", "19", "19", "per unit backordered at the end of a period"]
    assert rows["demand.shock.factor"][:3] == ["f", "–", "2; 3"]
    assert rows["holding_cost.retailer"][-1] == "per unit on hand and period"  # of the group
    assert rows["rationing"][1:3] == ["first retailer", "largest order"]
    assert rows["endless"][1:3] == ["no", "no"]
    assert "chain" not in rows
    assert all(meaning for *_, meaning in rows.values())
    file = Path(environments.__file__).parent / "divergent-nonstationary.yaml"
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    defaults = {"warm_up", "endless", "cost_per", "ships", "receives", "unshipped"}  # only the controls change them
    assert {key.split(".")[0] for key in rows} == set(given) - {"chain"} | defaults


def test_every_symbol_belongs_to_a_parameter():
    envs = make("divergent-nonstationary"), make("meis-nonstationary")
    listed = "\n".join(problem.parameters(env).data for env in envs).replace("\u200b", "")
    assert all(f"| `{key}` |" in listed for key in problem.SYMBOLS)


def test_the_published_numbers_are_listed_by_fact():
    lines = problem.published_numbers(make("divergent-stationary")).data.splitlines()
    assert lines[1] == "- backorder: retailer 1, retailer 2, retailer 3"
    assert sum(line.count(",") + 1 for line in lines) == 14


def test_every_number_that_anybody_sees_tells_one_fact():
    table = problem.seen(NAMES)
    assert table.columns.tolist() == [(name, chosen) for name in NAMES for chosen in OBSERVATION_SETS]
    assert (table.loc[list(problem.FACTS)].sum() == table.loc[problem.TOTAL]).all()
    assert (table.loc[list(problem.HIDDEN)] == 0).all(axis=None)
    assert table["meis-nonstationary", "published"].loc["backlog"] == 0
    assert table["meis-nonstationary", "full"].loc["backlog"] == 10
    assert table["divergent-stationary", "published"].loc[problem.TOTAL] == 14
    assert table["divergent-stationary", "full"].loc["time left"] == 2
    assert table["divergent-stationary", "full"].loc["season"] == 0


def test_rules_may_read_what_our_learners_see():
    shown = problem.who_sees_what(["meis-nonstationary"])
    ours, rules = shown["meis-nonstationary", "our learners"], shown["rules", "may read"]
    assert ((ours == "–") == (rules == "–")).all()
    assert rules["time left"] == "yes"
    assert rules[problem.TOTAL] == ""
    assert shown.loc["pipeline by due date", ("meis-nonstationary", "published agent")] == "–"


def test_what_only_the_chain_with_fewer_parameters_has_is_listed_too():
    few = make("divergent-stationary", order_cost={"warehouse": 40, "retailer": 2})
    lines = problem.parameters(few, make("divergent-nonstationary")).data.replace("\u200b", "").splitlines()
    (row,) = (line for line in lines if line.startswith("| `order_cost.warehouse` |"))
    assert [cell.strip() for cell in row.split("|")][3:5] == ["40", "–"]
    names = ("divergent-stationary", "divergent-nonstationary")
    both, whole = (problem.parameters(*map(make, each)).data.splitlines() for each in (names, names[1:]))
    assert [line.split("|")[1] for line in both] == [line.split("|")[1] for line in whole], "in the same order"


def test_stressors_of_a_single_retailer_whose_shocks_lower_demand():
    shock = {"probability": 0.2, "length": [3, 7], "factor": [0.2, 0.5]}
    env = make("lost-sales", demand={"shock": shock}, lead_time={"mean": 14, "low": 14, "high": 14})
    scenario = env.sample(4, 0)
    row = problem.stressors({"own": scenario}).loc["own"]
    assert math.isnan(row["correlation of two retailers"])
    assert row["periods in a shock"] == pytest.approx((scenario.shock < 1).double().mean().item())
    assert row["periods in a shock"] > 0.1
    time, lead = figures.stressors(env, scenario).axes
    assert len(time.patches) > 0, "shocks are shaded"
    assert lead.get_xlim()[1] > 14
