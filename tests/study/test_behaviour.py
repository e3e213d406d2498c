"""What each policy does, watched and summed up."""

import pytest
import torch

import meirl
from meirl_study import behaviour
from meirl_study.chapter import Chapter


@pytest.fixture(params=["divergent-nonstationary", "meis-stationary"])
def seen(request, monkeypatch):
    """A quick chapter, its environment, and two rules in place of trained agents."""
    chapter = Chapter("quick", 0, torch.device("cpu"))
    env = chapter.envs[request.param]

    rules = {"rule": meirl.heuristics.load(env, "textbook"), "nothing": meirl.heuristics.load(env, "never-order")}
    monkeypatch.setattr(behaviour, "policies", lambda *_: rules)
    return chapter, env


def test_an_episode_is_watched_as_it_is_played(seen):
    chapter, env = seen
    record = behaviour.watch(chapter, env, 1)["rule"]
    table = meirl.rollout(env, behaviour.policies(chapter, env)["rule"], chapter.tests[env.name])
    assert record["cost so far"][-1] == pytest.approx(table["cost"][1], rel=1e-4)
    assert record["on hand"].sum(1).mean() == pytest.approx(table["on_hand"][1], rel=1e-4)
    assert record["backlog"].sum(1).mean() == pytest.approx(table["backlog"][1], rel=1e-4)


def test_what_nodes_do_adds_up_to_what_the_chain_does(seen):
    chapter, env = seen
    nodes = behaviour.by_node(chapter, env)
    table = meirl.rollout(env, behaviour.policies(chapter, env)["rule"], chapter.tests[env.name][:10])
    own = nodes.loc["rule"]
    assert list(own.index) == env.node_names
    assert own["on hand"].sum() == pytest.approx(table["on_hand"].mean(), rel=1e-4)
    assert own["backlog"].sum() == pytest.approx(table["backlog"].mean(), rel=1e-4)
    assert own.iloc[0][["fill rate", "backlog"]].isna().all()
    assert own["fill rate"].iloc[1:].between(0, 1).all()
    assert (nodes.loc["nothing", ["orders", "swing"]] == 0).all(axis=None)


def test_the_summary_has_a_row_a_policy(seen):
    chapter, env = seen
    table = behaviour.summary(chapter, env)
    assert list(table.index) == ["rule", "nothing"]
    assert table.loc["nothing", "cost"] > 0
    assert table.loc["rule", "on hand"] > table.loc["nothing", "on hand"]


def test_facts_that_tell_policies_apart_agree_with_the_tables(seen):
    chapter, env = seen
    overall, nodes = behaviour.summary(chapter, env), behaviour.by_node(chapter, env)
    facts = behaviour.contrast(overall, nodes, one="rule", two="nothing")
    assert len(facts) == 16
    assert facts["one-cost"] == overall.loc["rule", "cost"]
    assert facts["two-hand"] == overall.loc["nothing", "on hand"]
    assert facts["one-upstream"] + facts["one-shelves"] == pytest.approx(nodes.loc["rule", "on hand"].sum())
    assert 100 >= facts["one-first"] >= facts["one-last"] > facts["two-last"] >= 0
