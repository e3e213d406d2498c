"""Do the tests bite? Break the code in one line at a time, and see whether a test fails.

``python tests/mutants/run.py [ID ...] [--jobs N]``; the list is ``mutants.yaml`` beside it. The project is copied
into a temporary folder, once a job, and only copies are broken. Ends with 1 if a mutant survives or no longer applies,
with 2 if the tests do not even pass on the unbroken copy.

``--notebooks`` asks whether the book alone would notice: it breaks environments and learners only, and runs some
notebooks instead of the tests, with nothing trained beforehand. It ends with 1 if fewer than half are killed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mutants.yaml")
COPIED = ("pyproject.toml", "meirl", "notebooks", "tests")
NOTEBOOKS = ("06-one-cell", "01-formulating-the-mdp", "02-scenarios", "05-a3c")
BY_NOTEBOOKS = ("meirl/envs", "meirl/learn")
LIMIT = 600  # seconds; a mutant that takes longer counts as killed: the suite would not have ended
SURVIVED, GONE = "SURVIVED", "text not found"
PACKAGES = "import meirl, meirl_study; print(meirl.__file__, meirl_study.__file__, sep='\\n')"

Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n]*$")]


class Mutant(BaseModel):
    """One way to break the code, in one line."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9-]+$")
    file: str  #: relative to the project
    breaks: str  #: what is wrong then, in plain words
    old: Line  #: stands exactly once in the file
    new: Line
    tests: tuple[str, ...] = Field(min_length=1)  #: files or node ids of pytest

    def applied(self, text: str) -> str | None:
        """The file's text with the mistake in it; None if the old text is not there exactly once."""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def read(path: Path = LIST) -> list[Mutant]:
    """The mutants of a list."""
    return TypeAdapter(list[Mutant]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))


def copied(tree: Path) -> Path:
    """Copy what the tests need of the project into a folder, which is returned."""
    tree.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", ".*", "runs")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, tree / name)
    (tree / "book").mkdir()
    for page in (ROOT / "book").glob("api*.md"):  # chapters link there
        shutil.copy(page, tree / "book")
    return tree


def python(tree: Path, *arguments: str) -> tuple[int | None, str]:
    """Run Python where the copy comes before the installed package: exit code, None beyond `LIMIT`, and output."""
    path = os.pathsep.join([str(tree), str(tree / "notebooks"), *filter(None, [os.environ.get("PYTHONPATH")])])
    # No bytecode: a file that is broken and mended within a second would look unchanged. Plugins cost a second.
    alone = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run, env = [sys.executable, *arguments], os.environ | alone
    try:
        done = subprocess.run(run, cwd=tree, env=env, capture_output=True, timeout=LIMIT, encoding="utf-8")
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout + done.stderr


def pytest(tree: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """Run tests of a copy until one fails."""
    return python(tree, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests)


def nbval(tree: Path, notebooks: Sequence[str]) -> tuple[int | None, str]:
    """Execute notebooks of a copy, one after the other, until one gives something else than it has."""
    code, output = 0, ""
    for name in notebooks:
        shutil.rmtree(tree / "notebooks" / "runs", ignore_errors=True)  # what an unbroken copy has trained
        options = ["-p", "nbval.plugin", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
        code, output = python(tree, "-m", "pytest", "-x", "-q", *options, "--no-header", f"notebooks/{name}.ipynb")
        if code != 0:
            break
    return code, output


@contextmanager
def broken(path: Path, text: str) -> Iterator[None]:
    """Give a file another text for a while."""
    before = path.read_bytes()
    path.write_bytes(text.encode())
    try:
        yield
    finally:
        path.write_bytes(before)


def judged(mutant: Mutant, tree: Path, notebooks: Sequence[str] = ()) -> str:
    """``killed by TEST``, `SURVIVED`, or `GONE`; by its tests, or else by notebooks.

    Raises:
        RuntimeError: if pytest could not run the tests at all.
    """
    path = tree / mutant.file
    text = mutant.applied(path.read_bytes().decode()) if path.exists() else None
    if text is None:
        return GONE
    with broken(path, text):
        code, output = nbval(tree, notebooks) if notebooks else pytest(tree, mutant.tests)
    if code is None:
        return f"killed by the time limit, {LIMIT} s"
    if code == 0:
        return SURVIVED
    first = re.search(r"^(?:FAILED|ERROR) (\S+?::[^\s\[]+(?:\[.*?\](?= - |$))?|\S+)", output, re.MULTILINE)
    if first is None:
        raise RuntimeError(f"{mutant.id}: pytest ended with {code}:\n{output[-2000:]}")
    return f"killed by {first[1]}"


def checked(tree: Path, mutants: Sequence[Mutant], notebooks: Sequence[str] = ()) -> str:
    """What is wrong with a copy before anything is broken; empty if nothing is."""
    code, output = python(tree, "-c", PACKAGES)
    if code or not all(Path(line).is_relative_to(tree) for line in output.split("\n") if line):
        return f"the copy {tree} is not what is imported:\n{output}"
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    code, output = nbval(tree, notebooks) if notebooks else pytest(tree, tests)
    return f"the tests fail before anything is broken:\n{output[-3000:]}" if code != 0 else ""


def main(ids: Annotated[list[str] | None, typer.Argument(help="mutants to run; all, if none is named")] = None,
         jobs: Annotated[int, typer.Option(min=1, help="mutants at once")] = 1,
         notebooks: Annotated[bool, typer.Option("--notebooks", help="by notebooks instead of tests")] = False,
         ) -> None:  # fmt: skip
    """Break the code in one line at a time, and see whether a test fails."""
    mutants = read()
    if unknown := set(ids or ()) - {mutant.id for mutant in mutants}:
        raise typer.BadParameter(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [mutant for mutant in mutants if not ids or mutant.id in ids]
    if notebooks:
        mutants = [mutant for mutant in mutants if mutant.file.startswith(BY_NOTEBOOKS)]
    judges = NOTEBOOKS if notebooks else ()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            trees.put(copied(Path(folder).resolve() / str(number)))

        def one(mutant: Mutant) -> str:
            tree, started = trees.get(), time.perf_counter()
            try:
                verdict = judged(mutant, tree, judges)
            finally:
                trees.put(tree)
            print(f"{mutant.id:36} {time.perf_counter() - started:5.0f} s  {verdict}", flush=True)
            return verdict

        if problem := checked(Path(folder).resolve() / "0", mutants, judges):
            print(problem, file=sys.stderr)
            raise typer.Exit(2)
        verdicts = list(pool.map(one, mutants))
    bad = [mutant.id for mutant, verdict in zip(mutants, verdicts, strict=True) if verdict in (SURVIVED, GONE)]
    print(f"{len(mutants) - len(bad)} of {len(mutants)} killed" + (f"; not so: {', '.join(bad)}" if bad else ""))
    raise typer.Exit(2 * len(bad) > len(mutants) if notebooks else bool(bad))


if __name__ == "__main__":
    typer.run(main)
