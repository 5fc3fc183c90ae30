"""NVIDIA GPUs, as their driver tells of them: through ``nvidia-ml-py``, where that is installed.

Without the package, the driver or a GPU there is nothing to tell, which is no error.

fray numbers the GPUs of a host by model, in the order of the models' names, and within a model as
they are on the bus. An agent that was itself given some GPUs only (``CUDA_VISIBLE_DEVICES``, as
Slurm sets it) has these and no others.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fray.cluster.accelerators import gpu_model
from fray.cluster.usage import AcceleratorUse

DRIVER = Path("/proc/driver/nvidia/version")

VISIBLE = "CUDA_VISIBLE_DEVICES"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Gpu:
    handle: Any
    token: str
    """What ``CUDA_VISIBLE_DEVICES`` calls it, in the order of the bus."""
    name: str
    split: bool
    """By MIG: CUDA gives a process one part of it, so that it is not this agent's to give."""


class Gpus:
    """The GPUs of this host.

    Args:
        nvml: The module ``pynvml``, or one like it; None to look for it.
        visible: Which of them are this agent's: numbers on the bus or UUIDs, with commas between
            them; None for all.
    """

    def __init__(self, nvml: Any = None, visible: str | None = None) -> None:
        self._nvml = nvml if nvml is not None else _import()
        self._visible = visible
        self._found: list[_Gpu] | None = None

    @classmethod
    def of_this_process(cls) -> Gpus:
        """Those that this process may use."""
        return cls(visible=os.environ.get(VISIBLE))

    def __repr__(self) -> str:
        return f"<Gpus {len(self._gpus())}>"

    def _gpus(self) -> list[_Gpu]:
        if self._found is None:
            self._found = []
            if self._nvml is not None:
                try:
                    self._nvml.nvmlInit()
                    self._found = sorted(self._open(), key=lambda g: (g.split, gpu_model(g.name)))
                except self._nvml.NVMLError as exc:
                    log.debug("no GPU tells of itself: %s", exc)
            elif DRIVER.exists():
                log.warning(
                    "there is an NVIDIA driver here, and nothing to ask it with: install "
                    "'fray-actors[gpu]', or say what this host has with --resources"
                )
        return self._found

    def _open(self) -> list[_Gpu]:
        nvml = self._nvml
        if self._visible is None:
            tokens = [str(index) for index in range(nvml.nvmlDeviceGetCount())]
        else:
            tokens = [each.strip() for each in self._visible.split(",") if each.strip()]
        found: list[_Gpu] = []
        for token in tokens:
            try:
                handle = (
                    nvml.nvmlDeviceGetHandleByIndex(int(token))
                    if token.isdecimal()
                    else nvml.nvmlDeviceGetHandleByUUID(token)
                )
                name = _text(nvml.nvmlDeviceGetName(handle))
            except nvml.NVMLError as exc:
                log.warning("GPU %s does not tell of itself, and is left out: %s", token, exc)
                continue
            found.append(_Gpu(handle, token, name, self._is_split(handle)))
        return found

    def models(self) -> dict[str, int]:
        """How many there are of each model, but for those that are split by MIG."""
        split = [gpu.token for gpu in self._gpus() if gpu.split]
        if split:
            log.warning(
                "left out, being split by MIG: GPU %s; say what there is with --resources",
                ", ".join(split),
            )
        return dict(Counter(gpu_model(gpu.name) for gpu in self._gpus() if not gpu.split))

    def _is_split(self, handle: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(handle)[0])
        except self._nvml.NVMLError:  # it has no such thing
            return False

    def tokens(self) -> tuple[str, ...]:
        """What ``CUDA_VISIBLE_DEVICES`` calls each, by its number here."""
        return tuple(gpu.token for gpu in self._gpus() if not gpu.split)

    def read(self) -> tuple[AcceleratorUse, ...]:
        """What they do now."""
        found: list[AcceleratorUse] = []
        for number, gpu in enumerate(self._gpus()):
            try:
                memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu.handle)
            except self._nvml.NVMLError as exc:  # it fell off the bus, perhaps
                log.debug("GPU %s does not tell: %s", gpu.token, exc)
                continue
            used, total = int(memory.used), int(memory.total)
            busy = self._busy(gpu.handle)
            found.append(AcceleratorUse("gpu", number, gpu.name, used, total, busy))
        return tuple(found)

    def _busy(self, handle: Any) -> float | None:
        try:
            return self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        except self._nvml.NVMLError:  # not with MIG
            return None

    def memory_by_pid(self) -> dict[int, int]:
        """How much of their memory each process has, in bytes."""
        found: dict[int, int] = {}
        for gpu in self._gpus():
            for process in self._processes(gpu):
                used = process.usedGpuMemory or 0  # None where the driver does not say
                found[process.pid] = found.get(process.pid, 0) + used
        return found

    def holders(self) -> dict[int, list[int]]:
        """The processes that have each GPU, by its number here."""
        return {
            number: [process.pid for process in self._processes(gpu)]
            for number, gpu in enumerate(self._gpus())
        }

    def _processes(self, gpu: _Gpu) -> list[Any]:
        try:
            return self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)
        except self._nvml.NVMLError as exc:
            log.debug("GPU %s does not tell who has it: %s", gpu.token, exc)
            return []


def _text(told: object) -> str:
    return told.decode() if isinstance(told, bytes) else str(told)


def _import() -> Any:
    try:
        import pynvml  # pyright: ignore[reportMissingImports,reportMissingModuleSource,reportMissingTypeStubs]
    except ImportError:
        return None
    return pynvml


__all__ = ["Gpus"]
