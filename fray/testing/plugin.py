"""The pytest plugin: tests that ask for ``sim`` run in a simulation.

An ``async def`` test that requests the fixture ``sim``, itself or through other fixtures, runs on
a simulated event loop, and with it all of its function-scoped async fixtures. No marker and no
other plugin is needed, and none gets in the way: such a test is taken from pytest-asyncio and anyio
before they see it. A plain ``def`` test gets the `fray.testing.Simulation` too, and calls
``sim.run``. The fixture ``sim_cluster`` is a whole cluster in such a simulation.

Options: ``--sim-seed N`` is the first seed (0 if not given), ``--sim-seeds N`` how many seeds each
test is run with. A failing test's report has the seed, what the simulated world looked like, and
the command that replays it.

pytest loads this module in every run of everybody's tests. It imports pytest and nothing else; the
simulator is imported when the first test asks for it.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Generator
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from fray.testing.cluster import SimCluster
    from fray.testing.simulation import Simulation

_SEED_ID = re.compile(r"-?seed\d+(?=[]-])")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("fray", "simulated clusters")
    group.addoption(
        "--sim-seed",
        type=int,
        default=0,
        metavar="N",
        help="the (first) seed of simulated tests",
    )
    group.addoption(
        "--sim-seeds",
        type=int,
        default=1,
        metavar="N",
        help="run each simulated test with N consecutive seeds",
    )


@pytest.fixture
def sim_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test. Parametrize it (indirectly) to give a test seeds of its own."""
    return cast(int, getattr(request, "param", request.config.getoption("--sim-seed")))


@pytest.fixture
def sim(request: pytest.FixtureRequest, sim_seed: int) -> Generator[Simulation, None, None]:
    """The `fray.testing.Simulation` in which the test runs."""
    if isinstance(request.node, SimFunction):
        yield request.node.simulation
        return
    from fray.testing.simulation import Simulation

    with Simulation(sim_seed) as simulation:
        request.node.stash[_SIMULATION] = simulation
        yield simulation
        simulation.check()


@pytest.fixture
def sim_cluster(
    request: pytest.FixtureRequest, sim: Simulation
) -> Generator[SimCluster, None, None]:
    """A `fray.testing.SimCluster` in that simulation, of which the test is the driver."""
    from fray.testing.cluster import SimCluster

    cluster = request.node.stash[_CLUSTER] = SimCluster(sim)
    sim.run(cluster.open())
    yield cluster
    sim.run(cluster.close())


_SIMULATION: pytest.StashKey[Simulation] = pytest.StashKey()
_CLUSTER: pytest.StashKey[SimCluster] = pytest.StashKey()


class SimFunction(pytest.Function):
    """A coroutine test that runs in a simulation."""

    simulation: Simulation

    @classmethod
    def of(cls, item: pytest.Function) -> SimFunction:
        """Makes one of an ordinary item.

        Args:
            item: As collected, by pytest or by another plugin.
        """
        made = cast(Any, cls).from_parent(
            item.parent,
            name=item.name,
            callspec=getattr(item, "callspec", None),
            callobj=item.obj,
            fixtureinfo=item._fixtureinfo,  # pyright: ignore[reportPrivateUsage]
            keywords=item.keywords,
            originalname=item.originalname,
        )
        made.own_markers = [m for m in item.own_markers if m.name not in ("asyncio", "anyio")]
        return cast(SimFunction, made)

    def setup(self) -> None:
        """Makes the world before any fixture, and unmakes it after all of them."""
        from fray.testing.simulation import Simulation

        callspec = getattr(self, "callspec", None)
        default = self.config.getoption("--sim-seed")
        seed = cast(int, callspec.params.get("sim_seed", default) if callspec else default)
        self.simulation = self.stash[_SIMULATION] = Simulation(seed)
        self.addfinalizer(self._close)
        super().setup()

    def runtest(self) -> None:
        """Runs the coroutine on the simulated loop."""
        __tracebackhide__ = True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self, "obj", self._synchronous(self.obj))
            super().runtest()

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a coroutine function in the simulation.

        Args:
            function: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.
        """
        __tracebackhide__ = True
        return self.simulation.run(function(*args, **kwargs))

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any
    ) -> Any:
        """Of a simulation that cannot go on, the report of who waits, without the loop's frames."""
        from fray.testing.errors import SimHalted

        if isinstance(excinfo.value, SimHalted):
            return f"{type(excinfo.value).__name__}: {excinfo.value}"
        return super().repr_failure(excinfo, *args, **kwargs)

    def _synchronous(self, test: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            self.run(test, *args, **kwargs)
            self.simulation.check()

        del run.__wrapped__  # or pytest would take it for the coroutine function that it wraps
        return run

    def _close(self) -> None:
        told = len(self.simulation.errors)
        self.simulation.close()
        del self.simulation.errors[:told]  # the test itself has failed for those
        self.simulation.check()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> Generator[None, Any, Any]:
    """Outermost, so that it sees what other plugins have made of the test."""
    made = yield
    if isinstance(made, list):
        return [_simulated(item) for item in cast("list[object]", made)]
    return _simulated(made)


def _simulated(item: object) -> object:
    if not isinstance(item, pytest.Function) or "sim" not in item.fixturenames:
        return item
    inner = getattr(getattr(item.obj, "hypothesis", None), "inner_test", None)
    if inspect.iscoroutinefunction(inner):
        raise pytest.Collector.CollectError(
            f"{item.nodeid}: @given with the fixture `sim` would run all examples in one world; "
            "make the test a plain function and call fray.testing.simulate(seed, main) in it"
        )
    return SimFunction.of(item) if inspect.iscoroutinefunction(item.obj) else item


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    """Gives each simulated test its seeds."""
    if "sim" not in metafunc.fixturenames:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        # pytest-asyncio multiplies coroutine tests by the loops that a project configured.
        patch.setattr(metafunc.definition, "obj", _no_coroutine)
        yield
    count = cast(int, metafunc.config.getoption("--sim-seeds"))
    first = cast(int, metafunc.config.getoption("--sim-seed"))
    own = any("sim_seed" in call.params for call in metafunc._calls)  # pyright: ignore[reportPrivateUsage]
    if count > 1 and not own:
        seeds = range(first, first + count)
        metafunc.parametrize("sim_seed", seeds, ids=[f"seed{s}" for s in seeds], indirect=True)


def _no_coroutine() -> None:
    """Stands in for a coroutine test where nobody else shall see one."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Runs the function-scoped async fixtures of a simulated test on its loop."""
    item, function = request.node, _bound(fixturedef.func, request.instance)
    if not isinstance(item, SimFunction) or fixturedef.scope != "function":
        return (yield)
    if inspect.isasyncgenfunction(function):
        replacement = _generator_fixture(item, function, request)
    elif inspect.iscoroutinefunction(function):
        replacement = functools.partial(item.run, function)
    else:
        return (yield)

    @functools.wraps(function)
    def fixture(*args: Any, **kwargs: Any) -> Any:
        return replacement(*args, **kwargs)

    del fixture.__wrapped__
    fixture.__dict__.pop("_force_asyncio_fixture", None)  # pytest-asyncio's mark in strict mode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixturedef, "func", fixture)
        return (yield)


def _bound(function: Callable[..., Any], instance: object) -> Callable[..., Any]:
    """A fixture that is a method belongs to the test's own instance, not to the collector's."""
    if isinstance(function, MethodType) and isinstance(instance, type(function.__self__)):
        return MethodType(function.__func__, instance)
    return function


def _generator_fixture(
    item: SimFunction, function: Callable[..., Any], request: pytest.FixtureRequest
) -> Callable[..., Any]:
    def begin(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)

        async def first() -> Any:
            return await anext(generator)

        async def rest() -> None:
            async for _ in generator:
                raise ValueError(f"fixture {function.__name__} yields more than once")

        value = item.run(first)
        request.addfinalizer(lambda: item.run(rest))
        return value

    return begin


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Adds what is known of the simulation to the report of a failure."""
    report = yield
    simulation = item.stash.get(_SIMULATION, None)
    if report.failed and simulation is not None:
        node = _SEED_ID.sub("", item.nodeid).replace("[]", "")
        replay = f"replay: pytest '{node}' --sim-seed={simulation.seed}"
        cluster = item.stash.get(_CLUSTER, None)
        told = [simulation.report(), *([cluster.snapshot()] if cluster is not None else []), replay]
        report.sections.append(("simulation", "\n".join(told)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Lets go of the world: pytest keeps every item to the end, and each world is megabytes."""
    done = yield
    if _SIMULATION in item.stash:
        del item.stash[_SIMULATION]
    if _CLUSTER in item.stash:
        del item.stash[_CLUSTER]
    if isinstance(item, SimFunction):
        vars(item).pop("simulation", None)
    return done


__all__ = ["SimFunction", "sim", "sim_cluster", "sim_seed"]
