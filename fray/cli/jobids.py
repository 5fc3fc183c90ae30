"""Which job is meant by a part of its id. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fray.cli.errors import Failure

CANDIDATES_MAX = 8
"""How many ids an error lists."""


def resolve_id(given: str, known: Sequence[str], *, otherwise: str = "") -> str:
    """The id that somebody means.

    An id may be cut short, the user before its first slash and the jobs that launched it left out,
    and its last characters (after a dash) do too, as long as only one fits: ``ann/train-7f3a``,
    ``ann/tr``, ``train-7f3a``, ``tr`` and ``7f3a`` may all mean the same. A job is meant rather
    than those that it launched.

    Args:
        given: What they wrote.
        known: All ids, oldest first.
        otherwise: What is said where none fits.

    Raises:
        Failure: None fits, or several do; the message lists those, newest first.
    """
    if not given:
        raise Failure("the job's id is empty; `fray job list` shows them")
    fitting = (
        [each for each in known if each == given],
        [each for each in known if _without_user(each) == given],
        [each for each in known if each.rpartition("/")[2] == given],
        [each for each in known if each.startswith(given)],
        [each for each in known if _without_user(each).startswith(given)],
        [each for each in known if each.endswith(f"-{given}")],
    )
    for candidates in fitting:
        root = min(candidates, key=len, default="")
        if candidates and all(each == root or each.startswith(f"{root}/") for each in candidates):
            return root
        if candidates:
            raise Failure(f"{given!r} may be any of {_listed(candidates)}; give more of the id")
    raise Failure(f"{otherwise or f'there is no job {given!r}'}; `fray job list` shows them")


def resolve_task(
    given: str, known: Sequence[str], *, otherwise: str = ""
) -> tuple[str, int | None]:
    """The job, or the task of one, that somebody means: ``train-7f3a/3`` is its task 3.

    Args:
        given: What they wrote.
        known: The ids of all jobs, oldest first.
        otherwise: What is said where none fits.

    Returns:
        The job's id, and the number of the task where one is meant.

    Raises:
        Failure: None fits, or several do.
    """
    job, slash, number = given.rpartition("/")
    is_task = bool(job and slash) and number.isascii() and number.isdecimal()
    if is_task and not any(each.startswith(given) for each in known):
        return resolve_id(job, known, otherwise=otherwise), int(number)
    return resolve_id(given, known, otherwise=otherwise), None


def named(given: str, known: Sequence[str], unfinished: Sequence[str]) -> tuple[str, int] | None:
    """The job that somebody means by its name alone, where several have had it.

    Args:
        given: What they wrote: ``train``, or ``ann/train``.
        known: All ids, oldest first.
        unfinished: Those of jobs that have not ended.

    Returns:
        The only one that has not ended, else the newest, and how many have the name; None where
        fewer than two have it, or several of them have not ended.
    """
    if any(given in (each, _without_user(each), each.rpartition("/")[2]) for each in known):
        return None  # it is an id
    alike = [each for each in known if given in _names_of(each)]
    live = [each for each in alike if each in unfinished]
    if len(alike) < 2 or len(live) > 1:
        return None
    return (live or alike)[-1], len(alike)


def _names_of(job_id: str) -> tuple[str, str, str]:
    whole = job_id.rpartition("-")[0]
    return whole, _without_user(whole), whole.rpartition("/")[2]


def _without_user(job_id: str) -> str:
    return job_id.partition("/")[2] or job_id


def _listed(candidates: Sequence[str]) -> str:
    newest = list(reversed(candidates))
    more = f" and {len(newest) - CANDIDATES_MAX} more" if len(newest) > CANDIDATES_MAX else ""
    return ", ".join(newest[:CANDIDATES_MAX]) + more


__all__ = ["named", "resolve_id", "resolve_task"]
