"""Supervisors for users: trees of actors that run anywhere, kept up by OTP's rules.

The decisions and the mechanics are those of `fray.runtime.supervisor`, which the cluster uses for
itself; the children are actors of the cluster (`fray.actor.supervised`) and other supervisors. A
supervisor lives where it was made, in a driver, a job or an actor, and its children end with that
process, however it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fray.actor.childspec import ChildCounts, ChildInfo, ChildSpec
from fray.actor.current import current_system
from fray.actor.directory import ActorKey
from fray.actor.giveup import Block, failed
from fray.actor.handle import ActorHandle
from fray.actor.muster import Muster
from fray.actor.supervised import CLOSED, SupervisedActor, sentence
from fray.errors import DeathCause, DeathKind, SupervisorFailed
from fray.runtime import children as parts
from fray.runtime.cell import CURRENT_CELL
from fray.runtime.loopthread import on_loop
from fray.runtime.methods import methods_of
from fray.runtime.restart import RestartPolicy, RestartType, Strategy
from fray.runtime.root import supervisor_child
from fray.runtime.signal import Signal
from fray.runtime.slots import ChildState
from fray.runtime.supervisor import Supervisor as Tree
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from types import TracebackType

    from fray.actor.system import ActorSystem
    from fray.runtime.failures import Failure

log = logging.getLogger("fray")

T = TypeVar("T")

RELEASE_S = 5.0
"""How long a supervisor that ends waits until the controller has heard that its children will not
come back. An order that was not heard by then is repeated as long as the process lives; the cluster
finds out by itself when the driver, job or actor has ended."""

LEFT = DeathCause(DeathKind.STOPPED, "its supervisor was stopped")


class Supervisor:
    """Keeps actors running, wherever they are.

    ``async with fray.Supervisor(…) as supervisor`` starts its children, and stops them at the end
    of the block, in the reverse of their order. If it gives up meanwhile, the block is cancelled
    and `SupervisorFailed` is raised, whose ``__cause__`` is an exception group with all that led to
    it. Without a block there are `start`, `wait` and `stop`; a supervisor that was started so in an
    actor takes the actor with it when it gives up.

    All methods may be used on any event loop. It can be a child of another supervisor as long as it
    has not been started, and is started again as often as that wants.

    Args:
        children: Its first children, in their order of start.
        name: For people.
        strategy: Who is restarted when one ends: ``"one_for_one"``: that one; ``"one_for_all"``:
            all; ``"rest_for_one"``: that one and those after it; ``"gang"``: all, which also start
            and stop at the same time, and none before all of the last life are gone and there is
            room for all.
        intensity: So many restarts within ``period_s`` are allowed, ≥ 0; -1 for any number. One
            more and it gives up: it stops its children, and fails.
        period_s: In seconds, above 0, counted while nothing waits for a restart.
        max_preemptions: Preemptions and lost hosts in its whole life, ≥ 0; -1 for any number. They
            count apart: they say nothing about the actors.
        backoff_min_s: Delay of the first restart after a healthy time, in seconds, ≥ 0. It doubles
            with each that follows.
        backoff_max_s: Largest delay, in seconds.
        jitter: What part of a delay is left to chance, 0 to 1.
        healthy_s: After so many seconds without a failure the delays begin anew.

    Raises:
        ValueError: A value is out of bounds, or two children have the same name.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        name: str = "supervisor",
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one", "gang"] = "one_for_one",
        intensity: int = 1,
        period_s: float = 5.0,
        max_preemptions: int = 100,
        backoff_min_s: float = 0.1,
        backoff_max_s: float = 30.0,
        jitter: float = 0.5,
        healthy_s: float = 60.0,
    ) -> None:
        known = [each.value for each in Strategy]
        if strategy not in known:
            raise ValueError(f"strategy is one of {', '.join(known)}, not {strategy!r}")
        if intensity < -1:
            raise ValueError(f"intensity must be at least -1, not {intensity}")
        self.name = name
        self._policy = RestartPolicy(
            Strategy(strategy),
            max_restarts=intensity,
            period_s=period_s,
            max_preemptions=max_preemptions,
            backoff_min_s=backoff_min_s,
            backoff_max_s=backoff_max_s,
            jitter=jitter,
            healthy_s=healthy_s,
        )
        specs = list(children)
        self._first = {spec.name: spec for spec in specs}
        if len(self._first) < len(specs):
            raise ValueError(f"two children of supervisor {name} have the same name")
        self._specs: dict[str, ChildSpec] = {}
        self._actors: dict[str, SupervisedActor] = {}
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._system: ActorSystem | None = None
        self._scope: Scope | None = None
        self._tree: Tree | None = None
        self._root: Supervisor | None = None
        self._block: Block | None = None
        self._muster: Muster | None = None
        self._changed = Signal()

    def __repr__(self) -> str:
        return f"<Supervisor {self.name}: {self._tree or 'not started'!r}>"

    # ---- life

    async def __aenter__(self) -> Supervisor:
        self._block = Block()
        await self._begin(self._block.cancel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert self._block is not None
        was_ours = self._block.leave()
        await self.stop()
        failure = self._failure()
        if failure is None:
            return False
        ours = was_ours and isinstance(exc, asyncio.CancelledError)
        if not ours and not isinstance(exc, Exception | None):  # somebody else ends the task
            log.error("supervisor %s had given up: %s", self.name, failure.cause)
            return False
        error = failed(failure, *([] if exc is None or ours else [exc]))
        raise error from error.__cause__

    async def start(self) -> None:
        """Starts the children; returns when all run. Once only.

        In an actor, where it is best called by ``on_start``, the actor dies with the supervisor if
        that gives up.

        Raises:
            SupervisorFailed: It gave up before that. All its children have ended.
            RuntimeError: It was started before.
        """
        cell = CURRENT_CELL.get()

        def give_up() -> None:
            failure = self._failure()
            if cell is not None and failure is not None:
                system = self._running_system()
                system.process.post(cell.fail, failed(failure), failure.cause)

        await self._begin(give_up)

    async def stop(self) -> None:
        """Stops all children, the last first, each within its time. May be called again."""
        if self._tree is not None:
            await self._on_loop(self._end)

    async def wait(self) -> None:
        """Waits until it has ended: it was stopped, or a significant child has ended.

        Raises:
            SupervisorFailed: It gave up.
        """

        async def ended() -> None:
            await asyncio.shield(self._running().stopped)

        await self._on_loop(ended)
        failure = self._failure()
        if failure is not None:
            raise failed(failure)

    # ---- children

    async def start_child(self, spec: ChildSpec) -> Any:
        """Adds a child after all others; returns when it has started.

        Args:
            spec: How to make it.

        Returns:
            Its handle, which stays valid over restarts; or the supervisor that it is.

        Raises:
            ValueError: There is a child of this name.
            SupervisorFailed: The supervisor has ended, or ends meanwhile.
            ActorDied: It ended before it had started. It is not kept.
            FrayError: The cluster refuses it: there is no host for it, its name is taken, its
                arguments cannot be pickled.
        """

        async def add() -> Any:
            tree = self._running()
            if spec.name in self._specs:
                raise ValueError(f"supervisor {self.name} already has a child {spec.name!r}")
            part = self._part_of(spec)
            try:
                await tree.add(part)
            except BaseException:
                self._drop(spec.name, LEFT)
                raise
            return self[spec.name]

        return await self._on_loop(add)

    async def terminate_child(self, name: str) -> None:
        """Stops a child, and keeps its spec: `restart_child` starts it again. It stays down.

        Its callers are told that it is down. A temporary child is deleted.

        Args:
            name: Which.

        Raises:
            KeyError: There is no child of this name.
        """

        async def terminate() -> None:
            await self._running().terminate(name)
            actor = self._actors.get(name)
            if actor is not None:  # one that is not temporary
                await actor.order_halt("its supervisor terminated it", grace_s=0.0, down=True)

        await self._on_loop(terminate)

    async def restart_child(self, name: str) -> None:
        """Starts a child again that was terminated, or that has ended and was not restarted.

        Args:
            name: Which.

        Raises:
            KeyError: There is no child of this name.
            ValueError: It runs, or is about to.
            ActorDied: It ended before it had started. It stays down.
        """

        async def restart() -> None:
            await self._running().restart(name)

        await self._on_loop(restart)

    async def delete_child(self, name: str) -> None:
        """Forgets a child for good; stops it first, where it runs.

        Args:
            name: Which.

        Raises:
            KeyError: There is no child of this name.
        """

        async def delete() -> None:
            actor = self._actors.get(name)
            await self._running().remove(name)
            if actor is not None:  # whose name is free when this returns
                await actor.release(DeathCause(DeathKind.STOPPED, "its supervisor deleted it"))

        await self._on_loop(delete)

    async def which_children(self) -> list[ChildInfo]:
        """All children in their order, and what is known of them."""

        async def look() -> list[ChildInfo]:
            found = self._running().statistics().children
            return [
                ChildInfo(
                    each.name,
                    self[each.name],
                    each.state.value,
                    each.wanted,
                    each.starts,
                    each.restart_in_s,
                    each.last_end,
                )
                for each in found
                if each.name in self._specs
            ]

        return await self._on_loop(look)

    async def count_children(self) -> ChildCounts:
        """How many children there are."""
        found = await self.which_children()
        supervisors = sum(isinstance(each.child, Supervisor) for each in found)
        active = sum(each.state == ChildState.UP.value for each in found)
        return ChildCounts(len(found), active, supervisors, len(found) - supervisors)

    def __getitem__(self, name: str) -> Any:
        """A child's handle, or the supervisor that it is, whether or not it is up.

        Raises:
            KeyError: There is no child of this name.
        """
        spec = self._specs[name]
        return spec.actor if isinstance(spec.actor, Supervisor) else self._handles[name]

    # ---- inside

    def _running_system(self) -> ActorSystem:
        if self._system is None:
            raise RuntimeError(f"supervisor {self.name} was not started")
        return self._system

    def _running(self) -> Tree:
        if self._tree is None:
            raise RuntimeError(f"supervisor {self.name} was not started")
        return self._tree

    async def _on_loop(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await on_loop(self._running_system().process.loop, make)

    def _failure(self) -> Failure | None:
        return self._tree.failure if self._tree is not None else None

    async def _begin(self, give_up: Callable[[], object]) -> None:
        if self._tree is not None:
            raise RuntimeError(f"supervisor {self.name} was started before")
        self._system = current_system()

        async def start() -> None:
            tree = self._plant(self._running_system(), Scope(f"supervisor {self.name}"), self)
            try:
                await tree.start()
            except BaseException as exc:
                await self._end()
                failure = tree.failure
                if failure is None or not isinstance(exc, SupervisorFailed):
                    raise
                error = failed(failure)
                raise error from error.__cause__
            tree.stopped.add_done_callback(lambda _: self._ended(give_up))

        await self._on_loop(start)

    def _ended(self, give_up: Callable[[], object]) -> None:
        if self._failure() is not None:
            self._release_all()
            give_up()

    async def _end(self) -> None:
        """Stops the tree, and says what becomes of its actors."""
        await self._running().stop(LEFT)
        self._release_all()
        scope, system = self._scope, self._running_system()
        if scope is None:
            return
        if system.process.scope.closed:  # and with the process end its actors
            await scope.close()
            return
        heard = system.spawn(_finish(scope), f"supervisor {self.name}/release")
        _, unheard = await asyncio.wait([heard], timeout=RELEASE_S)
        if unheard:
            log.info("supervisor %s ended while the controller was away", self.name)

    def _plant(self, system: ActorSystem, scope: Scope, root: Supervisor) -> Tree:
        """A tree of the first children; later ones do not outlive a restart of their supervisor."""
        if self._root not in (None, root):
            raise RuntimeError(f"supervisor {self.name} belongs to another tree already")
        self._system, self._scope, self._root = system, scope, root
        for name in [name for name in self._specs if name not in self._first]:
            self._drop(name, LEFT)
        if self._muster is None and self._policy.strategy is Strategy.GANG:
            self._muster = Muster(self.name, self._starting, system, scope)
        specs = [self._part_of(spec) for spec in self._first.values()]
        clock = system.process.clock
        self._tree = Tree(
            self.name,
            specs,
            clock=clock,
            policy=self._policy,
            on_gone=self._drop,
            on_changed=None if self._muster is None else self._muster.look,
        )
        return self._tree

    def _part_of(self, spec: ChildSpec) -> parts.ChildSpec:
        """A child, as the rules know it."""
        system, scope = self._running_system(), self._scope
        assert scope is not None
        restart = RestartType(spec.restart)
        if isinstance(spec.actor, Supervisor):
            inner = spec.actor
            start = supervisor_child(lambda: inner._plant(system, scope, self._root or self))
            grace_s = inf
        else:
            if spec.name not in self._actors:
                self._make(spec, system, scope)
            start, grace_s = self._actors[spec.name].start, spec.shutdown_s
        part = parts.ChildSpec(spec.name, start, restart, grace_s, spec.significant)
        self._specs[spec.name] = spec
        return part

    def _make(self, spec: ChildSpec, system: ActorSystem, scope: Scope) -> None:
        factory = spec.factory
        assert factory is not None
        options = factory.chosen.replace(max_restarts=0)
        made = system.spec_of(factory.cls, spec.args, dict(spec.kwargs), options, supervised=True)
        key = ActorKey(made.namespace, actor_id=made.actor_id)
        self._handles[spec.name] = ActorHandle(key, made.label, methods_of(factory.cls), system)
        apart = self._policy.strategy is Strategy.ONE_FOR_ONE
        self._actors[spec.name] = SupervisedActor(
            system,
            made,
            RestartType(spec.restart),
            scope,
            (self._root or self)._is_cut_off,
            muster=self._muster,
            family={} if apart else self._actors,
            changed=Signal() if apart else self._changed,
        )

    def _starting(self) -> list[str]:
        """The actors that are being started, by id."""
        names = self._running().starting()
        return [self._actors[name].actor_id for name in names if name in self._actors]

    def _is_cut_off(self) -> None:
        """The connection was closed, and its actors with it: nothing is left to supervise."""
        self._running().kill(CLOSED)

    def _drop(self, name: str, why: DeathCause) -> None:
        """A child is not its any longer."""
        spec = self._specs.pop(name, None)
        actor = self._actors.pop(name, None)
        self._handles.pop(name, None)
        if actor is not None:
            self._changed.notify()  # its siblings need not wait for it
            actor.in_background(partial(actor.release, why), "release")
        if spec is not None and isinstance(spec.actor, Supervisor):
            spec.actor._release_all()

    def _release_all(self) -> None:
        """Its actors will not be started again."""
        failure = self._failure()
        guilty = () if failure is None else tuple(each.name for each in failure.because)
        for name, actor in list(self._actors.items()):
            cause = LEFT
            if failure is not None:
                kind = DeathKind.RESTART_LIMIT if name in guilty else DeathKind.STOPPED
                cause = DeathCause(
                    kind, f"its supervisor {self.name!r} gave up: {sentence(failure.cause)}"
                )
            actor.in_background(partial(actor.release, cause), "release")
        for spec in self._specs.values():
            if isinstance(spec.actor, Supervisor):
                spec.actor._release_all()


async def _finish(scope: Scope) -> None:
    """Lets the last orders be heard, and closes their scope whatever happens."""
    try:
        await scope.finished()
    finally:
        await scope.close()


__all__ = ["Supervisor"]
