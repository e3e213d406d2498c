"""Everything random, against its definition: exact expectations, tolerances from the sample size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tolerances import SIGMAS, assert_distribution, assert_frequency, assert_mean, floored_normal

import meirl
from meirl.envs import scenario
from meirl.envs.scenario import BLOCK, sample_scenario, seasonal_mean

EPISODES = 512


@pytest.fixture(scope="module")
def drawn():
    """A large scenario of each environment as NumPy arrays, drawn once."""
    envs = {name: meirl.make(name, dtype=torch.float64) for name in meirl.NAMES}
    return {name: (env, env.sample(EPISODES, seed=1)) for name, env in envs.items()}


def arrays(drawn, name):
    env, scenario = drawn[name]
    return env.parameters, {key: value.numpy() for key, value in scenario._asdict().items()}


# --- demand ----------------------------------------------------------------------------------------------------------


def test_divergent_stationary_demand_is_poisson_with_a_uniform_rate(drawn):
    """P(D = k) = (1/10) * integral of Poisson(k; r) over r in [5, 15]: a difference of two gamma distributions."""
    _, x = arrays(drawn, "divergent-stationary")
    k = np.arange(200)
    probability = (stats.gamma.cdf(15, k + 1) - stats.gamma.cdf(5, k + 1)) / 10
    assert_distribution(x["demand"].ravel(), k, probability)
    assert_mean(x["demand"].mean((1, 2)), 10)
    assert_mean(((x["demand"] - 10) ** 2).mean((1, 2)), 10 + 10**2 / 12)
    assert_distribution(x["direct_demand"].ravel(), k, stats.poisson.pmf(k, 10))


def test_divergent_stationary_demand_is_independent_between_retailers_and_periods(drawn):
    _, x = arrays(drawn, "divergent-stationary")
    residual = x["demand"] - 10
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert_mean((residual[..., a] * residual[..., b]).mean(1), 0)
    assert_mean((residual[:, 1:] * residual[:, :-1]).mean((1, 2)), 0)
    assert_mean((residual[..., 0] * (x["direct_demand"] - 10)).mean(1), 0)


def test_divergent_nonstationary_demand_has_the_stated_mean_and_variance_in_every_season(drawn):
    """Given season and shock the rate is max(0.1, N(mean, 2.5)); Poisson adds its mean to the variance."""
    p, x = arrays(drawn, "divergent-nonstationary")
    mean, variance = floored_normal(seasonal_mean(p.demand, p.horizon) * x["shock"], 2.5, 0.1)
    residual = x["demand"] - mean[..., None]
    squared = residual**2 / (mean + variance)[..., None]
    assert_mean(squared.mean((1, 2)), 1)
    phase = np.arange(p.horizon) % 120 // 10
    for twelfth in range(12):
        assert_mean(residual[:, phase == twelfth].mean((1, 2)), 0)
        assert_mean(squared[:, phase == twelfth].mean((1, 2)), 1)


def test_divergent_nonstationary_demand_is_correlated_as_stated(drawn):
    """Retailers share 0.6 z: covariance 0.6^2 * 2.5^2, wherever the floor of 0.1 is out of reach."""
    p, x = arrays(drawn, "divergent-nonstationary")
    mean = seasonal_mean(p.demand, p.horizon) * x["shock"]
    residual = x["demand"] - mean[..., None]
    high = seasonal_mean(p.demand, p.horizon) > 5 * 2.5
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert_mean((residual[..., a] * residual[..., b])[:, high].mean(1), 0.6**2 * 2.5**2)
    assert_mean((residual[:, 1:] * residual[:, :-1])[:, high[1:] & high[:-1]].mean((1, 2)), 0)  # no memory


def test_divergent_nonstationary_direct_demand_follows_season_and_shock(drawn):
    p, x = arrays(drawn, "divergent-nonstationary")
    rate = np.maximum(0.1, 0.3 * seasonal_mean(p.demand, p.horizon) * x["shock"])
    assert_mean((x["direct_demand"] - rate).mean(1), 0)
    assert_mean(((x["direct_demand"] - rate) ** 2 / rate).mean(1), 1)


def test_meis_stationary_demand_is_a_rounded_normal(drawn):
    _, x = arrays(drawn, "meis-stationary")
    k = np.arange(2_700, 3_901)
    probability = np.diff(stats.norm.cdf(np.append(k - 0.5, k[-1] + 0.5), 3300, 100))
    assert_distribution(x["demand"].ravel(), k, probability / probability.sum())
    residual = x["demand"] - 3300
    assert_mean((residual[..., 0] * residual[..., 1]).mean(1), 0)
    assert (x["direct_demand"] == 0).all()


def test_meis_nonstationary_demand_follows_season_shock_and_correlation(drawn):
    _, x = arrays(drawn, "meis-nonstationary")
    wave = np.maximum(1, 3300 * (1 + 0.5 * np.sin(2 * np.pi * np.arange(365) / 90)))
    residual = x["demand"] - (wave * x["shock"])[..., None]  # 0 is more than five deviations away: no floor
    for tenth in range(9):
        assert_mean(residual[:, np.arange(365) % 90 // 10 == tenth].mean((1, 2)), 0)
    assert_mean((residual**2).mean((1, 2)), 300**2 + 1 / 12)  # rounding adds 1/12
    assert_mean((residual[..., 0] * residual[..., 1]).mean(1), 0.36 * 300**2)
    assert (x["demand"] == np.round(x["demand"])).all()


@pytest.mark.parametrize(
    ("name", "mean", "amplitude", "period"),
    [("divergent-nonstationary", 12, 0.7, 120), ("meis-nonstationary", 3300, 0.5, 90)],
)
def test_the_season_is_a_sine_with_its_peak_in_the_first_quarter(name, mean, amplitude, period):
    season = meirl.make(name).seasonal_mean.numpy()
    assert season[0] == pytest.approx(mean)
    np.testing.assert_allclose(season[period:], season[:-period], rtol=1e-5)
    assert abs(int(season[:period].argmax()) - period / 4) <= 0.5
    assert season[:period].max() == pytest.approx(mean * (1 + amplitude), rel=1e-3)
    assert season[:period].min() == pytest.approx(mean * (1 - amplitude), rel=2e-3)


# --- shocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "probability", "low", "high"),
    [("divergent-nonstationary", 0.015, 2, 3), ("meis-nonstationary", 0.02, 1.8, 2.5)],
)
def test_shocks_have_the_stated_frequency_length_and_size(drawn, name, probability, low, high):
    _, x = arrays(drawn, name)
    factor = x["shock"]
    before = np.concatenate([np.ones((EPISODES, 1)), factor[:, :-1]], 1)
    active = factor > 1
    start = active & (factor != before)  # sizes are continuous, so two shocks in a row differ
    quiet = ~active
    assert_frequency(start.sum(), (start | quiet).sum(), probability)  # one can start only while none is active
    beginnings = meirl.make(name, horizon=1).sample(8_000, seed=2).shock.numpy()
    assert_frequency((beginnings > 1).sum(), beginnings.size, probability)  # and already in the first period

    row, column = np.nonzero(start)
    whole = column < factor.shape[1] - 7  # shocks at the end are cut off
    window = column[whole, None] + np.arange(8)
    length = (factor[row[whole, None], window] == factor[start][whole, None]).cumprod(1).sum(1)
    assert_distribution(length, np.arange(3, 8), np.full(5, 0.2))
    sizes = factor[start]
    assert stats.kstest(sizes, stats.uniform(low, high - low).cdf).pvalue > 1e-6
    assert low <= sizes.min() <= sizes.max() <= high


@pytest.mark.parametrize("name", ["divergent-stationary", "meis-stationary"])
def test_stationary_environments_have_no_shocks_and_no_capacities(drawn, name):
    _, x = arrays(drawn, name)
    assert (x["shock"] == 1).all()
    assert np.isinf(x["supplier_capacity"]).all()
    assert np.isinf(x["outbound_capacity"]).all()


# --- lead times and capacities ---------------------------------------------------------------------------------------


def lead_time_probabilities(mean, sd, tail, extra, low, high):
    k = np.arange(low, high + 1)
    edges = np.concatenate([[-np.inf], k[:-1] + 0.5, [np.inf]])
    usual, late = (np.diff(stats.norm.cdf(edges, m, sd)) for m in (mean, mean + extra))
    return k, (1 - tail) * usual + tail * late


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("divergent-nonstationary", (2, 1.2, 0.08, 4, 1, 10)),
        ("meis-stationary", (2, 1, 0, 0, 1, 10)),
        ("meis-nonstationary", (2, 2, 0.10, 3, 1, 10)),
    ],
)
def test_lead_times_have_the_stated_distribution_tail_included(drawn, name, definition):
    _, x = arrays(drawn, name)
    k, probability = lead_time_probabilities(*definition)
    for node in range(x["lead_time"].shape[2]):
        values = x["lead_time"][..., node].ravel()
        assert_distribution(values, k, probability)
        assert_frequency((values >= 6).sum(), values.size, probability[k >= 6].sum())
    centred = x["lead_time"] - (k * probability).sum()
    assert_mean((centred[..., 0] * centred[..., 1]).mean(1), 0)  # every node draws its own
    assert_mean((centred[:, 1:] * centred[:, :-1]).mean((1, 2)), 0)


def test_divergent_stationary_lead_times_are_all_one(drawn):
    assert (arrays(drawn, "divergent-stationary")[1]["lead_time"] == 1).all()


@pytest.mark.parametrize(
    ("name", "field", "mean", "sd"),
    [
        ("divergent-nonstationary", "supplier_capacity", 70, 15),
        ("divergent-nonstationary", "outbound_capacity", 50, 12),
        ("meis-nonstationary", "outbound_capacity", 12_000, 3_000),
    ],
)
def test_capacities_are_floored_normals(drawn, name, field, mean, sd):
    _, x = arrays(drawn, name)
    expected, variance = floored_normal(np.array(mean), sd, 0)
    assert_mean(x[field].mean(1), float(expected))
    assert_mean(((x[field] - expected) ** 2).mean(1), float(variance))
    assert x[field].min() >= 0
    assert stats.kstest(x[field].ravel(), stats.norm(mean, sd).cdf).pvalue > 1e-6


# --- streams ---------------------------------------------------------------------------------------------------------


def assert_same(a, b):
    for key, x, y in zip(a._fields, a, b, strict=True):
        assert torch.equal(x, y), key


@given(
    name=st.sampled_from(meirl.NAMES),
    seed=st.integers(0, 2**64),
    first=st.integers(0, 3 * BLOCK),
    sizes=st.lists(st.integers(1, 2 * BLOCK), min_size=1, max_size=4),
)
def test_how_a_set_is_split_into_batches_changes_nothing(name, seed, first, sizes):
    env = meirl.make(name, horizon=6)
    whole = env.sample(sum(sizes), seed, first=first)
    starts = first + np.cumsum([0, *sizes[:-1]])
    parts = [env.sample(size, seed, first=int(start)) for size, start in zip(sizes, starts, strict=True)]
    assert_same(whole, meirl.Scenario(*map(torch.cat, zip(*parts, strict=True))))


def test_a_shorter_set_is_the_beginning_of_a_longer_one(name):
    env = meirl.make(name)
    assert_same(env.sample(70, 3)[:20], env.sample(20, 3))


def test_seeds_and_episodes_differ(name):
    env = meirl.make(name)
    scenario = env.sample(2 * BLOCK, 3)
    episodes = scenario.demand.flatten(1)
    assert len(torch.unique(episodes, dim=0)) == 2 * BLOCK
    assert not torch.equal(scenario.demand, env.sample(2 * BLOCK, 4).demand)


def devices():
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [device for device, there in present.items() if there]


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_means_the_same_scenario_on_every_device_and_in_every_precision(name, device, dtype):
    if device == "mps" and dtype == torch.float64:
        dtype = torch.float32  # MPS has no float64
    exact = meirl.make(name, dtype=torch.float64).sample(40, 5)
    moved = meirl.make(name, device=device, dtype=dtype).sample(40, 5)
    assert moved.demand.device.type == device
    assert_same(moved.to("cpu", dtype), exact.to("cpu", dtype))


def test_no_global_generator_is_read_or_moved(name):
    env = meirl.make(name)
    reference = env.sample(3, 1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the point of the test
    states = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert_same(env.sample(3, 1), reference)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def test_switching_one_stressor_off_leaves_the_draws_of_the_others(name):
    env = meirl.make(name)
    calm = meirl.make(name, demand={"shock": None}, outbound_capacity=None)
    a, b = env.sample(8, 2), calm.sample(8, 2)
    assert torch.equal(a.lead_time, b.lead_time)
    assert torch.equal(a.supplier_capacity, b.supplier_capacity)
    assert torch.equal(b.shock, torch.ones_like(b.shock))
    if name.endswith("nonstationary") and name.startswith("meis"):  # same noise outside the shocks
        quiet = a.shock == 1
        assert torch.equal(a.demand[quiet], b.demand[quiet])


def test_a_block_is_drawn_once_and_nobody_can_change_it(monkeypatch):
    env, drawn, real = meirl.make("divergent-nonstationary", horizon=6), [], scenario._draw_demand
    monkeypatch.setattr(scenario, "_draw_demand", lambda *given: drawn.append(0) or real(*given))
    scenario._draw_block.cache_clear()
    first = env.sample(8, 3)
    before = first.demand.clone()
    for field in (*first, *sample_scenario(env.parameters, 8, 3)):
        field.fill_(0)
    for k in range(0, BLOCK, 8):
        again = env.sample(8, 3, first=k)
        assert k or torch.equal(again.demand, before)
    assert len(drawn) == 1


def test_periods_at_repeat_and_selection_agree():
    scenario = meirl.make("divergent-nonstationary", horizon=5).sample(4, 0)
    for t, exogenous in enumerate(scenario.periods()):
        for key, ours, at in zip(exogenous._fields, exogenous, scenario.at(t), strict=True):
            assert torch.equal(ours, at), key
    twice = scenario.repeat(2)
    assert_same(twice[:4], scenario)
    assert_same(twice[4:], scenario)
    assert_same(scenario[torch.tensor([2])], scenario[2:3])


def test_the_tolerances_can_fail():
    """The helpers of this file must reject a distribution that is a little off."""
    sample = np.random.default_rng(0).normal(0, 1, (4_000, 10))
    with pytest.raises(AssertionError):
        assert_mean(sample.mean(1), 0.05)
    with pytest.raises(AssertionError):
        assert_frequency(5_300, 10_000, 0.5)
    with pytest.raises(AssertionError):
        assert_distribution(np.repeat([1, 2], [5_300, 4_700]), np.array([1, 2]), np.array([0.5, 0.5]))
    assert SIGMAS == 5


def test_a_shock_that_hardly_ever_comes_does_not_come():
    """The wait for it is longer than any integer."""
    env = meirl.make("divergent-nonstationary", demand={"shock": {"probability": 1e-17}})
    assert env.sample(2, 0).shock.eq(1).all()
