"""The keeper: the detached actor of Ray's that keeps the jobs, names and actors of fray's there."""

from __future__ import annotations

import warnings
from typing import Any

from fray.cluster.rayactors import RayActors
from fray.cluster.raydeaths import RayDeaths, is_shut
from fray.cluster.rayimport import import_ray
from fray.cluster.rayjobs import JobBook
from fray.cluster.raynames import RayNames
from fray.errors import ClusterUnavailable, FrayError
from fray.runtime.clock import SystemClock
from fray.runtime.tasks import Scope

KEEPER = "fray-keeper"
"""Its name, in each of Ray's namespaces in which somebody uses fray."""

CONCURRENT_MAX = 10_000
"""Questions that wait in it at once: each process has a few, that wait for news."""


TRIES = 3
"""How often a question is repeated whose keeper died over it."""


class RayKeeper:
    """The actor; made by Ray, asynchronous.

    Ray starts it again if its process dies. It knows no jobs and no made actors then, which have
    died with it; names are told anew by those who have them.

    Args:
        secret: What processes of fray's show each other, which whoever reaches this Ray may know.
    """

    def __init__(self, secret: str) -> None:
        clock = SystemClock()
        with warnings.catch_warnings():  # of what Ray itself uses to answer this
            warnings.simplefilter("ignore", DeprecationWarning)
            recovers: bool = import_ray().get_runtime_context().was_current_actor_reconstructed
        self._secret = secret
        deaths = RayDeaths(clock, is_shut)
        self._names = RayNames(clock, deaths, int(clock.time() * 1000), recovers=recovers)
        actors = RayActors(self._names, deaths, clock)
        self._parts = {"jobs": JobBook(deaths), "names": self._names, "actors": actors}
        self._scope = Scope("keeper")
        self._started = False

    async def ask(self, part: str, method: str, *args: Any) -> tuple[bool, Any]:
        """Asks one of its parts.

        Args:
            part: ``jobs``, ``names`` or ``actors``.
            method: Which of its methods.
            *args: Of the method.

        Returns:
            Whether it was done, and what it gave; else what it raised.
        """
        if not self._started:  # now that a loop runs
            self._started = True
            self._scope.spawn(self._names.sweep(), name="sweep")
        try:
            return True, await getattr(self._parts[part], method)(*args)
        except FrayError as exc:  # as it is: Ray would make another class of it
            return False, exc

    async def secret(self) -> str:
        """What processes of fray's show each other."""
        return self._secret


class Keeper:
    """The way to the keeper of one of Ray's namespaces, which is made where there is none.

    Args:
        namespace: Ray's.

    Attributes:
        namespace: The same.
    """

    def __init__(self, namespace: str) -> None:
        self._ray = import_ray()
        self.namespace = namespace
        self._session = self._session_now()
        remote = self._ray.remote(RayKeeper).options(
            name=KEEPER,
            namespace=namespace,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            # While Ray starts it again: all that is asked may be asked twice.
            max_task_retries=TRIES,
            max_concurrency=CONCURRENT_MAX,
        )
        self._actor = remote.remote(SystemClock().token(16))

    def _session_now(self) -> tuple[str, str]:
        context = self._ray.get_runtime_context()
        return context.gcs_address, context.get_worker_id()

    @property
    def closed(self) -> bool:
        """Whether this process has left that Ray."""
        return not self._ray.is_initialized() or self._session_now() != self._session

    def _check(self) -> None:
        if self.closed:
            raise ClusterUnavailable("this process has left the Ray where its fray cluster is")

    def secret(self) -> str:
        """What processes of fray's show each other. Blocks."""
        self._check()
        try:
            secret: str = self._ray.get(self._actor.secret.remote())
        except self._ray.exceptions.RayError as exc:
            raise self._away(exc) from exc
        return secret

    def ask(self, part: str, method: str, *args: Any) -> Any:
        """Asks the keeper, and blocks. See `RayKeeper.ask`.

        Raises:
            ClusterUnavailable: It does not answer, or this process has left Ray.
        """
        self._check()
        try:
            done, given = self._ray.get(self._actor.ask.remote(part, method, *args))
        except self._ray.exceptions.RayError as exc:
            raise self._away(exc) from exc
        return _value(done, given)

    async def ask_async(self, part: str, method: str, *args: Any) -> Any:
        """The asynchronous `ask`, on any loop."""
        self._check()
        try:
            done, given = await self._actor.ask.remote(part, method, *args)
        except self._ray.exceptions.RayError as exc:
            raise self._away(exc) from exc
        return _value(done, given)

    def cpus(self) -> float:
        """How many CPUs Ray's nodes have together, free or not. Blocks."""
        self._check()
        return float(self._ray.cluster_resources().get("CPU", 0.0))

    def _away(self, exc: Exception) -> ClusterUnavailable:
        first = str(exc).strip().partition("\n")[0]
        return ClusterUnavailable(
            f"the actor {KEEPER!r} in Ray's namespace {self.namespace!r}, which keeps fray's jobs "
            f"and names there, does not answer: {first}"
        )


def _value(done: bool, given: Any) -> Any:
    if done:
        return given
    raise given


__all__ = ["KEEPER", "Keeper", "RayKeeper"]
