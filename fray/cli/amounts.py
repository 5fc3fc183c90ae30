"""What hosts have and jobs need, as numbers for scripts and in words for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fray.cluster.devices import GpuConfig, ResourceConfig, TpuConfig
from fray.cluster.resources import MILLI, Resources, parse_bytes
from fray.wording import counted


def resources_json(amounts: Resources) -> dict[str, Any]:
    """What a host has, or what of it is taken, for scripts.

    Args:
        amounts: The amounts.
    """
    return {
        "cpus": amounts.cpu_milli / MILLI,
        "memory_bytes": amounts.memory_bytes,
        "disk_bytes": amounts.disk_bytes,
        "gpus": {variant: milli / MILLI for variant, milli in amounts.gpus.items()},
        "tpu_chips": dict(amounts.tpus),
    }


def needs_json(needs: ResourceConfig) -> dict[str, Any]:
    """What a job needs, for scripts: each task, but the device of each replica.

    Args:
        needs: Of the job.
    """
    device = needs.device
    return {
        "replicas": needs.replicas,
        "cpus": needs.cpu,
        "memory_bytes": parse_bytes(needs.ram),
        "disk_bytes": parse_bytes(needs.disk),
        "device": {
            "kind": device.kind,
            "variant": None if device.kind == "cpu" else device.variant,
            "count": device.count if isinstance(device, GpuConfig) else None,
            "topology": device.topology if isinstance(device, TpuConfig) else None,
        },
    }


def needs_text(needs: ResourceConfig) -> str:
    """The same for people, as in ``2 × (4 cpus, 8g, gpu H100)``.

    Args:
        needs: Of the job.
    """
    parts = [counted(float(needs.cpu), "cpu"), needs.ram]
    if needs.device.kind != "cpu":
        parts.append(f"{needs.device.kind} {needs.device.variant}")
    text = ", ".join(parts)
    return text if needs.replicas == 1 else f"{needs.replicas} × ({text})"


def limits_json(amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts by name, with the unit in the name where there is one.

    Args:
        amounts: See `fray.cluster.scheduling.accounts.Amounts`.
    """
    return {"memory_bytes" if name == "memory" else name: n for name, n in amounts.items()}


def spent_json(amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts times seconds by name, likewise.

    Args:
        amounts: Resource-seconds by name.
    """
    return {f"{name}_s": amount for name, amount in limits_json(amounts).items()}


__all__ = ["limits_json", "needs_json", "needs_text", "resources_json", "spent_json"]
