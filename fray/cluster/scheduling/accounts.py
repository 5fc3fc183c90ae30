"""What users have used, what they may use, and how that is compared.

Use is counted in resource-seconds that fade: what was used one half-life ago counts half. An
account need not be touched as time passes; it is brought up to date where its rate changes.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fray.cluster.accelerators import known_devices
from fray.cluster.priority import Band
from fray.cluster.resources import MILLI, Resources, format_bytes
from fray.errors import InvalidRequestError
from fray.wording import counted

Amounts = Mapping[str, float]
"""Amounts by name: ``cpus``, ``memory`` (bytes), ``gpus``, ``chips`` (of TPUs), and each variant or
family of accelerators by its own name."""

GENERAL = ("cpus", "memory", "gpus", "chips")
"""What is counted whatever its kind."""

HIGHEST_BAND = Band.HIGH
"""The highest band for whom nothing else was said: `Band.CRITICAL` is given by administrators."""

_NOTHING_S = 1e-9
"""A task that needs nothing still counts for something, or its user could have any number."""


def amounts(resources: Resources) -> dict[str, float]:
    """Resources by name.

    Args:
        resources: Of a task, or a sum.
    """
    found = {"cpus": resources.cpu_milli / MILLI, "memory": float(resources.memory_bytes)}
    if resources.gpus:
        found["gpus"] = sum(resources.gpus.values()) / MILLI
        found.update((variant, milli / MILLI) for variant, milli in resources.gpus.items())
    if resources.tpus:
        found["chips"] = float(sum(resources.tpus.values()))
        found.update((family, float(chips)) for family, chips in resources.tpus.items())
    return found


def check_names(names: Iterable[str], variants: Iterable[str]) -> None:
    """Refuses names under which nothing is counted: a limit on them would never hold anybody.

    Args:
        names: As in `Amounts`.
        variants: Accelerators that hosts have, beside those that everybody knows.

    Raises:
        InvalidRequestError: One is unknown; the message proposes the nearest.
    """
    known = dict.fromkeys((*GENERAL, *known_devices(), *variants))
    for name in names:
        if name in known:
            continue
        lower = {each.lower(): each for each in known}
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
        hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
        raise InvalidRequestError(
            f"nothing is counted as {name!r}{hint} (it is {', '.join(GENERAL)}, or an accelerator"
            " that some host has, as in H100)"
        )


def format_amount(name: str, amount: float) -> str:
    """An amount for people, as in ``8 chips``.

    Args:
        name: Of what.
        amount: How much.
    """
    if name == "memory":
        return f"{format_bytes(round(amount))} memory"
    return counted(float(amount), name.removesuffix("s"), name)


def format_spent(name: str, spent_s: float, limit_s: float) -> str:
    """What was used of a budget for people, as in ``3 of 500 chip-hours``.

    Args:
        name: Of what.
        spent_s: Resource-seconds that were used.
        limit_s: Resource-seconds that may be.
    """
    spent, limit = spent_s / 3600.0, limit_s / 3600.0
    if name == "memory":
        return f"{format_bytes(round(spent))} of {format_bytes(round(limit))} memory-hours"
    return f"{_number(spent)} of {_number(limit)} {name.removesuffix('s')}-hours"


def _number(amount: float) -> str:
    return f"{amount:.3g}" if amount < 1000 else f"{amount:,.0f}"


def _none() -> Amounts:
    return {}


@dataclass(frozen=True, slots=True)
class Account:
    """What a user has used, and uses.

    Attributes:
        at: When this was true, in seconds since 1970.
        used: Resource-seconds, faded until then.
        live: What the user's attempts have.
        period: Which period of the user's budget ``spent`` is about; see `Budget.period_of`.
        spent: Resource-seconds of that period, until then, that do not fade.
        tasks: How many attempts the user has.
    """

    at: float = 0.0
    used: Amounts = field(default_factory=_none)
    live: Resources = field(default_factory=Resources)
    period: int = 0
    spent: Amounts = field(default_factory=_none)
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """Resource-seconds that a user may use in a period. What runs when it is spent goes on.

    Attributes:
        amounts: Resource-seconds by name; what is not named is not limited.
        period_s: Periods begin at multiples of it since 1970; in seconds, above 0.
    """

    amounts: Amounts
    period_s: float

    def period_of(self, now: float) -> int:
        """Which period a time is in.

        Args:
            now: In seconds since 1970.
        """
        return math.floor(now / self.period_s)

    def renewed_at(self, now: float) -> float:
        """When the next period begins.

        Args:
            now: In seconds since 1970.
        """
        return (self.period_of(now) + 1) * self.period_s


@dataclass(frozen=True, slots=True)
class Standing:
    """A user, as the scheduler needs to know them.

    Attributes:
        weight: Twice the weight is twice the share; above 0.
        quota: Amounts that the user's attempts may have at once; what is not named is not limited.
        budget: What they may use in a period; None: as much as they like.
        account: What they have used.
        quota_at: When the quota was set, in seconds since 1970.
        highest_band: The highest band that the user's jobs may ask for. Administrators' may ask for
            any; see `fray.cluster.controller.rulebook`.
    """

    weight: float = 1.0
    quota: Amounts = field(default_factory=_none)
    budget: Budget | None = None
    account: Account = Account()
    quota_at: float = 0.0
    highest_band: Band = HIGHEST_BAND

    @property
    def is_usual(self) -> bool:
        """Whether it is as that of somebody of whom nothing was said, and who has nothing now."""
        return (
            self.weight == 1.0
            and not self.quota
            and self.budget is None
            and self.highest_band == HIGHEST_BAND
            and not self.account.tasks
        )


def _added(left: Amounts, right: Amounts, factor: float) -> dict[str, float]:
    merged = dict(left)
    for name, amount in right.items():
        merged[name] = merged.get(name, 0.0) + amount * factor
    return merged


def advanced(account: Account, now: float, half_life_s: float, budget: Budget | None) -> Account:
    """An account brought up to date.

    Args:
        account: As it was.
        now: In seconds since 1970; not before the account's time.
        half_life_s: In which use counts half, above 0.
        budget: The user's.
    """
    passed_s = max(now - account.at, 0.0)
    period = budget.period_of(now) if budget is not None else 0
    if not passed_s and period == account.period:
        return account
    live = amounts(account.live) if account.live != Resources() else {}
    fade = 0.5 ** (passed_s / half_life_s)
    used = {name: amount * fade for name, amount in account.used.items()}
    used = _added(used, live, half_life_s / math.log(2) * (1.0 - fade))
    spent: Amounts = {}
    if budget is not None:
        same = period == account.period
        in_period_s = passed_s if same else min(passed_s, now - period * budget.period_s)
        spent = _added(account.spent if same else {}, live, in_period_s)
    return replace(account, at=max(now, account.at), used=used, period=period, spent=spent)


def charged(account: Account, resources: Resources, sign: int) -> Account:
    """An account whose user has one more attempt, or one less; it must be up to date.

    Args:
        account: As it is now.
        resources: What the attempt has.
        sign: 1 begins, -1 ends.
    """
    live = account.live + resources if sign > 0 else account.live - resources
    return replace(account, live=live, tasks=account.tasks + sign)


def share(have: Amounts, capacity: Amounts) -> float:
    """The dominant share: the largest of the shares in each resource.

    Args:
        have: What somebody has, by name.
        capacity: What there is, by name. What there is none of does not count.
    """
    return max(
        (amount / capacity[name] for name, amount in have.items() if capacity.get(name)),
        default=0.0,
    )


def average(account: Account, now: float, half_life_s: float) -> dict[str, float]:
    """What a user had on average, the recent past weighing most.

    Args:
        account: The user's.
        now: In seconds since 1970.
        half_life_s: In which use counts half.
    """
    used = advanced(account, now, half_life_s, None).used
    return {name: amount * math.log(2) / half_life_s for name, amount in used.items()}


def cost_of_nothing(tasks: int) -> float:
    """What tasks count for besides what they have.

    Args:
        tasks: How many.
    """
    return tasks * _NOTHING_S


__all__ = [
    "HIGHEST_BAND",
    "Account",
    "Amounts",
    "Budget",
    "Standing",
    "advanced",
    "amounts",
    "average",
    "charged",
    "check_names",
    "cost_of_nothing",
    "format_amount",
    "format_spent",
    "share",
]
