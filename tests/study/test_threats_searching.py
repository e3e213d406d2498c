"""Searches are made once."""

import pytest

from meirl.heuristics import tuning
from meirl_study.threats import searching
from meirl_study.threats.searching import SearchTask

SHORT = {"horizon": 5}
TINY = {"episodes": 2, "generations": 1, "seed": 1}


def test_a_search_is_made_once(tmp_path, monkeypatch):
    task = SearchTask("meis-stationary", "constant-order", SHORT, TINY)
    (first,) = searching.search([task], tmp_path, jobs=1)
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("searched again"))
    (again,) = searching.search([task], tmp_path, jobs=1)
    assert again.tuned == first.tuned
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        searching.search([task._replace(changes={"horizon": 6})], tmp_path, jobs=1)
