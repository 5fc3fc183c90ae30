"""What a simulation raises when it is the simulation that has something to say."""

from __future__ import annotations

from fray.errors import FrayError


class SimulationError(FrayError):
    """The root of the errors of the simulator itself."""


class SimHalted(SimulationError):
    """The simulation cannot go on. The message lists who waits for what."""


class SimDeadlock(SimHalted):
    """Nothing is ready and nothing is scheduled, yet somebody still waits."""


class SimLivelock(SimHalted):
    """Callbacks keep running and the virtual clock does not move."""


class SimTimeLimit(SimHalted):
    """The virtual clock passed the limit that was set for the simulation."""


class SimUnsupported(SimulationError, RuntimeError):
    """Something reached for the real world: a socket, a subprocess, a thread, a blocking wait."""


class SimBackgroundError(SimulationError):
    """Something failed in the simulation and nobody was there to see it."""


__all__ = [
    "SimBackgroundError",
    "SimDeadlock",
    "SimHalted",
    "SimLivelock",
    "SimTimeLimit",
    "SimUnsupported",
    "SimulationError",
]
