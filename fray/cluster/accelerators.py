"""What accelerators exist: TPU slices and their hosts, and peak arithmetic rates.

Facts of hardware, and nothing else: what a cluster owns or a job wants is said elsewhere
(`fray.cluster.resources`, `fray.cluster.devices`).

TPU names are Google's accelerator types. In ``v4-N`` and ``v5p-N`` (and v2, v3) N counts
TensorCores, two to a chip; in ``v5litepod-N`` and ``v6e-N`` it counts chips. A slice is a number
of virtual machines, one agent each: a small v5e or v6e slice is one machine with all its chips,
every other slice has machines of four chips.
Sources: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} and the vendors' data sheets (dense rates).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from fray.errors import InvalidRequestError

CHIPS_PER_VM = 4
"""Of every slice that has more than one machine."""


@dataclass(frozen=True, slots=True)
class TpuTopology:
    """The shape of one slice.

    Attributes:
        name: The accelerator type, as in ``v5litepod-16``.
        family: Its generation, as in ``v5litepod``: what one chip is.
        chip_count: Chips of the whole slice.
        vm_count: Machines (hosts) of the slice; one agent runs on each.
        chips_per_vm: Chips that each machine sees.
    """

    name: str
    family: str
    chip_count: int
    vm_count: int
    chips_per_vm: int


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    cores_per_chip: int
    """What the number in the type counts: 2 where it counts cores, 1 where it counts chips."""
    single_vm: tuple[int, ...]
    """Numbers whose slice is one machine."""
    largest: int
    step: int = 0
    """Every multiple of this is a type; 0: the powers of two are."""

    def sizes(self) -> tuple[int, ...]:
        """The numbers worth proposing to a person, smallest first."""
        sizes = list(self.single_vm)
        while sizes[-1] * 2 <= self.largest:
            sizes.append(sizes[-1] * 2)
        return tuple(sizes)

    def has(self, size: int) -> bool:
        if self.step and 0 < size <= self.largest:
            return size % self.step == 0
        return size in self.sizes()


_FAMILIES = (
    _Family("v2", 2, (8,), 512),
    _Family("v3", 2, (8,), 2048),
    _Family("v4", 2, (8,), 8192, step=8),
    _Family("v5p", 2, (8,), 12288, step=8),
    _Family("v5litepod", 1, (1, 4, 8), 256),
    _Family("v6e", 1, (1, 4, 8), 256),
)

_NICKNAMES = {"v5e": "v5litepod", "v5lite": "v5litepod", "v6lite": "v6e"}
"""What people write for a family; proposed in errors, never accepted in silence."""


def tpu_topology(tpu_type: str) -> TpuTopology:
    """Looks a TPU type up.

    Args:
        tpu_type: A Google accelerator type, as in ``v5litepod-16``.

    Raises:
        InvalidRequestError: There is no such type; the message proposes the nearest ones.
    """
    name, _, number = tpu_type.partition("-")
    for family in _FAMILIES:
        if family.name != name or not number.isdecimal() or not family.has(int(number)):
            continue
        size = int(number)
        chips = size // family.cores_per_chip
        vms = 1 if size in family.single_vm else chips // CHIPS_PER_VM
        return TpuTopology(tpu_type, name, chips, vms, chips // vms)
    raise InvalidRequestError(
        f"unknown TPU type {tpu_type!r}; did you mean {' or '.join(_nearest(tpu_type))}?"
    )


def _nearest(tpu_type: str) -> list[str]:
    name, _, number = tpu_type.lower().partition("-")
    name = _NICKNAMES.get(name, name)
    for family in _FAMILIES:
        if family.name == name and number.isdecimal():
            below = [size for size in family.sizes() if size <= int(number)][-1:]
            above = [size for size in family.sizes() if size >= int(number)][:1]
            return [repr(f"{name}-{size}") for size in dict.fromkeys(below + above)]
    known = [f"{family.name}-{size}" for family in _FAMILIES for size in family.sizes()]
    near = difflib.get_close_matches(f"{name}-{number}", known, n=3, cutoff=0.5)
    return [repr(each) for each in near or ["v5litepod-16", "v6e-8", "v5p-8"]]


_T = 1e12

_FLOPS: dict[str, dict[str, float]] = {
    "V100": {"fp64": 7.8 * _T, "fp32": 15.7 * _T, "fp16": 125 * _T},
    "T4": {"fp32": 8.1 * _T, "fp16": 65 * _T, "int8": 130 * _T},
    "A10": {"fp32": 31.2 * _T, "bf16": 125 * _T, "fp16": 125 * _T, "int8": 250 * _T},
    "A10G": {"fp32": 31.5 * _T, "bf16": 70 * _T, "fp16": 70 * _T, "int8": 140 * _T},
    "A40": {"fp32": 37.4 * _T, "bf16": 149.7 * _T, "fp16": 149.7 * _T, "int8": 299.3 * _T},
    "A6000": {"fp32": 38.7 * _T, "bf16": 154.8 * _T, "fp16": 154.8 * _T},
    "A100": {
        "fp64": 19.5 * _T,
        "fp32": 19.5 * _T,
        "tf32": 156 * _T,
        "bf16": 312 * _T,
        "fp16": 312 * _T,
        "int8": 624 * _T,
    },
    "L4": {"fp32": 30.3 * _T, "bf16": 121 * _T, "fp16": 121 * _T, "fp8": 242 * _T},
    "L40S": {"fp32": 91.6 * _T, "bf16": 362 * _T, "fp16": 362 * _T, "fp8": 733 * _T},
    "H100": {
        "fp64": 67 * _T,
        "fp32": 67 * _T,
        "tf32": 494.5 * _T,
        "bf16": 989.5 * _T,
        "fp16": 989.5 * _T,
        "fp8": 1979 * _T,
        "int8": 1979 * _T,
    },
    "H200": {
        "fp64": 67 * _T,
        "fp32": 67 * _T,
        "tf32": 494.5 * _T,
        "bf16": 989.5 * _T,
        "fp16": 989.5 * _T,
        "fp8": 1979 * _T,
        "int8": 1979 * _T,
    },
    "B100": {"bf16": 1750 * _T, "fp16": 1750 * _T, "fp8": 3500 * _T, "int8": 3500 * _T},
    "B200": {"bf16": 2250 * _T, "fp16": 2250 * _T, "fp8": 4500 * _T, "int8": 4500 * _T},
    "v2": {"bf16": 45 * _T},
    "v3": {"bf16": 123 * _T},
    "v4": {"bf16": 275 * _T, "int8": 275 * _T},
    "v5litepod": {"bf16": 197 * _T, "int8": 393 * _T},
    "v5p": {"bf16": 459 * _T, "int8": 918 * _T},
    "v6e": {"bf16": 918 * _T, "int8": 1836 * _T},
}

_VENDORS = ("nvidia", "tesla")

AUTO_GPU = "auto"
"""The GPU variant that any GPU satisfies."""

_AUTO_MEANS = "H100"


def canonical_gpu(variant: str) -> str:
    """The spelling under which a GPU variant is counted.

    Args:
        variant: As somebody wrote it: ``h100``, ``H100``, ``auto``, or a name unknown here.

    Returns:
        The known spelling, whatever the case; an unknown name as it is.
    """
    if variant.lower() == AUTO_GPU:
        return AUTO_GPU
    for name in _FLOPS:
        if name.lower() == variant.lower():
            return name
    return variant


def gpu_model(name: str) -> str:
    """The variant of a GPU, from what its driver calls it.

    Args:
        name: As in ``NVIDIA H100 80GB HBM3``, ``Tesla V100-SXM2-16GB`` or ``NVIDIA L40S``.

    Returns:
        The variant that is known here, as in ``H100``; else the name without its vendor, joined by
        hyphens, as in ``GeForce-RTX-4090``.
    """
    words = re.split(r"[\s-]+", name.strip())
    by_spelling = {known.lower(): known for known in _FLOPS}
    for word in words:
        if word.lower() in by_spelling:
            return by_spelling[word.lower()]
    return "-".join(word for word in words if word.lower() not in _VENDORS) or AUTO_GPU


def known_devices() -> tuple[str, ...]:
    """The GPU variants and TPU families that are known here, as they are counted."""
    return tuple(_FLOPS)


def peak_flops(device: str, dtype: str = "bf16") -> float:
    """The peak rate of one chip, dense, as its vendor states it.

    Args:
        device: A GPU variant (``auto`` counts as an H100) or a TPU type or family.
        dtype: ``fp64``, ``fp32``, ``tf32``, ``bf16``, ``fp16``, ``fp8`` or ``int8``; a leading
            ``amp_`` is ignored.

    Returns:
        Operations per second.

    Raises:
        InvalidRequestError: The device is unknown, or has no rate for this type.
    """
    name = canonical_gpu(device)
    if name not in _FLOPS:
        name = device.partition("-")[0]
    rates = _FLOPS[_AUTO_MEANS] if name == AUTO_GPU else _FLOPS.get(name)
    if rates is None:
        raise InvalidRequestError(
            f"no peak rates are known for {device!r}; known are {', '.join(_FLOPS)}"
        )
    rate = rates.get(dtype.lower().removeprefix("amp_"))
    if rate is None:
        raise InvalidRequestError(
            f"no {dtype} rate is known for {device!r}; known are {', '.join(rates)}"
        )
    return rate


__all__ = [
    "AUTO_GPU",
    "CHIPS_PER_VM",
    "TpuTopology",
    "canonical_gpu",
    "gpu_model",
    "known_devices",
    "peak_flops",
    "tpu_topology",
]
