"""Children for supervisors in tests, which do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fray.errors import DeathCause, DeathKind
from fray.runtime.children import Child, ChildSpec
from fray.runtime.restart import UNLIMITED, RestartPolicy
from fray.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from fray.testing import Simulation

BYE = DeathCause(DeathKind.STOPPED, "the test is over")
AT_ONCE = RestartPolicy(max_restarts=UNLIMITED, backoff_min_s=0, backoff_max_s=0)
FAILED = DeathCause(DeathKind.APP_ERROR, "ValueError: no")


class Part:
    """A child that does what the test says, and keeps a log of its starts and ends."""

    def __init__(self, troupe: Troupe, name: str) -> None:
        self.stopped: asyncio.Future[DeathCause] = asyncio.get_running_loop().create_future()
        self.name = name
        self.graces: list[float] = []
        self.told: list[DeathCause] = []
        self._troupe = troupe

    async def stop(self, cause: DeathCause, *, grace_s: float) -> None:
        self.graces.append(grace_s)
        self.told.append(cause)
        self._troupe.log.append(f"stop {self.name}")
        await asyncio.sleep(self._troupe.stop_takes_s.get(self.name, 0))
        self.end(cause)

    def kill(self, cause: DeathCause) -> None:
        self.told.append(cause)
        self._troupe.log.append(f"kill {self.name}")
        self.end(cause, said=True)

    def end(self, cause: DeathCause = FAILED, *, said: bool = False) -> None:
        if not self.stopped.done():
            self.stopped.set_result(cause)
            if not said:
                self._troupe.log.append(f"-{self.name}")


class Troupe:
    """Makes children, and knows what happened to them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.parts: dict[str, Part] = {}
        self.start_takes_s: dict[str, float] = {}
        self.stop_takes_s: dict[str, float] = {}
        self.refusals: dict[str, list[BaseException]] = {}

    def spec(self, name: str, **options: Any) -> ChildSpec:
        async def start() -> Child:
            self.log.append(f"+{name}")
            await asyncio.sleep(self.start_takes_s.get(name, 0))
            if refusals := self.refusals.get(name):
                raise refusals.pop(0)
            self.parts[name] = Part(self, name)
            return self.parts[name]

        return ChildSpec(name, start, **options)

    def specs(self, names: str, **options: Any) -> list[ChildSpec]:
        return [self.spec(name, **options) for name in names]

    def fail(self, name: str, cause: DeathCause = FAILED) -> None:
        self.parts[name].end(cause)

    def since(self) -> str:
        """What has happened since this was last asked."""
        log, self.log[:] = " ".join(self.log), []
        return log


async def settle() -> None:
    """Until all is done that takes no time."""
    await asyncio.sleep(1e-6)


async def started(sim: Simulation, troupe: Troupe, names: str, **policy: Any) -> Supervisor:
    rules = replace(AT_ONCE, **policy)
    supervisor = Supervisor("boss", troupe.specs(names), clock=sim.clock, policy=rules)
    await supervisor.start()
    assert troupe.since() == " ".join(f"+{name}" for name in names)
    return supervisor


async def raised_by(call: Awaitable[object]) -> BaseException | None:
    try:
        await call
    except Exception as exc:
        return exc
    return None
