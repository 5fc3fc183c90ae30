"""The actor ``users``: who uses how much, and may use."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fray.cluster.controller.commands import SetUser
from fray.cluster.controller.outlook import beside, look
from fray.cluster.priority import Band
from fray.cluster.schedcontrol import UserReport
from fray.cluster.scheduling.accounts import Budget, advanced, amounts
from fray.cluster.scheduling.fairshare import Shares
from fray.cluster.scheduling.planner import capacity_of
from fray.cluster.scheduling.room import Room

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.scheduling.view import ClusterView
    from fray.runtime.clock import Clock


class Users:
    """See `UsersApi`.

    Args:
        book: The ledger.
        clock: The process's clock.
    """

    def __init__(self, book: Book, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    async def list(self) -> list[UserReport]:
        """See `UsersApi.list`."""
        snapshot, now = await look(self._book, self._clock), self._clock.time()
        return await beside(snapshot, lambda view: _reports(view, now))

    async def set(
        self,
        user: str,
        weight: float | None,
        quota: dict[str, float] | None,
        budget: Budget | None,
        highest_band: Band | None = None,
    ) -> None:
        """See `UsersApi.set`."""
        await self._book.commit(SetUser(user, weight, quota, budget, highest_band))


def _reports(view: ClusterView, now: float) -> list[UserReport]:
    shares = Shares(view.users, capacity_of(Room(view.hosts)), now, view.policy)
    waiting = Counter(unit.user for unit in view.units)
    found: list[UserReport] = []
    for user, standing in sorted(view.users.items()):
        budget = standing.budget
        account = advanced(standing.account, now, view.policy.half_life_s, budget)
        found.append(
            UserReport(
                user=user,
                weight=standing.weight,
                share=shares.share_of(user),
                score=shares.score(user),
                tasks=account.tasks,
                waiting=waiting[user],
                live=amounts(account.live) if account.tasks else {},
                quota=dict(standing.quota),
                budget=dict(budget.amounts) if budget is not None else {},
                spent=dict(account.spent) if budget is not None else {},
                period_s=budget.period_s if budget is not None else 0.0,
                highest_band=standing.highest_band,
            )
        )
    return found


__all__ = ["Users"]
