"""What users say of the children of their supervisors, and are told of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from fray.actor.decorator import ActorFactory, options_of
from fray.actor.handle import ActorHandle
from fray.errors import DeathCause
from fray.runtime.restart import RestartType

if TYPE_CHECKING:
    from fray.actor.supervisor import Supervisor  # noqa: TC004 - nobody reads this into a spec

SHUTDOWN_S = 5.0
"""How long a child may take to stop unless its spec says otherwise: OTP's default."""


def _no_arguments() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor makes and treats a child.

    Attributes:
        name: Unique among its siblings; not the name under which others look it up, which is an
            option of the actor.
        actor: An actor's class, plain or with ``.options(…)``; or a `Supervisor` that was not
            started, for a tree within the tree. An actor's ``max_restarts`` is not used: its
            supervisor restarts it.
        args: Of the class's constructor, as they are when the child is added.
        kwargs: Likewise.
        restart: ``"permanent"``: it is restarted whenever it ends, even if its handle stopped it;
            ``"transient"``: only after an abnormal end; ``"temporary"``: never.
        shutdown_s: How long its present calls may take when it is stopped, in seconds, ≥ 0; may be
            infinite. Then they are cancelled, and they and ``on_stop`` may take as long again; then
            it is killed. 0 kills it at once. A supervisor has all the time that its children need.
        significant: The supervisor ends in good order once this child has ended and is not
            restarted; such a child is transient or temporary.

    Raises:
        TypeError: ``actor`` is neither a class nor a supervisor, or the arguments do not fit.
        ValueError: A value is out of bounds, or the actor is detached, or got by ``get_if_exists``:
            it belongs to its supervisor.
    """

    name: str
    actor: type[Any] | ActorFactory[Any] | Supervisor
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=_no_arguments)
    restart: Literal["permanent", "transient", "temporary"] = "permanent"
    shutdown_s: float = SHUTDOWN_S
    significant: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"a child's name is a string that is not empty, not {self.name!r}")
        kinds = [kind.value for kind in RestartType]
        if self.restart not in kinds:
            raise ValueError(f"restart is one of {', '.join(kinds)}, not {self.restart!r}")
        if not self.shutdown_s >= 0 or math.isnan(self.shutdown_s):
            raise ValueError(f"shutdown_s must be 0 or more, not {self.shutdown_s}")
        if self.significant and self.restart == "permanent":
            raise ValueError(f"child {self.name} is permanent: it never ends, so is significant")
        factory = self.factory
        if factory is None:
            return
        if factory.chosen.lifetime == "detached" or factory.chosen.get_if_exists:
            raise ValueError(
                f"child {self.name} belongs to its supervisor: it can be neither detached nor "
                "somebody else's (get_if_exists). To outlive this program, have a detached actor "
                "that is the supervisor"
            )
        factory.check(self.args, dict(self.kwargs))

    @property
    def factory(self) -> ActorFactory[Any] | None:
        """The actor's class with its options; None for a supervisor."""
        from fray.actor.supervisor import Supervisor

        if isinstance(self.actor, ActorFactory):
            return self.actor
        if inspect.isclass(self.actor):
            return ActorFactory(cast("type[Any]", self.actor), options_of(self.actor))
        if isinstance(self.actor, Supervisor):  # pyright: ignore[reportUnnecessaryIsInstance]
            return None
        raise TypeError(
            f"child {self.name} is an actor's class (with or without .options(…)) or a Supervisor, "
            f"not {self.actor!r}"
        )


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """What is known of a child at a moment.

    Attributes:
        name: Its name.
        child: Its handle, or the supervisor that it is.
        state: ``down``, ``starting``, ``up`` or ``stopping``.
        wanted: Whether it is to run: false for one that is done, or was terminated.
        starts: How often it was started.
        restart_in_s: Seconds until it is restarted, where that is being delayed.
        last_end: Why it ended the last time.
    """

    name: str
    child: ActorHandle[Any] | Supervisor
    state: str
    wanted: bool
    starts: int
    restart_in_s: float | None
    last_end: DeathCause | None


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children there are, in OTP's words.

    Attributes:
        specs: All, up or not.
        active: Those that run.
        supervisors: Those that are supervisors, up or not.
        workers: The others, up or not.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


__all__ = ["SHUTDOWN_S", "ChildCounts", "ChildInfo", "ChildSpec"]
