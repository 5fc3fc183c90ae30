"""Looking at what this host and its attempts use, when somebody asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fray.cluster.metrics.table import ATTEMPTS_MAX, Reading
from fray.cluster.usage import AcceleratorUse, AttemptUse, HostFigures, HostUse
from fray.cluster.worker.gpus import Gpus
from fray.cluster.worker.launcher import Usage

if TYPE_CHECKING:
    from fray.cluster.worker.roster import HostedAttempt, Roster
    from fray.cluster.worker.shipping import Shipper
    from fray.ids import AttemptId, WorkerId
    from fray.runtime.clock import Clock

FRESH_S = 1.0
"""How old an answer may be that is given to several who ask."""

SPAN_MAX_S = 30.0
"""How far apart two looks may be to say what was used lately."""

NOTHING = Usage(0.0, 0, 0)


class HostMeter(Protocol):
    """Measures the host itself."""

    def figures(self) -> HostFigures:
        """The host now. Blocks for a few milliseconds."""
        ...

    def gpu_memory_by_pid(self) -> dict[int, int]:
        """How much memory of GPUs each process has."""
        ...


class SystemMeter:
    """Measures this machine.

    Args:
        home: A directory on the disk that counts.
        gpus: Its GPUs.
    """

    def __init__(self, home: Path, gpus: Gpus | None = None) -> None:
        self._home = home
        self._gpus = gpus

    def figures(self) -> HostFigures:
        """See `HostMeter.figures`."""
        import psutil

        times = psutil.cpu_times()
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._home))
        moved = [io for name, io in psutil.net_io_counters(pernic=True).items() if name != "lo"]
        return HostFigures(
            cpus=len(os.sched_getaffinity(0)),
            cpu_user_s=times.user + times.nice,
            cpu_system_s=times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0),
            cpu_idle_s=times.idle + getattr(times, "iowait", 0.0),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
            received_bytes=sum(io.bytes_recv for io in moved),
            sent_bytes=sum(io.bytes_sent for io in moved),
            accelerators=self._accelerators(),
        )

    def _accelerators(self) -> tuple[AcceleratorUse, ...]:
        if self._gpus is None:
            self._gpus = Gpus()
        return self._gpus.read()

    def gpu_memory_by_pid(self) -> dict[int, int]:
        """See `HostMeter.gpu_memory_by_pid`."""
        return self._gpus.memory_by_pid() if self._gpus is not None else {}


class UsageDesk:
    """Answers what is used here. Looks when it is asked, and at most once a second.

    Args:
        worker_id: The host.
        roster: Its attempts.
        clock: The host's.
        meter: Measures it.
        log_path: Where an attempt's output goes.
    """

    def __init__(
        self,
        worker_id: WorkerId,
        roster: Roster,
        clock: Clock,
        *,
        meter: HostMeter,
        log_path: Callable[[AttemptId], Path],
    ) -> None:
        self._worker_id = worker_id
        self._roster = roster
        self._clock = clock
        self._meter = meter
        self._log_path = log_path
        self._lock = asyncio.Lock()
        self._last: HostUse | None = None
        self._last_at = 0.0

    async def use(self) -> HostUse:
        """What is used now."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._last is None or now - self._last_at >= FRESH_S:
                made = await self._look()
                span_s = now - self._last_at
                if self._last is not None and span_s <= SPAN_MAX_S:
                    made = with_rates(made, self._last, span_s)
                self._last, self._last_at = made, now
            return self._last

    async def _look(self) -> HostUse:
        attempts = [a for a in self._roster.attempts.values() if not a.ended.is_set()]
        return await asyncio.to_thread(self._measure, attempts)

    def _measure(self, attempts: list[HostedAttempt]) -> HostUse:
        figures = self._meter.figures()
        gpu_memory = self._meter.gpu_memory_by_pid()
        return HostUse(
            self._worker_id,
            figures,
            tuple(self._attempt(attempt, gpu_memory) for attempt in attempts),
        )

    def _attempt(self, attempt: HostedAttempt, gpu_memory: dict[int, int]) -> AttemptUse:
        running = attempt.running
        used = NOTHING if running is None else running.usage()
        try:
            log_bytes = self._log_path(attempt.attempt_id).stat().st_size
        except OSError:  # it has printed nothing yet
            log_bytes = 0
        return AttemptUse(
            attempt_id=attempt.attempt_id,
            state=attempt.state,
            started_at=0.0 if running is None else running.started_at,
            cpu_s=used.cpu_s,
            memory_bytes=used.memory_bytes,
            processes=used.processes,
            read_bytes=used.read_bytes,
            written_bytes=used.written_bytes,
            gpu_memory_bytes=sum(gpu_memory.get(pid, 0) for pid in used.pids),
            log_bytes=log_bytes,
        )


def with_rates(now: HostUse, before: HostUse, span_s: float) -> HostUse:
    """A host with what was used between two looks.

    Args:
        now: The later one.
        before: The earlier one.
        span_s: The time between them, > 0.
    """
    earlier = {use.attempt_id: use.cpu_s for use in before.attempts}
    attempts = tuple(
        replace(use, cpus=max(use.cpu_s - earlier[use.attempt_id], 0.0) / span_s)
        if use.attempt_id in earlier
        else use
        for use in now.attempts
    )
    busy_s = max(now.host.cpu_busy_s - before.host.cpu_busy_s, 0.0)
    return replace(now, attempts=attempts, cpus=busy_s / span_s)


def agent_readings(use: HostUse, shipper: Shipper) -> list[Reading]:
    """What an agent shows.

    Args:
        use: What is used.
        shipper: Ships its logs.
    """
    host = use.host
    readings = [
        Reading("fray_host_cpus", host.cpus),
        Reading("fray_host_cpu_seconds_total", host.cpu_user_s, {"mode": "user"}),
        Reading("fray_host_cpu_seconds_total", host.cpu_system_s, {"mode": "system"}),
        Reading("fray_host_cpu_seconds_total", host.cpu_idle_s, {"mode": "idle"}),
        Reading("fray_host_memory_total_bytes", host.memory_total_bytes),
        Reading("fray_host_memory_available_bytes", host.memory_available_bytes),
        Reading("fray_host_disk_total_bytes", host.disk_total_bytes),
        Reading("fray_host_disk_free_bytes", host.disk_free_bytes),
        Reading("fray_host_network_received_bytes_total", host.received_bytes),
        Reading("fray_host_network_sent_bytes_total", host.sent_bytes),
    ]
    for gpu in host.accelerators:
        labels = {"gpu": str(gpu.index)}
        if gpu.busy is not None:
            readings.append(Reading("fray_gpu_utilization_ratio", gpu.busy, labels))
        readings.append(Reading("fray_gpu_memory_used_bytes", gpu.memory_used_bytes, labels))
        readings.append(Reading("fray_gpu_memory_total_bytes", gpu.memory_total_bytes, labels))
    for attempt in use.attempts[:ATTEMPTS_MAX]:
        readings += _attempt_readings(attempt)
    states: dict[str, int] = {}
    for attempt in use.attempts:
        states[attempt.state] = states.get(attempt.state, 0) + 1
    readings += [Reading("fray_host_attempts", n, {"state": s}) for s, n in states.items()]
    return [
        *readings,
        Reading("fray_logs_shipped_bytes_total", shipper.shipped_bytes),
        Reading("fray_logs_behind_bytes", shipper.behind_bytes),
        Reading("fray_logs_failures_total", shipper.failures),
    ]


def _attempt_readings(use: AttemptUse) -> list[Reading]:
    job, _, rest = use.attempt_id.rpartition("/")
    task, _, number = rest.partition("#")
    labels = {"job": job, "task": task, "attempt": number}
    return [
        Reading("fray_attempt_cpu_seconds_total", use.cpu_s, labels),
        Reading("fray_attempt_memory_bytes", use.memory_bytes, labels),
        Reading("fray_attempt_processes", use.processes, labels),
        Reading("fray_attempt_read_bytes_total", use.read_bytes, labels),
        Reading("fray_attempt_written_bytes_total", use.written_bytes, labels),
        Reading("fray_attempt_gpu_memory_bytes", use.gpu_memory_bytes, labels),
        Reading("fray_attempt_log_bytes_total", use.log_bytes, labels),
    ]


__all__ = ["HostMeter", "SystemMeter", "UsageDesk", "agent_readings", "with_rates"]
