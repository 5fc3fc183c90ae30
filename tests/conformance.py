"""Which behaviours each backend has, as the runs of the conformance suites tell.

A suite is a class in `SUITES`; the backend of a test is the parameter of its fixture ``cluster`` or
``context``, or the attribute ``backend`` of its class. ``--backends FILE`` writes the outcomes of a
run as a page. A behaviour that is marked ``unsupported_on`` must raise an `UnsupportedError` on
those backends, whose words are shown; once it does not, the test fails.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fray.errors import UnsupportedError

FIXTURES = ("cluster", "context")


@dataclass(frozen=True)
class Suite:
    """A suite, as it is shown.

    Attributes:
        title: Above its table.
        columns: What its backends are called there, in order.
    """

    title: str
    columns: dict[str, str]


SUITES = {
    "ClusterConformance": Suite(
        "Clusters",
        {
            "local": "`LocalCluster`",
            "fray": "`fray up`",
            "simulated": "simulated",
            "ray": "`RayCluster`",
        },
    ),
    "ContextConformance": Suite(
        "Job contexts",
        {
            "sync": "`SyncContext`",
            "thread": "`ThreadContext(4)`",
            "thread-1": "`ThreadContext(1)`",
            "fray": "`FrayContext`",
            "ray": "`RayContext`",
        },
    ),
}
INTRODUCTION = """# What each backend does

Made by `make backends` from a run of the suites that all clusters and all job contexts pass
(`tests/cluster/cluster_conformance.py`, `tests/job/context_conformance.py`). "yes": it was seen to
do so. "unsupported": it raises an `UnsupportedError`, with the words that stand at that number. A
dash: there is nothing to try (simulated hosts have no files; Ray logs failures in its own way)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backends", metavar="FILE", help="write what each backend does as a page")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "unsupported_on(*backends): raises UnsupportedError there, and only there"
    )
    path = config.getoption("--backends")
    if path and not hasattr(config, "workerinput"):  # xdist's workers report to their controller
        config.pluginmanager.register(Page(Path(path)))


def suite_of(item: pytest.Item) -> str:
    """The suite that has a test; empty where it is of none."""
    for base in getattr(getattr(item, "cls", None), "__mro__", ()):
        if base.__name__ in SUITES and getattr(item, "originalname", "") in vars(base):
            return base.__name__
    return ""


def backend_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    for fixture in FIXTURES:
        if callspec is not None and fixture in callspec.params:
            return callspec.params[fixture]
    return getattr(getattr(item, "cls", None), "backend", "")


def sentence(name: str) -> str:
    """A test's name as it is shown."""
    return name.removeprefix("test_").replace("_", " ")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    marker = pyfuncitem.get_closest_marker("unsupported_on")
    if marker is None or backend_of(pyfuncitem) not in marker.args:
        return (yield)
    try:
        yield
    except UnsupportedError as exc:
        pyfuncitem.user_properties.append(("unsupported", str(exc)))
        return True
    return pytest.fail(f"{backend_of(pyfuncitem)} supports this by now: take the mark away")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    suite = suite_of(item)
    if suite:
        name = getattr(item, "originalname", item.name)
        report.user_properties.append(("behaviour", (suite, sentence(name), backend_of(item))))
    return report


class Page:
    """Collects outcomes, and writes them.

    Args:
        path: Of the page.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cells: dict[tuple[str, str, str], str] = {}
        self._words: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = dict(report.user_properties)
        if "behaviour" not in told or (report.when != "call" and report.passed):
            return
        suite, name, backend = told["behaviour"]
        cell = self._cell(report, told.get("unsupported"))
        if self._cells.get((suite, name, backend), "yes") == "yes":  # of several cases the worst
            self._cells[suite, name, backend] = cell

    def _cell(self, report: pytest.TestReport, words: str | None) -> str:
        if report.failed:
            return "**no**"
        if report.skipped:
            return "–"
        if words is None:
            return "yes"
        if words not in self._words:
            self._words.append(words)
        return f"unsupported ({self._words.index(words) + 1})"

    def pytest_sessionfinish(self) -> None:
        lines = [INTRODUCTION]
        for name, suite in SUITES.items():
            rows = dict.fromkeys(row for of, row, _ in self._cells if of == name)
            lines += ["", f"## {suite.title}", "", f"| | {' | '.join(suite.columns.values())} |"]
            lines.append("| --- " * (len(suite.columns) + 1) + "|")
            for row in rows:
                cells = [self._cells.get((name, row, column), "–") for column in suite.columns]
                lines.append(f"| {row} | {' | '.join(cells)} |")
        lines += ["", "## Words of those that cannot", ""]
        lines += [f"{number}. {words}" for number, words in enumerate(self._words, 1)]
        self._path.write_text("\n".join(lines) + "\n")
