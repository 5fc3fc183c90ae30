"""The environment variables of an attempt. Pure: facts in, variables out.

Three layers, the later ones over the earlier ones: what frameworks need (JAX, TPU, CUDA), what the
user asked for, and fray's own ``FRAY_*``, over which nobody else has a say. Values are secrets:
they go to the task's environment and nowhere else, never on a command line or into a log.

This room starts nothing and looks at nothing of the host. Sources of the names: the design's
"Environment of a job"; for TPUs the Cloud TPU and JAX documentation (``jax.distributed``, "Running
multiple JAX processes on one host"); for GPUs the CUDA programming guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fray.errors import InvalidRequestError
from fray.ids import JobId, Namespace

JAX_COORDINATOR_PORT = 8482
"""Where worker 0 of slice 0 coordinates, unless the agent chose a port."""

MEGASCALE_PORT = 8081
"""Where slices find each other, unless the agent chose a port."""

_PORT_PREFIX = "FRAY_PORT_"

_OWN_NAMES = (
    "FRAY_JOB_ID",
    "FRAY_JOB_NAME",
    "FRAY_REPLICA_ID",
    "FRAY_REPLICA_COUNT",
    "FRAY_TASK_INDEX",
    "FRAY_NUM_TASKS",
    "FRAY_ATTEMPT",
    "FRAY_ATTEMPT_ID",
    "FRAY_RUN_DIR",
    "FRAY_NAMESPACE",
    "FRAY_CLUSTER_ADDRESS",
    "FRAY_CLUSTER_SPEC",
    "FRAY_TOKEN_FILE",
)

_TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
"""How libtpu arranges some chips of one host; other numbers cannot be used together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIdentity:
    """What a task learns about itself.

    Attributes:
        job_id: Its job.
        job_name: The job's name, as the user gave it.
        replica_id: Which replica (slice) of the job, from 0.
        replica_count: How many replicas there are.
        task_index: Which task (process) of the job, from 0.
        num_tasks: How many tasks there are: replicas times hosts per replica.
        attempt: Which try at this task, from 0.
        namespace: Where its names live.
        cluster_address: The controller's ``host:port``.
        cluster_spec: What ``fray.connect()`` inside the task uses.
        token_file: The file with the job's token; never the token itself.
        ports: Named ports that the agent holds for it.
    """

    job_id: JobId
    job_name: str
    replica_id: int
    replica_count: int
    task_index: int
    num_tasks: int
    attempt: int
    namespace: Namespace
    cluster_address: str
    cluster_spec: str
    token_file: str
    ports: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMembership:
    """Where a task stands among the processes that compute together.

    Attributes:
        hosts: The addresses of its slice's hosts in the order of their workers, without ports.
        worker_id: Which of them this is, from 0.
        slice_id: Which slice, from 0.
        slice_count: How many slices compute together.
        coordinator_host: The address of worker 0 of slice 0.
        coordinator_port: Where JAX coordinates there.
        megascale_port: Where slices find each other there.
        metadata_server: Whether libtpu may ask the VM's metadata server. False in a container and
            off Google's cloud, where the question takes long and fails.
    """

    hosts: tuple[str, ...]
    worker_id: int
    slice_id: int = 0
    slice_count: int = 1
    coordinator_host: str
    coordinator_port: int = JAX_COORDINATOR_PORT
    megascale_port: int = MEGASCALE_PORT
    metadata_server: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShare:
    """Which of its host's accelerators a task may see.

    Attributes:
        kind: ``tpu``, ``cuda`` (NVIDIA) or ``rocm`` (AMD).
        visible: The ones that it may use: numbers, or for GPUs also UUIDs. None hides all.
        total: How many the host has.
    """

    kind: Literal["tpu", "cuda", "rocm"]
    visible: tuple[str, ...]
    total: int


def attempt_environment(
    identity: TaskIdentity,
    *,
    user: Mapping[str, str] | None = None,
    membership: SliceMembership | None = None,
    devices: DeviceShare | None = None,
) -> dict[str, str]:
    """All that an attempt's environment has beside its host's.

    Args:
        identity: What it learns about itself.
        user: What the user asked for. It wins over what frameworks get from fray; names that are
            fray's own are ignored.
        membership: Where it stands in a slice; ``None`` for a task that computes alone.
        devices: What it may see; ``None`` where the host has no accelerators, or they are virtual.

    Returns:
        Variables, sorted by name.

    Raises:
        InvalidRequestError: A name or value cannot be an environment variable; two port names
            become one variable; the chips of a TPU share cannot be used together.
    """
    variables: dict[str, str] = {}
    if devices is not None:
        variables.update(_device_variables(devices))
    if membership is not None:
        variables.update(_slice_variables(membership, devices))
    for name, value in (user or {}).items():
        _check(name, value)
        if not _is_own(name):
            variables[name] = value
    variables.update(_identity_variables(identity))
    return dict(sorted(variables.items()))


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What an attempt gets of its agent's environment.

    All but what belongs to the attempt that the agent itself may be part of (an agent, or a test of
    one, that runs inside a job).

    Args:
        environ: The agent's environment.
    """
    return {name: value for name, value in environ.items() if not _is_own(name)}


def port_variable(name: str) -> str:
    """The variable that holds a named port: ``http-api`` is in ``FRAY_PORT_HTTP_API``.

    Args:
        name: The port's name.

    Raises:
        InvalidRequestError: The name has no letter or digit.
    """
    suffix = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    if not suffix:
        raise InvalidRequestError(f"a port cannot be named {name!r}: it needs a letter or a digit")
    return _PORT_PREFIX + suffix


def _is_own(name: str) -> bool:
    return name in _OWN_NAMES or name.startswith(_PORT_PREFIX)


def _check(name: str, value: str) -> None:
    if not name or "=" in name or "\0" in name:
        raise InvalidRequestError(f"{name!r} cannot be the name of an environment variable")
    if "\0" in value:
        # The value is not shown: it is a secret.
        raise InvalidRequestError(f"the value of the environment variable {name} has a NUL in it")


def _identity_variables(identity: TaskIdentity) -> dict[str, str]:
    variables = {
        "FRAY_JOB_ID": identity.job_id,
        "FRAY_JOB_NAME": identity.job_name,
        "FRAY_REPLICA_ID": str(identity.replica_id),
        "FRAY_REPLICA_COUNT": str(identity.replica_count),
        "FRAY_TASK_INDEX": str(identity.task_index),
        "FRAY_NUM_TASKS": str(identity.num_tasks),
        "FRAY_ATTEMPT": str(identity.attempt),
        "FRAY_NAMESPACE": identity.namespace,
        "FRAY_CLUSTER_ADDRESS": identity.cluster_address,
        "FRAY_CLUSTER_SPEC": identity.cluster_spec,
        "FRAY_TOKEN_FILE": identity.token_file,
    }
    for name, port in identity.ports.items():
        variable = port_variable(name)
        if variable in variables:
            raise InvalidRequestError(f"two ports of this job would both be {variable}")
        variables[variable] = str(port)
    for name, value in variables.items():
        _check(name, value)
    return variables


def _device_variables(devices: DeviceShare) -> dict[str, str]:
    listed = ",".join(devices.visible)
    if devices.kind == "cuda":
        # By bus, so that numbers mean the same as in nvidia-smi and in every process.
        return {"CUDA_VISIBLE_DEVICES": listed, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if devices.kind == "rocm":
        return {"ROCR_VISIBLE_DEVICES": listed}
    if not devices.visible:
        # libtpu has no way to see nothing, and whoever imports JAX would take all the chips.
        return {"JAX_PLATFORMS": "cpu"}
    if len(devices.visible) == devices.total:
        return {}
    bounds = _TPU_BOUNDS.get(len(devices.visible))
    if bounds is None:
        raise InvalidRequestError(
            f"{len(devices.visible)} of a host's {devices.total} TPU chips cannot be used together;"
            f" possible are {', '.join(map(str, _TPU_BOUNDS))}"
        )
    return {
        "TPU_VISIBLE_CHIPS": listed,
        "TPU_CHIPS_PER_HOST_BOUNDS": bounds,
        "TPU_HOST_BOUNDS": "1,1,1",
    }


def _slice_variables(member: SliceMembership, devices: DeviceShare | None) -> dict[str, str]:
    host_count = len(member.hosts)
    coordinator = member.coordinator_host
    # The one that jax.distributed.initialize() reads itself, and two that by custom go with it.
    variables = {
        "JAX_COORDINATOR_ADDRESS": f"{coordinator}:{member.coordinator_port}",
        "JAX_NUM_PROCESSES": str(member.slice_count * host_count),
        "JAX_PROCESS_ID": str(member.slice_id * host_count + member.worker_id),
    }
    if devices is None or devices.kind != "tpu":
        return variables
    variables["TPU_WORKER_ID"] = str(member.worker_id)
    variables["TPU_WORKER_HOSTNAMES"] = ",".join(member.hosts)
    if not member.metadata_server:
        variables["TPU_SKIP_MDS_QUERY"] = "1"
    if member.slice_count > 1:
        variables |= {
            "MEGASCALE_COORDINATOR_ADDRESS": f"{coordinator}:{member.megascale_port}",
            "MEGASCALE_NUM_SLICES": str(member.slice_count),
            "MEGASCALE_PORT": str(member.megascale_port),
            "MEGASCALE_SLICE_ID": str(member.slice_id),
        }
    return variables


__all__ = [
    "JAX_COORDINATOR_PORT",
    "MEGASCALE_PORT",
    "DeviceShare",
    "SliceMembership",
    "TaskIdentity",
    "attempt_environment",
    "inherited",
    "port_variable",
]
