"""The wheel alone, in an empty environment without extras, away from the checkout: all that the library promises."""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"torch", "numpy", "pandas", "scipy", "pydantic", "pyyaml", "gymnasium", "tqdm", "typer",
           "filelock"}  # fmt: skip
STEP = """
import gymnasium, meirl
env = gymnasium.make("meirl/meis-stationary-v0")
env.reset(seed=1)
print(env.step(0)[1], meirl.__file__)
"""


def test_the_library_needs_ten_packages_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {Requirement(line).name for line in project["dependencies"]} == ALLOWED


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an empty environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True, cwd=folder)
    (wheel,) = folder.glob("meirl-*.whl")
    venv.create(folder / "venv", with_pip=True)
    interpreter = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = ["-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-compile"]
    pinned = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([interpreter, *install, *pinned, str(wheel)], check=True, cwd=folder)
    return interpreter


def test_the_wheel_trains_tunes_evaluates_and_steps_without_extras(python, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        # Away from the checkout; and what the first run compiles, since pip did not, is there for the others.
        without = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
        outside = {key: value for key, value in os.environ.items() if key not in without}
        return subprocess.run(
            [python, *arguments], cwd=tmp_path, env=outside, capture_output=True, text=True, check=False
        )

    chain = ["--env", "meis-stationary"]
    trained = run("-m", "meirl", "train", *chain, "--algo", "ppo", "--steps", "1", "--device", "cpu", "--out", "runs")
    assert trained.returncode == 0, trained.stderr
    folder = tmp_path / "runs" / "meis-stationary" / "ppo" / "tuned" / "seed-0"
    tuned = run(
        "-m", "meirl", "tune", *chain, "--heuristic", "constant-order", "--episodes", "2", "--generations", "1",
        "--out", "levels.yaml",
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    for policy in (["--policy", str(folder)], ["--heuristic", "levels.yaml"], ["--heuristic", "published"]):
        scored = run("-m", "meirl", "evaluate", *chain, *policy, "--episodes", "5", "--json")
        assert scored.returncode == 0, scored.stderr
        assert json.loads(scored.stdout)["mean_cost"] > 0
    stepped = run("-c", STEP)
    reward, where = stepped.stdout.split()
    assert float(reward) < 0
    assert not Path(where).is_relative_to(ROOT)
    book = run("-m", "meirl", "book")
    assert book.returncode == 2
    assert re.search(r"meirl: book needs more packages \(.*\): pip install 'meirl\[book\]'", book.stderr)
