"""What a host and its attempts use, as an agent tells it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from fray.ids import AttemptId, WorkerId


@dataclass(frozen=True, slots=True)
class AcceleratorUse:
    """One accelerator.

    Attributes:
        kind: Such as ``gpu``.
        index: Which of the host.
        name: Its model.
        memory_used_bytes: Memory in use.
        memory_total_bytes: All of it.
        busy: Share of the time in which it worked, from 0 to 1; None where it does not tell.
    """

    kind: str
    index: int
    name: str
    memory_used_bytes: int
    memory_total_bytes: int
    busy: float | None = None


@dataclass(frozen=True, slots=True)
class HostFigures:
    """A host at a moment.

    Attributes:
        cpus: How many.
        cpu_user_s: CPU time of programs since it booted.
        cpu_system_s: Likewise of the kernel.
        cpu_idle_s: Likewise unused.
        memory_total_bytes: Its memory.
        memory_available_bytes: What programs could still get.
        disk_total_bytes: The disk with the agent's files.
        disk_free_bytes: What is free of it.
        received_bytes: Over the network since it booted, loopback left out.
        sent_bytes: Likewise.
        accelerators: Those that tell of themselves.
    """

    cpus: int
    cpu_user_s: float
    cpu_system_s: float
    cpu_idle_s: float
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    received_bytes: int = 0
    sent_bytes: int = 0
    accelerators: tuple[AcceleratorUse, ...] = ()

    @property
    def cpu_busy_s(self) -> float:
        """CPU time that was used."""
        return self.cpu_user_s + self.cpu_system_s


@dataclass(frozen=True, slots=True)
class AttemptUse:
    """An attempt at a moment.

    Attributes:
        attempt_id: Which.
        state: Where it is in its life.
        started_at: When it began, in seconds since 1970; 0 before.
        cpu_s: CPU time of all its processes since its start.
        memory_bytes: Memory of all of them; an upper bound where no limit is enforced.
        processes: How many there are.
        read_bytes: Read from disks since its start.
        written_bytes: Likewise written.
        gpu_memory_bytes: Memory of GPUs.
        log_bytes: Output so far.
        cpus: CPUs in use lately; None where it was looked at only once.
    """

    attempt_id: AttemptId
    state: str
    started_at: float
    cpu_s: float
    memory_bytes: int
    processes: int
    read_bytes: int = 0
    written_bytes: int = 0
    gpu_memory_bytes: int = 0
    log_bytes: int = 0
    cpus: float | None = None


@dataclass(frozen=True, slots=True)
class HostUse:
    """A host and its attempts at a moment.

    Attributes:
        worker_id: The host.
        host: Its figures.
        attempts: Those that have not ended, oldest first.
        cpus: CPUs in use lately; None where it was looked at only once.
    """

    worker_id: WorkerId
    host: HostFigures
    attempts: tuple[AttemptUse, ...]
    cpus: float | None = None


__all__ = ["AcceleratorUse", "AttemptUse", "HostFigures", "HostUse"]
