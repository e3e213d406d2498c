"""A chain of one's own: demand is what the record has, tuned on its past, judged on its future; all rules are tuned."""

import numpy as np
import pytest
import torch

import meirl
from meirl.envs.scenario import FIRST_RESERVED_SEED
from meirl_study import own

PERIODS, CUT = 200, 120
RECORD = np.arange(2.0 * PERIODS).reshape(PERIODS, 2)  # every number tells where it is from


@pytest.fixture
def chain():
    return meirl.make("meis-stationary", horizon=50)


def rows_of(demand):
    return demand[..., 0].numpy() / 2


def test_training_draws_from_the_past_and_held_out_sets_from_the_rest(chain):
    mine = own.with_demand(chain, RECORD, block=20)
    past = rows_of(mine.sample(40, seed=3).demand)
    assert past.shape == (40, 50)
    assert past.min() < 10
    assert 110 < past.max() < CUT
    for purpose in ("validation", "test"):
        later = rows_of(meirl.held_out(mine, purpose, 40).demand)
        assert CUT <= later.min() < CUT + 10
        assert later.max() > PERIODS - 10


def test_blocks_are_consecutive_and_locations_stay_together(chain):
    demand = own.with_demand(chain, RECORD, block=20).sample(5, seed=3).demand
    assert torch.equal(demand[..., 1], demand[..., 0] + 1)
    steps = np.diff(rows_of(demand), axis=1)
    assert (np.delete(steps, [19, 39], axis=1) == 1).all()
    assert not (steps[:, [19, 39]] == 1).all()


def test_an_episode_is_the_same_in_any_batch_and_all_else_is_the_chains_own(chain):
    mine = own.with_demand(chain, RECORD, block=20)
    whole, part = mine.sample(5, seed=3), mine.sample(2, seed=3, first=3)
    assert torch.equal(whole.demand[3:], part.demand)
    assert not torch.equal(whole.demand[0], whole.demand[1])
    plain = chain.sample(5, seed=3)
    assert torch.equal(whole.lead_time, plain.lead_time)
    assert not torch.equal(whole.demand, plain.demand)
    assert chain.sample(5, seed=3).demand.equal(plain.demand), "the chain itself is as it was"


@pytest.mark.parametrize("seed", [3, FIRST_RESERVED_SEED])
def test_blocks_keep_their_place_in_the_season(chain, seed):
    rows = rows_of(own.with_demand(chain, RECORD, block=20, season=7).sample(30, seed).demand)
    assert (rows % 7 == np.arange(50) % 7).all()
    assert len(set(rows[:, 0])) > 3


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (RECORD[:, :1], r"record must be \(periods, 2\), one column a location, got \(200, 1\)"),
        (RECORD[:30], "record of 30 periods is too short for blocks of 28 and a season of 1"),
        (-RECORD, "record must hold numbers >= 0"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(chain, record, message):
    with pytest.raises(ValueError, match=message):
        own.with_demand(chain, record)


def test_every_rule_is_tuned_and_the_best_comes_first(chain):
    found = own.tune_all(chain, episodes=2, generations=1, candidates=2, widen=False)
    assert set(found) == {"constant-order", "s-S", "s-S-backlog", "s-S-cover", "s-S-cover-informed"}
    costs = [search.tuned.provenance["validation_cost"] for search in found.values()]
    assert costs == sorted(costs)
    best = next(iter(found.values()))
    cost = meirl.rollout(chain, own.tuned(chain, best), meirl.held_out(chain, "validation"))["cost"].mean()
    assert cost == pytest.approx(costs[0], rel=1e-4)


def test_who_pays_more_for_shortage_serves_more(chain):
    options = {"episodes": 4, "generations": 6, "candidates": 4, "widen": False}
    costs = [{"shortage_cost": 0.05, "horizon": 60}, {"shortage_cost": 20, "horizon": 60}]
    table = own.for_service("meis-stationary", "s-S-cover", costs, 10, **options)
    assert list(table.index) == ["0.05, 60", "20, 60"]
    assert table.index.name == "shortage_cost, horizon"
    assert table.loc["20, 60", "fill rate"] > table.loc["0.05, 60", "fill rate"]
    assert table.loc["20, 60", "on hand"] > table.loc["0.05, 60", "on hand"]
