"""Recorded demand: what a CSV may hold, how it is split and drawn, and that every part of meirl plays it."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import meirl
from meirl.envs import recorded
from meirl.envs.processes import Demand
from meirl.envs.scenario import FIRST_RESERVED_SEED
from meirl.heuristics import RULES, tuning
from meirl.learn import find_learner, load_policy, preset

PERIODS, CUT = 200, 120
DATES = pd.date_range("2024-01-01", periods=PERIODS)  # a Monday
UNITS = np.arange(1.0, 2 * PERIODS + 1).reshape(PERIODS, 2)  # every number tells where it is from


@pytest.fixture
def write(tmp_path):
    """Write a chain and its record; gives the chain's file."""

    def made(units=UNITS, dates=DATES, names=("York", "Leeds"), record=None, **changes):
        table = pd.DataFrame(units, columns=list(names), index=dates).rename_axis("date")
        table.to_csv(tmp_path / "demand.csv", date_format="%Y-%m-%d")
        values = meirl.make("meis-stationary").parameters.model_dump(mode="json", exclude={"demand", "leaves"})
        values |= {"chain": "meis", "horizon": 50, "demand": {"record": {"file": "demand.csv", **(record or {})}}}
        del values["locations"]
        path = tmp_path / "chain.yaml"
        path.write_text(yaml.safe_dump({**values, **changes}), encoding="utf-8")
        return path

    return made


def csv(tmp_path, text):
    path = tmp_path / "demand.csv"
    path.write_text(text, encoding="utf-8")
    return path


# --- what a file may hold --------------------------------------------------------------------------------------------

WIDE = "date,York,Leeds\n2024-01-06,3,4.5\n2024-01-05,1,2\n2024-01-07,5,6\n"
LONG = """\ufeffdemand;location;date
2;Leeds;2024-01-05
1;York;2024-01-05

3;York;2024-01-06
4.5;Leeds;2024-01-06
6;Leeds;2024-01-07
5;York;2024-01-07
"""


@pytest.mark.parametrize(
    ("text", "names"), [(WIDE, ("York", "Leeds")), (LONG, ("Leeds", "York"))], ids=["wide", "long"]
)
def test_a_record_may_be_wide_or_long_and_in_any_order(tmp_path, text, names):
    table = recorded.read(csv(tmp_path, text))
    assert table.locations == names
    assert [f"{date:%d}" for date in table.dates] == ["05", "06", "07"]
    assert table.ordered(("York", "Leeds")).units.tolist() == [[1, 2], [3, 4.5], [5, 6]]
    assert table.week == 7


def test_a_location_may_have_any_name(tmp_path):
    table = recorded.read(csv(tmp_path, "date,demand,value,variable\n2024-01-05,1,2,3\n2024-01-06,4,5,6\n"))
    assert table.locations == ("demand", "value", "variable")
    assert table.units.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_weeks_are_found_whatever_language_the_weekdays_are_in(tmp_path, monkeypatch):
    dates = pd.date_range("2020-01-02", periods=30, freq="7D")
    pd.DataFrame({"A": 1}, index=dates.rename("date")).to_csv(tmp_path / "d.csv", date_format="%Y-%m-%d")
    real = pd.Timestamp.strftime
    monkeypatch.setattr(pd.Timestamp, "strftime", lambda date, form: "Do" if form == "%a" else real(date, form))
    assert recorded.read(tmp_path / "d.csv").week == 1


@pytest.mark.parametrize("numbers", ["0.125,1.250", "1.250,12.000", "4.300,0.5", "4.3,600"])
def test_decimals_are_not_taken_for_thousands(tmp_path, numbers):
    text = f"date,A,B\n2024-01-01,{numbers}\n2024-01-02,{numbers}\n"
    assert recorded.read(csv(tmp_path, text)).units.tolist() == [[float(number) for number in numbers.split(",")]] * 2


def test_sums_are_looked_for_as_shares(tmp_path):
    text = "date,A,B,C\n2024-01-01,1e-12,2e-12,4e-12\n2024-01-02,0,5e-12,5e-12\n"
    assert recorded.read(csv(tmp_path, text)).locations == ("A", "B", "C")


@pytest.mark.parametrize(
    ("freq", "week", "year"),
    [("D", 7, 365.25), ("B", 5, 261), ("W-THU", 1, 52.2), ("MS", 1, 12), ("ME", 1, 12)],
)
def test_periods_are_days_weekdays_weeks_or_months(tmp_path, freq, week, year):
    dates = pd.date_range("2020-01-01", periods=300, freq=freq)
    pd.DataFrame({"A": 1}, index=dates.rename("date")).to_csv(tmp_path / "d.csv", date_format="%Y-%m-%d")
    table = recorded.read(tmp_path / "d.csv")
    assert table.week == week
    assert table.year == pytest.approx(year, rel=0.003)
    assert len(table.dates) == 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WIDE.replace("3,4.5", "3,-1"), r"row 2, column Leeds: expected a number from 0 .*; got '-1'"),
        (WIDE.replace("3,4.5", "3,many"), r"row 2, column Leeds: .*; got 'many'"),
        (WIDE.replace("3,4.5", ",4.5"), r"row 2, column York: .*0 if nothing was asked for; got ''"),
        (WIDE.replace("3,4.5", "nan,4.5"), r"row 2, column York: .*got 'nan'"),
        (WIDE.replace("3,4.5", "inf,4.5"), r"row 2, column York: .*got 'inf'"),
        (WIDE.replace("3,4.5", "1e30,4.5"), r"row 2, column York: .*got '1e30'"),
        (LONG.replace("4.5", "4,5"), r"row 6, column demand: .*decimals after a point.*got '4,5'"),
        (WIDE.replace("3,4.5", "600,4.300"), r"row 2, column Leeds: .*1000, not 1\.000.*; got '4\.300'"),
        ("date,A,B,C\n2024-01-01,1,2,3\n2024-01-02,0,5,5\n", "C is the sum of all other locations: leave it out"),
        (LONG.replace("6;Leeds", "6;"), r"row 7, column location: expected a name; got ''"),
        (WIDE.replace("2024-01-05", "05/01/2024"), r"row 3, column date: expected a date such as 2024-03-01"),
        (WIDE.replace("2024-01-05", "2024-01-32"), r"row 3, column date: .*got '2024-01-32'"),
        (WIDE.replace("2024-01-05", "2024-01-06"), r"row 3: 2024-01-06 is there twice for York"),
        (LONG.replace("6;Leeds", "6;York"), r"row 8: 2024-01-07 is there twice for York"),
        (LONG.replace("6;Leeds;2024-01-07\n", ""), r"no demand on 2024-01-07 at Leeds: write 0 if nothing"),
        (WIDE + "2024-01-10,1,1\n2024-01-11,1,1\n", r"no demand on 2024-01-08 at York \(and 3 more\)"),
        ("date,A\n2024-01-01,1\n2024-01-04,1\n2024-01-07,1\n", "the usual step is 3 days"),
        ("date,A\n2024-01-01,1\n2024-01-08,1\n2024-01-15,1\n2024-01-17,1\n", "01-17 does not fit: steps are 7 d"),
        ("date,A\n2024-01-15,1\n2024-02-15,1\n2024-03-15,1\n", "fit: .*month's first or last"),
        ("date,A\n2024-01-01,1\n", "a date a day, weekday, week or month"),
        (WIDE + "9024-01-08,1,1\n", "from 2024-01-05 to 9024-01-08: at most 40,000 days"),
        ("day,A\n2024-01-01,1\n", "row 1: expected date, location, demand; or date, then one column a location; got"),
        ("date,A,A\n2024-01-01,1,2\n", "row 1: expected"),
        ("date,A,\n2024-01-01,1,2\n", "row 1: expected"),
        ("date\n2024-01-01\n", "row 1: expected"),
        ("date,A\n", "expected a header and rows below it"),
        ("", "cannot be read as CSV"),
        (WIDE.replace("5,6", "5,6,7"), "cannot be read as CSV: .*line 4"),
        ("date," + ",".join(f"L{i}" for i in range(101)) + "\n2024-01-01" + ",1" * 101, "at most 100 locations"),
    ],
    ids=lambda text: ascii(text[-40:]),
)  # fmt: skip
def test_a_wrong_record_is_refused_by_file_row_and_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"demand\.csv: .*{message}") as refused:
        recorded.read(csv(tmp_path, text))
    assert len(str(refused.value).splitlines()) == 1


def test_a_record_that_is_no_text_missing_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "demand.csv"
    path.write_bytes(b"date,A\n2024-01-01,\xff\n")
    with pytest.raises(ValueError, match=r"demand\.csv: cannot be read as CSV: .*utf-8"):
        recorded.read(path)
    with pytest.raises(ValueError, match=r"nowhere\.csv: cannot be read as CSV: .*No such file"):
        recorded.read(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="expected a file of at most"):
        recorded.read(tmp_path)
    monkeypatch.setattr(recorded, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="expected a file of at most 10 bytes"):
        recorded.read(csv(tmp_path, WIDE))


@given(st.text(max_size=60), st.integers(0, 60))
def test_no_text_is_more_than_one_clear_line(tmp_path_factory, text, place):
    path = tmp_path_factory.mktemp("fuzz") / "demand.csv"
    path.write_text(WIDE[:place] + text + WIDE[place:], encoding="utf-8", newline="")
    try:
        assert (recorded.read(path).units >= 0).all()
    except ValueError as refused:
        if not str(refused).startswith(str(path)):
            raise


# --- what follows from it --------------------------------------------------------------------------------------------


def test_the_earlier_part_says_what_demand_is(write):
    week = np.array([2, 1, 1, 1, 1, 1, 0.0])
    units = np.outer(week[np.arange(PERIODS) % 7], [10, 30])
    units[CUT:] = 999
    env = meirl.make(write(units, record={"past": 0.595}))  # 119 days: 17 weeks
    demand = env.parameters.demand
    assert demand.distribution == "recorded"
    assert demand.mean == pytest.approx((10, 30))
    assert demand.week == pytest.approx(week)
    assert env.node_names == ["middle", "York", "Leeds"]
    assert env.legend()[-1] == "day 7 of the week"


def test_a_yearly_record_has_a_season_of_its_own(write):
    now = np.arange(1_500)
    units = np.outer(1 + 0.4 * np.sin(2 * np.pi * (now - 100) / 365.25), [10, 30])
    dates = pd.date_range("2020-01-01", periods=1_500)
    env = meirl.make(write(units, dates, record={"past": 0.5, "yearly": True, "block": 14}), horizon=365)
    season = env.parameters.demand.season
    assert season.amplitude == pytest.approx(0.4, abs=0.01)
    assert season.period == pytest.approx(365.25, rel=1e-3)
    assert (season.phase + 100) % 365.25 == pytest.approx(0, abs=2) or (season.phase + 100) % 365.25 > 363
    for seed in (3, FIRST_RESERVED_SEED + 2):
        drawn = env.sample(200, seed).demand.mean((0, 2)).numpy()
        expected = env.seasonal_mean.numpy()
        assert np.abs(drawn / expected - 1).max() < 0.15
        assert np.abs(drawn / expected - 1).mean() < 0.05


def rows_of(demand):
    return ((demand[..., 0] - 1) / 2).numpy()


def test_what_chooses_draws_from_the_past_and_what_judges_from_the_rest(write):
    env = meirl.make(write(record={"block": 20}))
    for past in (env.sample(60, seed=3), meirl.held_out(env, "validation", 60)):
        rows = rows_of(past.demand)
        assert rows.shape == (60, 50)
        assert rows.min() < 10
        assert 110 < rows.max() < CUT
    rows = rows_of(meirl.held_out(env, "test", 60).demand)
    assert CUT <= rows.min() < CUT + 10
    assert rows.max() > PERIODS - 10


def test_blocks_are_consecutive_keep_their_day_and_locations_stay_together(write):
    demand = meirl.make(write(record={"block": 20})).sample(30, seed=3).demand
    assert torch.equal(demand[..., 1], demand[..., 0] + 1)
    rows = rows_of(demand)
    steps = np.diff(rows, axis=1)
    assert (np.delete(steps, [19, 39], axis=1) == 1).all()
    assert not (steps[:, [19, 39]] == 1).all()
    assert (rows % 7 == np.arange(50) % 7).all()
    assert len(set(rows[:, 0])) > 3


def test_an_episode_is_the_same_in_any_batch_and_all_else_is_as_with_a_formula(write):
    env = meirl.make(write(record={"block": 20}))
    whole, part = env.sample(5, seed=3), env.sample(2, seed=3, first=3)
    assert torch.equal(whole.demand[3:], part.demand)
    assert not torch.equal(whole.demand[0], whole.demand[1])
    plain = meirl.make("meis-stationary", horizon=50).sample(5, seed=3)
    assert torch.equal(whole.lead_time, plain.lead_time)


def test_a_seed_is_refused_where_its_episodes_would_be_those_of_another(write):
    env = meirl.make(write(record={"block": 20}))
    env.sample(1, seed=2**32 - 1)
    with pytest.raises(ValueError, match=r"seed must be below 2\*\*32 where demand is recorded, got 4294967296"):
        env.sample(1, seed=2**32)


def test_locations_may_come_in_the_order_of_the_chain(write):
    env = meirl.make(write(locations=["Leeds", "York"]))
    assert env.node_names == ["middle", "Leeds", "York"]
    demand = env.sample(3, seed=1).demand
    assert torch.equal(demand[..., 0], demand[..., 1] + 1)
    assert env.parameters.demand.mean[0] == env.parameters.demand.mean[1] + 1


def test_a_list_of_values_needs_locations_in_its_order(write):
    lead_time = {"mean": [3, 1, 2], "low": 1, "high": 9}
    with pytest.raises(ValueError, match=r"chain\.yaml: lead_time\.mean is a list: give locations in its order: "):
        meirl.make(write(lead_time=lead_time))
    assert meirl.make(write(lead_time=lead_time, locations=["Leeds", "York"])).node_names[2] == "York"
    single = meirl.make(write(UNITS[:, :1], names=["York"], lead_time={"mean": [3, 1], "low": 1, "high": 9}))
    assert single.node_names == ["middle", "York"]


def test_a_season_of_few_units_is_not_cut_off(write):
    now = np.arange(1_500)
    units = np.outer(1 + 0.4 * np.sin(2 * np.pi * now / 365.25), [0.01, 0.03])
    dates = pd.date_range("2020-01-01", periods=1_500)
    env = meirl.make(write(units, dates, record={"past": 0.5, "yearly": True, "block": 14}), horizon=365)
    assert env.seasonal_mean.numpy().max() == pytest.approx(1.4 * 0.02, rel=0.02)


def test_locations_may_be_numbers(write):
    env = meirl.make(write(names=("101", "102"), locations=[102, 101]))
    assert env.node_names == ["middle", "102", "101"]
    with pytest.raises(ValueError, match=r"2 locations \(102, 101\), but chain\.yaml has leaves: 3"):
        meirl.make(write(names=("101", "102"), locations=[102, 101], leaves=3))


def test_a_record_may_be_laid_over_a_formula(write):
    file = str(write().with_name("demand.csv"))
    env = meirl.make("divergent-nonstationary", retailers=2, demand={"record": {"file": file}}, horizon=50)
    assert env.node_names == ["warehouse", "York", "Leeds"]
    replaced = set(Demand.model_fields) - {"distribution", "mean", "record", "week", "floor"}
    assert all(getattr(env.parameters.demand, key) == Demand.model_fields[key].default for key in replaced)
    assert set(Demand.model_fields) == set(recorded.PLAIN) | {"distribution", "mean", "record"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"demand": {"record": "demand.csv"}}, r"chain\.yaml: demand\.record: expected a mapping with the key file"),
        ({"demand": {"record": {"block": 28}}}, r"chain\.yaml: demand\.record: file: Field required"),
        ({"demand": {"record": {"file": "demand.csv", "past": 2}}}, r"demand\.record: past: .*less than or equal to"),
        ({"demand": {"record": {"file": "other.csv"}}}, r"other\.csv: cannot be read"),
        ({"demand": {"record": {"file": "demand.csv"}, "shok": 1}}, r"chain\.yaml: demand\.shok: unknown key, got 1"),
        ({"leaves": 3}, r"demand\.csv: 2 locations \(York, Leeds\), but chain\.yaml has leaves: 3"),
        ({"locations": ["York", "Hull"]}, r"demand\.csv: its locations are York, Leeds; chain\.yaml has \['York', 'H"),
        ({"demand": {"record": {"file": "demand.csv", "block": 90}}}, r"later part, 80 periods, has fewer than two"),
        ({"demand": {"record": {"file": "demand.csv", "yearly": True}}}, "periods of its time of the year for period"),
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_the_chain_is_refused(write, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        meirl.make(write(**changes))
    assert len(str(refused.value).splitlines()) == 1


def test_a_location_without_demand_is_refused(write):
    with pytest.raises(ValueError, match=r"demand\.csv: no demand at Leeds in the earlier part"):
        meirl.make(write(UNITS * [1, 0]))


# --- every part of meirl plays it ------------------------------------------------------------------------------------


def test_tune_train_and_evaluate_take_it(write, tmp_path):
    path = write(np.random.default_rng(0).poisson(3_000, (PERIODS, 2)))
    env = meirl.make(path)
    found = tuning.tune(env, RULES["s-S-cover"], episodes=4, generations=3, candidates=2, widen=False, progress=False)
    assert "reorder point, York" in found.tuned.levels
    config = preset("ppo", "tuned", env.name, steps=800, environments=8, copies=2, evaluations=1, validation_episodes=4)
    find_learner("ppo").train(env, config, 0, tmp_path / "run", progress=False)
    policy, again = load_policy(tmp_path / "run")
    assert again.parameters == env.parameters
    test = meirl.held_out(env, "test", 8)
    assert meirl.rollout(again, policy, test)["cost"].gt(0).all()
    resumed = find_learner("ppo").train(meirl.make(path), config, 0, tmp_path / "run", resume=True, progress=False)
    assert resumed.steps == 800


def test_a_record_may_move_with_its_chain_and_its_runs(write, tmp_path, monkeypatch):
    def train(chain, run):
        config = preset("ppo", "tuned", "", steps=1, environments=2, copies=1, evaluations=1, validation_episodes=2)
        return find_learner("ppo").train(meirl.make(chain), config, 0, run, resume=True, progress=False)

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for file in (write(), write().with_name("demand.csv")):
        file.rename(here / file.name)
    train(here / "chain.yaml", here / "run")
    here.rename(there)
    train(there / "chain.yaml", there / "run")
    monkeypatch.chdir(there)
    train("chain.yaml", there / "run")
    (there / "demand.csv").rename(there / "other.csv")
    text = (there / "chain.yaml").read_text(encoding="utf-8")
    (there / "chain.yaml").write_text(text.replace("demand.csv", "other.csv"), encoding="utf-8")
    with pytest.raises(ValueError, match="its env differs"):
        train("chain.yaml", there / "run")
