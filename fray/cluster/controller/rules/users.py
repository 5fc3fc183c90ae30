"""What users have used and may use."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from fray.cluster.controller.commands import ForgetUsers, SetPolicy, SetUser
from fray.cluster.controller.draft import Draft
from fray.cluster.resources import Resources
from fray.cluster.scheduling.accounts import Account, Standing, advanced, charged, check_names
from fray.errors import InvalidRequestError


def set_user(draft: Draft, command: SetUser) -> None:
    """Sets what a user may use, and how much they count.

    Args:
        draft: Where.
        command: Who, and what.

    Raises:
        InvalidRequestError: A number makes no sense.
    """
    if not command.user:
        raise InvalidRequestError("a user needs a name")
    standing = _brought_up(draft, command.user)
    if command.weight is not None:
        if not 0 < command.weight < inf:
            raise InvalidRequestError(f"a weight is a number above 0, not {command.weight}")
        standing = replace(standing, weight=command.weight)
    if command.quota is not None:
        _check(draft, "quota", command.quota)
        standing = replace(standing, quota=dict(command.quota), quota_at=draft.now)
    if command.budget is not None:
        _check(draft, "budget", command.budget.amounts)
        if not 0 < command.budget.period_s < inf:
            raise InvalidRequestError(
                f"the period of a budget is a number of seconds above 0, not"
                f" {command.budget.period_s}"
            )
        budget = command.budget if command.budget.amounts else None
        period = budget.period_of(draft.now) if budget is not None else 0
        account = replace(standing.account, period=period, spent={})
        standing = replace(standing, budget=budget, account=account)
    if command.highest_band is not None:
        standing = replace(standing, highest_band=command.highest_band)
    draft.users[command.user] = standing


def _check(draft: Draft, what: str, limits: Mapping[str, float]) -> None:
    for name, number in limits.items():
        if not 0 <= number < inf:
            raise InvalidRequestError(f"a {what} has numbers from 0, not {name}={number}")
    if limits:
        check_names(limits, draft.known_variants())


def set_policy(draft: Draft, command: SetPolicy) -> None:
    """Sets how places are given.

    Args:
        draft: Where.
        command: All settings.

    Raises:
        InvalidRequestError: A number makes no sense.
    """
    policy = command.policy
    for name, least in (
        ("hold_s", 0),
        ("half_life_s", 1),
        ("point_s", 0),
        ("evict_grace_s", 0),
        ("preemptions_max", 0),
        ("earmarks_max", 0),
        ("placements_max", 1),
    ):
        if not getattr(policy, name) >= least:
            raise InvalidRequestError(
                f"{name} must be at least {least}, not {getattr(policy, name)}"
            )
    for user in draft.known_users():  # what was used until now fades as it did until now
        draft.users[user] = _brought_up(draft, user)
    draft.policy = policy


def forget(draft: Draft, command: ForgetUsers) -> None:
    """Drops users who have nothing from the records.

    Args:
        draft: Where.
        command: Who.
    """
    owners = draft.owners()
    for user in command.users:
        standing = draft.users.get(user)
        if standing is not None and standing.is_usual and user not in owners:
            del draft.users[user]


def _brought_up(draft: Draft, user: str) -> Standing:
    standing = draft.users.get(user) or Standing(account=Account(at=draft.now))
    half_life_s = draft.policy.half_life_s
    account = advanced(standing.account, draft.now, half_life_s, standing.budget)
    return replace(standing, account=account)


def charge_user(draft: Draft, user: str, resources: Resources, sign: int) -> None:
    """Begins or ends to count what an attempt has as its user's.

    Args:
        draft: Where.
        user: Whose attempt.
        resources: What it has.
        sign: 1 begins, -1 ends.
    """
    standing = _brought_up(draft, user)
    account = charged(standing.account, resources, sign)
    draft.users[user] = replace(standing, account=account)


__all__ = ["charge_user", "forget", "set_policy", "set_user"]
