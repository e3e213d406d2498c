"""The Makefile installs when it has to: the first time, and where the folder was moved or its Python is gone."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("Makefile", "pyproject.toml", "constraints.txt")


@pytest.fixture
def folder(tmp_path):
    """A project with blanks in its path, installed into its own environment."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("no make")
    folder = tmp_path / "a project"
    (folder / "book").mkdir(parents=True)
    (folder / "book" / "__init__.py").touch()
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    venv.create(folder / ".venv")
    (packages,) = folder.glob(".venv/lib/python*/site-packages")
    (packages / "meirl.pth").write_text(str(tmp_path / "installed"), encoding="utf-8")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "meirl_book").symlink_to(folder / "book")
    (folder / ".venv" / "installed").touch()
    return folder


def installs(folder: Path) -> bool:
    """Whether ``make html`` would install anything."""
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and "MAKE" not in key}
    done = subprocess.run(["make", "-n", "html"], cwd=folder, env=alone, capture_output=True, text=True, check=True)
    assert "-m meirl book --html" in done.stdout
    assert ("touch .venv/installed" in done.stdout) == ("-m pip install" in done.stdout)
    return "-m pip install" in done.stdout


def test_what_is_installed_is_left_alone(folder):
    assert not installs(folder)


def test_a_copy_does_not_run_the_code_of_the_folder_that_it_was_copied_from(folder):
    copy = Path(shutil.copytree(folder, folder.with_name("a copy"), symlinks=True))
    assert installs(copy)
    assert not installs(folder)


def test_an_environment_whose_python_is_gone_is_made_anew(folder):
    for python in (folder / ".venv" / "bin").glob("python*"):
        python.unlink()
    assert installs(folder)


def test_other_versions_are_installed(folder):
    later = (folder / ".venv" / "installed").stat().st_mtime + 5
    os.utime(folder / "constraints.txt", (later, later))
    assert installs(folder)
