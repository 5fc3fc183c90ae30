"""Restart rules: OTP's supervision, as pure data and functions.

The words are those of Erlang/OTP's ``supervisor`` (https://www.erlang.org/doc/apps/stdlib/supervisor
and its design principles, https://www.erlang.org/doc/system/sup_princ):

* A *strategy* says who is restarted when one child ends: only that child (one_for_one), all
  children (one_for_all), or that child and those started after it (rest_for_one). Children are
  started in their order, and stopped in the reverse order. Those of a *gang* (fray's own word) wait
  for each other as they start and stop, as the hosts of a slice do, so they do it at the same time.
* A *restart type* says when a child's end counts: always (permanent), only if it was abnormal
  (transient), never (temporary).
* The *restart intensity* is how many restarts a supervisor does: if there are more than
  ``max_restarts`` within the last ``period_s``, it gives up, stops its children and itself, and the
  failure *escalates* to its own supervisor.

Beyond OTP: restarts are delayed, exponentially and with jitter, while a child fails again and
again; and preemptions are counted apart, since they say nothing about the child. Because of the
delays the period is measured in time that is not spent waiting for one. Otherwise a back-off longer
than the period would mean that nothing ever escalates.

This room knows no actors, no clock and no randomness: time is an argument, and so are the dice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import NamedTuple, Protocol

UNLIMITED = -1
"""As ``max_restarts`` or ``max_preemptions``: never give up."""


class Strategy(StrEnum):
    """Who is restarted together with a child that failed."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
    GANG = "gang"
    """All or nothing: all start at the same time, all stop when one is down, and the next life
    begins only when all of the last are gone."""


class RestartType(StrEnum):
    """When a child's end makes it be restarted."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """If it ended abnormally: by a failure, a signal, a preemption, the loss of its host."""
    TEMPORARY = "temporary"
    """Never, not even when its siblings are."""


class Dice(Protocol):
    """A source of randomness, such as a clock's."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


# ---- whether, and when


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a supervisor restarts.

    Attributes:
        strategy: Who is restarted together.
        max_restarts: Restarts within the period before it gives up, ≥ 0, or `UNLIMITED`. With 0
            the first failure escalates.
        period_s: The period in seconds, above 0; infinite to count over the whole life.
        max_preemptions: Preemptions in its whole life before it gives up, or `UNLIMITED`.
        backoff_min_s: Delay of the first restart after a healthy run, in seconds; 0 for at once.
        backoff_max_s: Largest delay, in seconds. The delay doubles with each restart up to it.
        jitter: What part of a delay is left to chance, 0 to 1: ``delay * (1 - jitter)`` to
            ``delay``. It keeps many that fail together from coming back together.
        healthy_s: After so many seconds without a failure the delays begin at the least again.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: int = 1
    period_s: float = 5.0
    max_preemptions: int = 100
    backoff_min_s: float = 0.1
    backoff_max_s: float = 30.0
    jitter: float = 0.5
    healthy_s: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("max_restarts", UNLIMITED), ("max_preemptions", UNLIMITED)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.period_s > 0:
            raise ValueError(f"period_s must be above 0, not {self.period_s}")
        if not 0 <= self.backoff_min_s <= self.backoff_max_s < inf:
            raise ValueError(
                "delays must be 0 ≤ backoff_min_s ≤ backoff_max_s, finite, not "
                f"{self.backoff_min_s} and {self.backoff_max_s}"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {self.jitter}")
        if not self.healthy_s >= 0:
            raise ValueError(f"healthy_s must be at least 0, not {self.healthy_s}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a child that is to be restarted.

    Attributes:
        delay_s: Restart after so many seconds; None to give up and escalate.
        message: Why, in one sentence for people.
    """

    delay_s: float | None
    message: str

    @property
    def escalate(self) -> bool:
        """Whether the supervisor has to give up."""
        return self.delay_s is None


class RestartTracker:
    """Counts a supervisor's restarts, and decides on each.

    Args:
        policy: The rules.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.preemptions = 0
        self._restarts: deque[float] = deque()  # within the period, by the running time
        self._streak = 0  # restarts since the last healthy run
        # The running time stands still while a restart is being delayed.
        self._running_s = 0.0
        self._seen_at = -inf
        self._delayed_until = -inf

    def __repr__(self) -> str:
        return f"<RestartTracker recent={self.recent} preemptions={self.preemptions}>"

    @property
    def recent(self) -> int:
        """Restarts counted within the period, as of the last record."""
        return len(self._restarts)

    def record(self, now: float, dice: Dice, *, preempted: bool = False) -> Decision:
        """Decides on a restart that is called for now, and counts it.

        One call per failure, however many siblings are restarted with it, as in OTP.

        Args:
            now: Seconds on a monotonic clock.
            dice: For the jitter; asked once if the decision is a restart.
            preempted: Whether the child was preempted rather than failed.
        """
        healthy = self._advance(now)
        if preempted:
            return self._preempted(now, dice)
        policy = self.policy
        if healthy:
            self._streak = 0
        self._restarts.append(self._running_s)
        while self._restarts[0] < self._running_s - policy.period_s:
            self._restarts.popleft()
        count = len(self._restarts)
        if policy.max_restarts != UNLIMITED and count > policy.max_restarts:
            return Decision(
                None,
                f"{count} failures {_within(policy.period_s)}, more than the {policy.max_restarts} "
                "restarts that are allowed",
            )
        if policy.max_restarts == UNLIMITED:
            self._restarts.clear()  # nobody asks for them
        delay_s = self._delay(self._streak, dice)
        self._streak += 1
        self._delayed_until = max(self._delayed_until, now + delay_s)
        if policy.max_restarts == UNLIMITED:
            return Decision(delay_s, f"restart in {delay_s:.2g} s")
        which = f"restart {count} of at most {policy.max_restarts} {_within(policy.period_s)}"
        return Decision(delay_s, f"{which}, in {delay_s:.2g} s")

    def _preempted(self, now: float, dice: Dice) -> Decision:
        limit = self.policy.max_preemptions
        self.preemptions += 1
        if limit != UNLIMITED and self.preemptions > limit:
            return Decision(
                None, f"{self.preemptions} preemptions, more than the {limit} that are allowed"
            )
        delay_s = self._delay(0, dice)
        self._delayed_until = max(self._delayed_until, now + delay_s)
        of = "" if limit == UNLIMITED else f" of at most {limit}"
        return Decision(
            delay_s, f"restart in {delay_s:.2g} s after preemption {self.preemptions}{of}"
        )

    def _advance(self, now: float) -> bool:
        """Moves the running time on; says whether all went well for long enough."""
        ran_s = max(0.0, now - max(self._seen_at, self._delayed_until))
        first = self._seen_at == -inf
        self._seen_at = max(self._seen_at, now)
        if first:
            return True
        self._running_s += ran_s
        return ran_s >= self.policy.healthy_s

    def _delay(self, doublings: int, dice: Dice) -> float:
        policy = self.policy
        # 2**64 times any delay is above every maximum, and the power must not overflow.
        delay_s = min(policy.backoff_max_s, policy.backoff_min_s * 2.0 ** min(doublings, 64))
        return delay_s * (1.0 - policy.jitter * dice.random())


def _within(period_s: float) -> str:
    return "in all" if period_s == inf else f"within {period_s:g} s of running"


# ---- who, and in which order


class Child(NamedTuple):
    """A child of a supervisor.

    Attributes:
        name: Its name, unique among its siblings.
        restart: When it is restarted.
    """

    name: str
    restart: RestartType = RestartType.PERMANENT


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """What to do about the children after one has ended.

    Attributes:
        stop: Siblings to stop first, one after the other in this order.
        start: Children to start then, in this order; if there are any, this is a restart that
            `RestartTracker.record` decides on.
        forget: Children that are no longer the supervisor's: temporary ones that have ended or
            are stopped.
    """

    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()


def is_restarted(restart: RestartType, *, normal: bool) -> bool:
    """Whether a child's end makes it be restarted.

    Args:
        restart: Its restart type.
        normal: Whether it ended as it should.
    """
    if restart is RestartType.TRANSIENT:
        return not normal
    return restart is RestartType.PERMANENT


def plan_restart(
    strategy: Strategy, children: Sequence[Child], ended: str, *, normal: bool
) -> RestartPlan:
    """Says which children to stop and to start when one has ended by itself.

    As in OTP, a transient child that ended normally before is started again with its siblings.

    Args:
        strategy: The supervisor's strategy.
        children: All its children, in their order of start.
        ended: Which child has ended.
        normal: Whether it ended as it should.

    Raises:
        ValueError: There is no such child.
    """
    names = [child.name for child in children]
    index = names.index(ended)
    child = children[index]
    if not is_restarted(child.restart, normal=normal):
        return RestartPlan(forget=(ended,) if child.restart is RestartType.TEMPORARY else ())
    if strategy is Strategy.ONE_FOR_ONE:
        return RestartPlan(start=(ended,))
    together = children[index:] if strategy is Strategy.REST_FOR_ONE else children
    return RestartPlan(
        stop=tuple(name for name in shutdown_order(together) if name != ended),
        start=tuple(c.name for c in together if c.restart is not RestartType.TEMPORARY),
        forget=tuple(c.name for c in together if c.restart is RestartType.TEMPORARY),
    )


def shutdown_order(children: Iterable[Child]) -> tuple[str, ...]:
    """In which order children are stopped: the reverse of their start.

    Args:
        children: The children, in their order of start.
    """
    return tuple(child.name for child in reversed(list(children)))


__all__ = [
    "UNLIMITED",
    "Child",
    "Decision",
    "Dice",
    "RestartPlan",
    "RestartPolicy",
    "RestartTracker",
    "RestartType",
    "Strategy",
    "is_restarted",
    "plan_restart",
    "shutdown_order",
]
