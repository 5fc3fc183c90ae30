"""Rules for the names and small numbers that users give, shared by requests and the ledger."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import cast

from fray.errors import InvalidRequestError

JOB_NAME_LENGTH_MAX = 200
"""So that an id made of it, and a file named by that, stay below every limit."""

TASKS_MAX = 20_000
"""Of a job: replicas times hosts of each. The controller adds them all in one step, which takes it
about 40 µs each: a second at the most."""

PORTS_MAX = 100
"""Of a task: each is a variable of its environment, and a port of its host."""

DEMANDS_MAX = 100
"""Constraints of a job, and likewise preferences: each is held against each host."""

UNLIMITED = -1
"""A retry budget without an end."""

_PORT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def check_job_name(name: object, *, what: str = "job name") -> None:
    """Checks a name that becomes part of ids, paths and log lines.

    Args:
        name: The name.
        what: What it names, for the error.

    Raises:
        InvalidRequestError: It is empty or too long, has spaces, ``#``, backslashes or control
            characters, or would be a strange path.
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(f"a {what} must be a non-empty string, not {name!r}")
    if any(c.isspace() for c in name):
        raise InvalidRequestError(f"a {what} must not contain spaces: {name!r}")
    if len(name) > JOB_NAME_LENGTH_MAX:
        raise InvalidRequestError(
            f"a {what} has at most {JOB_NAME_LENGTH_MAX} characters; {name[:40]!r}… has {len(name)}"
        )
    if not name.isprintable() or "#" in name or "\\" in name:
        raise InvalidRequestError(f"a {what} must not contain '#' or a backslash: {name!r}")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidRequestError(f"a {what} must not have empty parts, '.' or '..': {name!r}")


def check_flag(value: object, what: str) -> None:
    """Refuses what is neither True nor False: any string would count as True.

    Args:
        value: What was given.
        what: Its name, for the message.

    Raises:
        InvalidRequestError: It is not a bool.
    """
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{what} is True or False, not {value!r}")


def check_budget(retries: object, what: str) -> None:
    """Checks a retry budget.

    Args:
        retries: The budget.
        what: Its name, for the error.

    Raises:
        InvalidRequestError: It is no whole number, or below `UNLIMITED`.
    """
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < UNLIMITED:
        raise InvalidRequestError(
            f"{what} must be a whole number, at least 0 ({UNLIMITED}: no limit), not {retries!r}"
        )


def check_limit(limit_s: object, what: str) -> None:
    """Checks a limit of time.

    Args:
        limit_s: The limit, in seconds; None for none.
        what: Its name, for the error.

    Raises:
        InvalidRequestError: It is no number, not above 0, or not finite.
    """
    if limit_s is None:
        return
    is_number = isinstance(limit_s, int | float) and not isinstance(limit_s, bool)
    if not (is_number and 0 < cast("float", limit_s) < math.inf):
        raise InvalidRequestError(f"{what} is a number of seconds above 0, not {limit_s!r}")


def check_tasks(count: float, what: str) -> None:
    """Checks how many tasks a job has.

    Args:
        count: How many.
        what: Where that comes from, for the error.

    Raises:
        InvalidRequestError: They are more than `TASKS_MAX`.
    """
    if count > TASKS_MAX:
        raise InvalidRequestError(
            f"a job has at most {TASKS_MAX:,} tasks, not {count:,} ({what}); have each do more, "
            "or launch several jobs one after the other"
        )


def check_count(count: int, limit: int, what: str) -> None:
    """Checks how many of something there are.

    Args:
        count: How many.
        limit: How many there may be.
        what: What they are, for the error.

    Raises:
        InvalidRequestError: They are more.
    """
    if count > limit:
        raise InvalidRequestError(f"a job has at most {limit:,} {what}, not {count:,}")


def check_port_names(names: Sequence[str]) -> None:
    """Checks names of ports, which become parts of environment variables.

    Args:
        names: The names.

    Raises:
        InvalidRequestError: One cannot be such a part, two would give the same variable, or they
            are too many.
    """
    check_count(len(names), PORTS_MAX, "ports")
    variables: dict[str, str] = {}
    for name in names:
        if not _PORT_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"a port's name consists of letters, digits, '_' and '-', not {name!r}"
            )
        variable = name.upper().replace("-", "_")
        if variable in variables:
            raise InvalidRequestError(
                f"ports {variables[variable]!r} and {name!r} would share FRAY_PORT_{variable}"
            )
        variables[variable] = name


__all__ = [
    "DEMANDS_MAX",
    "JOB_NAME_LENGTH_MAX",
    "PORTS_MAX",
    "TASKS_MAX",
    "UNLIMITED",
    "check_budget",
    "check_count",
    "check_flag",
    "check_job_name",
    "check_limit",
    "check_port_names",
    "check_tasks",
]
