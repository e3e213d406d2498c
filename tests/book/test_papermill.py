"""A notebook is a program with parameters: papermill says what they mean, and runs it from any folder."""

import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_papermill_lists_every_parameter_with_its_meaning(path):
    parameters = papermill.inspect_notebook(path.with_suffix(".ipynb"))
    assert {"profile", "seed", "device"} <= set(parameters)
    assert [name for name, parameter in parameters.items() if not parameter["help"]] == []


OTHER = ["-p", "algo", "a3c", "-p", "env", "meis-nonstationary"]  # than the notebook's own, which nbval executes


# The second trains, keeps runs, and is the only notebook that gives several pages of the book; its runs are the study's
# own, which other notebooks need too.
CASES = [("02-scenarios", "3", []), ("06-one-cell", "0", OTHER)]


@pytest.mark.parametrize(("name", "seed", "given"), CASES, ids=[name for name, *_ in CASES])
def test_a_notebook_runs_from_any_folder_and_writes_nothing_into_it(name, seed, given, tmp_path):
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{name}.ipynb"), "made.ipynb"]
    given = ["-p", "profile", "quick", "-p", "seed", seed, *given]
    done = subprocess.run([*command, *given], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["made.ipynb"]
    (injected,) = (
        cell.source
        for cell in nbformat.read(tmp_path / "made.ipynb", as_version=4).cells
        if "injected-parameters" in cell.metadata.get("tags", ())
    )
    assert f"seed = {seed}" in injected
