"""Devices that are not free though their attempt has ended: a child that escaped has them still.

A process counts if it was started by an attempt, which its variables say, and that attempt does not
run here any more. What else there is on the machine is its operator's business. The controller is
told, and gives such a device to nobody; and before an attempt begins its own devices are looked at
once more, since a driver takes a moment to let go of them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fray.cluster.resources import MILLI, Resources
from fray.cluster.scheduling.inventory import Allocation, HeldDevice
from fray.cluster.worker.shim import procfs, records
from fray.ids import AttemptId

if TYPE_CHECKING:
    from fray.runtime.clock import Clock
    from fray.runtime.tasks import Scope

LOOK_S = 10.0
"""How often devices are looked at while all are free."""

HELD_LOOK_S = 1.0
"""And while some are held."""

READ_TIMEOUT_S = 5.0
"""A driver that hangs holds up nothing: what was known last counts."""

FREE_TIMEOUT_S = 20.0
"""How long an attempt waits for its devices until another host tries."""

log = logging.getLogger(__name__)


class Holders(Protocol):
    """Knows who has devices."""

    def holders(self) -> Mapping[int, Sequence[int]]:
        """Processes by number of the device, over all kinds. May block."""
        ...


def attempt_of(pid: int, root: Path) -> AttemptId:
    """The attempt of this agent's that has started a process; empty for none.

    Args:
        pid: Which.
        root: The directory of this agent's run directories: there may be other agents.
    """
    variables: dict[str, str] = {}
    for variable in procfs.read_text(f"/proc/{pid}/environ").split("\0"):
        name, _, value = variable.partition("=")
        variables[name] = value
    run_dir = variables.get(records.MARKER_RUN_DIR, "")
    is_ours = bool(run_dir) and Path(run_dir).parent == root
    return AttemptId(variables.get(records.MARKER_ATTEMPT, "") if is_ours else "")


def held_devices(
    counts: Mapping[str, int],
    holders: Mapping[int, Sequence[int]],
    owner: Callable[[int], str],
    live: Collection[str],
) -> tuple[HeldDevice, ...]:
    """The devices that are held by what ended attempts have left.

    Args:
        counts: How many devices there are of each kind; numbers run over all, in order of names.
        holders: The processes that have each device.
        owner: The attempt that has started a process; empty for none.
        live: The attempts that run here.
    """
    found: list[HeldDevice] = []
    for number, (kind, index) in enumerate(_numbered(counts)):
        for pid in holders.get(number, ()):
            attempt_id = owner(pid)
            if attempt_id and attempt_id not in live:
                by = f"process {pid} of {attempt_id}, which has ended"
                found.append(HeldDevice(kind, index, by))
                break
    return tuple(found)


def _numbered(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for kind in sorted(counts):
        for index in range(counts[kind]):
            yield kind, index


class Driver(Holders, Protocol):
    """Knows GPUs."""

    def tokens(self) -> tuple[str, ...]:
        """What each is called to CUDA, by number. May block."""
        ...


class DeviceWatch:
    """Watches a host's devices.

    Args:
        capacity: What the host has.
        clock: The host's.
        gpus: Knows who has its GPUs.
        chips: Knows who has its TPU chips.
        root: The directory of this agent's run directories.

    Attributes:
        held: What is held, as it was seen last.
        gpu_tokens: What CUDA calls each GPU, by its number.
    """

    def __init__(
        self,
        capacity: Resources,
        clock: Clock,
        *,
        gpus: Driver,
        chips: Holders,
        root: Path,
    ) -> None:
        self.held: tuple[HeldDevice, ...] = ()
        self._gpus = {kind: milli // MILLI for kind, milli in capacity.gpus.items()}
        self._tpus = dict(capacity.tpus)
        self._clock = clock
        self._gpu_holders = gpus
        self.gpu_tokens = gpus.tokens() if self._gpus else ()
        self._chip_holders = chips
        self._root = root.absolute()
        self._reading: asyncio.Task[tuple[HeldDevice, ...]] | None = None

    def __repr__(self) -> str:
        return f"<DeviceWatch {len(self.held)} held>"

    @property
    def has_devices(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._gpus or self._tpus)

    @property
    def look_s(self) -> float:
        """How long until the next look, in seconds."""
        return HELD_LOOK_S if self.held else LOOK_S

    async def look(self, scope: Scope, live: Collection[AttemptId]) -> bool:
        """Looks who has which device; says whether what is held has changed.

        Args:
            scope: Owns what looks.
            live: The attempts that run here.
        """
        if self._reading is not None and not await self._is_done(self._reading):
            return False
        alive = frozenset(live)
        reading = self._reading = scope.spawn(
            asyncio.to_thread(self._read, alive), name="look at devices"
        )
        if not await self._is_done(reading):
            log.error("the devices of this host do not say who has them: their driver hangs")
            return False
        changed = reading.result() != self.held
        self.held = reading.result()
        if changed:
            log.warning("devices: %s", "; ".join(map(str, self.held)) or "all are free again")
        return changed

    async def _is_done(self, reading: asyncio.Task[tuple[HeldDevice, ...]]) -> bool:
        await asyncio.wait({reading}, timeout=READ_TIMEOUT_S)
        return reading.done() and not reading.cancelled()

    def _read(self, live: Collection[str]) -> tuple[HeldDevice, ...]:
        found: tuple[HeldDevice, ...] = ()
        for counts, holders in (
            (self._gpus, self._gpu_holders),
            (self._tpus, self._chip_holders),
        ):
            if counts:
                found += held_devices(counts, holders.holders(), self._attempt_of, live)
        return found

    def _attempt_of(self, pid: int) -> AttemptId:
        return attempt_of(pid, self._root)

    async def until_free(
        self,
        allocation: Allocation,
        scope: Scope,
        live: Callable[[], Collection[AttemptId]],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Waits until nobody has an attempt's devices who ought not to.

        Args:
            allocation: What it was given.
            scope: Owns what looks.
            live: The attempts that run here.
            is_wanted: Whether it is still to be waited for.

        Raises:
            OSError: They are not let go of.
        """
        kinds = {*allocation.resources.gpus, *allocation.resources.tpus}
        deadline = self._clock.monotonic() + FREE_TIMEOUT_S
        while allocation.devices and is_wanted():
            await self.look(scope, live())
            in_the_way = [
                each
                for each in self.held
                if each.kind in kinds and each.index in allocation.devices
            ]
            if not in_the_way:
                return
            if self._clock.monotonic() >= deadline:
                raise OSError(errno.EBUSY, "; ".join(map(str, in_the_way)))
            await self._clock.sleep(HELD_LOOK_S)


__all__ = ["DeviceWatch", "Driver", "Holders", "attempt_of", "held_devices"]
