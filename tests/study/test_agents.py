"""The study's checkpoints, by synthetic ones of the same shapes: only tensors are read; errors name file and key."""

import hashlib
import pickle
from collections import OrderedDict
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import meirl
from meirl_study import agents, cli, published


class Touched:
    """A configuration whose pickle runs code: it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


class Numbers(list):
    """A list of a type of its own, as YAML's readers make them."""


def network(kind):
    """PyTorch's own layers for an actor of the study, and its tensors under the study's names."""
    torch.manual_seed(3)
    layers, activation = [], nn.Tanh if kind is agents.PPO else nn.ReLU
    for inputs, outputs in zip(kind.sizes, kind.sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), activation()]
    actor = nn.Sequential(*layers[:-1])
    tensors = {f"{kind.layers}{key}": value for key, value in actor.state_dict().items()}
    return actor, OrderedDict(tensors, **{"actor.log_std": torch.zeros(4)})


@pytest.fixture
def checkout(tmp_path):
    """A folder like the study's repository, and its agents."""
    fakes = {}
    for name, agent in agents.AGENTS.items():
        path = tmp_path / "study" / agent.file
        path.parent.mkdir(parents=True, exist_ok=True)
        _, tensors = network(agent.network)
        extra = {"config": {"layers": Numbers([64, 64]), "rate": np.float64(3e-4)}, "optimizer": torch.optim.SGD}
        torch.save({agent.network.state: tensors, **extra}, path)
        fakes[name] = agent._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return tmp_path / "study", fakes


@pytest.mark.parametrize("name", meirl.NAMES)
def test_a_checkpoint_plays_as_the_network_it_holds(checkout, name):
    folder, fakes = checkout
    kind = fakes[name].network
    policy = agents.load(folder / fakes[name].file, kind)
    env = meirl.make(name, observation="published")
    observation = env.observe(env.reset(3), 0)
    actor, _ = network(kind)
    out = actor(observation.vector())
    expected = torch.tanh(torch.tanh(out)) if kind is agents.PPO else out.argmax(-1)
    torch.testing.assert_close(policy(observation), expected)


def test_no_code_of_a_pickle_is_run(tmp_path):
    _, tensors = network(agents.A3C)
    path, made = tmp_path / "agent.pt", tmp_path / "made"
    torch.save({agents.A3C.state: tensors, "config": Touched(made)}, path)
    assert list(agents.read(path)[agents.A3C.state]) == list(tensors)
    assert not made.exists()
    pickle.loads(pickle.dumps(Touched(made)))  # it would have
    assert made.exists()


def test_tensors_are_read_as_they_are(tmp_path):
    torch.save({"turned": (tensor := torch.arange(6.0).reshape(2, 3).T), "part": tensor[1:]}, tmp_path / "some.pt")
    read = agents.read(tmp_path / "some.pt")
    assert torch.equal(read["turned"], tensor)
    assert torch.equal(read["part"], tensor[1:])


def saved(path, content):
    torch.save(content, path)
    return path


def test_what_is_wrong_with_a_checkpoint_is_named(tmp_path):
    _, tensors = network(agents.PPO)
    key, path = "actor.network.2.bias", tmp_path / "agent.pt"
    cases = {
        "agent.pt: lacks the key 'actor_critic_state_dict'": {"other": tensors},
        f"actor_critic_state_dict: {key}: expected a tensor of shape \\(64,\\), got NoneType": {
            agents.PPO.state: {k: v for k, v in tensors.items() if k != key}
        },
        f"{key}: expected a tensor of shape \\(64,\\), got \\(3,\\)": {
            agents.PPO.state: {**tensors, key: torch.zeros(3)}
        },
        "damaged, or no checkpoint": {agents.PPO.state: {**tensors, key: torch.zeros(64, dtype=torch.float16)}},
        "expected a mapping of keys to tensors, got list": [1],
    }
    for message, content in cases.items():
        with pytest.raises(ValueError, match=message):
            agents.load(saved(path, content), agents.PPO)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"agent\.pt: damaged, or no checkpoint of PyTorch's"):
        agents.read(path)
    with ZipFile(path, "w") as archive:
        archive.writestr("agent/data.pkl", b"no pickle")
    with pytest.raises(ValueError, match=r"agent\.pt: damaged"):
        agents.read(path)
    with pytest.raises(ValueError, match=r"no checkpoint: .*missing\.pt does not exist"):
        agents.read(tmp_path / "missing.pt")


def test_every_agent_plays_the_test_scenarios(checkout, tmp_path):
    folder, fakes = checkout
    table = agents.play(folder, fakes, episodes=3)
    assert table["env"].tolist() == [name for name in meirl.NAMES for _ in range(3)]
    name = "meis-stationary"
    env = meirl.make(name, observation="published")
    policy = agents.load(folder / fakes[name].file, agents.A3C)
    expected = meirl.rollout(env, policy, meirl.held_out(env, "test", 3))
    here = table[table["env"] == name].reset_index(drop=True)
    pd.testing.assert_frame_equal(here[agents.KEPT], expected[agents.KEPT])
    assert here["episode"].tolist() == [0, 1, 2]


def test_a_checkout_at_another_commit_is_refused(checkout, tmp_path):
    folder, fakes = checkout
    with pytest.raises(ValueError, match=r"ppo_divergent_final\.pt is another version: expected sha256 0eda.*7e4834c"):
        agents.play(folder)
    with pytest.raises(ValueError, match=r"ppo_divergent_final\.pt does not exist: check out commit 7e4834c of https"):
        agents.play(tmp_path / "nowhere", fakes)


def test_the_file_says_what_was_played_and_on_what(checkout, tmp_path, monkeypatch):
    folder, fakes = checkout
    table = agents.play(folder, fakes, episodes=2)
    agents.write(tmp_path / "kept.csv", table, fakes)
    head = [line for line in (tmp_path / "kept.csv").read_text().splitlines() if line.startswith("#")]
    for name, agent in fakes.items():
        (line,) = (line for line in head if line.startswith(f"# {name}: "))
        assert f"{agent.file}, sha256 {agent.sha256}; ordering nothing costs {agents.never(name, 2):.8g}" in line
    monkeypatch.setattr(published, "REMEASURED", tmp_path / "kept.csv")
    read = published.remeasured()
    pd.testing.assert_frame_equal(read[["env", "episode"]], table[["env", "episode"]])
    np.testing.assert_allclose(read["cost"], table["cost"], atol=5e-4)


def test_agreement_is_in_standard_errors_of_both():
    theirs = published.RESULTS.loc["meis-stationary"]
    cost = theirs["agent_cost"] + 1 + np.array([-0.3, 0.3] * 8)
    table = pd.DataFrame({"env": "meis-stationary", "cost": cost, "fill_rate": 0.4, "published_service_level": 0.9})
    row = agents.agreement(table).loc["meis-stationary"]
    error = np.hypot(np.std(cost, ddof=1) / 4, 4.02 / 1000**0.5)
    assert row["difference in standard errors"] == pytest.approx(1 / error)
    assert (row["reported"], row["service reported"], row["fill rate"]) == (1930.24, 0.9569, 0.4)
    assert row["cvar95"] == pytest.approx(cost.max())
    shown = agents.shown(agents.agreement(table), {"meis-stationary": ",.1f"}).loc["meis-stationary"]
    assert shown["re-measured"] == "1,931.2 ± 0.1"
    assert (shown["service level, reported"], shown["re-measured service level"]) == ("95.7%", "90.0%")


def test_the_verb_plays_writes_and_prints(checkout, tmp_path, monkeypatch):
    folder, fakes = checkout
    played = agents.play(folder, fakes, episodes=2)
    monkeypatch.setattr(agents, "play", lambda checkout: played if checkout == folder else None)
    monkeypatch.setattr(agents, "never", lambda name, episodes: 7.0)
    app = typer.Typer()
    app.command()(cli.agents)
    done = CliRunner().invoke(app, ["--checkout", str(folder), "--out", str(tmp_path / "made.csv")])
    assert done.exit_code == 0, done.output
    assert "re-measured" in done.stdout
    assert "2,600,979.87" in done.stdout
    assert len(pd.read_csv(tmp_path / "made.csv", comment="#")) == 8
