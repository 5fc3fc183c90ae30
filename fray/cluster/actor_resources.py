"""What an actor's options ask of a host, as the resources of its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cluster.devices import ResourceConfig, TpuConfig
from fray.cluster.resources import parse_bytes
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    from fray.actor.options import ActorOptions


def resources_of(options: ActorOptions) -> ResourceConfig:
    """The resources that an actor needs.

    Args:
        options: The actor's.

    Raises:
        TypeError: ``resources`` or ``tpu`` is something else.
        InvalidRequestError: An amount or a type cannot be read, or a slice has no such host; the
            message names it.
    """
    found = _resources_of(options)
    if options.slice_host is not None:
        _check_slice_host(found, options.slice_host)
    return found


def _check_slice_host(resources: ResourceConfig, host: int) -> None:
    device = resources.device
    if not isinstance(device, TpuConfig):
        raise InvalidRequestError(f"slice_host={host} needs a tpu, whose slice is meant")
    if host >= device.vm_count():
        raise InvalidRequestError(
            f"slice_host={host}: a {device.variant} slice has {device.vm_count()} hosts, from 0"
        )


def _resources_of(options: ActorOptions) -> ResourceConfig:
    if options.resources is not None:
        if not isinstance(options.resources, ResourceConfig):
            raise TypeError(f"resources is a ResourceConfig, not {options.resources!r}")
        options.resources.validate()
        return options.resources
    ram = "0"
    if options.memory is not None:
        parse_bytes(options.memory, what="memory")
        ram = options.memory
    if options.tpu is not None:
        if not isinstance(options.tpu, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"tpu is a type such as 'v5litepod-4', not {options.tpu!r}")
        return ResourceConfig.with_tpu(
            options.tpu, cpu=options.num_cpus, ram=ram, preemptible=options.preemptible
        )
    if options.num_gpus:
        return ResourceConfig.with_gpu(
            count=options.num_gpus,
            cpu=options.num_cpus,
            ram=ram,
            preemptible=options.preemptible,
        )
    return ResourceConfig.with_cpu(cpu=options.num_cpus, ram=ram, preemptible=options.preemptible)


__all__ = ["resources_of"]
