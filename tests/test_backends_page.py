"""The page of what each backend does is of the suites as they are now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.cluster_conformance import ClusterConformance
from tests.conformance import SUITES, sentence
from tests.job.context_conformance import ContextConformance

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"


@pytest.mark.parametrize("suite", [ClusterConformance, ContextConformance])
def test_the_page_has_exactly_the_behaviours_that_the_suites_try(suite: type):
    shown = SUITES[suite.__name__]
    _, _, rest = PAGE.read_text().partition(f"## {shown.title}\n\n")
    head, _, *rows = rest.partition("\n\n")[0].splitlines()
    assert [cell.strip() for cell in head.split("|")[2:-1]] == list(shown.columns.values())
    names = [row.split("|")[1].strip() for row in rows]
    tried = [sentence(name) for name in vars(suite) if name.startswith("test_")]
    assert sorted(names) == sorted(tried), "make backends"
    for row in rows:
        for cell in row.split("|")[2:-1]:
            assert re.fullmatch(r"yes|–|unsupported \(\d+\)", cell.strip()), row
