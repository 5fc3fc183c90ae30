"""How much hosts keep of environments that are not in use: a setting of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fray.cluster.resources import parse_bytes
from fray.errors import InvalidRequestError

SIZE_VARIABLE = "FRAY_ENVIRONMENTS_SIZE_MAX"
"""Of an agent: sets the size on its host, as in ``50g``, whatever the cluster says."""


@dataclass(frozen=True, slots=True)
class ShelfLimits:
    """How much is kept of what is not in use.

    Attributes:
        count_max: Folders, at least 1.
        size_bytes_max: All of them together, in bytes, > 0. Files that uv shares with its cache
            count.

    Raises:
        InvalidRequestError: A value makes no sense.
    """

    count_max: int = 64
    size_bytes_max: int = 20 << 30

    def __post_init__(self) -> None:
        if isinstance(self.count_max, bool) or self.count_max < 1:
            raise InvalidRequestError(
                f"environments keeps 1 folder or more on a host, not {self.count_max!r}"
            )
        if isinstance(self.size_bytes_max, bool) or self.size_bytes_max < 1:
            raise InvalidRequestError("environments keeps more than nothing on a host")

    def on_host(self, environ: Mapping[str, str]) -> ShelfLimits:
        """Those of a host, whose agent's environment variables may set another size.

        Args:
            environ: The variables.

        Raises:
            InvalidRequestError: One is not a size.
        """
        told = environ.get(SIZE_VARIABLE, "")
        if not told:
            return self
        return replace(self, size_bytes_max=parse_bytes(told, what=SIZE_VARIABLE))


__all__ = ["SIZE_VARIABLE", "ShelfLimits"]
