"""What a job may ask for: the seed's device and resource descriptions.

They are checked where they are made, so that a typing mistake is told at the line that has it
and not by a scheduler an hour later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fray.cluster.accelerators import AUTO_GPU, peak_flops, tpu_topology
from fray.cluster.constraints import check_labels, parse_constraint
from fray.cluster.names import DEMANDS_MAX, check_count, check_tasks
from fray.cluster.resources import UNITS_MAX, parse_bytes
from fray.errors import InvalidRequestError, UnsupportedError
from fray.wording import counted

TpuType: TypeAlias = str
"""A Google accelerator type, as in ``v5litepod-16``; see `fray.cluster.accelerators`."""

GpuType: TypeAlias = str
"""A GPU variant, as in ``H100``; ``auto`` is satisfied by any."""

_CPU_NOMINAL_FLOPS = 100e9
"""What a job without accelerators counts as where rates are compared: an order of magnitude."""


@dataclass(frozen=True)
class CpuConfig:
    """No accelerator.

    Attributes:
        kind: Always ``cpu``.
        variant: Always ``cpu``; other kinds name their model here.
    """

    kind: Literal["cpu"] = "cpu"
    variant: str = "cpu"

    def chip_count(self) -> int:
        """Accelerator chips: none."""
        return 0

    def device_flops(self, dtype: str = "bf16") -> float:
        """CPUs have no peak rate worth stating.

        Args:
            dtype: Ignored.

        Raises:
            UnsupportedError: Always (it is a `NotImplementedError` too).
        """
        raise UnsupportedError("peak rates of CPUs are not known; ask for a GPU's or a TPU's")


@dataclass(frozen=True)
class GpuConfig:
    """GPUs of one host.

    Attributes:
        variant: The model, as in ``H100``; ``auto`` takes any.
        kind: Always ``gpu``.
        count: How many per task: a whole number up to a million, or a fraction below 1 of a shared
            one.

    Raises:
        InvalidRequestError: The count or variant makes no sense.
    """

    variant: GpuType
    kind: Literal["gpu"] = "gpu"
    count: float = 1

    def __post_init__(self) -> None:
        if not self.variant:
            raise InvalidRequestError(f"a GPU needs a variant, such as 'H100' or {AUTO_GPU!r}")
        if not _is_amount(self.count) or not self.count or (self.count > 1 and self.count % 1):
            raise InvalidRequestError(
                f"a GPU count must be a whole number or a fraction below 1, not {self.count!r}"
            )
        _check_units("a GPU count", self.count)

    def chip_count(self) -> int:
        """GPUs that a task sees; a shared one counts as one."""
        return math.ceil(self.count)

    def device_flops(self, dtype: str = "bf16") -> float:
        """Peak operations per second of one GPU.

        Args:
            dtype: See `fray.cluster.accelerators.peak_flops`.

        Raises:
            InvalidRequestError: No rate is known.
        """
        return peak_flops(self.variant, dtype)

    def total_flops(self, dtype: str = "bf16") -> float:
        """Peak operations per second of all GPUs of one task.

        Args:
            dtype: See `device_flops`.

        Raises:
            InvalidRequestError: No rate is known.
        """
        return self.device_flops(dtype) * self.count


@dataclass(frozen=True)
class TpuConfig:
    """One TPU slice.

    Attributes:
        variant: Google's accelerator type, as in ``v5litepod-16``.
        kind: Always ``tpu``.
        topology: The arrangement of its chips, as in ``4x4``, where it matters.

    Raises:
        InvalidRequestError: The type is unknown (the message proposes others), or the topology
            has another number of chips.
    """

    variant: TpuType
    kind: Literal["tpu"] = "tpu"
    topology: str | None = None

    def __post_init__(self) -> None:
        chips = tpu_topology(self.variant).chip_count
        if self.topology is None:
            return
        sides = self.topology.split("x")
        if not all(side.isdecimal() for side in sides):
            raise InvalidRequestError(
                f"a TPU topology is written like '4x4' or '2x2x4', not {self.topology!r}"
            )
        if math.prod(int(side) for side in sides) != chips:
            raise InvalidRequestError(
                f"topology {self.topology} does not have the {counted(chips, 'chip')} of a "
                f"{self.variant}"
            )

    def chip_count(self) -> int:
        """Chips of the slice."""
        return tpu_topology(self.variant).chip_count

    def vm_count(self) -> int:
        """Hosts of the slice; a job has one task on each."""
        return tpu_topology(self.variant).vm_count

    def device_flops(self, dtype: str = "bf16") -> float:
        """Peak operations per second of one chip.

        Args:
            dtype: See `fray.cluster.accelerators.peak_flops`.

        Raises:
            InvalidRequestError: No rate is known.
        """
        return peak_flops(self.variant, dtype)

    def total_flops(self, dtype: str = "bf16") -> float:
        """Peak operations per second of the slice.

        Args:
            dtype: See `device_flops`.

        Raises:
            InvalidRequestError: No rate is known.
        """
        return self.device_flops(dtype) * self.chip_count()


DeviceConfig: TypeAlias = CpuConfig | GpuConfig | TpuConfig
"""Any device description."""


def _no_labels() -> Mapping[str, str]:
    return {}


def _no_preferences() -> Mapping[str, float]:
    return {}


@dataclass
class ResourceConfig:
    """What each replica of a job needs, and how many replicas there are.

    It may be changed after it was made; whoever takes it for a job checks it again (`validate`).

    Attributes:
        cpu: CPUs per task; 0 to a million, fractions are fine.
        ram: Memory per task, at most 1 PiB, as in ``8g``; see `fray.cluster.resources.parse_bytes`.
        disk: Disk per task, likewise, as in ``10g``.
        device: The accelerators of one replica; a TPU slice may span several hosts.
        replicas: How many; for TPUs, slices. At least 1, at most `TASKS_MAX` tasks.
        preemptible: Whether hosts that the cloud may take back will do.
        regions: Where it may run; None is anywhere.
        zones: The same for zones.
        labels: Labels that its hosts must have, with these values.
        constraints: What else its hosts must be, as in ``zone!=us-a`` or ``device in H100,A100``;
            see `fray.cluster.constraints`.
        preferences: What would be nice: constraints and their weights, above 0. Among the hosts
            that will do, those with the greatest sum are taken.

    Raises:
        InvalidRequestError: A value makes no sense.
    """

    cpu: float = 1
    ram: str = "128m"
    disk: str = "1g"
    device: DeviceConfig = field(default_factory=CpuConfig)
    replicas: int = 1
    preemptible: bool = True
    regions: Sequence[str] | None = None
    zones: Sequence[str] | None = None
    labels: Mapping[str, str] = field(default_factory=_no_labels)
    constraints: Sequence[str] = ()
    preferences: Mapping[str, float] = field(default_factory=_no_preferences)

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Checks every value.

        Raises:
            InvalidRequestError: A value makes no sense; the message names it.
        """
        if not _is_amount(self.cpu):
            raise InvalidRequestError(f"cpu must be a number of CPUs, at least 0, not {self.cpu!r}")
        _check_units("cpu", self.cpu)
        parse_bytes(self.ram, what="ram")
        parse_bytes(self.disk, what="disk")
        if not _is_amount(self.replicas) or self.replicas < 1 or self.replicas % 1:
            raise InvalidRequestError(
                f"replicas must be a whole number, at least 1, not {self.replicas!r}"
            )
        check_tasks(self.replicas, "replicas")
        _check_device(self.device)
        _check_names("region", self.regions)
        _check_names("zone", self.zones)
        check_labels(self.labels)
        if isinstance(self.constraints, str):
            raise InvalidRequestError(f"constraints must be a list: [{self.constraints!r}]")
        check_count(len(self.constraints), DEMANDS_MAX, "constraints")
        for text in self.constraints:
            parse_constraint(text)
        _check_preferences(self.preferences)

    @classmethod
    def with_tpu(cls, tpu_type: TpuType, slice_count: int = 1, **kwargs: Any) -> ResourceConfig:
        """Asks for TPU slices.

        Args:
            tpu_type: Google's accelerator type, as in ``v5litepod-16``.
            slice_count: How many slices; each is one replica.
            **kwargs: Other fields of `ResourceConfig`.

        Raises:
            InvalidRequestError: A value makes no sense.
        """
        return cls(device=TpuConfig(tpu_type), replicas=slice_count, **kwargs)

    @classmethod
    def with_gpu(
        cls, gpu_type: GpuType = AUTO_GPU, count: float = 1, **kwargs: Any
    ) -> ResourceConfig:
        """Asks for GPUs.

        Args:
            gpu_type: The model; ``auto`` takes any.
            count: How many per replica, or a fraction below 1.
            **kwargs: Other fields of `ResourceConfig`.

        Raises:
            InvalidRequestError: A value makes no sense.
        """
        return cls(device=GpuConfig(gpu_type, count=count), **kwargs)

    @classmethod
    def with_cpu(cls, **kwargs: Any) -> ResourceConfig:
        """Asks for CPUs only.

        Args:
            **kwargs: Other fields of `ResourceConfig`.

        Raises:
            InvalidRequestError: A value makes no sense.
        """
        return cls(device=CpuConfig(), **kwargs)

    def chip_count(self) -> int:
        """Accelerator chips of all replicas together."""
        return self.device.chip_count() * self.replicas

    def device_flops(self, dtype: str = "bf16") -> float:
        """Peak operations per second of one chip.

        Args:
            dtype: See `fray.cluster.accelerators.peak_flops`.

        Raises:
            InvalidRequestError: No rate is known.
            UnsupportedError: There is no accelerator.
        """
        return self.device.device_flops(dtype)

    def total_flops(self, dtype: str = "bf16") -> float:
        """Peak operations per second of all replicas together.

        Args:
            dtype: See `device_flops`.

        Returns:
            For a job without accelerators a nominal 1e11, so that quotients stay finite.

        Raises:
            InvalidRequestError: No rate is known.
        """
        if isinstance(self.device, CpuConfig):
            return _CPU_NOMINAL_FLOPS
        return self.device.total_flops(dtype) * self.replicas


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < math.inf


def _check_units(what: str, amount: float) -> None:
    if amount > UNITS_MAX:
        raise InvalidRequestError(f"{what} is at most {UNITS_MAX:,}: no host has more")


def _check_names(what: str, names: Sequence[str] | None) -> None:
    if isinstance(names, str):
        raise InvalidRequestError(f"{what}s must be a list of names: [{names!r}]")
    if names is not None and not all(names):
        raise InvalidRequestError(f"a {what}'s name is empty in {list(names)}")


def _check_preferences(preferences: Mapping[str, float]) -> None:
    if not isinstance(preferences, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(
            f"preferences must give a weight to each constraint, as in {{'zone=us-a': 10}}; "
            f"not {preferences!r}"
        )
    check_count(len(preferences), DEMANDS_MAX, "preferences")
    for text, weight in preferences.items():
        parse_constraint(text)
        if not _is_amount(weight) or not weight:
            raise InvalidRequestError(
                f"the weight of preference {text!r} must be a number above 0, not {weight!r}"
            )


def _check_device(device: object) -> None:
    if not isinstance(device, CpuConfig | GpuConfig | TpuConfig):
        raise InvalidRequestError(
            f"device must be a CpuConfig, GpuConfig or TpuConfig, not {device!r}"
        )


__all__ = [
    "CpuConfig",
    "DeviceConfig",
    "GpuConfig",
    "GpuType",
    "ResourceConfig",
    "TpuConfig",
    "TpuType",
]
