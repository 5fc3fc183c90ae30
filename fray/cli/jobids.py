"""Which job is meant by the beginning of its id. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fray.cli.errors import Failure

CANDIDATES_MAX = 8
"""How many ids an error lists."""


def resolve_id(given: str, known: Sequence[str], *, what: str = "job") -> str:
    """The id that somebody means.

    An id may be cut short, and the user before its first slash left out, as long as only one fits:
    ``ann/train-7f3a``, ``ann/tr``, ``train-7f3a`` and ``tr`` may all mean the same.

    Args:
        given: What they wrote.
        known: All ids, oldest first.
        what: What they are of, for errors.

    Raises:
        Failure: None fits, or several do; the message lists those, newest first.
    """
    if not given:
        raise Failure(f"the {what}'s id is empty; `fray {what} list` shows them")
    fitting = (
        [each for each in known if each == given],
        [each for each in known if _without_user(each) == given],
        [each for each in known if each.startswith(given)],
        [each for each in known if _without_user(each).startswith(given)],
    )
    for candidates in fitting:
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise Failure(f"{given!r} may be any of {_listed(candidates)}; give more of the id")
    raise Failure(f"there is no {what} {given!r}; `fray {what} list` shows them")


def _without_user(job_id: str) -> str:
    return job_id.partition("/")[2] or job_id


def _listed(candidates: Sequence[str]) -> str:
    newest = list(reversed(candidates))
    more = f" and {len(newest) - CANDIDATES_MAX} more" if len(newest) > CANDIDATES_MAX else ""
    return ", ".join(newest[:CANDIDATES_MAX]) + more


__all__ = ["resolve_id"]
