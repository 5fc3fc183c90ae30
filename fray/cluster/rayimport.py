"""Ray, where it is installed: an extra of fray's."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fray.errors import UnsupportedError


def import_ray() -> Any:
    """Ray's module.

    Raises:
        UnsupportedError: It is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as exc:
        raise UnsupportedError(
            "Ray is not installed here: pip install 'fray-actors[ray]', or use fray's own cluster"
        ) from exc


__all__ = ["import_ray"]
