"""Cluster specs: ``fray://host[:50051]``, ``local[?use_processes=1&max_workers=4]``, ``ray``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fray.cluster.addresses import split_address
from fray.errors import InvalidRequestError

KINDS = ("fray", "local", "ray")

FLAGS = {
    "1": True,
    "true": True,
    "True": True,
    "yes": True,
    "0": False,
    "false": False,
    "False": False,
    "no": False,
}


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A spec, taken apart.

    Attributes:
        kind: ``fray``, ``local`` or ``ray``.
        address: ``host:port`` of a fray cluster's controller.
        options: What stands behind the question mark.
    """

    kind: str
    address: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    def local_options(self) -> dict[str, Any]:
        """The options of a local cluster, as its constructor takes them.

        Raises:
            InvalidRequestError: One is unknown, or its value makes no sense.
        """
        taken: dict[str, Any] = {}
        for name, text in self.options.items():
            if name == "max_workers":
                if not text.isdigit() or int(text) < 1:
                    raise InvalidRequestError(f"max_workers is a number from 1, not {text!r}")
                taken[name] = int(text)
            elif name in ("use_processes", "use_isolated_env", "strict"):
                if text not in FLAGS:
                    raise InvalidRequestError(f"{name} is 1 or 0, not {text!r}")
                taken[name] = FLAGS[text]
            else:
                raise InvalidRequestError(
                    f"a local cluster has no option {name!r} (options: max_workers, strict, "
                    "use_isolated_env, use_processes)"
                )
        return taken

    def ray_options(self) -> dict[str, str]:
        """The options of a cluster on Ray, as its constructor takes them.

        Raises:
            InvalidRequestError: One is unknown, or empty.
        """
        for name, text in self.options.items():
            if name != "namespace":
                raise InvalidRequestError(
                    f"a cluster on Ray has no option {name!r} (there is: namespace)"
                )
            if not text:
                raise InvalidRequestError("the namespace of a cluster on Ray is empty")
        return dict(self.options)


def parse_spec(spec: str) -> ClusterSpec:
    """Takes a spec apart.

    Args:
        spec: See the module.

    Raises:
        InvalidRequestError: It cannot be read; the message says what it may be.
    """
    if not isinstance(spec, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"a cluster is named by a string, not {spec!r}")
    base, _, query = spec.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    kind, separator, address = base.partition("://")
    if kind == "fray" and separator and address and not options:
        host, port = split_address(address)
        return ClusterSpec("fray", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if kind in ("local", "ray") and not separator:
        parsed = ClusterSpec(kind, "", options)
        # Raises what is wrong with them.
        _ = parsed.local_options() if kind == "local" else parsed.ray_options()
        return parsed
    raise InvalidRequestError(
        f"{spec!r} is no cluster: write fray://host[:port], local[?use_processes=1&max_workers=4] "
        "or ray[?namespace=…]"
    )


__all__ = ["ClusterSpec", "parse_spec"]
