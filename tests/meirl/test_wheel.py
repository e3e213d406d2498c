"""The wheel alone, in an empty environment without extras, away from the checkout: all that the library promises."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"torch", "numpy", "pandas", "scipy", "pydantic", "pyyaml", "gymnasium", "tqdm", "typer",
           "filelock"}  # fmt: skip

# Away from the checkout; and what the first run compiles is there for the others.
OUTSIDE = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
# One process: importing PyTorch takes longer than what they do.
VERBS = """
import contextlib, io, json
import gymnasium, meirl
from meirl.__main__ import app

def run(*words):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([words[0], "--env", "meis-stationary", *words[1:]], standalone_mode=False)
    return printed.getvalue()

run("train", "--algo", "ppo", "--steps", "1", "--device", "cpu", "--out", "runs")
run("tune", "--heuristic", "constant-order", "--episodes", "2", "--generations", "1", "--out", "levels.yaml")
trained = ["--policy", "runs/meis-stationary/ppo/tuned/seed-0"]
for policy in (trained, ["--heuristic", "levels.yaml"], ["--heuristic", "published"]):
    print(json.loads(run("evaluate", *policy, "--episodes", "5", "--json"))["mean_cost"])
env = gymnasium.make("meirl/meis-stationary-v0")
env.reset(seed=1)
print(env.step(0)[1])
print(meirl.__file__)
"""


def test_the_library_needs_ten_packages_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {Requirement(line).name for line in project["dependencies"]} == ALLOWED


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
PACKAGES = {"meirl": "meirl", "notebooks/meirl_study": "meirl_study"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Made from a copy: in the checkout, files of earlier wheels are under ``build/``, and would be in this one too."""
    folder = tmp_path_factory.mktemp("built")
    for name in (*PACKAGES, "book"):
        leave = shutil.ignore_patterns("__pycache__", ".*", "*.ipynb", "_static")
        shutil.copytree(ROOT / name, folder / "copy" / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "copy")
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(folder), str(folder / "copy")], check=True, cwd=folder)
    return next(folder.glob("meirl-*.whl"))


def test_the_wheel_has_every_module_and_every_file_that_they_read(wheel):
    there = [
        (package, ROOT / source, path) for source, package in PACKAGES.items() for path in (ROOT / source).rglob("*.*")
    ]
    expected = {
        f"{package}/{path.relative_to(source).as_posix()}" for package, source, path in there
        if path.suffix in (".py", ".yaml", ".pt", ".csv", ".jsonl", ".mplstyle") and not path.name.startswith(".")
    }  # fmt: skip
    with ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if name.split("/")[0] in PACKAGES.values()}
    assert found == expected


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an empty environment with the wheel in it, and what its metadata name."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "venv")
    interpreter = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        for package in needed(wheel):
            link(package, Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv")})))
        how = ["--no-deps", "--no-index"]
    except OSError:  # not everybody may link on Windows
        how = ["-c", str(ROOT / "constraints.txt")]
    install = [*PIP, "--python", str(interpreter), "install", "--no-compile", *how, str(wheel)]
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

    book = run("-m", "meirl", "book")
    assert book.returncode == 2
    assert re.search(r"meirl: book needs more packages \(.*\): pip install 'meirl\[book\]'", book.stderr)
    did = run("-c", VERBS)
    assert did.returncode == 0, did.stderr
    *costs, reward, where = did.stdout.splitlines()
    assert len(costs) == 3
    assert min(map(float, costs)) > 0 > float(reward)
    assert not Path(where).is_relative_to(ROOT)
