"""The wheel alone, in an empty environment without extras, away from the checkout: all that the library promises."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"torch", "numpy", "pandas", "scipy", "pydantic", "pyyaml", "gymnasium", "tqdm", "typer",
           "filelock"}  # fmt: skip
# Away from the checkout; and what the first run compiles is there for the others.
OUTSIDE = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
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
    """The interpreter of an empty environment with the wheel in it, and what its metadata name."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True, cwd=folder)
    (wheel,) = folder.glob("meirl-*.whl")
    venv.create(folder / "venv")
    interpreter = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        for package in needed(wheel):
            link(package, Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv")})))
        how = ["--no-deps", "--no-index"]
    except OSError:  # not everybody may link on Windows
        how = ["-c", str(ROOT / "constraints.txt")]
    install = [*pip, "--python", str(interpreter), "install", "--no-compile", *how, str(wheel)]
    subprocess.run(install, check=True, cwd=folder, env=OUTSIDE)
    return interpreter


def needed(wheel: Path) -> list[Distribution]:
    """What pip would install with a wheel, as it is installed here: whatever the metadata name, and what that needs."""
    found: dict[tuple[str, str], Distribution] = {}
    (own,) = distributions(path=[str(wheel)])
    todo = [(own, "")]
    while todo:
        package, extra = todo.pop()
        for requirement in map(Requirement, package.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                for key in {(requirement.name, more) for more in ("", *requirement.extras)} - found.keys():
                    found[key] = distribution(requirement.name)
                    todo.append((found[key], key[1]))
    return list(found.values())


def link(package: Distribution, folder: Path) -> None:
    """Put an installed package into another environment: installing PyTorch anew takes minutes."""
    for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (folder / name).exists():  # several packages may share a folder
            (folder / name).symlink_to(package.locate_file(name))


def test_the_wheel_trains_tunes_evaluates_and_steps_without_extras(python, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [python, *arguments], cwd=tmp_path, env=OUTSIDE, capture_output=True, text=True, check=False
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
