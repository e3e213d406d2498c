"""The study's lines: every entry is a link to a file, with lines where there are some."""

import re

import pytest

from meirl_study.published import COMMIT, REPOSITORY
from meirl_study.threats.lines import LINES, code


@pytest.mark.parametrize("threat", LINES)
def test_every_line_is_linked_at_the_commit(threat):
    for line, entry in zip(LINES[threat], code(threat).splitlines(), strict=True):
        assert re.fullmatch(r"(L\d+(-L\d+)?)?", line.lines)
        assert line.says.endswith((".", "..."))
        assert f"]({REPOSITORY}/blob/{COMMIT}/{line.file}{'#' + line.lines if line.lines else ''}): " in entry


def test_lines_are_counted_in_words():
    assert code("seed").startswith("- [`ppo/configs/config.yaml`, line 28](")
    assert code("clip").startswith("- [`ppo/models/env.py`, lines 201 to 202](")
    assert code("tail").startswith("- [`ppo/results_complex/evaluation_results.json`](")
