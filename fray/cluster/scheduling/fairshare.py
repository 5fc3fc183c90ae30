"""Who is to be served next: weighted dominant-resource fairness over time.

A user's score is their dominant share of what the cluster has, both of what they have now and of
what they had on average lately, divided by their weight. The user with the lowest score is next;
each placement raises their score at once. So weights of 1, 1 and 2 get a quarter, a quarter and a
half of a full cluster, and who was away gets more for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cluster.scheduling.accounts import (
    Amounts,
    Standing,
    advanced,
    amounts,
    average,
    cost_of_nothing,
    format_amount,
    format_spent,
    share,
)

if TYPE_CHECKING:
    from fray.cluster.resources import Resources
    from fray.cluster.scheduling.policy import Policy

UNKNOWN = Standing()
"""A user of whom nothing is known."""


@dataclass(slots=True)
class _Use:
    """One user while a plan is made."""

    standing: Standing
    average: dict[str, float]
    live: dict[str, float]
    spent: Amounts
    tasks: int
    score: float = 0.0


class Shares:
    """How users stand while places are given away.

    Args:
        users: How they stand at the start.
        capacity: What all hosts have together.
        now: In seconds since 1970.
        policy: For how long the past counts.
    """

    def __init__(
        self, users: Mapping[str, Standing], capacity: Resources, now: float, policy: Policy
    ) -> None:
        self._users = users
        self._capacity = amounts(capacity)
        self._now = now
        self._policy = policy
        self._used: dict[str, _Use] = {}

    def _use(self, user: str) -> _Use:
        use = self._used.get(user)
        if use is None:
            standing = self._users.get(user, UNKNOWN)
            half_life_s = self._policy.half_life_s
            account = advanced(standing.account, self._now, half_life_s, standing.budget)
            live = amounts(account.live) if account.tasks else {}
            use = _Use(
                standing,
                average(account, self._now, half_life_s),
                live,
                account.spent,
                account.tasks,
            )
            self._rate(use)
            self._used[user] = use
        return use

    def _rate(self, use: _Use) -> None:
        both = dict(use.average)
        for name, amount in use.live.items():
            both[name] = both.get(name, 0.0) + amount
        dominant = share(both, self._capacity) + cost_of_nothing(use.tasks)
        use.score = dominant / use.standing.weight

    def score(self, user: str) -> float:
        """How much a user has of what they should have; the lowest is served first.

        Args:
            user: Which.
        """
        return self._use(user).score

    def share_of(self, user: str) -> float:
        """A user's dominant share of the cluster now, from 0 to 1.

        Args:
            user: Which.
        """
        return share(self._use(user).live, self._capacity)

    def weight(self, resources: Resources) -> float:
        """The dominant share of some resources.

        Args:
            resources: Such as those of an attempt.
        """
        return share(amounts(resources), self._capacity)

    def charge(self, user: str, need: Resources, tasks: int) -> None:
        """Takes note of a placement.

        Args:
            user: Whose.
            need: What was placed.
            tasks: How many tasks.
        """
        use = self._use(user)
        for name, amount in amounts(need).items():
            use.live[name] = use.live.get(name, 0.0) + amount
        use.tasks += tasks
        self._rate(use)

    def objection(self, user: str, need: Resources) -> str:
        """Why a user may not have more, whatever room there is; "" where they may.

        Args:
            user: Which.
            need: What they want.
        """
        use = self._use(user)
        over = over_quota(use.standing.quota, use.live, need)
        if over:
            return f"user {user} {over}"
        budget = use.standing.budget
        if budget is None:
            return ""
        wanted = amounts(need)
        for name, limit in budget.amounts.items():
            if wanted.get(name) and use.spent.get(name, 0.0) >= limit:
                left_s = budget.renewed_at(self._now) - self._now
                spent = format_spent(name, use.spent[name], limit)
                return (
                    f"user {user} has spent the budget ({spent}); "
                    f"the next period begins in {left_s / 3600:.3g} h"
                )
        return ""

    def renewed_at(self, users: Iterable[str]) -> list[float]:
        """When the budgets of some users are renewed.

        Args:
            users: Which.
        """
        budgets = (self._use(user).standing.budget for user in users)
        return [budget.renewed_at(self._now) for budget in budgets if budget is not None]


def over_quota(quota: Amounts, live: Amounts, need: Resources) -> str:
    """What somebody would have too much of; "" where the quota allows it.

    Args:
        quota: The most that is allowed, by name.
        live: What they have.
        need: What they want besides.
    """
    if not quota:
        return ""
    wanted = amounts(need)
    for name, limit in quota.items():
        more, have = wanted.get(name, 0.0), live.get(name, 0.0)
        if more and have + more > limit:
            return (
                f"wants {format_amount(name, more)} more and has {format_amount(name, have)}; "
                f"the quota is {format_amount(name, limit)}"
            )
    return ""


__all__ = ["UNKNOWN", "Shares", "over_quota"]
