"""The pytest plugin, as its users' suites see it: in fresh runs of pytest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = any(each.value == "fray.testing.plugin" for each in entry_points(group="pytest11"))
OURS = [] if INSTALLED else ["-p", "fray.testing.plugin"]
AUTO = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
STRICT = ["-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function"]
MODES = {"auto": AUTO, "strict": STRICT, "without pytest-asyncio": ["-p", "no:asyncio"]}

SUITE = """
    import asyncio
    import time

    import pytest


    def loop_name():
        return type(asyncio.get_running_loop()).__name__


    @pytest.fixture
    async def server(sim):
        async def program(process):
            await asyncio.Event().wait()

        sim.process("a", program)
        await asyncio.sleep(1)
        yield loop_name()
        await asyncio.sleep(3600)
        assert loop_name() == "SimLoop"


    @pytest.fixture
    async def warm():  # it does not ask for sim; the test does
        await asyncio.sleep(7200)
        return asyncio.get_running_loop()


    @pytest.fixture(params=[1, 2])
    def number(request):
        return request.param


    @pytest.fixture
    def world(sim):
        return sim


    async def test_fixtures_run_on_the_loop_of_the_test(sim, server, warm):
        assert server == loop_name() == "SimLoop"
        assert warm is asyncio.get_running_loop()
        assert sim.loop.time() == 7201
        before = time.time()
        await asyncio.sleep(3600)
        assert time.time() - before == pytest.approx(3600)


    async def test_sim_may_be_asked_for_indirectly(world, number):
        assert loop_name() == "SimLoop"
        assert world.driver.name == "test"


    class TestMethods:
        @pytest.fixture
        async def me(self, sim):
            await asyncio.sleep(1)
            yield self

        @pytest.mark.parametrize("x", ["p", "q"])
        async def test_methods_and_parameters_work(self, sim, x, me):
            assert me is self
            assert x in "pq"


    def test_a_plain_test_runs_coroutines_itself(sim):
        assert sim.run(asyncio.sleep(5, 7)) == 7
        assert sim.clock.monotonic() == 5


    @pytest.mark.asyncio
    async def test_markers_of_others_do_no_harm(sim):
        assert loop_name() == "SimLoop"


    @pytest.mark.xfail(strict=True)
    async def test_other_markers_are_kept(sim):
        raise ValueError


    def test_a_test_that_has_nothing_to_do_with_it():
        time.sleep(0.001)
"""

OTHERS = """
    import asyncio

    import pytest


    @pytest.fixture
    async def number():
        await asyncio.sleep(0.001)
        yield 7


    async def test_ordinary_coroutine_tests_keep_their_loop(number):
        assert number == 7
        assert type(asyncio.get_running_loop()).__name__ != "SimLoop"
"""


def run(pytester: pytest.Pytester, *args: str, fresh: bool = False) -> pytest.RunResult:
    pytester.syspathinsert(ROOT)
    start = pytester.runpytest_subprocess if fresh else pytester.runpytest_inprocess
    # hypothesis imports all of itself for its summary, which takes longer than all of these tests.
    return start(*OURS, "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *args)


@pytest.mark.parametrize("mode", MODES)
def test_simulated_tests_work_in_every_mode(pytester: pytest.Pytester, mode: str):
    pytester.makepyfile(test_suite=textwrap.dedent(SUITE))
    unknown = ["-W", "ignore::pytest.PytestUnknownMarkWarning"]
    result = run(pytester, "-W", "error", *unknown, *MODES[mode], fresh=mode == "auto")
    result.assert_outcomes(passed=8, xfailed=1)


def test_each_seed_is_a_test_and_xdist_spreads_them(pytester: pytest.Pytester):
    pytester.makepyfile(test_suite=textwrap.dedent(SUITE), test_others=textwrap.dedent(OTHERS))
    result = run(pytester, "--sim-seeds=3", "-n", "2", *AUTO, fresh=True)
    result.assert_outcomes(passed=3 * 7 + 1 + 1, xfailed=3)


def test_loops_that_a_project_configures_are_for_its_other_tests(pytester: pytest.Pytester):
    pytester.makeconftest(
        textwrap.dedent(
            """
            import asyncio
            import uvloop

            def pytest_asyncio_loop_factories(config, item):
                return {"std": asyncio.new_event_loop, "uv": uvloop.new_event_loop}
            """
        )
    )
    pytester.makepyfile(test_suite=textwrap.dedent(SUITE), test_others=textwrap.dedent(OTHERS))
    result = run(pytester, *AUTO)
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes
    assert "errors" not in outcomes
    assert outcomes["passed"] >= 9
    assert outcomes["xfailed"] == 1


def test_a_failure_tells_the_seed_the_world_and_how_to_replay_it(pytester: pytest.Pytester):
    pytester.makepyfile(
        test_race=textwrap.dedent(
            """
            import asyncio
            import pytest

            @pytest.mark.parametrize("x", ["p"])
            async def test_race(sim, x):  # a real race: some seeds find it
                seen = []
                async def program(process):
                    seen.append(process.host.name)
                for name in "abc":
                    sim.process(name, program)
                await asyncio.sleep(1)
                assert seen[0] != "c"
            """
        )
    )
    many = run(pytester, "--sim-seeds=20", "-p", "no:asyncio")
    outcomes = many.parseoutcomes()
    assert outcomes["failed"] + outcomes["passed"] == 20
    assert outcomes["failed"] > 0
    output = many.stdout.str()
    replay = next(line for line in many.outlines if line.startswith("replay: "))
    command, _, seed = replay.partition(" --sim-seed=")
    assert command == "replay: pytest 'test_race.py::test_race[p]'"
    assert f"seed {seed}, virtual time 1.000000 s" in output
    assert "network at t=1.000000 s: 4 hosts (0 down), 0 links" in output
    assert "c/program has ended: returned" in output
    again = run(pytester, "test_race.py::test_race[p]", f"--sim-seed={seed}", "-p", "no:asyncio")
    again.assert_outcomes(failed=1)
    lines = [line for line in many.outlines if line.startswith(f"seed {seed},")]
    assert lines[0] in again.outlines, "the same digest"


def test_what_fails_behind_the_tests_back_fails_the_test(pytester: pytest.Pytester):
    pytester.makepyfile(
        test_fails=textwrap.dedent(
            """
            import asyncio
            import pytest

            async def fail(process=None):
                raise KeyError("unseen")

            async def test_program(sim):
                sim.process("a", fail)
                await asyncio.sleep(1)

            async def test_task(sim):
                asyncio.create_task(fail())
                await asyncio.sleep(1)

            async def test_deadlock(sim):
                await asyncio.create_task(asyncio.Event().wait(), name="waits-for-ever")

            @pytest.fixture
            async def broken(sim):
                yield
                raise ValueError("broken teardown")

            async def test_teardown(sim, broken):
                pass

            async def test_end(sim):
                async def stubborn():
                    try:
                        await asyncio.Event().wait()
                    finally:
                        raise KeyError("at the end")
                sim.kept = asyncio.create_task(stubborn())
                await asyncio.sleep(1)

            def test_plain(sim):
                async def main():
                    sim.process("a", fail)
                    await asyncio.sleep(1)
                sim.run(main())

            @pytest.fixture
            async def twice(sim):
                yield 1
                yield 2

            async def test_twice(sim, twice):
                pass
            """
        )
    )
    result = run(pytester, "-p", "no:asyncio", "-rfE")
    result.assert_outcomes(failed=3, passed=4, errors=4)
    result.stdout.fnmatch_lines_random(
        [
            "*SimBackgroundError: failed in the simulation:*",
            "*the program of a/fail failed (KeyError: 'unseen')",
            "*exception was never retrieved (KeyError: 'unseen')",
            "SimDeadlock: seed 0, t=0.000000 s, 2 steps: nothing is ready and nothing is scheduled",
            "  [[]test[]] waits-for-ever: Event.wait *",
            "*ValueError: broken teardown",
            "*ValueError: fixture twice yields more than once",
            "*KeyError: 'at the end'*",
        ]
    )


def test_a_test_may_have_seeds_of_its_own(pytester: pytest.Pytester):
    pytester.makepyfile(
        test_own=textwrap.dedent(
            """
            import pytest

            @pytest.mark.parametrize("sim_seed", range(5, 8), indirect=True)
            async def test_own(sim, sim_seed):
                assert sim.seed == sim_seed in (5, 6, 7)

            async def test_default(sim):
                assert sim.seed == 40
            """
        )
    )
    run(pytester, "--sim-seed=40", "-p", "no:asyncio").assert_outcomes(passed=4)
    run(pytester, "test_own.py::test_own", "--sim-seeds=2", "-p", "no:asyncio").assert_outcomes(
        passed=3
    )


def test_hypothesis_with_the_fixture_is_refused_with_advice(pytester: pytest.Pytester):
    pytester.makepyfile(
        test_given=textwrap.dedent(
            """
            from hypothesis import given, strategies as st

            @given(st.integers())
            async def test_given(sim, x):
                pass
            """
        )
    )
    result = run(pytester, "-p", "no:asyncio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*call fray.testing.simulate(seed, main) in it*"])


def test_the_plugin_itself_costs_a_user_who_does_not_simulate_almost_nothing():
    code = """
        import sys, time
        import fray, pytest
        before = set(sys.modules)
        start = time.perf_counter()
        import fray.testing.plugin
        print(time.perf_counter() - start, *sorted(set(sys.modules) - before))
        print(*sys.modules)
        """
    spent = []
    for _ in range(4):  # the first may have to compile
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        own, everything = done.stdout.splitlines()
        seconds, *modules = own.split()
        spent.append(float(seconds))
        assert modules == ["fray.testing", "fray.testing.plugin"]
        assert not {"aiohttp", "hypothesis", "fray.testing.loop"} & set(everything.split())
    assert min(spent) < 0.02
