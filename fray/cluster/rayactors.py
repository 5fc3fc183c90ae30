"""fray's actors on Ray: each lives in a process that Ray starts. Part of the keeper.

Ray places and starts the process, and tells of its end; what the actor does, and who may call it,
is fray's: it is hosted and called as on any other cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fray.cluster.rayhost import ActorHost, Place
from fray.cluster.rayimport import import_ray
from fray.cluster.raynames import MadeActor, RayNames, ended
from fray.cluster.worker.taskfile import HostedActor
from fray.errors import ActorNotFoundError, DeathCause, DeathKind, NameTakenError
from fray.runtime.signal import Signal
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.directory import ActorKey
    from fray.cluster.raydeaths import RayDeaths
    from fray.runtime.clock import Clock

PAUSE_S = 0.5
PAUSE_S_MAX = 30.0
"""Before an actor is started again; it doubles from the former to the latter."""

STOP_MARGIN_S = 10.0
"""What an actor has, beyond its calls' time, to clean up before its process is killed."""

PENDING = "Ray has not started its process yet (it needs {})"


@dataclass(frozen=True, slots=True)
class RayActorSpec:
    """An actor, as the keeper is asked for it.

    Attributes:
        actor: What its host needs to know.
        payload: The packed class and arguments.
        namespace: Of whoever makes it, and so of its own look-ups.
        ray_namespace: In which the keeper is.
        owner: The process that makes it, with which it ends; empty for a detached one.
        options: Ray's options of its process.
        failures: How often it may fail and be started again; -1 for always.
        losses: How often its host may be lost; -1 for always.
        get_if_exists: Whether a living actor of that name is as good.
    """

    actor: HostedActor
    payload: bytes
    namespace: str
    ray_namespace: str
    owner: str
    options: Mapping[str, Any]
    failures: int
    losses: int
    get_if_exists: bool


@dataclass
class _Living:
    spec: RayActorSpec
    host: Any = None
    incarnation: int = 0
    stopping: DeathCause | None = None


class RayActors:
    """See the module.

    Args:
        names: The keeper's.
        deaths: The keeper's.
        clock: The keeper's.
    """

    def __init__(self, names: RayNames, deaths: RayDeaths, clock: Clock) -> None:
        self._names = names
        self._deaths = deaths
        self._clock = clock
        self._living: dict[str, _Living] = {}
        self._changed = Signal()
        self._scope = Scope("actors on ray")
        deaths.on_process_ended.append(self._owner_ended)

    # ---- for the keeper's clients

    async def create(self, spec: RayActorSpec) -> str:
        """Has an actor made. See `Directory.create`.

        Args:
            spec: Which.

        Raises:
            NameTakenError: Its name belongs to somebody else.
        """
        actor = spec.actor
        if self._names.made(actor.actor_id) is not None:  # it was asked for again
            return actor.actor_id
        if actor.name:
            holder = self._names.holder(actor.namespace, actor.name)
            if holder is not None and spec.get_if_exists:
                return holder
            if holder is not None:
                raise NameTakenError(
                    f"{actor.name!r} cannot be registered: the name belongs to the actor {holder}; "
                    "choose another, or stop that one"
                )
        pending = PENDING.format(_needs(spec.options))
        self._names.promise(
            MadeActor(actor.actor_id, actor.label, actor.namespace, actor.name, pending)
        )
        living = self._living[actor.actor_id] = _Living(spec)
        self._scope.spawn(self._live(living), name=actor.actor_id)
        return actor.actor_id

    async def stop(self, key: ActorKey, grace_s: float, kill: bool) -> bool:
        """Ends an actor for good, and waits for its end. See `Directory.stop`.

        Args:
            key: Which.
            grace_s: How long its present calls may take, in seconds.
            kill: Do not wait, do not run its hooks.

        Returns:
            Whether it is one that the keeper has had made.

        Raises:
            ActorNotFoundError: Nobody has the name.
        """
        actor_id = key.actor_id
        if key.name:
            found = await self._names.actor_ids(key)
            if not found:
                raise ActorNotFoundError(f"no actor is registered as {key.name!r}")
            actor_id = found[0]
        if self._names.made(actor_id) is None:
            return False
        living = self._living.get(actor_id)
        if living is not None:
            self._stop(living, "its handle stopped it", grace_s, kill=kill)
            await self._changed.until(
                lambda: actor_id not in self._living, grace_s + 2 * STOP_MARGIN_S
            )
        return True

    # ---- inside

    def _owner_ended(self, process_id: str) -> None:
        for living in list(self._living.values()):
            if living.spec.owner == process_id:
                self._stop(living, "whoever made it has ended", 0.0, kill=True)

    def _stop(self, living: _Living, why: str, grace_s: float, *, kill: bool) -> None:
        living.stopping = living.stopping or DeathCause(DeathKind.STOPPED, why)
        self._changed.notify()
        if living.host is None:
            return
        if kill or not self._names.is_ready(living.spec.actor.actor_id):
            import_ray().kill(living.host)
        else:
            living.host.stop.remote(why, grace_s)
            self._scope.spawn(self._kill_later(living.host, grace_s), name="kill")

    async def _kill_later(self, host: Any, grace_s: float) -> None:
        await self._clock.sleep(grace_s + STOP_MARGIN_S)
        import_ray().kill(host)

    async def _live(self, living: _Living) -> None:
        """All lives of an actor."""
        spec, actor_id = living.spec, living.spec.actor.actor_id
        failures = losses = 0
        while True:
            living.incarnation += 1
            attempt_id = f"{actor_id}/0#{living.incarnation - 1}"
            self._deaths.attempt_began(attempt_id)
            was_lost, cause = await self._live_once(living, attempt_id)
            cause = living.stopping or cause
            made = self._names.made(actor_id)
            assert made is not None, "it was promised when it was created"
            made = ended(made, living.incarnation, cause)
            failures, losses = failures + (not was_lost), losses + was_lost
            over = self._over(living, cause, failures, losses)
            self._names.promise(replace(made, over=over, pending="it is being started again"))
            self._deaths.attempt_ended(attempt_id, cause)
            if over is not None:
                break
            pause_s = min(PAUSE_S * 2 ** (failures + losses - 1), PAUSE_S_MAX)
            await self._changed.until(lambda: living.stopping is not None, pause_s)
            if living.stopping is not None:
                self._names.promise(replace(made, over=living.stopping))
                break
            self._names.promise(replace(made, pending=PENDING.format(_needs(spec.options))))
        del self._living[actor_id]
        self._changed.notify()

    @staticmethod
    def _over(living: _Living, cause: DeathCause, failures: int, losses: int) -> DeathCause | None:
        """Why an actor does not come back; None where it does."""
        spec = living.spec
        if living.stopping is not None or cause.kind is DeathKind.STOPPED:
            return cause
        if 0 <= spec.losses < losses:
            return cause
        if 0 <= spec.failures < failures:
            if not spec.failures:
                return cause
            text = f"it failed more often than it may be restarted; the last time: {cause.message}"
            return replace(cause, kind=DeathKind.RESTART_LIMIT, message=text)
        return None

    async def _live_once(self, living: _Living, attempt_id: str) -> tuple[bool, DeathCause]:
        """One life: whether it ended because its host was lost, and why."""
        ray, spec = import_ray(), living.spec
        if living.stopping is not None:
            return False, living.stopping
        remote: Any = ray.remote(ActorHost)
        host = remote.options(max_concurrency=2, **spec.options).remote(
            spec.actor, spec.payload, _variables(spec, attempt_id, living.incarnation)
        )
        living.host = host
        place: Place | None = None
        try:
            place = await host.place.remote()
            made = self._names.made(spec.actor.actor_id)
            if made is not None:
                self._names.promise(replace(made, pending="it is being started"))
            return False, await host.run.remote(living.incarnation)
        except ray.exceptions.RayActorError as exc:
            return _lost(ray, exc, place)
        except ray.exceptions.RayError as exc:  # what its environment could not be made of
            return False, DeathCause(DeathKind.BUILD_FAILED, _first_line(exc))
        finally:
            living.host = None
            ray.kill(host)


def _lost(ray: Any, exc: Any, place: Place | None) -> tuple[bool, DeathCause]:
    """Whether a process of Ray's went with its host, and what it died of."""
    if place is None:
        return bool(exc.preempted), DeathCause(DeathKind.UNKNOWN, _first_line(exc))
    nodes = [node for node in ray.nodes() if node["NodeID"] == place.node_id]
    if exc.preempted or not any(node["Alive"] for node in nodes):
        return True, DeathCause(DeathKind.HOST_LOST, "its node has left Ray", host=place.host)
    text = f"its process {place.pid} was killed or crashed; Ray knows no exit code of it"
    return False, DeathCause(DeathKind.UNKNOWN, text, host=place.host)


def _first_line(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {str(exc).strip().partition(chr(10))[0]}"


def _needs(options: Mapping[str, Any]) -> str:
    amounts = {
        "CPU": options.get("num_cpus"),
        "GPU": options.get("num_gpus"),
        "memory": options.get("memory"),
        **options.get("resources", {}),
    }
    return (
        ", ".join(f"{name}: {amount:g}" for name, amount in amounts.items() if amount) or "little"
    )


def _variables(spec: RayActorSpec, attempt_id: str, incarnation: int) -> dict[str, str]:
    """Who the actor is, as the variables of its process tell it."""
    return {
        "FRAY_JOB_ID": spec.actor.actor_id,
        "FRAY_JOB_NAME": spec.actor.label,
        "FRAY_TASK_INDEX": "0",
        "FRAY_NUM_TASKS": "1",
        "FRAY_REPLICA_ID": "0",
        "FRAY_REPLICA_COUNT": "1",
        "FRAY_ATTEMPT": str(incarnation - 1),
        "FRAY_ATTEMPT_ID": attempt_id,
        "FRAY_NAMESPACE": spec.namespace,
        "FRAY_CLUSTER_SPEC": f"ray?namespace={spec.ray_namespace}",
    }


__all__ = ["RayActorSpec", "RayActors"]
