"""What ``@actor(...)`` and ``.options(...)`` accept, checked where it is written."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fray.checks import check_whole

LIFETIMES = ("non_detached", "detached")
PROCESSES = ("auto", "own", "shared")


class ResourceCheck:
    """Judges amounts of memory and types of TPUs, of which this layer knows nothing."""

    def __init__(self) -> None:
        self._check: Callable[[ActorOptions], object] | None = None

    def provide(self, check: Callable[[ActorOptions], object]) -> None:
        """Says who judges. The facade does.

        Args:
            check: Raises what is wrong with an actor's memory, tpu or resources.
        """
        self._check = check

    def __call__(self, options: ActorOptions) -> None:
        """Raises what is wrong with an actor's resources.

        Args:
            options: The actor's.
        """
        if self._check is not None:
            self._check(options)


RESOURCE_CHECK = ResourceCheck()
"""The one per operating-system process."""


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """How an actor is made, placed and run.

    Attributes:
        name: Exclusive name in its namespace; None for none.
        namespace: Where the name goes; None for the creator's namespace.
        num_cpus: CPUs it needs, ≥ 0; counted for placement.
        num_gpus: GPUs it needs, ≥ 0, fractions allowed.
        memory: Memory it needs, such as ``"8g"``; None for the default.
        tpu: TPU type it needs, such as ``"v5litepod-4"``.
        resources: A ``ResourceConfig``, instead of the four above.
        max_restarts: How often it is restarted after a failure, ≥ 0; -1 for always.
        max_preemptions: How often it is restarted after it was preempted or lost its host, which
            are nobody's fault and count apart, ≥ 0; -1 for always.
        max_concurrency: Calls that may run at once, ≥ 1.
        mailbox_calls_max: Calls that may wait; None for the default.
        thread_affinity: Run every plain method on the same thread.
        reentrant: Run calls that its own call causes, through whatever chain, beside that call,
            instead of raising `CallCycle` at whoever awaits them.
        lifetime: ``"detached"`` outlives its creator, and needs a name.
        get_if_exists: Give the living actor of that name, if there is one.
        process: ``"own"``: an operating-system process of its own; ``"shared"``: packed with
            others of its job; ``"auto"``: own on a cluster, in the local process locally.
        preemptible: Whether it may be placed on hosts that can be taken away.
        slice_host: Which host of a slice of ``tpu`` it has, from 0; for the children of a gang that
            take whole slices together, in the order of their hosts (`fray.group` makes such). None
            for an actor that has all of what ``tpu`` names.
    """

    name: str | None = None
    namespace: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    memory: str | None = None
    tpu: str | None = None
    resources: Any = None
    max_restarts: int = 0
    max_preemptions: int = 100
    max_concurrency: int = 1
    mailbox_calls_max: int | None = None
    thread_affinity: bool = False
    reentrant: bool = False
    lifetime: Literal["non_detached", "detached"] = "non_detached"
    get_if_exists: bool = False
    process: Literal["auto", "own", "shared"] = "auto"
    preemptible: bool = True
    slice_host: int | None = None

    def __post_init__(self) -> None:
        self._check_amounts()
        self._check_flags()
        if self.name is not None and (not isinstance(self.name, str) or not self.name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"an actor's name is a string that is not empty, not {self.name!r}")
        if self.namespace is not None and not (self.namespace and isinstance(self.namespace, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"a namespace is a string that is not empty, not {self.namespace!r}")
        if self.lifetime not in LIFETIMES:
            raise ValueError(f"lifetime is one of {', '.join(LIFETIMES)}, not {self.lifetime!r}")
        if self.process not in PROCESSES:
            raise ValueError(f"process is one of {', '.join(PROCESSES)}, not {self.process!r}")
        if self.get_if_exists and self.name is None:
            raise ValueError("get_if_exists needs a name: without one there is nothing to get")
        if self.reentrant and self.thread_affinity:
            raise ValueError(
                "a re-entrant actor runs a call while another waits, which one thread cannot: give "
                "either reentrant or thread_affinity"
            )
        judged = (self.memory, self.tpu, self.resources, self.slice_host)
        if any(each is not None for each in judged):
            RESOURCE_CHECK(self)

    def _check_flags(self) -> None:
        for field in ("thread_affinity", "reentrant", "get_if_exists", "preemptible"):
            value = getattr(self, field)
            if not isinstance(value, bool):
                raise TypeError(f"{field} is True or False, not {value!r}")

    def _check_amounts(self) -> None:
        for field in ("num_cpus", "num_gpus"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{field} is a number, not {value!r}")
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{field} must be 0 or more, not {value}")
        least_of = {
            "max_restarts": -1,
            "max_preemptions": -1,
            "max_concurrency": 1,
            "mailbox_calls_max": 1,
            "slice_host": 0,
        }
        for field, least in least_of.items():
            value = getattr(self, field)
            if value is None and field in ("mailbox_calls_max", "slice_host"):
                continue
            check_whole(field, value, least)
        if self.resources is not None and (self.num_gpus or self.tpu or self.memory):
            raise ValueError("give either resources=… or num_gpus/memory/tpu, not both")
        if self.tpu and self.num_gpus:
            raise ValueError("an actor has GPUs or a TPU, not both")

    def replace(self, **changes: Any) -> ActorOptions:
        """A copy with some options changed.

        Args:
            **changes: Options by name.

        Raises:
            TypeError: There is no such option; the message names the nearest.
            ValueError: A value is out of bounds.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for option in changes:
            if option not in known:
                close = difflib.get_close_matches(option, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise TypeError(
                    f"actors have no option {option!r}{hint} (options: {', '.join(known)})"
                )
        return dataclasses.replace(self, **changes)

    def check_creation(self) -> None:
        """What only matters when an actor is made.

        Raises:
            ValueError: A detached actor has no name.
        """
        if self.lifetime == "detached" and self.name is None:
            raise ValueError('lifetime="detached" needs a name: nobody could find the actor again')


__all__ = ["RESOURCE_CHECK", "ActorOptions", "ResourceCheck"]
