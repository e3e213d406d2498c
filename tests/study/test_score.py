"""Anybody's policy is scored like ours."""

import sys
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl import held_out, heuristics, rollout
from meirl.envs.scenario import VALIDATION_SEED
from meirl_study import own, own_cli, score


@pytest.fixture
def env(name):
    return meirl.make(name)


def constant(env):
    """A function of arrays that always does the same: of a box the low end, of numbered actions the first."""
    space = env.action_space

    def order(seen):
        assert seen.dtype == np.float32
        assert seen.shape[1] == len(env.legend())
        return np.repeat(space.low[None], len(seen), 0) if space.shape else np.zeros(len(seen), int)

    return order


def test_a_function_of_arrays_gets_two_rows(env):
    table = score.rows(constant(env), env, "mine", steps=3e6, seed=12, episodes=6, bounded=2)
    assert list(table.columns) == list(score.COLUMNS)
    assert table["scenarios"].tolist() == ["test", "seed 12"]
    never = rollout(env, heuristics.load(env, "never-order"), held_out(env, "test", 6))
    assert table["cost"][0] == pytest.approx(never["cost"].mean())
    assert table["fill_rate"][0] == pytest.approx(never["fill_rate"].mean())
    rule = rollout(env, heuristics.load(env), held_out(env, "test", 6))["cost"].mean()
    assert table["against_rule"][0] == pytest.approx(100 * (never["cost"].mean() / rule - 1))
    assert (table["cost_low"] < table["cost"]).all()
    assert (table["above_bound"] > 0).all()
    other = rollout(env, heuristics.load(env, "never-order"), env.sample(6, 12))
    assert table["cost"][1] == pytest.approx(other["cost"].mean())


def test_the_rule_itself_is_as_good_as_the_rule():
    env = meirl.make("divergent-nonstationary")
    rule, state = heuristics.load(env), {}

    class Agent:
        def predict(self, seen, deterministic):
            assert deterministic
            return state["action"].numpy(), None

    policy = score.as_policy(Agent(), env)

    def both(observation):
        state["action"] = rule(observation)
        return policy(observation)

    played = rollout(env, both, held_out(env, "test", 5))
    assert played.equals(rollout(env, rule, held_out(env, "test", 5)))


def test_an_agent_gets_its_memory_back_until_the_episodes_end():
    env, told = meirl.make("meis-stationary", horizon=3), []

    class Recurrent:
        def predict(self, seen, state=None, episode_start=None, deterministic=False):
            told.append((state, None if episode_start is None else episode_start.tolist()))
            return np.zeros(len(seen), int), (state or 0) + 1

    policy = score.as_policy(Recurrent(), env)
    for _ in range(2):
        rollout(env, policy, env.sample(2, 0))
    assert told == [(None, None), (1, [False, False]), (2, [False, False])] * 2


def test_a_reader_sees_a_row_a_policy_and_the_last_score_of_each():
    env = meirl.make("meis-stationary", horizon=5)
    old, new = (score.rows(constant(env), env, "mine", seed=seed, episodes=6, bounded=1) for seed in (12, 13))
    other = new.assign(policy="other", cost=1.0)
    table = score.shown(pd.concat([old.assign(cost=2.0), other, new], ignore_index=True))
    assert table.index.tolist() == [("meis-stationary", "other"), ("meis-stationary", "mine")]
    assert table["cost"].tolist() == [1, new["cost"][0]]
    assert table["against the rule [%]"].tolist() == [new["against_rule"][0]] * 2
    assert table["the same, second set [%]"].tolist() == [new["against_rule"][1]] * 2
    assert set(table) == set(score.FORMATS)


def test_the_second_set_of_a_record_is_of_its_later_part(tmp_path, monkeypatch):
    env, parts = meirl.make(own.example(tmp_path, horizon=30)), []
    draw = env.record.draw
    monkeypatch.setattr(env.record, "draw", lambda later, *rest: parts.append((later, rest[0])) or draw(later, *rest))
    monkeypatch.setattr(score, "load_rule", lambda env, _: heuristics.load(env, "never-order"))
    monkeypatch.setattr(score, "_row", lambda *_: {})
    score.rows(constant(env), env, "mine", seed=0, episodes=2)
    assert [later for later, _ in parts] == [True, True]
    assert len({VALIDATION_SEED, *(seed for _, seed in parts)}) == 3


def test_a_set_that_nobody_knew_is_drawn_afresh():
    env = meirl.make("meis-stationary", horizon=5)
    seeds = {score.rows(constant(env), env, "mine", episodes=2, bounded=1)["scenarios"][1] for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize("wrong", [
    lambda seen: np.zeros(3), lambda seen: np.full((len(seen), 4), np.nan), lambda seen: ["many"] * len(seen),
    lambda seen: np.zeros((len(seen), 4), complex),
])  # fmt: skip
def test_what_is_no_action_is_named(wrong):
    env = meirl.make("divergent-stationary")
    with pytest.raises(ValueError, match=r"period 0: the policy must return finite numbers of shape \(2, 4\)"):
        rollout(env, score.as_policy(wrong, env), env.sample(2, 0))


def test_a_policy_is_loaded_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\ndef order(seen):\n    return np.ones(len(seen))\nnumber = 3\nclass Agent: ...\n", "utf-8"
    )
    assert score.load(f"{path}:order")(np.zeros((2, 1))).tolist() == [1, 1]
    for target, message in {
        f"{path}:other": "has no 'other'; it has Agent, order", f"{path}:number": "neither a function nor an agent",
        f"{path}:Agent": r"mine.py:Agent is a class: give the name of an agent, such as agent = Agent\(\)",
        "order": "must be file.py:name", f"{tmp_path}/none.py:order": "no file",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            score.load(target)


def test_a_reserved_seed_is_refused():
    env = meirl.make("meis-stationary", horizon=5)
    with pytest.raises(ValueError, match="seed must be from 0"):
        score.rows(constant(env), env, "mine", seed=score.FIRST_RESERVED_SEED + 2, episodes=2)
    assert isinstance(score.as_policy(constant(env), env)(env.observe(env.reset(2), 0)), torch.Tensor)


def test_the_verb_prints_and_keeps_a_row_a_set(tmp_path, capsys):
    mine, kept = tmp_path / "mine.py", tmp_path / "scores.csv"
    mine.write_text("import numpy as np\ndef order(seen):\n    return np.zeros(len(seen), int)\n", "utf-8")
    for _ in range(2):
        own_cli.score(f"{mine}:order", "meis-stationary", None, "full", 1e6, 5, 3, kept)
    table = pd.read_csv(kept)
    assert list(table.columns) == list(score.COLUMNS)
    assert table["scenarios"].tolist() == ["test", "seed 5"] * 2
    assert table[:2].equals(table[2:].reset_index(drop=True))
    assert "mine.py:order on meis-stationary" in capsys.readouterr().out
    kept.write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(ValueError, match=r"scores.csv is no file of scores"):
        score.append(kept, table)
    assert kept.read_text("utf-8") == "a,b\n1,2\n"


def test_a_file_of_scores_is_refused_before_all_the_playing(tmp_path, monkeypatch):
    monkeypatch.setattr(score, "load", pytest.fail)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n", "utf-8")
    for out, message in {other: "is no file of scores", tmp_path / "none" / "scores.csv": "there is no folder"}.items():
        with pytest.raises(ValueError, match=message):
            own_cli.score("mine.py:order", "meis-stationary", out=out)


HELPER = "def nothing(seen):\n    import later_beside\n    return later_beside.zeros(seen)\n"


def test_a_policy_imports_what_lies_beside_it_and_its_errors_name_its_line(tmp_path, monkeypatch):
    row = {"environment": "", "policy": ""}
    monkeypatch.setattr(score, "rows", lambda agent, *_: pd.DataFrame({**row, "zeros": [len(agent(np.zeros((2, 1))))]}))
    (tmp_path / "helper_beside.py").write_text(HELPER, "utf-8")
    (tmp_path / "later_beside.py").write_text("def zeros(seen):\n    return [0] * len(seen)\n", "utf-8")
    mine, before = tmp_path / "mine.py", list(sys.path)
    text = "import helper_beside\nfirst = helper_beside.nothing\ndef second(seen):\n    return [int('many')]\n"
    mine.write_text(text, "utf-8")
    own_cli.score(f"{mine}:first", "meis-stationary")
    with pytest.raises(ValueError, match=r"mine\.py, line 4, in second: invalid literal"):
        own_cli.score(f"{mine}:second", "meis-stationary")
    assert sys.path == before


def test_rows_that_are_added_at_the_same_time_are_all_there(tmp_path):
    row = pd.read_csv(score.TABLE).tail(1)
    path, each = tmp_path / "scores.csv", 8

    def add(who):
        for number in range(each):
            score.append(path, row.assign(policy=f"{who}, {number}"))

    threads = [Thread(target=add, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pd.read_csv(path)["policy"].nunique() == 3 * each
