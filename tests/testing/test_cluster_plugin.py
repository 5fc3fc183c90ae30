"""The fixture ``sim_cluster``, as its users see it: the guide's tests, and a test that fails."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from .test_plugin import MODES, OURS

pytest_plugins = ["pytester"]

DOCS = Path(__file__).resolve().parents[2] / "docs"

FAILING = """
    import fray

    @fray.actor
    class Counter:
        async def add(self, amount):
            return amount

    async def test_wrong(sim_cluster):
        await sim_cluster.add_hosts(1)
        counter = await Counter.options(name="counter").remote()
        assert await counter.add.remote(1) == sim_cluster.seed
"""


@pytest.mark.parametrize("guide", ["testing.md", "calls.md"])
def test_what_the_guides_show_runs_as_written(pytester: pytest.Pytester, guide: str):
    text = (DOCS / guide).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    code = "\n\n".join(blocks)
    pytester.makepyfile(test_guide=code)
    tests = len(re.findall(r"^(?:async )?def test_", code, re.MULTILINE))
    for options in MODES.values():
        result = pytester.runpytest_subprocess(*OURS, *options)
        result.assert_outcomes(passed=tests)


def test_a_failure_tells_the_seed_the_cluster_and_how_to_replay_it(pytester: pytest.Pytester):
    pytester.makepyfile(test_counter=textwrap.dedent(FAILING))
    result = pytester.runpytest_subprocess(*OURS, "--sim-seeds=3")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "seed 0, virtual time *",
            "cluster at t=*",
            "*job */counter-* running",
            "*worker host-1 up",
            "*<SimAttempt */counter-*/0#0 on host-1 running>",
            "last events but for messages:",
            "*journal *: SubmitJobs",
            "replay: pytest 'test_counter.py::test_wrong' --sim-seed=0",
        ]
    )
    again = pytester.runpytest_subprocess(*OURS, "test_counter.py::test_wrong", "--sim-seed=2")
    again.assert_outcomes(failed=1)


def test_worlds_are_let_go_when_their_tests_are_over(pytester: pytest.Pytester):
    code = """
        import gc
        import weakref

        worlds = []


        async def test_passes(sim_cluster, sim):
            await sim_cluster.add_hosts(1)
            worlds.append(weakref.ref(sim))


        async def test_fails(sim_cluster, sim):
            worlds.append(weakref.ref(sim))
            assert not await sim_cluster.add_hosts(1)


        def test_neither_is_kept():
            gc.collect()
            assert [world() for world in worlds] == [None, None]
    """
    pytester.makepyfile(test_worlds=textwrap.dedent(code))
    pytester.runpytest_subprocess(*OURS).assert_outcomes(passed=2, failed=1)
