"""The list of mutants fits the code, and what runs it can tell a test that bites from one that does not."""

import ast
from functools import cache
from pathlib import Path

import pytest
from mutants import run
from pydantic import ValidationError

MUTANTS = run.read()


@cache
def text(file: str) -> str:
    return (run.ROOT / file).read_text(encoding="utf-8")


@cache
def functions(file: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(text(file))) if isinstance(node, ast.FunctionDef)}


def test_there_are_enough_and_each_is_one_of_its_kind():
    assert len(MUTANTS) >= 45
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    for package in ("meirl/envs", "meirl/heuristics", "meirl/learn", "notebooks/meirl_study"):
        assert [mutant for mutant in MUTANTS if mutant.file.startswith(package)], package


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_fits_the_code(mutant):
    assert text(mutant.file).count(mutant.old) == 1, "the code has changed: so must the mutant"
    broken = mutant.applied(text(mutant.file))
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text(mutant.file)))
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (run.ROOT / file).is_file()
        assert not name or name in functions(file), test


@pytest.fixture
def tree(tmp_path) -> Path:
    """A project of one line and one test."""
    (tmp_path / "half.py").write_text("def half(x):\n    return x / 2\n", encoding="utf-8")
    test = "from half import half\n\n\ndef test_half():\n    assert half(4) == 2\n"
    (tmp_path / "test_half.py").write_text(test, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "tests", "verdict"),
    [
        ("x / 2", "x / 3", ["test_half.py"], "killed by test_half.py::test_half"),
        ("x / 2", "x // 2", ["test_half.py::test_half"], run.SURVIVED),
        ("x / 2", "nothing / 2", ["test_half.py"], "killed by test_half.py::test_half"),
        ("def half", "def whole", ["test_half.py"], "killed by test_half.py"),  # cannot even be imported
        ("x / 4", "x / 3", ["test_half.py"], run.GONE),
        ("x", "y", ["test_half.py"], run.GONE),  # twice
    ],
)
def test_a_mutant_is_killed_or_not(tree, old, new, tests, verdict):
    before = (tree / "half.py").read_bytes()
    mutant = run.Mutant(id="half", file="half.py", breaks="halving", old=old, new=new, tests=tests)
    assert run.judged(mutant, tree) == verdict
    assert (tree / "half.py").read_bytes() == before


def test_a_test_that_does_not_exist_kills_nothing(tree):
    mutant = run.Mutant(id="half", file="half.py", breaks="halving", old="/ 2", new="/ 3", tests=["test_other.py"])
    with pytest.raises(RuntimeError, match=r"(?s)half: pytest ended with 4:\n.*test_other\.py"):
        run.judged(mutant, tree)


def test_a_mutant_is_one_line():
    with pytest.raises(ValidationError, match="new"):
        run.Mutant(id="half", file="half.py", breaks="halving", old="x", new="x\ny", tests=["test_half.py"])


def test_a_copy_comes_before_the_installed_package(tmp_path):
    tree = run.copied(tmp_path / "copy")
    code, output = run.python(tree, "-c", run.PACKAGES)
    assert code == 0, output
    assert [Path(line) for line in output.split()] == [
        tree / "meirl" / "__init__.py", tree / "notebooks" / "meirl_study" / "__init__.py",
    ]  # fmt: skip
