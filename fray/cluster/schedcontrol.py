"""What is said to the controller of reservations, users and the scheduler; see `control`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fray.cluster.access import Scope, allows
from fray.cluster.devices import ResourceConfig
from fray.cluster.priority import Band
from fray.cluster.scheduling.accounts import HIGHEST_BAND, Budget
from fray.cluster.scheduling.explain import Explanation
from fray.cluster.scheduling.policy import Policy
from fray.cluster.security.claims import Role
from fray.ids import JobId, Namespace, ReservationId, WorkerId

USER, JOB = Role.USER, Role.JOB

# ---- reservations


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """A reservation, as a client asks for it.

    Attributes:
        token: Made by the client, once per reservation: letters and digits.
        user: Whose it is.
        namespace: Of whose connection.
        minimum: What is to be kept.
        maximum: How much it may become.
        priority: Among reservations; 0 to 99.
        ttl_s: How long, in seconds, above 0.
        preemptible: Whether hosts that the cloud may take back will do.
    """

    token: str
    user: str
    namespace: Namespace
    minimum: ResourceConfig
    maximum: ResourceConfig
    priority: int
    ttl_s: float
    preemptible: bool


@dataclass(frozen=True, slots=True)
class ReservationReport:
    """A reservation, as the controller tells of it.

    Attributes:
        reservation_id: Its id.
        user: Whose it is.
        namespace: Of whose connection.
        state: pending, partial, satisfied, expanded, expiring or released.
        minimum: What is to be kept.
        maximum: How much it may become.
        allocated: Replicas that it has, or could have at once.
        pending: Replicas that it would still take.
        hosts: Where what is kept for it is.
        jobs: Jobs that use it and have not ended.
        created_at: In seconds since 1970.
        expires_at: When what is idle is given back.
        reason: Why it ended, for people.
        waits_for: Why it has less than its minimum, for people.
    """

    reservation_id: ReservationId
    user: str
    namespace: Namespace
    state: str
    minimum: ResourceConfig
    maximum: ResourceConfig
    allocated: int
    pending: int
    hosts: tuple[WorkerId, ...] = ()
    jobs: tuple[JobId, ...] = ()
    created_at: float = 0.0
    expires_at: float = 0.0
    reason: str = ""
    waits_for: tuple[str, ...] = ()


class ReservationsApi(Protocol):
    """Resources that are kept for jobs to come. Actor ``reservations`` of the controller."""

    @allows(USER, JOB, scope=Scope.RESERVE)
    async def create(self, request: ReservationRequest) -> ReservationId:
        """Makes a reservation; it is filled as room comes.

        Raises:
            InvalidRequestError: It makes no sense, or is above its user's quota.
            InfeasibleError: No host could ever have one replica of it.
        """
        ...

    @allows(USER, JOB, scope=Scope.RESERVATION)
    async def get(self, reservation_id: ReservationId) -> ReservationReport:
        """A reservation, also one that has ended.

        Raises:
            ReservationNotFoundError: It is unknown.
        """
        ...

    @allows(USER, scope=Scope.RESERVATIONS)
    async def list(self, user: str | None, ended: bool) -> list[ReservationReport]:
        """All reservations (of a user), oldest first; those that have ended only where wanted."""
        ...

    @allows(USER, JOB, scope=Scope.RESERVATION)
    async def release(self, reservation_id: ReservationId, reason: str) -> None:
        """Gives all of a reservation back; its jobs go on without it.

        Raises:
            ReservationNotFoundError: It is unknown.
        """
        ...

    @allows(USER, JOB, scope=Scope.RESERVATION)
    async def renew(self, reservation_id: ReservationId, ttl_s: float) -> float:
        """Lets a reservation last until ``ttl_s`` from now; gives that time.

        Raises:
            ReservationNotFoundError: It is unknown.
            InvalidRequestError: It has ended.
        """
        ...


# ---- users


def _none() -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True)
class UserReport:
    """A user, as the controller tells of them. Amounts are by name: see `accounts.Amounts`.

    Attributes:
        user: Their name.
        weight: Twice the weight is twice the share.
        share: Their dominant share of the cluster now, from 0 to 1.
        score: What the queue goes by; the lowest is served first.
        tasks: How many tasks of theirs have a place.
        waiting: How many units of theirs wait for one.
        live: What those that have one have.
        quota: What they may have at once; what is not named is not limited.
        budget: Resource-seconds that they may use in a period; likewise.
        spent: What they have used of that.
        period_s: How long a period is, in seconds; 0 without a budget.
        highest_band: The highest band that their jobs may ask for; of administrators: any.
    """

    user: str
    weight: float
    share: float
    score: float
    tasks: int
    waiting: int
    live: Mapping[str, float] = field(default_factory=_none)
    quota: Mapping[str, float] = field(default_factory=_none)
    budget: Mapping[str, float] = field(default_factory=_none)
    spent: Mapping[str, float] = field(default_factory=_none)
    period_s: float = 0.0
    highest_band: Band = HIGHEST_BAND


class UsersApi(Protocol):
    """Who uses how much, and may use. Actor ``users`` of the controller."""

    @allows()
    async def list(self) -> list[UserReport]:
        """All users of whom something is known, by name."""
        ...

    @allows()
    async def set(
        self,
        user: str,
        weight: float | None,
        quota: dict[str, float] | None,
        budget: Budget | None,
        highest_band: Band | None = None,
    ) -> None:
        """Sets what is not None; an empty quota, or a budget without amounts, is none.

        Raises:
            InvalidRequestError: A number makes no sense.
        """
        ...


# ---- the scheduler


class SchedulerApi(Protocol):
    """How places are given. Actor ``scheduler`` of the controller."""

    @allows(USER, JOB, scope=Scope.READ_JOB)
    async def why(self, job_id: JobId) -> Explanation:
        """Why a job waits, told whole.

        Raises:
            JobNotFoundError: It is unknown.
        """
        ...

    @allows()
    async def view(self) -> str:
        """The cluster as the scheduler sees it, as JSON; see `codec.decode_view`."""
        ...

    @allows()
    async def set_policy(self, policy: Policy) -> None:
        """Sets how places are given.

        Raises:
            InvalidRequestError: A number makes no sense.
        """
        ...


__all__ = [
    "ReservationReport",
    "ReservationRequest",
    "ReservationsApi",
    "SchedulerApi",
    "UserReport",
    "UsersApi",
]
