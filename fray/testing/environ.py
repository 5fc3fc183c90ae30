"""Environment variables of simulated processes.

There is one ``os.environ`` in an interpreter. While a simulation runs, this mapping stands in its
place: code that runs in a simulated process which has variables of its own sees those, all other
code the real ones. Who took hold of the real mapping before (a default argument, ``from os import
environ``) keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar

VARIABLES: ContextVar[dict[str, str] | None] = ContextVar("fray_sim_environ", default=None)
"""The variables of the simulated process whose code runs; None where it has none of its own."""


class SimEnviron(MutableMapping[str, str]):
    """The environment of whoever asks.

    Args:
        real: That of the interpreter.
    """

    def __init__(self, real: MutableMapping[str, str]) -> None:
        self._real = real

    def __repr__(self) -> str:
        return f"environ({dict(self)!r})"

    def __getitem__(self, name: str) -> str:
        return self._present()[name]

    def __setitem__(self, name: str, value: str) -> None:
        if not isinstance(name, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"str expected, not {name!r} and {value!r}")
        self._present()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._present()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._present())

    def __len__(self) -> int:
        return len(self._present())

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**other, **self}

    def copy(self) -> dict[str, str]:
        """As `os.environ.copy`."""
        return dict(self)

    def _present(self) -> MutableMapping[str, str]:
        own = VARIABLES.get()
        return self._real if own is None else own


__all__ = ["VARIABLES", "SimEnviron"]
