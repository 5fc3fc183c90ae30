"""Which actor system the running code uses.

The *current* one: whose actor, job or connection the code belongs to (a context variable), else
the default: the one that was chosen, else that of the newest open connection, else the provider's
(that of the cluster which the environment names; the facade installs the provider, since this layer
knows no cluster).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from fray.errors import FrayError

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem

CURRENT_SYSTEM: ContextVar[ActorSystem | None] = ContextVar("fray_current_system", default=None)
"""The system whose actor, job or connection the running code belongs to."""


class DefaultSystem:
    """The system of code that belongs to none: set by a connection, else made by the provider."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stack: list[ActorSystem] = []
        self._chosen: ActorSystem | None = None
        self._provider: Callable[[bool], ActorSystem] | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a fork: its parent's connections are not its own, and somebody may hold the lock."""
        self._lock = threading.RLock()
        self._stack = []
        self._chosen = None
        CURRENT_SYSTEM.set(None)

    def provide(self, provider: Callable[[bool], ActorSystem]) -> None:
        """Says who makes a system where there is none. The facade does.

        Args:
            provider: Gives an open system, the same one as long as it is open. Told whether it may
                start a cluster for that.
        """
        self._provider = provider

    def push(self, system: ActorSystem) -> None:
        """A connection opened: its system is the default now.

        Args:
            system: The system.
        """
        with self._lock:
            self._stack.append(system)

    def choose(self, system: ActorSystem | None) -> None:
        """Somebody chose a system: it is the default whatever opens after it.

        Args:
            system: The system; None for none.
        """
        self._chosen = system

    def remove(self, system: ActorSystem) -> None:
        """A connection closed.

        Args:
            system: The system.
        """
        with self._lock:
            self._stack = [s for s in self._stack if s is not system]

    def get(self, *, start: bool = True) -> ActorSystem:
        """The default system; made where there is none.

        Args:
            start: Whether a cluster may be started for that.

        Raises:
            FrayError: There is none, and none may be started.
        """
        with self._lock:
            open_ones = [*self._stack, self._chosen]
        for system in reversed(open_ones):
            if system is not None and not system.closed:
                return system
        if self._provider is None:
            raise FrayError("no actor system: call fray.connect() first")
        return self._provider(start)


DEFAULT_SYSTEM = DefaultSystem()
"""The one per operating-system process; connections put themselves in."""


def current_system(*, start: bool = True) -> ActorSystem:
    """The system that the running code belongs to, else the default one.

    Args:
        start: Whether a cluster may be started where there is none.

    Raises:
        FrayError: There is none, and none may be started.
    """
    system = CURRENT_SYSTEM.get()
    if system is not None and not system.closed:
        return system
    return DEFAULT_SYSTEM.get(start=start)


@contextlib.contextmanager
def using(system: ActorSystem) -> Generator[None]:
    """Makes a system the current one for a block.

    Args:
        system: The system.
    """
    token = CURRENT_SYSTEM.set(system)
    try:
        yield
    finally:
        CURRENT_SYSTEM.reset(token)


__all__ = ["CURRENT_SYSTEM", "DEFAULT_SYSTEM", "DefaultSystem", "current_system", "using"]
