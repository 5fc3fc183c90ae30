"""Rules for the names and small numbers that users give, shared by requests and the ledger."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fray.errors import InvalidRequestError

JOB_NAME_LENGTH_MAX = 200
"""So that an id made of it, and a file named by that, stay below every limit."""

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


def check_port_names(names: Sequence[str]) -> None:
    """Checks names of ports, which become parts of environment variables.

    Args:
        names: The names.

    Raises:
        InvalidRequestError: One cannot be such a part, or two would give the same variable.
    """
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
    "JOB_NAME_LENGTH_MAX",
    "UNLIMITED",
    "check_budget",
    "check_job_name",
    "check_port_names",
]
