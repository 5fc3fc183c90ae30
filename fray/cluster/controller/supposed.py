"""Jobs that nobody has submitted, as the scheduler would see them."""

from fray.cluster.controller.specs import GangScope, JobSpec, Program
from fray.cluster.controller.units import shape_of
from fray.cluster.devices import ResourceConfig, TpuConfig
from fray.cluster.scheduling.view import Block, TaskKey, Unit, Waiting
from fray.ids import JobId, Namespace

NAME = "whatif"


def supposed_units(
    resources: ResourceConfig,
    now: float,
    *,
    user: str,
    priority: int,
    reservation: str = "",
    time_limit_s: float | None = None,
) -> list[Unit]:
    """What a job would consist of if it were submitted now.

    Args:
        resources: What each replica needs, and how many there are.
        now: The time, in seconds since 1970.
        user: Whose it would be.
        priority: See `fray.cluster.priority`.
        reservation: Whose resources it would use.
        time_limit_s: How long it would run at most.
    """
    device = resources.device
    hosts = device.vm_count() if isinstance(device, TpuConfig) else 1
    spec = JobSpec(
        job_id=JobId(f"{user}/{NAME}"),
        name=NAME,
        user=user,
        namespace=Namespace(NAME),
        program=Program(command=(NAME,)),
        resources=resources,
        hosts_per_replica=hosts,
        gang=GangScope.REPLICA if hosts > 1 else GangScope.TASK,
        reservation=reservation,
        time_limit_s=time_limit_s,
    )
    shape = shape_of(spec)
    units: list[Unit] = []
    for replica in range(resources.replicas):
        keys = [TaskKey(spec.job_id, replica * hosts + host) for host in range(hosts)]
        kind = f"gang:{spec.job_id}/r{replica}" if hosts > 1 else f"task:{keys[0]}"
        block = Block(tuple(Waiting(key, 0) for key in keys), shape)
        units.append(
            Unit(
                kind,
                (block,),
                submitted_at=now,
                rank=1 << 62,
                user=user,
                priority=priority,
            )
        )
    return units


__all__ = ["NAME", "supposed_units"]
