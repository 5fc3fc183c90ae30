"""Simulation: many hosts in one process, in virtual time, from one seed.

A test that asks for the fixture ``sim`` runs on a simulated event loop. It starts programs on
simulated hosts, which talk over a simulated network; it crashes them and cuts the network; and it
sees the same thing happen again when it runs with the same seed::

    async def test_reply_survives_a_partition(sim):
        server = sim.process("a", serve)
        with sim.partition("a", "test"):
            await asyncio.sleep(3600)              # an hour that takes no time
        ...

Outside of pytest, and inside of hypothesis, `simulate` does the same.

The rooms, from the ground up: `errors`; `lanes`, `scheduler`, `refusals`, `reports`, `loop` (the
event loop); `clock`, `trace`, `disk`, `threads`, `faults`, `links`, `network`, `transport` (what a
process has to do with); `process`, `world`, `isolation`, `simulation` (what a test has to do with);
`plugin` (pytest, which loads it in every run and therefore loads nothing else with it).

Nothing in fray imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fray.testing.attempts import Execution
    from fray.testing.barriers import Barrier
    from fray.testing.clock import HostTime, SimClock
    from fray.testing.cluster import SimCluster
    from fray.testing.disk import SimDisk
    from fray.testing.errors import (
        SimBackgroundError,
        SimDeadlock,
        SimHalted,
        SimLivelock,
        SimTimeLimit,
        SimulationError,
        SimUnsupported,
    )
    from fray.testing.faults import (
        HOLD,
        PASS,
        RESET,
        Fault,
        Packet,
        PacketKind,
        Rule,
        Verdict,
        When,
        delayed,
    )
    from fray.testing.history import CallRecord, History, Outcome, RunRecord
    from fray.testing.loop import SimLoop
    from fray.testing.network import SimNetwork
    from fray.testing.process import ExitKind, ProcessExit, Program, SimHost, SimProcess
    from fray.testing.simulation import Simulation, simulate
    from fray.testing.threads import SimThreads
    from fray.testing.trace import Trace
    from fray.testing.transport import SimTransport

_HOMES = {
    "attempts": ("Execution",),
    "barriers": ("Barrier",),
    "clock": ("HostTime", "SimClock"),
    "cluster": ("SimCluster",),
    "disk": ("SimDisk",),
    "errors": (
        "SimBackgroundError",
        "SimDeadlock",
        "SimHalted",
        "SimLivelock",
        "SimTimeLimit",
        "SimUnsupported",
        "SimulationError",
    ),
    "faults": (
        "HOLD",
        "PASS",
        "RESET",
        "Fault",
        "Packet",
        "PacketKind",
        "Rule",
        "Verdict",
        "When",
        "delayed",
    ),
    "history": ("CallRecord", "History", "Outcome", "RunRecord"),
    "loop": ("SimLoop",),
    "network": ("SimNetwork",),
    "process": ("ExitKind", "ProcessExit", "Program", "SimHost", "SimProcess"),
    "simulation": ("Simulation", "simulate"),
    "threads": ("SimThreads",),
    "trace": ("Trace",),
    "transport": ("SimTransport",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Lazily: pytest imports this package, for the sake of the plugin in it, in every run.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


__all__ = [
    "HOLD",
    "PASS",
    "RESET",
    "Barrier",
    "CallRecord",
    "Execution",
    "ExitKind",
    "Fault",
    "History",
    "HostTime",
    "Outcome",
    "Packet",
    "PacketKind",
    "ProcessExit",
    "Program",
    "Rule",
    "RunRecord",
    "SimBackgroundError",
    "SimClock",
    "SimCluster",
    "SimDeadlock",
    "SimDisk",
    "SimHalted",
    "SimHost",
    "SimLivelock",
    "SimLoop",
    "SimNetwork",
    "SimProcess",
    "SimThreads",
    "SimTimeLimit",
    "SimTransport",
    "SimUnsupported",
    "Simulation",
    "SimulationError",
    "Trace",
    "Verdict",
    "When",
    "delayed",
    "simulate",
]
