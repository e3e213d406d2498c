"""The published study: its baseline's levels and repairs, its agents re-measured, what it says about itself."""

import math

import pytest

import meirl
from meirl_study import agents, published


@pytest.mark.parametrize("name", ["divergent-stationary", "divergent-nonstationary"])
def test_the_committed_levels_of_the_published_base_stock_are_those_of_its_formula(name):
    env = meirl.make(name)
    levels = meirl.heuristics.read_levels(env, "published")
    assert levels.rule == "base-stock-misread"
    assert env.tensor(list(levels.levels.values())).equal(published.base_stock_levels(env))


@pytest.mark.parametrize(
    ("name", "costs"),
    [
        ("divergent-stationary", [4_112_776, 3_811_893, 2_871_363, 2_776_758, 2_776_004]),
        ("divergent-nonstationary", [10_873_502, 2_280_300, 1_662_709, 1_143_029, 1_086_848]),
    ],
)
def test_repairs_step_by_step(name, costs):
    """Figures measured on 100 episodes of the reference implementation."""
    env = meirl.make(name)
    scenario = env.sample(400, seed=98)
    for (step, policy), cost in zip(published.repairs(env).items(), costs, strict=True):
        summary = meirl.summarise(meirl.rollout(env, policy, scenario))
        error = math.hypot(summary["standard_error"], summary["std"] / 100**0.5)
        assert abs(summary["mean_cost"] - cost) < 3 * error, step


def test_the_studys_own_agents_are_played_on_todays_test_scenarios():
    """The committed episodes still pair with everybody's: ordering nothing costs the same as when they were played."""
    lines = published.REMEASURED.read_text(encoding="utf-8").splitlines()
    for name, agent in agents.AGENTS.items():
        (line,) = (line for line in lines if line.startswith(f"# {name}: "))
        assert f"{agent.file}, sha256 {agent.sha256}" in line
        kept = float(line.split("ordering nothing costs ")[1])
        assert agents.never(name) == pytest.approx(kept, rel=1e-6), "play them again: python -m meirl agents"


def test_the_studys_own_agents_cost_what_the_study_reports():
    table = published.remeasured()
    assert table.groupby("env").size().to_dict() == dict.fromkeys(agents.AGENTS, meirl.evaluation.TEST_EPISODES)
    found = agents.agreement(table)
    expected = [2_602_078, 522_826, 1_930.6, 2_877.6]
    assert found.loc[list(agents.AGENTS), "re-measured"].tolist() == pytest.approx(expected, rel=1e-4)
    assert found["difference in standard errors"].abs().max() < 2.5
    service = (found["service re-measured"] - found["service reported"]).dropna()
    assert len(service) == 2
    assert service.abs().max() < 0.001
    assert found["fill rate"].tolist() == pytest.approx([0.404, 0.681, 0.489, 0.149], abs=1e-3)


def test_fewer_episodes_are_the_beginning_of_all():
    every, few = published.remeasured(), published.remeasured(3)
    assert few["episode"].tolist() == [0, 1, 2] * 4
    name = "meis-nonstationary"
    assert few.loc[few["env"] == name, "cost"].tolist() == every.loc[every["env"] == name, "cost"].tolist()[:3]
    assert set(few["algo"]) == {"RL agent"}


def test_the_study_claims_three_wins_and_its_worst_episode_makes_its_mean():
    results = published.RESULTS
    assert (results["claimed_percent"] > 0).sum() == 3
    theirs = results.loc["divergent-nonstationary"]
    without = (theirs["episodes"] * theirs["agent_cost"] - published.WORST_EPISODE) / (theirs["episodes"] - 1)
    assert without == pytest.approx(533_809, abs=1)
    assert (
        published.LATER_RESULTS.loc["meis-stationary", "agent_cost"] > results.loc["meis-stationary", "baseline_cost"]
    )


def test_caveats_are_quoted_with_their_place_at_the_commit():
    box = published.caveats()
    assert box.count("\n- ") == len(published.CAVEATS)
    for caveat in published.CAVEATS:
        assert caveat.says in box
        assert f"/blob/{published.COMMIT}/{caveat.file}" in box
        assert f"#{caveat.lines})" in box
    link = published.permalink("ppo/models/env.py", "L3-L5", "the clip")
    assert link == f"[the clip]({published.REPOSITORY}/blob/{published.COMMIT}/ppo/models/env.py#L3-L5)"
    assert "docs/report.md?plain=1#L1" in published.permalink("docs/report.md", "L1")
    assert (
        published.permalink("README.md") == f"[`README.md`]({published.REPOSITORY}/blob/{published.COMMIT}/README.md)"
    )
