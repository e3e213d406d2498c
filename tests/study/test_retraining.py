"""The study's agents trained again: which runs, both weights of each, and where one more seed would fall."""

import numpy as np
import pandas as pd
import pytest
import torch

import meirl
from meirl.envs import NAMES
from meirl.learn import load_checkpoint, load_policy, ppo
from meirl_study import chapter, published, retraining, study

QUICK = chapter.setup("quick", 0, "cpu")


def test_the_studys_agents_have_its_preset_its_view_and_at_the_full_profile_its_budget():
    full = chapter.setup("full", 0, "cpu")
    todo = retraining.tasks(full, NAMES)
    assert {(task.env, task.algo) for task in todo} == {
        ("divergent-stationary", "ppo"), ("divergent-nonstationary", "ppo"), ("meis-stationary", "a3c"),
        ("meis-nonstationary", "a3c"),
    }  # fmt: skip
    assert {(task.preset, task.observation) for task in todo} == {("as-published", "published")}
    assert len(todo) == 4 * len(full.few_seeds) == 4 * study.FEW_SEEDS["full"]
    assert all(task.config().steps == {"ppo": 2_560_000, "a3c": 3_650_000}[task.algo] for task in todo)
    assert retraining.tasks(QUICK, NAMES[:1])[0].config().steps == retraining.QUICK_STEPS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run whose last weights are not its best: they were spoilt after the best validation."""
    folder = tmp_path_factory.mktemp("run") / "seed-0"
    env = meirl.make("divergent-stationary", horizon=20, observation="published")
    config = ppo.Config(steps=160, environments=4, segment=20, validation_episodes=2, evaluations=2)
    ppo.train(env, config, 0, folder, progress=False)
    saved = load_checkpoint(folder / "checkpoint.pt")
    saved["network"]["actor.4.bias"] = torch.full((4,), 9.0)  # orders the maximum everywhere
    torch.save(saved, folder / "checkpoint.pt")
    return folder


def test_the_last_weights_play_the_test_scenarios(run, monkeypatch):
    policy, _ = load_policy(run)
    monkeypatch.setattr(retraining, "load_policy", lambda folder: (load_policy(folder)[0], short()))
    found = retraining.last(run, 3)
    scenario = meirl.held_out(short(), "test", 3)
    policy.load_state_dict(load_checkpoint(run / "checkpoint.pt")["network"])
    expected = meirl.rollout(short(), policy, scenario)
    pd.testing.assert_frame_equal(found, expected)
    assert found["cost"].mean() != pytest.approx(meirl.rollout(short(), load_policy(run)[0], scenario)["cost"].mean())


def short():
    return meirl.make("divergent-stationary", horizon=20, observation="published")


def test_what_the_last_weights_made_is_kept_until_the_run_changes(run, monkeypatch):
    monkeypatch.setattr(retraining, "load_policy", lambda folder: (load_policy(folder)[0], short()))
    first = retraining.last(run, 3)
    monkeypatch.setattr(retraining, "rollout", lambda *_: pd.DataFrame({"cost": [1.0, 2.0, 3.0]}))
    np.testing.assert_allclose(retraining.last(run, 3)["cost"], first["cost"])
    (run / "checkpoint.pt").touch()
    assert retraining.last(run, 3)["cost"].tolist() == [1, 2, 3]
    monkeypatch.setattr(retraining, "rollout", lambda *_: pd.DataFrame({"cost": [1.0, 2.0]}))
    assert retraining.last(run, 2)["cost"].tolist() == [1, 2]  # another number of episodes


@pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"a,b\n1,2\n1,2\n1,2\n"])
def test_a_damaged_table_of_the_last_weights_is_made_again(run, monkeypatch, damage):
    monkeypatch.setattr(retraining, "load_policy", lambda folder: (load_policy(folder)[0], short()))
    (run / "last.csv").unlink(missing_ok=True)
    first = retraining.last(run, 3)
    (run / "last.csv").write_bytes(damage)
    pd.testing.assert_frame_equal(retraining.last(run, 3), first)


def test_every_run_has_the_cost_of_both_weights(monkeypatch):
    best = pd.DataFrame({"env": NAMES[0], "seed": [0, 0, 1, 1], "cost": [1.0, 3.0, 5.0, 7.0], "fill_rate": 0.5})
    monkeypatch.setattr(study, "run", lambda todo, root, **options: best)
    last = pd.DataFrame({"cost": [8.0, 10.0], "fill_rate": [0.1, 0.3]})
    monkeypatch.setattr(retraining, "last", lambda folder, episodes: last)
    monkeypatch.setattr(retraining, "manifest", lambda task, root: {"steps": 5, "seconds": 60 * (task.seed + 1)})
    found = retraining.trained_again(QUICK, NAMES[:1], 1)
    assert found["best"].tolist() == [2, 6]
    assert found["last"].tolist() == [9, 9]
    assert found["best fill"].tolist() == [0.5, 0.5]
    assert found["last fill"].tolist() == pytest.approx([0.2, 0.2])
    assert found["minutes"].tolist() == [1, 2]


def test_one_more_seed_falls_into_its_interval_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2_000):
        *seeds, more = np.exp(rng.normal(7, 0.5, 11))
        low, high = retraining.one_more(np.array(seeds))
        hits += low <= more <= high
    assert hits / 2_000 == pytest.approx(0.95, abs=0.015)


def test_the_interval_of_one_more_seed_by_hand():
    low, high = retraining.one_more(np.exp([1.0, 3.0]))
    half = 12.706 * np.sqrt(2) * np.sqrt(1.5)
    assert np.log([low, high]) == pytest.approx([2 - half, 2 + half], abs=1e-3)
    assert np.isnan(retraining.one_more(np.array([5.0]))).all()


def landed(monkeypatch, best, last):
    own = pd.DataFrame({"env": "meis-stationary", "cost": [90.0, 110.0]})
    monkeypatch.setattr(retraining, "remeasured", lambda episodes: own)
    return retraining.landings(pd.DataFrame({"env": "meis-stationary", "best": best, "last": last}), 2)


def test_the_study_lands_where_one_more_seed_would(monkeypatch):
    best, last = landed(monkeypatch, [80.0, 100.0, 125.0], [121.0, 122.0, 123.0]).to_dict("records")
    assert (best["weights"], last["weights"]) == ("best", "last")  # A3C was evaluated by its best
    assert (best["lands"], last["lands"]) == ("yes", "no")
    assert (best["study"], best["mean"], best["cheapest"], best["dearest"]) == pytest.approx((100, 305 / 3, 80, 125))
    assert (best["cheaper"], last["cheaper"], best["seeds"]) == (1, 0, 3)
    assert landed(monkeypatch, [80.0], [90.0])["lands"].tolist() == ["unknown"] * 2


def test_the_answer_in_words_and_as_a_table(monkeypatch):
    table = landed(monkeypatch, [80.0, 100.0, 125.0], [121.0, 122.0, 123.0])
    text = retraining.answer(table, ",.1f")
    assert text.startswith(
        "By its best weights by validation, which the study evaluated: **yes**. Our seeds cost 101.7"
    )
    assert "By its last weights, for comparison: **no**." in text
    assert "the study's own agent costs 100.0 on the same episodes, more than 1 of our 3 seeds." in text
    shown = retraining.shown(table, {"meis-stationary": ",.0f"})
    assert shown.loc["meis-stationary, last weights", "cheapest to dearest"] == "121 to 123"
    assert shown["lands there"].tolist() == ["yes", "no"]


def test_every_seed_has_a_row_of_both_weights():
    runs = pd.DataFrame({"seed": [3], "best": 1234.4, "best fill": 0.5, "last": 9.0, "last fill": 0.1, "steps": 5000})
    row = retraining.every_seed(runs.assign(minutes=1.25), ",.0f").loc["seed 3"]
    assert row.tolist() == ["1,234", "50.0%", "9", "10.0%", "5,000", 1.2]


def test_every_published_agent_has_weights_that_the_study_evaluated():
    assert set(published.RESULTS["agent"]) == set(retraining.EVALUATED)
