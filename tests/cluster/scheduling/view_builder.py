"""Makes views with as few words as possible."""

from collections.abc import Iterable
from dataclasses import replace

from fray.cluster.accelerators import tpu_topology
from fray.cluster.resources import Resources
from fray.cluster.scheduling.feasible import Refusal, fit
from fray.cluster.scheduling.hosts import Host, SliceMember
from fray.cluster.scheduling.inventory import charge
from fray.cluster.scheduling.view import (
    Block,
    ClusterView,
    Part,
    Running,
    Shape,
    TaskKey,
    Unit,
    Waiting,
)

GIB = 1 << 30


class Builder:
    """Makes hosts, shapes, units and views."""

    def need(self, cpu: float = 1, gpus=None, tpus=None) -> Resources:
        gpus = {variant: round(count * 1000) for variant, count in (gpus or {}).items()}
        return Resources(round(cpu * 1000), GIB, GIB, gpus, tpus or {})

    def host(self, name: str, cpu: float = 8, gpus=None, tpus=None, **values) -> Host:
        gpus = {variant: count * 1000 for variant, count in (gpus or {}).items()}
        capacity = Resources(round(cpu * 1000), 64 * GIB, 512 * GIB, gpus, tpus or {})
        return Host(name, capacity, **values)

    def slice(self, name: str, tpu_type: str = "v5litepod-16", missing=(), **values) -> list[Host]:
        topology = tpu_topology(tpu_type)
        return [
            self.host(
                f"{name}-{index}",
                tpus={topology.family: topology.chips_per_vm},
                slice=SliceMember(name, tpu_type, index, topology.vm_count),
                **values,
            )
            for index in range(topology.vm_count)
            if index not in missing
        ]

    def shape(self, cpu: float = 1, gpus=None, tpu: str = "", **values) -> Shape:
        if not tpu:
            return Shape(self.need(cpu, gpus), **values)
        topology = tpu_topology(tpu)
        need = self.need(cpu, tpus={topology.family: topology.chips_per_vm})
        return Shape(need, tpu_type=tpu, hosts=topology.vm_count, **values)

    def block(self, shape: Shape, job: str = "u/j", first: int = 0, attempt: int = 0) -> Block:
        keys = (TaskKey(job, first + index) for index in range(shape.hosts))
        return Block(tuple(Waiting(key, attempt) for key in keys), shape)

    def unit(self, *blocks: Block | Shape, job: str = "u/j", **values) -> Unit:
        made: list[Block] = []
        count = 0
        for block in blocks:
            made.append(self.block(block, job, count) if isinstance(block, Shape) else block)
            count += len(made[-1].tasks)
        key = made[0].tasks[0].key
        return Unit(**{"unit_id": f"task:{key}", "blocks": tuple(made), **values})

    def running(self, job: str, *on: tuple[Host, Shape], **values) -> Running:
        """Something that runs; the hosts are to be given with it already on them."""
        parts = []
        for index, (host, shape) in enumerate(on):
            answer = fit(host, shape)
            assert not isinstance(answer, Refusal), answer
            parts.append(Part(f"{job}/{index}#0", host.worker_id, answer))
        return Running(
            **{
                "unit_id": f"task:{job}/0" if len(on) == 1 else f"gang:{job}/r0",
                "job_id": job,
                "user": job.partition("/")[0],
                "priority": 0,
                "evictable": True,
                "reservation": "",
                "parts": tuple(parts),
                "saved_at": 0.0,
                **values,
            }
        )

    def view(
        self,
        hosts: Iterable[Host],
        units: Iterable[Unit],
        running: Iterable[Running] = (),
        **values,
    ) -> ClusterView:
        """A view; what runs is put on its hosts."""
        there = {host.worker_id: host for host in hosts}
        running = tuple(running)
        for each in running:
            for part in each.parts:
                host = there[part.worker_id]
                devices = charge(host.devices, host.capacity, part.allocation, 1)
                used = host.used + part.allocation.resources
                there[part.worker_id] = replace(host, used=used, devices=devices)
        return ClusterView(1, there, tuple(units), running=running, **values)
