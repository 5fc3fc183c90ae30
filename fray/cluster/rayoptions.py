"""What jobs and actors need, in Ray's words."""

from __future__ import annotations

import sys
from typing import Any

from fray.cluster.resources import parse_bytes
from fray.cluster.types import GpuConfig, ResourceConfig, TpuConfig
from fray.errors import UnsupportedError


def bundle_of(resources: ResourceConfig) -> dict[str, float]:
    """What one replica needs.

    Args:
        resources: Of the job.
    """
    bundle: dict[str, float] = {
        "CPU": float(resources.cpu),
        "memory": float(parse_bytes(resources.ram)),
    }
    device = resources.device
    if isinstance(device, GpuConfig):
        bundle["GPU"] = float(device.count)
    elif isinstance(device, TpuConfig):
        bundle["TPU"] = float(device.chip_count())
    return bundle


def options_of(resources: ResourceConfig) -> dict[str, Any]:
    """Ray's options of an actor with these resources.

    Args:
        resources: They.
    """
    bundle = bundle_of(resources)
    options: dict[str, Any] = {"num_cpus": bundle.pop("CPU")}
    memory = bundle.pop("memory")
    if memory:
        options["memory"] = memory
    if "GPU" in bundle:
        options["num_gpus"] = bundle.pop("GPU")
    if bundle:
        options["resources"] = bundle
    return options


def import_environment() -> dict[str, Any]:
    """A runtime environment in which modules are found where this process finds them."""
    paths = [path for path in sys.path if path and not path.startswith(sys.base_prefix)]
    return {"env_vars": {"PYTHONPATH": ":".join(paths)}}


def actor_options(resources: ResourceConfig, *, what: str) -> dict[str, Any]:
    """Ray's options of the process of an actor of fray's.

    Args:
        resources: That it needs.
        what: Whose they are, for the error.

    Raises:
        UnsupportedError: It needs what Ray cannot give.
    """
    device = resources.device
    asked = {
        "regions": bool(resources.regions),
        "a TPU of several hosts": isinstance(device, TpuConfig) and device.vm_count() > 1,
    }
    wanted = [each for each, is_asked in asked.items() if is_asked]
    if wanted:
        raise UnsupportedError(
            f"{what} asks for {', '.join(wanted)}, which is not to be had on Ray; nothing was made"
        )
    return {**options_of(resources), "runtime_env": import_environment()}


__all__ = ["actor_options", "bundle_of", "import_environment", "options_of"]
