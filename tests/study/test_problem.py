"""Chapter 1's tables, from made periods and made draws."""

import torch

from meirl import make
from meirl.envs import Costs, Flows, Scenario
from meirl_study import problem


def test_periods_show_demand_stock_transit_and_cost_of_the_first_episode():
    env = make("divergent-stationary")
    state = env.reset(2)
    on_hand = torch.tensor([[1.0, 2, 3, 4], [9, 9, 9, 9]])
    in_transit = torch.zeros_like(state.in_transit)
    in_transit[0, 0], in_transit[0, 1] = torch.tensor([5.0, 6, 7, 8]), 10.0  # due now, and a period later
    costs = Costs(*torch.tensor([[1.25, 0], [2, 0], [0, 0], [0, 0], [4, 0]]))
    demand = torch.tensor([[10.9, 20, 30], [0, 0, 0]])
    flows = Flows(demand, *[torch.zeros(2, 3)] * 6)
    table = problem.periods(env, [(state._replace(on_hand=on_hand, in_transit=in_transit), costs, flows)] * 2)
    assert table.index.tolist() == [0, 1]
    assert table.index.name == "period"
    assert table.loc[1, "demand"].to_dict() == {"1": 10, "2": 20, "3": 30}  # rounded down
    assert table.loc[1, "on hand"].to_dict() == {"0": 1, "1": 2, "2": 3, "3": 4}
    assert table.loc[1, "in transit"].to_dict() == {"0": 15, "1": 16, "2": 17, "3": 18}
    assert table.loc[1, ("cost", "")] == 7


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


def test_observation_sets_are_counted_and_told_apart():
    table = problem.observation_sets(["divergent-stationary", "divergent-nonstationary"])
    assert table["published set"].tolist() == [14, 14]
    assert table["full set"].tolist() == [15, 53]
    assert table["only in the full set"].tolist() == ["due in", "due in, season"]
